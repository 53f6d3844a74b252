# SPDX-License-Identifier: GPL-2.0-or-later
"""The declared parameters: names and defaults of the shell agent, what is accepted, and what is said about the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsql_ra.parameters import FALSE_WORDS, PREFIX, TRUE_WORDS, Parameters, Problem, slot_name

# ocf:heartbeat:pgsql: what configurations and scripts rely on.
ADDED = {
    "synchronous_node_count": "1",
    "synchronous_method": "first",
    "strict": "false",
    "max_lag": "0",
    "rejoin": "safe",
    "rejoin_user": "",
    "keep_old_data": "1",
    "keep_lost_wal": "false",
}
"""Parameters that ocf:heartbeat:pgsql does not have."""
SHELL_AGENT_DEFAULTS = {
    "pgctl": "/usr/bin/pg_ctl",
    "start_opt": "",
    "ctl_opt": "",
    "psql": "/usr/bin/psql",
    "pgdata": "/var/lib/pgsql/data",
    "pgdba": "postgres",
    "pghost": "",
    "pgport": "5432",
    "pglibs": "/usr/lib",
    "monitor_user": "",
    "monitor_password": "",
    "monitor_sql": "select now();",
    "config": "/var/lib/pgsql/data/postgresql.conf",
    "pgdb": "template1",
    "logfile": "/dev/null",
    "socketdir": "",
    "stop_escalate": "90",
    "rep_mode": "none",
    "node_list": "",
    "restore_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "master_ip": "",
    "repuser": "postgres",
    "primary_conninfo_opt": "",
    "restart_on_promote": "false",
    "replication_slot_name": "",
    "tmpdir": "/var/lib/pgsql/tmp",
    "xlog_check_count": "3",
    "crm_attr_timeout": "5",
    "stop_escalate_in_slave": "90",
    "check_wal_receiver": "false",
    "external_standby_node_list": "",
}

NAMES = [declared.name for declared in Parameters.declared()]
# Values that touch the rules, mixed with any text that an environment can hold.
VALUES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=[])),
    st.sampled_from(
        ["0", "-1", "9" * 5000, "1_0", "٣", "yes", "Yes", "a a", "a,b", "x\ny", "/x", "x", "sync", "async"]
    ),
)
SECRET = "S3cret-Pa55word"


def with_values(**values: str) -> Parameters:
    """The parameters of an action in whose environment these are set, beside other variables."""
    return Parameters({"OCF_ROOT": "/usr/lib/ocf", **{PREFIX + name: value for name, value in values.items()}})


def in_sync(**values: str) -> Parameters:
    """The parameters of a complete configuration of mode sync, with changes."""
    return with_values(**{"rep_mode": "sync", "node_list": "a b c", "master_ip": "192.0.2.1", **values})


def wrong(parameters: Parameters) -> list[str]:
    """The names of the parameters that problems are reported for."""
    return [problem.parameter for problem in parameters.problems]


def test_names_and_defaults_are_those_of_the_shell_agent() -> None:
    defaults = {declared.name: declared.default_text for declared in Parameters.declared()}
    assert {name: defaults.get(name) for name in SHELL_AGENT_DEFAULTS} == SHELL_AGENT_DEFAULTS


def test_a_default_of_a_parameter_that_the_shell_agent_lacks_changes_nothing() -> None:
    """Whoever comes from there has set none of them."""
    defaults = {declared.name: declared.default_text for declared in Parameters.declared()}
    assert {name: default for name, default in defaults.items() if name not in SHELL_AGENT_DEFAULTS} == ADDED


def test_nothing_set_is_no_problem_and_gives_typed_defaults() -> None:
    parameters = Parameters({})
    assert parameters.problems == ()
    assert parameters.given() == {}
    assert parameters.pgport == 5432
    assert parameters.rep_mode == "none"
    assert parameters.node_list == ()
    assert parameters.check_wal_receiver is False
    assert parameters.config == "/var/lib/pgsql/data/postgresql.conf"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_value_is_an_unset_one(name: str) -> None:
    empty = with_values(**{name: ""})
    assert getattr(empty, name) == getattr(Parameters({}), name)
    assert empty.problems == ()


def test_a_complete_configuration_is_no_problem() -> None:
    parameters = in_sync(
        pgdata="/srv/pg/",
        pgport=" 6000 ",
        node_list="Alpha  beta-2\tGAMMA.example",
        external_standby_node_list="far-away",
        replication_slot_name="slot_1",
        monitor_user="watch",
        monitor_password=SECRET,
        monitor_sql="select 1\n  from pg_class limit 1",
        restart_on_promote="ON",
        stop_escalate="0",
    )
    assert parameters.problems == ()
    assert parameters.pgport == 6000
    assert parameters.node_list == ("alpha", "beta-2", "gamma.example")
    assert parameters.config == "/srv/pg/postgresql.conf"
    assert parameters.restart_on_promote is True
    assert parameters.stop_escalate == 0
    assert parameters.monitor_password == SECRET


def test_a_value_cannot_be_changed() -> None:
    parameters = Parameters({})
    with pytest.raises(AttributeError):
        parameters.pgport = 1  # type: ignore[misc]


def test_the_configuration_file_may_lie_elsewhere() -> None:
    assert with_values(config="/etc/postgresql/15/main/postgresql.conf").config.startswith("/etc/")


@pytest.mark.parametrize("word", TRUE_WORDS)
def test_words_for_true(word: str) -> None:
    assert with_values(check_wal_receiver=word).check_wal_receiver is True


@pytest.mark.parametrize("word", FALSE_WORDS)
def test_words_for_false(word: str) -> None:
    parameters = with_values(check_wal_receiver=word)
    assert parameters.check_wal_receiver is False
    assert parameters.problems == ()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("pgport", "0", "from 1 to 65535", id="port below the range"),
        pytest.param("pgport", "65536", "from 1 to 65535", id="port above the range"),
        pytest.param("pgport", "postgresql", "a whole number", id="port by name"),
        pytest.param("pgport", "1_000", "a whole number", id="a number only Python reads"),
        pytest.param("pgport", "٥٤٣٢", "a whole number", id="digits of another script"),
        pytest.param("pgport", "9" * 5000, "a whole number", id="more digits than int() takes"),
        pytest.param("stop_escalate", "90s", "without a unit", id="seconds with a unit"),
        pytest.param("stop_escalate", "-1", "0 or more", id="negative seconds"),
        pytest.param("crm_attr_timeout", "0", "1 or more", id="no time for an attribute"),
        pytest.param("check_wal_receiver", "Yes", "one of yes, true", id="a boolean the shell agents take for false"),
        pytest.param("rep_mode", "Sync", "one of none, async, sync, slave", id="mode in upper case"),
        pytest.param("node_list", "a B b", "'b' is twice", id="node twice, in upper and lower case"),
        pytest.param("node_list", "a,b", "separated by blanks", id="nodes separated by commas"),
        pytest.param("tmpdir", "tmp", "an absolute path", id="relative tmpdir"),
        pytest.param("config", "postgresql.conf", "an absolute path", id="relative config"),
        pytest.param("socketdir", "run", "an absolute path", id="relative socketdir"),
        pytest.param("restore_command", "cp a b\nrm c", "one line", id="line break in a setting"),
        pytest.param("pgdba", "post\rgres", "one line", id="carriage return"),
        pytest.param("pgdb", "\udcff", "valid UTF-8", id="bytes that are no text"),
        pytest.param("replication_slot_name", "Slot", "lower case letters", id="slot prefix in upper case"),
        pytest.param("start_opt", "-c work_mem='1MB", "each quote closed", id="options with an open quote"),
        pytest.param("ctl_opt", '-t "60', "each quote closed", id="options of pg_ctl with an open quote"),
    ],
)
def test_a_wrong_value_is_named_and_its_default_used(name: str, value: str, expected: str) -> None:
    parameters = with_values(**{name: value})
    (problem,) = parameters.problems
    assert problem.parameter == name
    assert name in problem.sentence
    assert expected in problem.sentence
    assert getattr(parameters, name) == getattr(Parameters({}), name)


def test_a_relative_data_directory_is_a_problem_but_no_reason_to_look_at_another_one() -> None:
    parameters = with_values(pgdata="data")
    assert wrong(parameters) == ["pgdata"]
    assert parameters.pgdata == "data"


def test_a_refused_configuration_file_falls_back_into_the_data_directory_named() -> None:
    assert with_values(pgdata="/srv/pg", config="x").config == "/srv/pg/postgresql.conf"


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        pytest.param(with_values(monitor_password=SECRET), ["monitor_password"], id="password without its user"),
        pytest.param(in_sync(node_list=""), ["node_list"], id="sync without nodes"),
        pytest.param(in_sync(rep_mode="async", node_list=" "), ["node_list"], id="async with blank nodes"),
        pytest.param(in_sync(master_ip=""), ["master_ip"], id="sync without the primary's address"),
        pytest.param(with_values(rep_mode="slave"), ["master_ip"], id="slave without the primary's address"),
        pytest.param(with_values(rep_mode="slave", master_ip="h"), [], id="slave needs no list of nodes"),
        pytest.param(
            in_sync(rep_mode="async", external_standby_node_list="x"),
            ["external_standby_node_list"],
            id="external standbys in async",
        ),
        pytest.param(
            in_sync(external_standby_node_list="x B"), ["external_standby_node_list"], id="a node both in and outside"
        ),
        pytest.param(
            with_values(rep_mode="snyc", external_standby_node_list="x"),
            ["rep_mode"],
            id="nothing follows from a mode that was refused",
        ),
        pytest.param(in_sync(node_list="a a"), ["node_list"], id="nothing follows from a list that was refused"),
        pytest.param(
            in_sync(replication_slot_name="s", node_list="a.b a-b"),
            ["replication_slot_name"],
            id="two nodes with one slot",
        ),
        pytest.param(
            in_sync(replication_slot_name="s" * 62, node_list="a b"),
            ["replication_slot_name"] * 2,
            id="slot names that PostgreSQL would cut off",
        ),
        pytest.param(in_sync(replication_slot_name="s" * 61), [], id="slot names of exactly 63 bytes"),
        pytest.param(
            in_sync(replication_slot_name="s", node_list="nöde b"), ["replication_slot_name"], id="node not in ASCII"
        ),
    ],
)
def test_values_that_contradict_each_other(parameters: Parameters, names: list[str]) -> None:
    assert wrong(parameters) == names


def test_all_problems_are_reported_at_once() -> None:
    parameters = with_values(pgport="x", rep_mode="sync", monitor_password=SECRET)
    assert wrong(parameters) == ["pgport", "monitor_password", "node_list", "master_ip"]


def test_names_of_nodes_are_shown_in_a_way_that_a_log_can_hold() -> None:
    parameters = in_sync(node_list="a\x1b b\x1b", external_standby_node_list="b\x1b", replication_slot_name="s")
    assert wrong(parameters) == ["external_standby_node_list", "replication_slot_name", "replication_slot_name"]
    assert all(problem.sentence.isprintable() for problem in parameters.problems)


def test_slots_are_called_as_by_the_shell_agent() -> None:
    assert slot_name("slot", "Node-1.example") == "slot_node_1_example"


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_no_environment_raises_and_every_problem_is_one_line_that_names_its_parameter(values: dict[str, str]) -> None:
    parameters = with_values(**values)
    for name in NAMES:
        getattr(parameters, name)
    for problem in parameters.problems:
        assert isinstance(problem, Problem)
        assert problem.parameter in problem.sentence
        assert problem.sentence.isprintable()
        assert len(problem.sentence) < 800
    assert repr(parameters).isprintable()


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.sampled_from(["", "\n", "\udcff"]))
def test_a_secret_is_never_shown(values: dict[str, str], spoiler: str) -> None:
    secret = {"monitor_password": SECRET + spoiler, "primary_conninfo_opt": f"password={SECRET}{spoiler}"}
    parameters = with_values(**{**values, **secret})
    shown = f"{parameters!r} {parameters.given()} {parameters.problems}"
    assert SECRET not in shown


def test_the_module_costs_little_to_import() -> None:
    """Every action imports it: none of these may come in with it, not even through another module."""
    heavy = ("dataclasses", "inspect", "subprocess", "logging", "click", "lxml", "psycopg")
    listing = subprocess.run(
        [sys.executable, "-ISc", "import sys; sys.path.insert(0, sys.argv[1]); import pgsql_ra.parameters; "
         "print(*sys.modules)", str(Path(__file__).parents[2])],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
    ).stdout.split()  # fmt: skip
    assert [name for name in heavy if name in listing] == []

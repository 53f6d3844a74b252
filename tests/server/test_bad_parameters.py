# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that are wrong on every node: said clearly, and never a reason to stop what runs or to lose hold of it."""

from typing import Any

import pytest

from tests.server.agent import Agent
from tests.server.database import Database
from tests.server.stand_in import StandInCluster
from tests.server.trees import tree

CONFIGURED = 6

Given = dict[str, Any]

BAD: dict[str, tuple[Given, tuple[str, ...]]] = {
    "a port that is no number": ({"pgport": "many"}, ("pgport", "'many'", "from 1 to 65535")),
    "a port out of range": ({"pgport": "70000"}, ("pgport", "'70000'", "from 1 to 65535")),
    "an unknown rep_mode": ({"rep_mode": "Sync2"}, ("rep_mode", "'Sync2'", "none, async, sync, slave")),
    "a relative tmpdir": ({"tmpdir": "tmp"}, ("tmpdir", "'tmp'", "absolute path")),
    "a time with a unit": ({"stop_escalate": "1m"}, ("stop_escalate", "'1m'", "without a unit")),
    "neither yes nor no": ({"restart_on_promote": "perhaps"}, ("restart_on_promote", "'perhaps'", "one of yes")),
    "no node_list": ({"node_list": ""}, ("node_list", "rep_mode=sync", "separated by blanks")),
    "no master_ip": ({"master_ip": ""}, ("master_ip", "rep_mode=sync", "address")),
    "a node twice": ({"node_list": "n1 N1"}, ("node_list", "'n1'", "every name once")),
    "a slot name with a hyphen": ({"replication_slot_name": "a-b"}, ("replication_slot_name", "'a-b'", "a-z")),
}
# What is tried with a running server, too: for each kind of wrong value one.
RUNNING = ("a port that is no number", "a relative tmpdir", "no node_list")


@pytest.mark.parametrize(("given", "words"), BAD.values(), ids=list(BAD))
def test_validate_all_and_start_name_parameter_value_and_what_is_allowed(
    agent: Agent, database: Database, cluster: StandInCluster, given: Given, words: tuple[str, ...]
) -> None:
    before = tree(database.root)
    for action in ("validate-all", "start"):
        answer = agent.run(action, **given)
        assert answer.code == CONFIGURED, answer
        assert [word for word in words if word not in answer.reason] == [], answer
        assert tree(database.root) == before, f"{action} changed something"
    assert cluster.writes() == []


def test_a_stopped_server_is_one_with_any_bad_value(agent: Agent, database: Database, cluster: StandInCluster) -> None:
    before = tree(database.root)
    for name, (given, _) in BAD.items():
        assert agent.monitor(**given).code == 7, name
        assert agent.probe(**given).code == 7, name
        assert cluster.writes() == [], name
    for name, (given, _) in BAD.items():
        assert agent.stop(**given).code == 0, name
    assert tree(database.root) == before
    assert not any("--lifetime=forever" in call for call in cluster.calls())


def test_monitor_of_a_running_server_goes_on(agent: Agent, standby: Database, cluster: StandInCluster) -> None:
    writes = cluster.writes()
    for name in RUNNING:
        assert agent.monitor(**BAD[name][0]).code == 0, name
    assert cluster.writes() == writes
    assert standby.is_running()


def test_monitor_of_a_primary_still_says_that_it_is_one(agent: Agent, primary: Database) -> None:
    """Anything but 8 makes Pacemaker demote and stop a healthy primary."""
    for name in RUNNING:
        assert agent.monitor(**BAD[name][0]).code == 8, name
    assert primary.is_running()


def test_monitor_of_a_primary_with_an_unknown_rep_mode(agent: Agent, primary: Database) -> None:
    """A refused rep_mode says nothing about what runs: a promoted server is still one."""
    assert agent.monitor(rep_mode="Sync2").code == 8
    assert primary.is_running()


def test_demote_with_an_unknown_rep_mode_ends_the_primary(agent: Agent, primary: Database) -> None:
    """3 would leave a primary that Pacemaker wanted down, and no exit reason."""
    answer = agent.run("demote", rep_mode="Sync2")
    assert answer.code in (0, 1), answer
    assert not primary.is_running() or primary.is_standby()


@pytest.mark.parametrize("name", [*RUNNING, "an unknown rep_mode"])
def test_stop_with_a_bad_parameter_really_stops(agent: Agent, database: Database, name: str) -> None:
    database.start()
    assert agent.stop(**BAD[name][0]).code == 0
    assert not database.is_running()


def test_stop_with_everything_wrong_really_stops(agent: Agent, primary: Database) -> None:
    wrong = {name: value for given, _ in BAD.values() for name, value in given.items()}
    wrong |= {
        "pgctl": "/nonexistent",
        "pgdba": "nobody_of_this_name",
        "config": "relative",
        "logfile": "/nonexistent/x",
    }
    assert agent.stop(**wrong).code == 0
    assert not primary.is_running()


def test_a_refused_pgdata_never_stops_another_server(agent: Agent, primary: Database) -> None:
    assert agent.stop(pgdata="relative/path").code == 0
    assert primary.is_running()


def test_start_outside_of_a_promotable_clone_is_refused(agent: Agent, database: Database) -> None:
    answer = agent.run("start", meta={"promoted_max": ""})
    assert answer.code == CONFIGURED, answer
    assert "promotable" in answer.reason
    assert not database.is_running()


@pytest.mark.parametrize("word", ["promotable", "promoted_max", "master_max"])
def test_each_sign_of_a_promotable_clone_is_enough(agent: Agent, word: str) -> None:
    value = "true" if word == "promotable" else "1"
    assert agent.run("start", meta={"promoted_max": ""} | {word: value}).code == 0


def test_validate_all_with_nothing_but_parameters(agent: Agent, database: Database) -> None:
    """crmsh and pcs call it without instance name, cluster or metadata."""
    before = tree(database.root)
    keep = {name: value for name, value in agent.environment().items() if name.startswith("OCF_RESKEY_")}
    bare = {name: value for name, value in keep.items() if "CRM_meta" not in name}
    assert agent.run("validate-all", environment=bare).code == 0
    assert agent.run("validate-all", environment=bare | {"OCF_CHECK_LEVEL": "10"}).code == 0
    assert tree(database.root) == before


@pytest.mark.parametrize(
    ("given", "code"),
    [({"pgctl": "/nonexistent"}, 5), ({"pgdata": "/nonexistent"}, 5), ({"pgdba": "nobody_of_this_name"}, 5)],
    ids=["pgctl", "pgdata", "pgdba"],
)
def test_validate_all_looks_at_the_node_only_if_asked(agent: Agent, given: Given, code: int) -> None:
    assert agent.run("validate-all", **given).code == 0
    deep = agent.environment(**given) | {"OCF_CHECK_LEVEL": "10"}
    answer = agent.run("validate-all", environment=deep)
    assert answer.code == code, answer
    assert next(iter(given.values())) in answer.reason

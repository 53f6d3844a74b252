# SPDX-License-Identifier: GPL-2.0-or-later
"""What the OCF contract asks of every action, tried where no other file does: codes under faults, the calls of
Pacemaker's tools, silence, and monitors that are killed.
"""

import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.server.agent import Agent
from tests.server.database import Database
from tests.server.stand_in import StandInCluster
from tests.server.test_bad_parameters import BAD, RUNNING
from tests.server.test_interface import INSTALLED

CONFIGURED = 6
ACTIONS = ("monitor", "promote", "demote", "reload-agent")
"""Those that may fail, and may not say that every instance on every node is to be stopped."""
WRONG_EVERYWHERE = tuple(BAD[name][0] for name in (*RUNNING, "an unknown rep_mode"))
LOCAL_FAULTS = (
    {"pgctl": "/nonexistent"},
    {"pgdata": "/nonexistent"},
    {"pgdba": "nobody_of_this_name"},
    {"config": "/nonexistent.conf"},
    {"tmpdir": "/proc/nowhere"},
)


def test_no_fault_of_one_node_stops_the_whole_clone(agent: Agent, database: Database) -> None:
    for given in (*WRONG_EVERYWHERE, *LOCAL_FAULTS):
        for action in ACTIONS:
            answer = agent.run(action, **given)
            assert answer.code != CONFIGURED, f"{action} with {given}: {answer}"
    assert not database.is_running()


@pytest.mark.parametrize("role", ["standby", "primary"])
def test_no_fault_beside_a_running_server_stops_the_whole_clone(agent: Agent, database: Database, role: str) -> None:
    agent.become_standby() if role == "standby" else agent.become_primary()
    for given in (*WRONG_EVERYWHERE, *LOCAL_FAULTS[2:]):
        for action in ("monitor", "reload-agent", "promote"):
            answer = agent.run(action, **given)
            assert answer.code != CONFIGURED, f"{action} with {given}: {answer}"
    assert database.is_running()


def test_demote_of_a_stopped_server(agent: Agent, database: Database) -> None:
    """Pacemaker counts anything but success as one failure more."""
    assert agent.demote().code == 0
    assert database.is_standby()


def test_every_call_of_a_tool_names_its_node_in_a_form_that_every_version_reads(
    agent: Agent, cluster: StandInCluster
) -> None:
    """Pacemaker before 2.1.6 takes the value of `-v -INFINITY` apart, and asks all nodes if a query names none."""
    agent.become_primary()
    agent.monitor()
    agent.demote()
    agent.stop()
    calls = cluster.calls()
    assert all(word.startswith("--") for call in calls for word in call[1:]), calls
    scores = [call for call in calls if "--name=master-pgsql" in call]
    assert {word for call in scores for word in call if word.startswith("--update=")} >= {
        "--update=-INFINITY",
        "--update=1000",
    }
    asked = [call for call in calls if call[0] in ("attrd_updater", "crm_attribute")]
    assert asked
    for call in asked:
        is_for_all = "--all" in call or call == ["attrd_updater", "--refresh"]
        assert is_for_all or any(re.fullmatch(r"--node=\w+", word) for word in call), call


def test_no_permanent_record_is_written_without_quorum(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    def permanent() -> list[list[str]]:
        return [call for call in cluster.calls() if "--lifetime=forever" in call]

    cluster.set_permanent("n2", "pgsql-data-status", "STREAMING|ASYNC")
    cluster.lose_quorum()
    before = permanent()
    assert agent.monitor(silent=False).code == 8
    assert permanent() == before
    assert cluster.attribute("n2", "pgsql-data-status") == "STREAMING|ASYNC"
    cluster.find_quorum()
    assert agent.monitor().code == 8
    assert cluster.attribute("n2", "pgsql-data-status") == "DISCONNECT", "there was something to write"
    assert primary.is_running()


@pytest.mark.parametrize(("role", "code"), [("stopped", 7), ("standby", 0), ("primary", 8)])
def test_a_monitor_under_pacemaker_says_nothing(agent: Agent, database: Database, role: str, code: int) -> None:
    """It logs to syslog there; what comes on a stream is logged a second time, and taken for an error."""
    {"stopped": lambda: None, "standby": agent.become_standby, "primary": agent.become_primary}[role]()
    environment = agent.environment(meta={"interval": "10000"})
    del environment["HA_LOGFILE"]
    answer = agent.run("monitor", environment=environment | {"HA_LOGFACILITY": "daemon", "HA_debug": "0"})
    assert (answer.code, answer.out, answer.err) == (code, "", "")
    assert database.is_running() == (role != "stopped")


@pytest.mark.parametrize(("level", "code"), [("", 0), ("0", 0), ("5", 0), ("10", 5), ("15", 5), ("nonsense", 0)])
def test_levels_of_validate_all_in_between_are_the_next_lower_one(agent: Agent, level: str, code: int) -> None:
    environment = agent.environment(pgctl="/nonexistent") | {"OCF_CHECK_LEVEL": level}
    assert agent.run("validate-all", environment=environment).code == code


def trace_into(agent: Agent, target: str, third: Path) -> subprocess.CompletedProcess[str]:
    """A monitor with a trace, whose descriptor 3 leads to the file `third`."""
    return subprocess.run(
        ["/bin/sh", "-c", 'exec 3>"$0"; exec "$@"', str(third), *agent.command("monitor")],
        env=agent.environment(meta={"interval": "10000"}, trace_ra="1") | {"OCF_TRACE_FILE": target},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["3", "/dev/stderr"])
def test_a_trace_goes_where_it_is_wanted(agent: Agent, standby: Database, tmp_path: Path, target: str) -> None:
    third = tmp_path / "third"
    done = trace_into(agent, target, third)
    assert done.returncode == 0
    assert "saw Snapshot" in (third.read_text() if target == "3" else done.stderr)
    assert standby.is_standby()


def test_a_monitor_that_is_killed_anywhere_leaves_nothing_half_done(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    """Pacemaker kills a recurring monitor that is in flight whenever it cancels it."""
    chance = random.Random(4711)  # noqa: S311 - any numbers will do, but the same ones each time
    wanted = {"master-pgsql": "1000", "pgsql-status": "PRI", "pgsql-data-status": "LATEST"}
    whole = agent.monitor().seconds
    for _ in range(12):
        cluster.forget_transient("n1")
        monitor = subprocess.Popen(
            agent.command("monitor"), env=agent.environment(meta={"interval": "10000"}), cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            monitor.wait(chance.uniform(0, whole))
        except subprocess.TimeoutExpired:
            os.killpg(monitor.pid, signal.SIGKILL)
            monitor.wait()
    assert agent.monitor().code == 8
    assert {name: cluster.attribute("n1", name) for name in wanted} == wanted
    assert primary.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsql-ra'") == 0


def test_meta_data_of_the_installed_agent_loads_no_library() -> None:
    """What is not needed is not paid for: psycopg alone costs a tenth of a second."""
    done = subprocess.run(
        ["/usr/bin/python3", "-ISXutf8", "-Ximporttime", str(INSTALLED), "meta-data"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pgsql_ra.agent" in loaded
    assert {name.partition(".")[0] for name in loaded} & {"psycopg", "lxml", "click"} == set()

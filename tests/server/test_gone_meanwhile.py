# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends by itself, or fails in the system, at the worst moment: a healthy server is not failed for it, and no
notification stays half done.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import BINARIES, TESTER, Database
from tests.server.stand_in import StandInCluster
from tests.server.test_following import Following
from tests.server.test_notify import told

ENDS = """
import signal, time
from pgsql_ra.actions import apply
look = apply.server_processes
def looks_too_early(pgdata):
    found = look(pgdata)
    for pid in found:
        if {title!r} in open(f"/proc/{{pid}}/cmdline").read():
            os.kill(pid, signal.SIGTERM)
            while os.path.exists(f"/proc/{{pid}}"):
                time.sleep(0.01)
    return found
apply.server_processes = looks_too_early
"""
"""The process of this title ends by itself between the look whether it is there and the signal."""

NO_CLUSTER = """
from pgsql_ra.pacemaker import command
def begin(arguments):
    raise OSError(24, "Too many open files")
command._begin = begin
"""
"""The system does not let the agent run Pacemaker's tools."""


@contextmanager
def receiving(database: Database, name: str, place: Path) -> Iterator[None]:
    """Somebody streams under this name."""
    place.mkdir()
    where = f"host={database.socket} port={database.port} user={TESTER} application_name={name}"
    client = subprocess.Popen(
        [str(BINARIES / "pg_receivewal"), "-D", str(place), "--synchronous", "-d", where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        count = "SELECT count(*) FROM pg_stat_replication"
        eventually("it is connected", lambda: database.sql(count), lambda seen: seen == 1, within=10)
        yield
    finally:
        client.kill()
        client.wait()


def test_a_walsender_that_ends_before_it_is_ended(agent: Agent, primary: Database, root: Path) -> None:
    assert agent.monitor(silent=False).code == 8
    with receiving(primary, "n2", root / "wal"):  # whose node is down
        answer = agent.run("monitor", meta={"interval": "10000"}, meanwhile=ENDS.format(title="walsender"))
    assert (answer.code, answer.err) == (8, "")
    assert "end walsender" in agent.logged()


def test_a_receiver_that_ends_before_it_is_ended(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """Before a promotion: the position is said all the same, or a less advanced standby would be promoted."""
    Following(agent, cluster, make_database)
    meta = told("pre", "promote", promote="n3", unpromoted="n1 n3")
    answer = agent.run("notify", meta=meta, meanwhile=ENDS.format(title="walreceiver"))
    assert (answer.code, answer.err) == (0, "")
    assert cluster.private("n1", "pgsql-position") != ""


@pytest.mark.parametrize(("role", "code"), [("standby", 0), ("primary", 8)])
def test_a_monitor_that_the_system_hinders(agent: Agent, role: str, code: int) -> None:
    agent.become_standby() if role == "standby" else agent.become_primary()
    answer = agent.run("monitor", meta={"interval": "10000"}, meanwhile=NO_CLUSTER)
    assert answer.code == code, answer
    assert "Too many open files" in answer.reason


@pytest.mark.parametrize("action", ["demote", "stop"])
def test_a_server_is_stopped_although_nothing_can_be_written(agent: Agent, primary: Database, action: str) -> None:
    assert agent.run(action, meta={"notify_stop_uname": "n1"}, meanwhile=NO_CLUSTER).code == 0
    assert not primary.is_running()


@pytest.mark.parametrize(("kind", "operation"), [("pre", "promote"), ("post", "start"), ("post", "stop")])
def test_a_notification_that_the_system_hinders(agent: Agent, kind: str, operation: str) -> None:
    agent.become_standby()
    meta = told(kind, operation, promote="n3", unpromoted="n1 n3", start="n2", stop="n3")
    answer = agent.run("notify", meta=meta, meanwhile=NO_CLUSTER)
    assert (answer.code, answer.err) == (0, "")
    assert "unexpected" not in agent.logged()

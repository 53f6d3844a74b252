# SPDX-License-Identifier: GPL-2.0-or-later
"""stop: no process of the data directory lives, whatever stands in its way, and nobody else's is touched."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.database import USER, Database, state_of
from tests.server.stand_in import StandInCluster


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of the database user that has nothing to do with the server."""
    process = subprocess.Popen(["sleep", "3600"], user=USER, group=USER, extra_groups=[], start_new_session=True)
    yield process.pid
    process.kill()
    process.wait()


def test_a_client_that_blocks_is_ended_by_an_immediate_shutdown(agent: Agent, primary: Database) -> None:
    with primary.frozen_backend():
        answer = agent.stop(timeout=8, stop_escalate_in_slave="1")
    assert answer.code == 0, answer
    assert primary.processes() == []
    assert "immediate shutdown" in agent.logged()


def test_demote_has_a_time_of_its_own_for_a_fast_shutdown(agent: Agent, primary: Database) -> None:
    """As in the shell agent, stop_escalate_in_slave is not for a primary that is demoted."""
    with primary.frozen_backend():
        answer = agent.run("demote", timeout=90, stop_escalate="1", stop_escalate_in_slave="80")
    assert answer.code == 0, answer
    assert answer.seconds < 60
    assert "immediate shutdown" in agent.logged()


def test_a_client_in_a_transaction_does_not_hold_up_a_stop(agent: Agent, primary: Database) -> None:
    with primary.connect() as session, session.transaction():
        session.execute("CREATE TABLE open_work ()")
        answer = agent.stop()
        assert answer.code == 0, answer
        session.close()
    assert primary.processes() == []
    assert "immediate shutdown" not in agent.logged()


def test_a_postmaster_that_hangs_is_killed_within_the_timeout(agent: Agent, primary: Database) -> None:
    with primary.frozen(primary.postmaster):
        answer = agent.stop(timeout=8, stop_escalate_in_slave="90")
    assert answer.code == 0, answer
    assert primary.processes() == []


def test_backends_without_a_postmaster_are_ended(agent: Agent, primary: Database) -> None:
    with primary.frozen_backend() as backend:
        primary.kill_postmaster()
        eventually("only the frozen backend is left", primary.processes, lambda seen: seen == [backend], within=10)
        assert agent.monitor(timeout=10).code == 9
        answer = agent.stop()
        assert answer.code == 0, answer
        assert primary.processes() == []


def test_a_stale_pid_file_is_not_trusted(agent: Agent, database: Database, sleeper: int) -> None:
    """Its number belongs to somebody else by now."""
    pid_file = database.data / "postmaster.pid"
    pid_file.write_text(f"{sleeper}\n{database.data}\n1700000000\n{database.port}\n{database.socket}\n\n0 0\nready\n")
    shutil.chown(pid_file, USER, USER)
    assert agent.monitor().code == 7
    assert agent.probe().code == 7
    assert agent.stop().code == 0
    assert state_of(sleeper) == "S"


def test_a_pid_file_that_names_another_server_is_not_trusted(agent: Agent, primary: Database, sleeper: int) -> None:
    """The server's own file was overwritten: the server is found and ended all the same, the other process is not."""
    (primary.data / "postmaster.pid").write_text(f"{sleeper}\n")
    assert agent.stop(stop_escalate_in_slave="5").code == 0
    assert primary.processes() == []
    assert state_of(sleeper) == "S"


def test_a_server_whose_pid_file_was_removed_is_found(agent: Agent, primary: Database) -> None:
    (primary.data / "postmaster.pid").unlink()
    assert agent.monitor(timeout=10).code != 7
    assert agent.stop().code == 0
    assert primary.processes() == []


def test_a_server_whose_data_directory_was_moved_away_is_found(agent: Agent, primary: Database) -> None:
    """Moved and still used: the old name must not pass for a stopped server under the new one."""
    moved = primary.root / "moved"
    primary.data.rename(moved)
    try:
        assert agent.stop(pgdata=str(moved)).code == 0
        primary.data = moved
        assert primary.processes() == []
    finally:
        primary.data = moved


@pytest.mark.parametrize("fate", ["moved", "removed"])
def test_a_server_that_was_told_to_serve_a_directory_is_found_wherever_that_is(
    agent: Agent, primary: Database, fate: str
) -> None:
    """Its administrator wants the name for a new copy, and the old server would go on with its clients."""
    postmaster, data = primary.postmaster, primary.data
    processes = primary.processes()
    moved = primary.root / "moved"
    data.rename(moved)
    if fate == "removed":
        shutil.rmtree(moved)
    try:
        assert agent.monitor(timeout=10).code not in (0, 7, 8)
        assert agent.stop(stop_escalate_in_slave="5").code == 0
        assert [state_of(pid) for pid in (postmaster, *processes) if state_of(pid) not in ("", "Z")] == []
    finally:
        for pid in processes:
            if state_of(pid) not in ("", "Z"):
                os.kill(pid, signal.SIGKILL)


def test_stop_needs_no_library(agent: Agent, primary: Database) -> None:
    """psycopg, lxml and click may be broken by an upgrade of Python: the server is stopped all the same."""
    answer = agent.run("stop", blocked=("psycopg", "psycopg_binary", "lxml", "click"))
    assert answer.code == 0, answer
    assert primary.processes() == []
    assert agent.run("monitor", blocked=("psycopg", "psycopg_binary", "lxml", "click")).code == 7


def test_stop_needs_no_cluster(agent: Agent, primary: Database, cluster: StandInCluster) -> None:
    cluster.go_down()
    assert agent.stop().code == 0
    assert primary.processes() == []


def test_stop_does_not_wait_for_a_hanging_cluster(agent: Agent, primary: Database, cluster: StandInCluster) -> None:
    """The server comes first: a stop that runs into its timeout is a fenced node."""
    cluster.hang("attrd_updater")
    answer = agent.stop(timeout=12)
    assert answer.code == 0, answer
    assert primary.processes() == []
    assert "immediate shutdown" not in agent.logged(), "the time for a clean shutdown was spent on the cluster"


def test_stop_needs_no_program_and_no_user(agent: Agent, primary: Database) -> None:
    assert agent.stop(pgctl="/nonexistent", pgdba="nobody_of_this_name").code == 0
    assert primary.processes() == []


def test_an_unusual_shutdown_leaves_data_that_starts(agent: Agent, primary: Database) -> None:
    primary.sql("CREATE TABLE kept AS SELECT 1 AS n")
    assert agent.stop(stop_escalate_in_slave="0").code == 0
    agent.become_primary()
    assert primary.sql("SELECT n FROM kept") == 1


def test_stop_during_a_start_that_takes_long(agent: Agent, database: Database) -> None:
    """A server that still recovers takes no connections, and is a server."""
    database.configure("restore_command = 'sleep 3600'")
    launched = subprocess.Popen(
        agent.command("start"), env=agent.environment(timeout=60), stdin=subprocess.DEVNULL, cwd="/",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        eventually("the server is there", database.processes, lambda seen: len(seen) > 1, within=15)
        assert agent.probe().code not in (7, 8)
        assert agent.stop(stop_escalate_in_slave="2").code == 0
        assert database.processes() == []
    finally:
        os.killpg(launched.pid, signal.SIGKILL)
        launched.wait()

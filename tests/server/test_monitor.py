# SPDX-License-Identifier: GPL-2.0-or-later
"""monitor under faults: hanging and dying processes, a cluster that does not answer."""

import os
import signal
import threading
from contextlib import ExitStack

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.database import Database, state_of
from tests.server.stand_in import StandInCluster


@pytest.mark.parametrize(("role", "code"), [("standby", 1), ("primary", 9)])
def test_a_postmaster_that_hangs_is_a_failure_within_the_timeout(
    agent: Agent, database: Database, role: str, code: int
) -> None:
    agent.become_standby() if role == "standby" else agent.become_primary()
    with database.frozen(database.postmaster):
        answer = agent.monitor(timeout=8)
    assert answer.code == code, answer
    assert str(database.postmaster) in answer.reason
    assert agent.monitor().code == (8 if role == "primary" else 0), "it goes on when the server does"


@pytest.mark.parametrize("role", ["standby", "primary"])
def test_a_killed_postmaster_is_a_server_that_does_not_run(agent: Agent, database: Database, role: str) -> None:
    agent.become_standby() if role == "standby" else agent.become_primary()
    database.kill_postmaster()
    database.await_end()
    assert agent.monitor().code == 7


@pytest.mark.parametrize(("role", "code"), [("standby", 0), ("primary", 8)])
def test_a_killed_backend_is_waited_for(agent: Agent, database: Database, role: str, code: int) -> None:
    """The server ends all its processes and recovers by itself in a moment: no failure."""
    agent.become_standby() if role == "standby" else agent.become_primary()
    postmaster = database.postmaster
    with pytest.raises(Exception, match=r"closed|terminat"), database.connect() as session:
        os.kill(session.info.backend_pid, signal.SIGKILL)
        session.execute("SELECT pg_sleep(60)")
    assert agent.monitor().code == code
    assert database.postmaster == postmaster


def test_recovery_after_a_killed_backend_is_waited_for(agent: Agent, primary: Database) -> None:
    """Even when it takes a while: here a checkpointer that does not end holds it up."""
    checkpointer = primary.process("checkpointer")
    with primary.connect() as session:
        backend = session.info.backend_pid
        with primary.frozen(checkpointer):
            os.kill(backend, signal.SIGKILL)
            eventually("the backend is gone", lambda: state_of(backend), lambda seen: seen in ("", "Z"), within=5)
            # Otherwise the postmaster would kill it after 5 s.
            release = threading.Timer(1.5, os.kill, (checkpointer, signal.SIGCONT))
            release.start()
            answer = agent.monitor(timeout=30)
            release.join()
        session.close()
    assert answer.code == 8, answer
    assert answer.seconds > 1


def test_a_full_server_is_no_failure(agent: Agent, primary: Database) -> None:
    """No connection is left for clients; the agent's is one of those reserved for a superuser."""
    with ExitStack() as clients:
        for _ in range(17):
            clients.enter_context(primary.connect())
        assert agent.monitor(timeout=10).code == 8


def test_a_cluster_that_is_away_is_no_failure_of_the_server(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    cluster.go_down()
    answer = agent.monitor(silent=False)
    assert answer.code == 8, answer
    assert "Connection to cluster failed" in answer.reason
    assert primary.is_running()


def test_a_cluster_that_hangs_is_no_failure_of_the_server(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    cluster.hang("cibadmin")
    answer = agent.monitor(timeout=8, silent=False)
    assert answer.code == 8, answer
    assert "cibadmin" in answer.reason
    assert primary.is_running()


def test_a_query_of_the_administrator_that_fails_is_a_failure(agent: Agent, primary: Database) -> None:
    assert agent.monitor(monitor_sql="SELECT 1").code == 8
    answer = agent.monitor(monitor_sql="SELECT * FROM there_is_no_such_table")
    assert answer.code in (1, 9), answer
    assert "there_is_no_such_table" in answer.reason
    assert primary.is_running()


def test_a_query_of_the_administrator_that_hangs_is_a_failure_in_time(agent: Agent, primary: Database) -> None:
    answer = agent.monitor(timeout=8, monitor_sql="SELECT pg_sleep(3600)")
    assert answer.code in (1, 9), answer
    assert primary.is_running()


def test_a_standby_that_diverged_from_the_primary_is_told(
    agent: Agent, standby: Database, cluster: StandInCluster
) -> None:
    """The other node runs as a primary on a timeline that left ours before the end of our WAL."""
    cluster.run_primary("n2", history="2:1@0/10")
    answer = agent.monitor(timeout=20)
    assert answer.code == 1, answer
    assert "pgsql-ra rejoin" in answer.reason
    assert standby.is_running()


def test_scores_are_asserted_again(agent: Agent, primary: Database, cluster: StandInCluster) -> None:
    """attrd's values die with attrd."""
    cluster.forget_transient("n1")
    assert agent.monitor().code == 8
    assert cluster.attribute("n1", "master-pgsql") == "1000"
    assert cluster.attribute("n1", "pgsql-status") == "PRI"
    assert primary.is_running()


def test_scores_are_written_again_when_only_the_cib_has_lost_them(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    """attrd still has the value, and takes the same one for no change."""
    assert agent.monitor().code == 8
    cluster.wipe_transient("n1")
    assert agent.monitor().code == 8
    assert cluster.attribute("n1", "master-pgsql") == "1000"
    assert cluster.attribute("n1", "pgsql-status") == "PRI"
    assert primary.is_running()


def test_a_lone_standby_elects_itself(agent: Agent, standby: Database, cluster: StandInCluster) -> None:
    """The other member never said anything; `xlog_check_count` bounds the wait."""
    agent.parameters["xlog_check_count"] = "1"
    for _ in range(3):
        assert agent.monitor().code == 0
    assert cluster.attribute("n1", "master-pgsql") == "1000"
    assert standby.is_standby()


def test_a_slow_primary_has_the_whole_time_of_the_action(agent: Agent, primary: Database) -> None:
    with ExitStack() as stack:
        stack.enter_context(primary.frozen(primary.postmaster))
        # More than half of it, and less than the agent's own limit.
        release = threading.Timer(5.5, stack.close)
        release.start()
        answer = agent.monitor(timeout=10)
        release.join()
    assert answer.code == 8, answer


def test_a_slot_that_cannot_be_made_keeps_nothing_else_from_being_done(
    agent: Agent, database: Database, cluster: StandInCluster
) -> None:
    database.configure("max_replication_slots = 0")
    agent.become_primary()
    cluster.join("n2")
    answer = agent.monitor(replication_slot_name="rep")
    assert answer.code == 8, answer
    assert "max_replication_slots" in agent.logged()
    assert "could not be brought up to date" not in agent.logged()

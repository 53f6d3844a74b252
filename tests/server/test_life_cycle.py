# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions in the order in which Pacemaker runs them, and each of them twice."""

import os
import subprocess
from pathlib import Path

from tests.server.agent import Agent
from tests.server.database import Database, user_id
from tests.server.stand_in import StandInCluster


def test_start_brings_up_a_standby_and_is_idempotent(agent: Agent, database: Database) -> None:
    assert agent.start().code == 0
    assert database.is_standby()
    assert agent.monitor().code == 0
    postmaster = database.postmaster
    assert agent.start().code == 0
    assert database.postmaster == postmaster


def test_promote_makes_a_primary_and_is_idempotent(agent: Agent, standby: Database, cluster: StandInCluster) -> None:
    assert agent.promote().code == 0
    assert not standby.is_standby()
    assert agent.monitor().code == 8
    postmaster = standby.postmaster
    assert agent.promote().code == 0
    assert agent.monitor().code == 8
    assert standby.postmaster == postmaster
    assert cluster.attribute("n1", "pgsql-data-status") == "LATEST"
    assert cluster.attribute("n2", "pgsql-data-status") == "DISCONNECT"


def test_demote_leaves_a_standby_and_is_idempotent(agent: Agent, primary: Database) -> None:
    assert agent.demote().code == 0
    assert primary.is_standby()
    assert agent.monitor().code == 0
    postmaster = primary.postmaster
    assert agent.demote().code == 0
    assert primary.postmaster == postmaster


def test_demote_of_what_may_be_about_to_be_promoted_starts_it_again(agent: Agent, primary: Database) -> None:
    """A promote that was killed has told the server, perhaps, and nobody can take that back."""
    assert agent.demote().code == 0
    postmaster = primary.postmaster
    assert agent.run("demote", meta={"notify_demote_uname": "n1"}).code == 0
    assert primary.is_standby()
    assert primary.postmaster != postmaster


def test_a_demoted_server_can_be_promoted_again(agent: Agent, primary: Database) -> None:
    primary.sql("CREATE TABLE kept AS SELECT 1 AS n")
    assert agent.demote().code == 0
    assert agent.promote().code == 0
    assert primary.sql("SELECT n FROM kept") == 1


def test_stop_of_a_standby_is_idempotent(agent: Agent, standby: Database) -> None:
    assert agent.stop().code == 0
    assert not standby.is_running()
    assert agent.monitor().code == 7
    assert agent.stop().code == 0
    assert agent.monitor().code == 7


def test_stop_of_a_primary_is_clean(agent: Agent, primary: Database, cluster: StandInCluster) -> None:
    assert agent.stop().code == 0
    assert not primary.is_running()
    assert agent.monitor().code == 7
    assert "database system is shut down" in primary.log.read_text()
    assert cluster.attribute("n1", "master-pgsql") == "-INFINITY"
    assert cluster.attribute("n1", "pgsql-status") == "STOP"


def test_demote_of_a_server_that_is_gone(agent: Agent, primary: Database) -> None:
    """Pacemaker demotes after a monitor said 7, too; anything but success would be one failure more."""
    primary.crash()
    assert agent.monitor().code == 7
    assert agent.demote().code == 0
    assert primary.is_standby()


def test_demote_that_is_followed_by_stop_only_stops(agent: Agent, primary: Database) -> None:
    answer = agent.run("demote", meta={"notify_stop_uname": "n1"})
    assert answer.code == 0, answer
    assert not primary.is_running()


def test_promote_of_a_server_that_is_gone_fails(agent: Agent) -> None:
    answer = agent.promote()
    assert answer.code == 1, answer
    assert "no server to promote" in answer.reason


def test_promote_without_quorum_is_refused(agent: Agent, standby: Database, cluster: StandInCluster) -> None:
    cluster.lose_quorum()
    answer = agent.promote()
    assert answer.code == 1, answer
    assert "quorum" in answer.reason
    assert standby.is_standby()


def test_promote_without_a_record_that_allows_it_is_refused(
    agent: Agent, standby: Database, cluster: StandInCluster
) -> None:
    cluster.set_permanent("n1", "pgsql-data-status", "DISCONNECT")
    answer = agent.promote()
    assert answer.code == 1, answer
    assert "DISCONNECT" in answer.reason
    assert standby.is_standby()


def test_start_beside_a_primary_that_somebody_else_started_fails(agent: Agent, database: Database) -> None:
    database.start()
    answer = agent.start()
    assert answer.code == 1, answer
    assert "not as a standby" in answer.reason
    assert not database.is_standby()


def test_the_server_is_not_in_the_process_group_of_the_action(agent: Agent, standby: Database) -> None:
    """Pacemaker kills the whole group of an action that takes too long."""
    assert os.getpgid(standby.postmaster) == standby.postmaster
    assert os.getsid(standby.postmaster) == standby.postmaster
    assert Path(f"/proc/{standby.postmaster}/status").read_text().split("Uid:")[1].split()[0] == str(user_id())
    assert agent.log.exists()


def test_the_server_holds_no_pipe_of_the_action(agent: Agent, database: Database) -> None:
    """`agent start | cat` returns."""
    with subprocess.Popen(
        agent.command("start"), env=agent.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/"
    ) as action:
        through = subprocess.run(["cat"], stdin=action.stdout, capture_output=True, timeout=30, check=True)
    assert action.returncode == 0, through.stdout
    streams = [str(Path(f"/proc/{database.postmaster}/fd/{number}").readlink()) for number in (0, 1, 2)]
    assert not any(target.startswith("pipe:") for target in streams), streams


def test_a_healthy_primary_is_monitored_without_writing(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    assert agent.monitor().code == 8
    before = cluster.writes()
    assert agent.monitor().code == 8
    assert cluster.writes() == before
    assert primary.is_running()


def test_actions_of_instances_with_a_number_use_the_same_attributes(agent: Agent, cluster: StandInCluster) -> None:
    agent.instance = "pgsql:0"
    agent.become_primary()
    assert cluster.attribute("n1", "pgsql-status") == "PRI"
    names = {word for call in cluster.writes() for word in call if word.startswith("--name=")}
    assert all(":" not in name for name in names), names

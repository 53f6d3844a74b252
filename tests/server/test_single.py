# SPDX-License-Identifier: GPL-2.0-or-later
"""The modes without promotions: one server alone (none), and a standby of a primary elsewhere (slave)."""

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Database, base_backup
from tests.server.stand_in import StandInCluster
from tests.server.trees import tree


@pytest.fixture
def single(agent: Agent) -> Agent:
    """The agent in rep_mode none."""
    agent.parameters |= {"rep_mode": "none", "node_list": "", "master_ip": ""}
    return agent


@pytest.fixture
def outside(agent: Agent) -> Agent:
    """The agent in rep_mode slave."""
    agent.parameters |= {"rep_mode": "slave", "node_list": ""}
    return agent


def test_a_single_server_starts_writable_and_stops(single: Agent, database: Database, cluster: StandInCluster) -> None:
    assert single.monitor().code == 7
    assert single.start().code == 0
    assert not database.is_standby()
    assert single.monitor().code == 0
    assert single.probe().code == 0
    postmaster = database.postmaster
    assert single.start().code == 0
    assert database.postmaster == postmaster
    assert single.stop().code == 0
    assert single.stop().code == 0
    assert single.monitor().code == 7
    assert cluster.calls() == [], "it has nothing to tell the cluster"


def test_the_files_of_a_single_server_are_left_alone(single: Agent, database: Database) -> None:
    before, config = tree(database.data, running=True), database.config.read_text()
    assert single.start().code == 0
    added = set(tree(database.data, running=True)) - set(before)
    assert database.config.read_text() == config
    assert added <= {"postmaster.pid", "postmaster.opts"}, added
    assert not database.tmpdir.exists()


@pytest.mark.parametrize("action", ["promote", "demote"])
def test_a_single_server_has_no_roles(single: Agent, database: Database, action: str) -> None:
    assert single.start().code == 0
    assert single.run(action).code == 3
    assert database.is_running()


def test_a_single_server_recovers_after_a_crash(single: Agent, database: Database) -> None:
    assert single.start().code == 0
    database.sql("CREATE TABLE kept AS SELECT 1 AS n")
    database.crash()
    assert single.monitor().code == 7
    assert single.start().code == 0
    assert database.sql("SELECT n FROM kept") == 1


def test_a_hanging_single_server_is_an_error(single: Agent, database: Database) -> None:
    assert single.start().code == 0
    with database.frozen(database.postmaster):
        answer = single.monitor(timeout=8)
    assert answer.code == 1, answer


def test_a_standby_of_a_primary_outside(outside: Agent, database: Database, cluster: StandInCluster) -> None:
    assert outside.start().code == 0
    assert database.is_standby()
    assert outside.monitor().code == 0
    assert outside.run("promote").code == 3
    assert outside.run("demote").code == 3
    assert outside.stop().code == 0
    assert outside.monitor().code == 7
    assert cluster.writes() == []


def test_a_standby_follows_a_real_primary_outside(
    outside: Agent, database: Database, make_database: MakeDatabase, cluster: StandInCluster
) -> None:
    """The primary of another cluster, reached by TCP, with a slot that its administrator made."""
    primary = make_database("outside")
    primary.configure("listen_addresses = '127.0.0.1'")
    hba = primary.data / "pg_hba.conf"
    hba.write_text(f"host replication tester 127.0.0.1/32 trust\n{hba.read_text()}")
    primary.start()
    primary.sql("SELECT pg_create_physical_replication_slot('far_n1')")
    base_backup(primary, database)
    database.configure(f"port = {database.port}")
    outside.parameters |= {"pgport": str(primary.port), "repuser": "tester", "replication_slot_name": "far"}
    assert outside.start().code == 0
    assert database.tmpdir.is_dir(), "made by the agent"

    def follows(count: int) -> bool:
        return bool(database.sql("SELECT to_regclass('sent')")) and database.sql("SELECT count(*) FROM sent") == count

    primary.sql("CREATE TABLE sent AS SELECT generate_series(1, 100) AS n")
    eventually("what is written there is here", lambda: follows(100), within=20)
    assert primary.sql("SELECT application_name FROM pg_stat_replication") == "n1"
    assert primary.sql("SELECT active FROM pg_replication_slots") is True
    assert outside.monitor().code == 0

    primary.stop()
    assert outside.monitor().code == 0, "that the other cluster has a failure is none of this one"
    assert outside.stop().code == 0
    primary.start()
    primary.sql("INSERT INTO sent VALUES (101)")
    assert outside.start().code == 0
    eventually("it has caught up", lambda: follows(101), within=20)
    assert cluster.writes() == []
    assert outside.stop().code == 0


def test_a_single_server_asks_its_own_query_in_every_monitor(single: Agent, database: Database) -> None:
    assert single.start().code == 0
    answer = single.monitor(monitor_sql="SELECT * FROM there_is_no_such_table")
    assert answer.code == 1, answer
    assert "there_is_no_such_table" in answer.reason
    assert database.is_running()


def test_a_standby_of_a_primary_outside_asks_its_own_query_too(outside: Agent) -> None:
    assert outside.start().code == 0
    answer = outside.monitor(monitor_sql="SELECT * FROM there_is_no_such_table")
    assert answer.code == 1, answer
    assert "there_is_no_such_table" in answer.reason
    assert outside.probe(monitor_sql="SELECT * FROM there_is_no_such_table").code == 0


def test_a_standby_of_a_primary_outside_shows_its_receiver(outside: Agent, cluster: StandInCluster) -> None:
    assert outside.start().code == 0
    assert outside.monitor(check_wal_receiver="true").code == 0
    assert cluster.attribute("n1", "pgsql-receiver-status") == "ERROR"
    assert outside.stop(check_wal_receiver="true").code == 0
    assert cluster.attribute("n1", "pgsql-receiver-status") == ""

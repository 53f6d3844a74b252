# SPDX-License-Identifier: GPL-2.0-or-later
"""A standby behind a real primary on another node: what it owns without having replayed it, and how it stops receiving
for the time of a promotion.
"""

import os
import subprocess
from contextlib import ExitStack

import pytest

from pgsql_ra.postgres.configuration import with_conninfo
from pgsql_ra.replication.lsn import Lsn
from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Database, base_backup
from tests.server.stand_in import StandInCluster
from tests.server.test_notify import told

DELAY = "recovery_min_apply_delay = '1h'"


class Following:
    """The agent's database streams from `source`, the primary on n2. Both share a port: only `source` listens on it."""

    def __init__(self, agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, settings: str = "") -> None:
        self.agent, self.cluster, self.standby = agent, cluster, agent.database
        self.source = make_database("source")
        self.source.port = self.standby.port
        self.source.configure("listen_addresses = '127.0.0.1'")
        hba = self.source.data / "pg_hba.conf"
        hba.write_text(f"host all,replication all 127.0.0.1/32 trust\n{hba.read_text()}")
        self.source.start()
        base_backup(self.source, self.standby)
        self.standby.configure(f"listen_addresses = ''\n{settings}")
        self.prepare()
        cluster.run_primary("n2", history="1:")
        agent.become_standby()
        self.await_streaming()

    def prepare(self) -> None:
        """What else is done to the standby's copy before it is started for the first time."""

    def await_streaming(self) -> None:
        """The standby streams."""
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        eventually("the standby streams", lambda: self.source.sql(query), lambda count: count == 1, within=20)

    def send(self) -> Lsn:
        """Rows are committed and received; where the primary's WAL ends then."""
        self.source.sql("CREATE TABLE sent AS SELECT generate_series(1, 1000) AS n")
        end = Lsn.parse(self.source.sql("SELECT pg_current_wal_flush_lsn()::text"))
        received = "SELECT pg_last_wal_receive_lsn()::text"
        eventually("all is received", lambda: Lsn.parse(self.standby.sql(received)) >= end, within=10)
        return end

    def lose_primary(self) -> None:
        """The primary's node is gone, and fenced."""
        self.source.crash()
        self.cluster.stop_primary("n2")
        self.cluster.set_permanent("n1", "pgsql-data-status", "STREAMING|SYNC")


@pytest.mark.parametrize("began", ["before", "afterwards"])
def test_a_standby_that_replays_with_a_delay_is_promoted_at_once(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, began: str
) -> None:
    """Whether it received its WAL in this life of the server or in an earlier one."""
    pair = Following(agent, cluster, make_database, DELAY)
    pair.send()
    pair.lose_primary()
    if began == "afterwards":
        assert agent.stop().code == 0
        agent.become_standby()
    assert pair.standby.sql("SELECT to_regclass('sent')") is None, "it has not replayed that yet"
    answer = agent.promote()
    assert answer.code == 0, answer
    assert pair.standby.sql("SELECT count(*) FROM sent") == 1000


def test_a_promotion_begins_where_the_last_whole_record_ends(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """What was received of a record whose end never came is not in the new timeline: a promotion that was recorded
    behind its own beginning would never count again.
    """
    pair = Following(agent, cluster, make_database, DELAY)
    before = pair.send()
    sent = "SELECT sent_lsn::text FROM pg_stat_replication"
    received = "SELECT pg_last_wal_receive_lsn()::text"
    with ExitStack() as hung:
        with pair.standby.frozen(pair.standby.process("walreceiver")):
            # More than the buffers of a connection hold.
            pair.source.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 32000000))")
            eventually("some of it is sent", lambda: Lsn.parse(pair.source.sql(sent)) > before + 100_000, within=10)
            hung.enter_context(pair.source.frozen(pair.source.process("walsender")))
        eventually("some is received", lambda: Lsn.parse(pair.standby.sql(received)) > before + 100_000, within=10)
        assert Lsn.parse(pair.standby.sql(received)) < before + 32_000_000
        assert pair.standby.sql("SELECT status FROM pg_stat_wal_receiver") == "streaming"
        cluster.stop_primary("n2")
        cluster.set_permanent("n1", "pgsql-data-status", "STREAMING|SYNC")
        answer = agent.promote()
    assert answer.code == 0, answer
    began = Lsn.parse(cluster.attribute("n1", "pgsql-promotion").split()[1])
    timeline, fork, *_ = (pair.standby.data / "pg_wal" / "00000002.history").read_text().split()
    assert (timeline, Lsn.parse(fork)) == ("1", began)


@pytest.mark.parametrize("ended_by", ["monitor", "notification"])
def test_a_standby_receives_nothing_while_another_one_is_promoted(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, ended_by: str
) -> None:
    pair = Following(agent, cluster, make_database)
    end = pair.send()
    answer = agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3"))
    assert answer.code == 0, answer
    assert _receivers(pair.source) == 0, "the primary lives, and is cut off"
    position = cluster.private("n1", "pgsql-position")
    assert Lsn.parse(position.partition(" ")[0]) >= end
    pair.source.sql("CREATE TABLE lonely AS SELECT 1 AS n")
    assert pair.standby.sql("SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'") == ""
    assert Lsn.parse(pair.standby.sql("SELECT pg_last_wal_replay_lsn()::text")) == Lsn.parse(position.partition(" ")[0])
    if ended_by == "monitor":
        assert agent.monitor().code == 0
    else:
        assert agent.run("notify", meta=told("post", "promote", promote="n2", unpromoted="n1")).code == 0
    pair.await_streaming()


def test_one_that_was_told_half_of_it_receives_again(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """Its monitor was killed when the file named the primary again and the server had not been told."""
    pair = Following(agent, cluster, make_database)
    recovery = pair.standby.tmpdir / "recovery.conf"
    named = recovery.read_text()
    assert agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3")).code == 0
    eventually("it is cut", lambda: pair.standby.sql("SHOW primary_conninfo"), lambda seen: seen == "", within=10)
    recovery.write_text(named)
    assert agent.monitor().code == 0
    pair.await_streaming()


def test_one_that_was_told_half_of_it_is_cut_off_all_the_same(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """The notification was killed when the file named nobody any more and the server had not been told."""
    pair = Following(agent, cluster, make_database)
    pair.send()
    recovery = pair.standby.tmpdir / "recovery.conf"
    recovery.write_text(with_conninfo(recovery.read_text(), ""))
    assert pair.standby.sql("SHOW primary_conninfo") != ""
    assert agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3")).code == 0
    assert pair.standby.sql("SHOW primary_conninfo") == ""
    assert _receivers(pair.source) == 0
    assert "cut=" in cluster.private("n1", "pgsql-position")


def test_a_standby_does_not_try_to_receive_before_the_primarys_address_is_there(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """Tried in vain, a receiver waits for 5 seconds; and a monitor that waited would hold up the address itself."""
    pair = Following(agent, cluster, make_database)
    answer = agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3"))
    assert answer.code == 0, answer
    pair.source.stop()
    assert agent.monitor().code == 0
    assert pair.standby.sql("SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'") == ""
    pair.source.start()
    assert agent.monitor().code == 0
    pair.await_streaming()


def _receivers(source: Database) -> int:
    return int(source.sql("SELECT count(*) FROM pg_stat_replication"))


def test_two_that_receive_again_at_the_same_time(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """The work that a post-promote notification leaves behind and the next monitor both begin as soon as the primary
    answers, and both write the recovery settings.
    """
    pair = Following(agent, cluster, make_database)
    conninfo = "SHOW primary_conninfo"
    for _ in range(4):
        assert agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3")).code == 0
        eventually("it is cut", lambda: pair.standby.sql(conninfo), lambda value: value == "", within=10)
        with subprocess.Popen(
            agent.command("notify"),
            env=agent.environment(60, told("post", "promote", promote="n2", unpromoted="n1")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ):
            assert agent.monitor(silent=False).code == 0
        eventually("it receives again", lambda: pair.standby.sql(conninfo), bool, within=10)
    pair.await_streaming()
    errors = [line for line in agent.logged().splitlines() if "ERROR:" in line]
    assert errors == []
    assert [name for name in os.listdir(agent.database.tmpdir) if "unfinished" in name or name.endswith(".new")] == []

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose connection a walsender's is: what a standby's agent says of its receiver, and what the primary sees."""

from pathlib import Path

import pytest

from pgsql_ra.postgres.endpoint import NONE, endpoint_of, local_mark
from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Commit, Database
from tests.server.stand_in import StandInCluster
from tests.server.test_following import Following
from tests.server.test_gone_meanwhile import receiving
from tests.server.test_notify import told

ENDPOINT = "pgsql-receiver-from"
MODES = pytest.mark.parametrize(("mode", "value"), [("sync", "STREAMING|SYNC"), ("async", "STREAMING|ASYNC")])


def record(agent: Agent, cluster: StandInCluster, mode: str) -> tuple[str, str]:
    """What is recorded of n2 after a few monitors of the primary, and its score."""
    agent.parameters["rep_mode"] = mode
    for _ in range(3):
        agent.monitor(silent=False)
    return cluster.attribute("n2", "pgsql-data-status"), cluster.attribute("n2", "master-pgsql")


@MODES
@pytest.mark.parametrize("says", ["", "none", "192.0.2.1:5000"])
def test_somebody_of_that_name_makes_no_node_promotable(
    agent: Agent, primary: Database, cluster: StandInCluster, root: Path, mode: str, value: str, says: str
) -> None:
    """A program, the standby of a disaster site or of a cloned machine calls itself n2; n2 holds nothing."""
    cluster.join("n2")
    if says:
        cluster.set_private("n2", ENDPOINT, says)
    with receiving(primary, "n2", root / "elsewhere"):
        data_status, score = record(agent, cluster, mode)
        assert data_status != value
        assert score == "-INFINITY"
        assert primary.sql("SHOW synchronous_standby_names") == ""
        Commit(primary).await_return()
        assert primary.sql("SELECT count(*) FROM pg_stat_replication") == 1, "nobody is ended"
    assert ("calls itself n2" in agent.logged()) == bool(says)


@MODES
def test_the_nodes_own_does(
    agent: Agent, primary: Database, cluster: StandInCluster, root: Path, mode: str, value: str
) -> None:
    cluster.join("n2")
    cluster.receives_by_socket("n2")
    with receiving(primary, "n2", root / "own"):
        assert record(agent, cluster, mode) == (value, "100")


def test_a_stranger_beside_it_takes_the_record_away(
    agent: Agent, primary: Database, cluster: StandInCluster, root: Path
) -> None:
    """Whoever comes first: commits would be acknowledged by the stranger."""
    cluster.join("n2")
    cluster.receives_by_socket("n2")
    with receiving(primary, "n2", root / "elsewhere"):
        assert record(agent, cluster, "sync") == ("STREAMING|SYNC", "100")
        cluster.set_private("n2", ENDPOINT, "192.0.2.1:5000")
        assert record(agent, cluster, "sync") == ("DISCONNECT", "-INFINITY")
        assert primary.sql("SHOW synchronous_standby_names") == ""
        assert primary.sql("SELECT count(*) FROM pg_stat_replication") == 1


def seen_by(source: Database) -> str:
    """Where the primary sees its standby."""
    return str(source.sql("SELECT max(host(client_addr) || ':' || client_port) FROM pg_stat_replication"))


def test_a_standby_says_where_it_receives_from(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """Once, by its monitor, and again when its receiver has connected anew."""
    pair = Following(agent, cluster, make_database)
    assert agent.monitor().code == 0
    first = seen_by(pair.source)
    assert first.startswith("127.0.0.1:")
    assert cluster.private("n1", ENDPOINT) == first
    writes = cluster.writes()
    assert agent.monitor().code == 0
    assert cluster.writes() == writes
    pair.source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    second = eventually("it is back", lambda: seen_by(pair.source), lambda seen: seen not in (first, "None"), within=20)
    pair.await_streaming()
    assert agent.monitor().code == 0
    assert cluster.private("n1", ENDPOINT) == second
    pair.source.stop()
    eventually("it ends", lambda: endpoint_of(receiver(pair.standby)), lambda seen: seen == NONE, within=10)
    agent.monitor(silent=False)
    assert cluster.private("n1", ENDPOINT) == f"gone {second}"
    assert agent.stop().code == 0
    assert cluster.private("n1", ENDPOINT) == ""


def test_a_standby_introduces_itself_after_its_start(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    pair = Following(agent, cluster, make_database)
    assert agent.run("notify", meta=told("post", "start", start="n1", promoted="n2")).code == 0
    assert cluster.private("n1", ENDPOINT) == seen_by(pair.source)


def test_a_standby_introduces_itself_to_the_next_primary(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    pair = Following(agent, cluster, make_database)
    assert agent.run("notify", meta=told("pre", "promote", promote="n3", unpromoted="n1 n3")).code == 0
    assert agent.run("notify", meta=told("post", "promote", promote="n2", unpromoted="n1")).code == 0
    pair.await_streaming()
    place = seen_by(pair.source)
    eventually("it has said so", lambda: cluster.private("n1", ENDPOINT), lambda seen: seen == place, within=10)


def receiver(standby: Database) -> int:
    """The process of the WAL receiver; 0 if there is none."""
    return int(standby.sql("SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver'") or 0)


def test_a_connection_within_the_machine_has_the_machines_mark(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    agent.parameters["master_ip"] = str(agent.database.root / "source.socket")
    pair = Following(agent, cluster, make_database)
    assert agent.monitor().code == 0
    assert cluster.private("n1", ENDPOINT) == local_mark()
    assert pair.source.sql("SELECT client_addr FROM pg_stat_replication") is None

# SPDX-License-Identifier: GPL-2.0-or-later
"""A new cluster, in which the copy that goes furthest is promoted: only if it holds all that the other one has."""

from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Database, base_backup, file_copy
from tests.server.stand_in import StandInCluster


class TwoNodes:
    """The original on n2, looked at by an agent of its own, and its copy on n1. Both are stopped."""

    def __init__(self, agent: Agent, cluster: StandInCluster, original: Database, root: Path) -> None:
        self.agent, self.cluster, self.copy, self.original = agent, cluster, agent.database, original
        self.original.start()
        self.original.sql("CREATE TABLE common AS SELECT 1 AS n")
        base_backup(self.original, self.copy)
        self.other = Agent(original, StandInCluster(root / "other"), root / "other.log")

    def start(self) -> None:
        """The cluster is started for the first time: each agent knows what the other node has said."""
        self.other.become_standby()
        eventually("it is heard", lambda: self.said("pgsql-position"), within=20)
        self.cluster.run_standby("n2", {name: self.said(name) for name in ("pgsql-position", "pgsql-known")})
        self.agent.become_standby()

    def said(self, name: str) -> str:
        """A private attribute of the original's node after a monitor."""
        self.other.monitor(silent=False)
        return self.other.cluster.private("n1", name)

    def await_verdict(self) -> str:
        """The promotion score that the copy gives itself."""

        def score() -> str:
            assert self.agent.monitor(silent=False).code == 0
            return self.cluster.attribute("n1", "master-pgsql") if self.cluster.private("n1", "pgsql-position") else ""

        return eventually("it has a score", score, within=20)


@pytest.fixture
def nodes(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, root: Path) -> TwoNodes:
    """The two."""
    return TwoNodes(agent, cluster, make_database("original"), root)


@pytest.mark.parametrize("kept", ["64MB", "0"], ids=["comparable", "its old segments are gone"])
def test_a_clone_with_wal_of_its_own_is_not_promoted_although_it_goes_further(nodes: TwoNodes, kept: str) -> None:
    nodes.copy.configure(f"wal_keep_size = '{kept}'")
    nodes.copy.start()
    nodes.original.sql("CREATE TABLE acknowledged AS SELECT generate_series(1, 100) AS n")
    nodes.original.stop()
    nodes.copy.sql("CREATE TABLE own AS SELECT generate_series(1, 60000) AS n")
    nodes.copy.stop()
    nodes.start()
    assert nodes.await_verdict() == "-INFINITY"
    assert "choose one of n1, n2" in nodes.cluster.attribute("n1", "pgsql-not-promoted")
    answer = nodes.agent.promote()
    assert answer.code == 1, answer
    assert "pgsql-ra allow NODE" in answer.reason
    assert nodes.agent.by_hand("allow", "n1", "--yes").code == 0
    answer = nodes.agent.promote()
    assert answer.code == 0, answer


def test_a_copy_that_was_left_behind_long_ago_stands_in_nobodys_way(nodes: TwoNodes) -> None:
    """It is the one on n2 here, and never was a primary; the segment in which its WAL ends is gone from n1."""
    nodes.original.stop()
    nodes.copy.configure("wal_keep_size = 0")
    nodes.copy.start()
    base_backup(nodes.copy, nodes.original)
    nodes.copy.sql("CREATE TABLE more AS SELECT generate_series(1, 60000) AS n")
    nodes.copy.stop()
    nodes.start()
    assert nodes.await_verdict() == "1000"


def test_a_copy_of_all_that_the_original_has_is_promoted(nodes: TwoNodes) -> None:
    """It went on as a primary: it holds the newest data, and all of the other's."""
    nodes.original.stop()
    file_copy(nodes.original, nodes.copy)
    nodes.copy.configure("wal_keep_size = 64MB")
    nodes.copy.start()
    nodes.copy.sql("CREATE TABLE more AS SELECT generate_series(1, 60000) AS n")
    nodes.copy.stop()
    nodes.start()
    assert nodes.await_verdict() == "1000"
    answer = nodes.agent.promote()
    assert answer.code == 0, answer

# SPDX-License-Identifier: GPL-2.0-or-later
"""A synchronous standby that is let go: what is counted, told and read back before commits go on without it."""

from pathlib import Path

from tests.server.agent import Agent
from tests.server.database import Commit, Database
from tests.server.stand_in import StandInCluster
from tests.server.test_gone_meanwhile import receiving
from tests.server.test_identity import record

NAMES = "SHOW synchronous_standby_names"


def test_commits_go_on_when_another_member_has_read_that_they_may(
    agent: Agent, primary: Database, cluster: StandInCluster, root: Path
) -> None:
    """The network is cut, connections break at once, and Pacemaker has not noticed: its writes succeed."""
    cluster.join("n2")
    cluster.receives_by_socket("n2")
    with receiving(primary, "n2", root / "own"):
        assert record(agent, cluster, "sync") == ("STREAMING|SYNC", "100")
        assert cluster.attribute("n2", "pgsql-promotion").startswith("1@n1 proof=0:")
    cluster.cut_off("n2")
    answer = agent.monitor(silent=False)
    assert answer.code == 8, "a healthy server is not failed for that"
    assert cluster.attribute("n2", "pgsql-data-status") == "DISCONNECT"
    assert primary.sql(NAMES) == '"n2"', "nobody else may have heard that"
    assert "did not confirm" in agent.logged()
    commit = Commit(primary)
    agent.monitor(silent=False)
    commit.await_wait()
    cluster.stop_primary("n2")  # it is noticed, and n2 is fenced
    assert agent.monitor(silent=False).code == 8
    assert primary.sql(NAMES) == ""
    commit.await_return()


def test_what_was_lowered_is_counted_by_every_node(
    agent: Agent, primary: Database, cluster: StandInCluster, root: Path
) -> None:
    cluster.join("n2")
    cluster.receives_by_socket("n2")
    with receiving(primary, "n2", root / "own"):
        record(agent, cluster, "sync")
    agent.monitor(silent=False)
    for node in ("n1", "n2"):
        assert cluster.private(node, "pgsql-known") == "1@n1 lowered=n2:1"
    assert "lowered=n2:1" in agent.state_file("promotion").read_text()
    with receiving(primary, "n2", root / "again"):
        assert record(agent, cluster, "sync") == ("STREAMING|SYNC", "100")
        assert cluster.attribute("n2", "pgsql-promotion").startswith("1@n1 proof=1:")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Failover: the primary's server crashes, or its machine loses power, and a standby takes over with the VIP."""

from functools import partial

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.support import (
    DISCONNECT,
    LATEST,
    data_status,
    is_degraded,
    is_redundant,
    start,
    writing,
)
from tests.lab.cib_view import Status


def _is_settled(seen: Status, former: str) -> bool:
    """A crashed primary follows as it is if its WAL ends before the fork; otherwise a failure names what is too
    much.
    """
    if data_status(seen.node(former)).startswith("STREAMING"):
        return True
    reasons = [failure.reason for failure in seen.failures if failure.node == former and "start" in failure.operation]
    return any("are not in the cluster" in reason for reason in reasons)


@pytest.mark.parametrize("nodes", [2, 3])
def test_crash_of_the_primary(cluster: Cluster, nodes: int) -> None:
    lab = cluster(nodes=nodes)
    # With two standbys, the one that is not synchronous may have received more of what was never acknowledged.
    heirs = start(lab).unpromoted
    victim = lab.primary()
    with writing(lab):
        victim.crash_postgres()
        seen = lab.wait("a standby took over", lambda now: now.promoted in heirs, within=30)
        lab.wait("the VIP followed", lambda now: now.location() == seen.promoted, within=10)
        lab.wait(
            "the former primary follows or says why it may not", lambda now: _is_settled(now, victim.name), within=30
        )
    assert data_status(seen.node(seen.promoted or "")) == LATEST
    assert lab.fenced() == [], "a crash of the server is no reason to fence its node"


@pytest.mark.parametrize("nodes", [2, 3])
def test_power_cut_of_the_primary(cluster: Cluster, nodes: int) -> None:
    lab = cluster(nodes=nodes)
    seen = start(lab)
    victim, heirs = lab.primary(), seen.unpromoted
    with writing(lab):
        victim.power_cut()
        lab.wait("a standby took over", lambda now: now.promoted in heirs and now.location() == now.promoted, within=60)
        assert lab.fenced() == [victim.name]
        assert data_status(lab.status().node(victim.name)) == DISCONNECT
        if nodes == 2:
            assert is_degraded(lab.status())


def test_power_cut_of_the_primary_in_async_mode(cluster: Cluster) -> None:
    lab = cluster(nodes=3, rep_mode="async")
    start(lab)
    lab.wait("both standbys may be promoted", lambda now: [n.promotion_score for n in now.nodes].count("100") == 2)
    victim = lab.primary()
    client = lab.client("writer")
    client.wait_for(50)
    victim.power_cut()
    lab.wait("a standby took over", lambda now: now.promoted not in (None, victim.name), within=60)
    client.wait_for(20, within=30)
    client.stop()
    # Asynchronous: what was acknowledged in the last moment may be lost, but never what the other standby had.
    lab.wait("the other standby follows", lambda now: "STREAMING|ASYNC" in map(data_status, now.nodes), within=30)


def test_the_next_failover_follows_two_moves(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    start(lab)
    with writing(lab):
        for _ in range(2):
            former = lab.primary().name
            lab.node(former).standby()
            lab.wait("another node took over", partial(_took_over, former), within=60)
            lab.node(former).unstandby()
            lab.wait("everything is redundant again", is_redundant, within=60)
        victim = lab.primary()
        victim.power_cut()
        lab.wait("another node took over from the one without power", partial(_took_over, victim.name), within=60)


def _took_over(former: str, seen: Status) -> bool:
    return seen.promoted not in (None, former) and seen.location() == seen.promoted

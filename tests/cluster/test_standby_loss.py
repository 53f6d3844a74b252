# SPDX-License-Identifier: GPL-2.0-or-later
"""The switch between synchronous and asynchronous: a synchronous standby is lost, and it returns."""

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.support import (
    DISCONNECT,
    data_status,
    is_degraded,
    is_redundant,
    start,
    synchronous_names,
    synchronous_standby,
    writing,
)
from tests.lab.layout import PORT
from tests.lab.waiting import TIME_FACTOR

GAP_SECONDS = 10
"""wal_sender_timeout of the standby's connection, and a monitor of the primary."""


def test_two_nodes_go_on_asynchronously_and_become_synchronous_again(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    victim = lab.node(synchronous_standby(start(lab)) or "")
    with writing(lab) as client:
        victim.power_cut()
        lab.wait("the primary goes on alone", is_degraded, within=30)
        client.wait_for(20, within=10)
        assert lab.fenced() == [victim.name]
        assert synchronous_names(lab) == ""
        assert data_status(lab.status().node(victim.name)) == DISCONNECT

        victim.boot()
        lab.wait("synchronous again", is_redundant, within=60)
        assert synchronous_names(lab) == f'"{victim.name}"'


def test_commits_wait_while_nobody_knows_whether_the_standby_lives(cluster: Cluster) -> None:
    """Degrading before fencing has succeeded would lose commits if the standby's side were promoted."""
    lab = cluster(nodes=2)
    victim = lab.node(synchronous_standby(start(lab)) or "")
    with writing(lab) as client:
        lab.fencing_fails(2)
        victim.power_cut()
        lab.wait("the cluster wants to fence it", lambda _: [e["event"] for e in lab.events()].count("fencing") >= 1)
        before = len(client.acknowledged())
        lab.wait("fencing was tried twice in vain", lambda _: [e["event"] for e in lab.events()].count("fencing") >= 2)
        # The cluster has not been able to fence it until here, so not one commit may have been acknowledged.
        fencing = [event["wall"] for event in lab.events() if event["event"] == "fencing"]
        early = [line for line in client.lines() if line["outcome"] == "ack" and fencing[0] < line["wall"] < fencing[1]]
        assert early == [], f"{len(early)} commits were acknowledged while the standby might have been promoted"
        lab.wait("it was fenced, and the primary goes on", is_degraded, within=60)
        client.wait_for(20, within=10)
        assert len(client.acknowledged()) > before


def test_three_nodes_change_the_synchronous_standby(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    victim = lab.node(synchronous_standby(start(lab)) or "")
    with writing(lab):
        victim.power_cut()
        lab.wait(
            "the other standby is synchronous",
            lambda now: synchronous_standby(now) not in (None, victim.name),
            within=30,
        )
        victim.boot()
        lab.wait("everybody is back", is_redundant, within=60)


def test_commits_go_on_soon_if_only_the_servers_do_not_reach_each_other(cluster: Cluster) -> None:
    """Nobody is fenced for it, and the row of the standby's walsender does not go away by itself for a minute."""
    lab = cluster(nodes=2)
    victim = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()
    with writing(lab) as client:
        lab.network.close_port(primary.name, victim.name, PORT)
        lab.wait("the primary goes on alone", is_degraded, within=30)
        client.wait_for(20, within=10)
        gap = client.report().longest_gap
        assert gap is not None and gap.seconds < GAP_SECONDS * TIME_FACTOR, str(gap)
        lab.network.open_port(primary.name, victim.name, PORT)
        lab.wait("synchronous again", is_redundant, within=120)
    assert lab.fenced() == []


@pytest.mark.parametrize("nodes", [2, 3])
def test_crash_of_the_synchronous_standby(cluster: Cluster, nodes: int) -> None:
    lab = cluster(nodes=nodes)
    victim = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()
    with writing(lab):
        victim.crash_postgres()
        lab.wait("Pacemaker noticed", lambda now: bool(now.failures), within=20)
        lab.wait("redundant again", is_redundant, within=60)
    assert lab.primary().name == primary.name, "the primary has nothing to do with it"
    assert lab.fenced() == []


def test_a_planned_stop_of_the_synchronous_standby_makes_no_commit_wait(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    victim = lab.node(synchronous_standby(start(lab)) or "")
    with writing(lab) as client:
        victim.standby()
        lab.wait("it is stopped", lambda now: now.node(victim.name).role == "Stopped", within=30)
        assert is_degraded(lab.status())
        victim.unstandby()
        lab.wait("synchronous again", is_redundant, within=60)
        client.wait_for(20)
    log = lab.primary().log_text()
    released = log.index(f"the standby on {victim.name} stops")
    assert released > 0, "the primary released it before it stopped"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Planned changes: the primary moves, a node is emptied and used again, a node leaves properly."""

from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, start, synchronous_standby, writing
from tests.lab.crm import CLONE


def test_planned_move(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    heir = synchronous_standby(start(lab))
    former = lab.primary()
    with writing(lab):
        former.run(["crm_resource", "--ban", "--promoted", f"--resource={CLONE}", f"--node={former.name}"])
        lab.wait("the synchronous standby took over", lambda now: now.promoted == heir, within=30)
        former.run(["crm_resource", "--clear", f"--resource={CLONE}"])
        lab.wait("the former primary follows, nothing done by hand", is_redundant, within=60)
    seen = lab.status()
    assert seen.promoted == heir
    assert not seen.failures
    lab.wait("it streams", lambda now: data_status(now.node(former.name)).startswith("STREAMING|"), within=15)


def test_the_primarys_node_is_emptied_and_used_again(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    start(lab)
    former = lab.primary()
    with writing(lab):
        former.standby()
        lab.wait(
            "another node took over, and nothing runs here",
            lambda now: now.promoted not in (None, former.name) and now.node(former.name).role == "Stopped",
            within=60,
        )
        assert former.postgres_processes() == []
        former.unstandby()
        lab.wait("it follows", is_redundant, within=60)
    assert not lab.status().failures


def test_the_primarys_node_leaves_the_cluster_and_returns(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab)
    former = lab.primary()
    with writing(lab):
        former.stop_cluster()
        lab.wait("the other node took over", lambda now: now.promoted not in (None, former.name), within=60)
        assert lab.fenced() == []
        former.boot()
        lab.wait("it follows", is_redundant, within=60)

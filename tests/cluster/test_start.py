# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting: a new cluster without any attributes, and a whole cluster that was stopped."""

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.support import LATEST, SYNC, data_status, is_redundant, start, synchronous_names, writing


def test_three_nodes_with_empty_attributes(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    seen = start(lab)

    primary, standbys = seen.node(seen.promoted or ""), [seen.node(name) for name in seen.unpromoted]
    assert data_status(primary) == LATEST
    assert primary.promotion_score == "1000"
    assert primary.transient["pgsql-status"] == "PRI"
    sync = [node for node in standbys if data_status(node) == SYNC]
    others = [node for node in standbys if data_status(node) != SYNC]
    assert [node.promotion_score for node in sync] == ["100"], "one standby is synchronous"
    lab.wait("its status", lambda now: now.node(sync[0].name).transient["pgsql-status"] == "HS:sync", within=10)
    lab.wait("the other one is asynchronous", lambda now: data_status(now.node(others[0].name)) == "STREAMING|ASYNC")
    assert others[0].promotion_score == "-INFINITY"
    assert synchronous_names(lab) == f'"{sync[0].name}"'
    assert not lab.status().failures


def test_a_healthy_cluster_writes_nothing(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    start(lab)
    node = lab.primary()

    def epoch() -> str:
        return next(word for word in node.run(["cibadmin", "--query"]).stdout.split() if word.startswith("epoch="))

    lab.wait("every node's record stands", lambda seen: all(data_status(node) for node in seen.nodes))
    before, since = epoch(), len(node.log_text())
    # Three rounds of the primary's monitor are over when its own log says nothing new, so count the cluster's.
    lab.wait("several monitors ran", lambda _: node.sql("SELECT now() > pg_postmaster_start_time() + '25 s'") == "t")
    changes = [line for line in node.log_text()[since:].splitlines() if "pgsql(pgsql)" in line and " = " in line]
    assert changes == []
    assert epoch() == before


@pytest.mark.parametrize("rep_mode", ["sync", "async"])
def test_the_whole_cluster_stops_and_starts_again(cluster: Cluster, rep_mode: str) -> None:
    lab = cluster(nodes=3, rep_mode=rep_mode)
    start(lab)
    with writing(lab) as client:
        client.wait_for(100)
        lab.primary().run(["crm_attribute", "--type=crm_config", "--name=stop-all-resources", "--update=true"])
        lab.wait("nothing runs", lambda seen: all(node.role == "Stopped" for node in seen.nodes))
        assert not any(node.postgres_processes() for node in lab.nodes)
        lab.nodes[0].run(["crm_attribute", "--type=crm_config", "--name=stop-all-resources", "--delete"])
        lab.wait_healthy()
    if rep_mode == "sync":
        lab.wait("redundant again", is_redundant, within=30)
    assert not lab.status().failures

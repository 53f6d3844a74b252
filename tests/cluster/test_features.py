# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters whose effect shows only between nodes: slots, the receiver's state, promotion by restart, outside
standbys.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, start, synchronous_names, synchronous_standby, writing
from tests.lab import Configuration, Lab
from tests.lab.cib_view import Status
from tests.lab.crm import CLONE
from tests.lab.layout import VIP
from tests.lab.node import Node


def slots(node: Node) -> dict[str, str]:
    """The replication slots of a node's server, and whether each is in use."""
    rows = node.sql("SELECT slot_name, active FROM pg_replication_slots").splitlines()
    return dict(row.split("|", 1) for row in rows)


def receiver(seen: Status, node: str) -> str:
    """The attribute that check_wal_receiver asks for."""
    return seen.node(node).transient.get("pgsql-receiver-status", "")


def test_slots_follow_the_primary_and_the_receivers_state_is_shown(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    configuration = Configuration(parameters={"replication_slot_name": "rep", "check_wal_receiver": "true"})
    heir = synchronous_standby(start(lab, configuration)) or ""
    former = lab.primary()
    assert slots(former) == {f"rep_{heir}": "t"}
    lab.wait("the receiver's state", lambda now: receiver(now, heir) == "normal")
    assert receiver(lab.status(), former.name) == "normal (master)"

    others = {"rep_backup": "f", "mine": "f"}
    former.sql("SELECT pg_create_physical_replication_slot('rep_backup'), pg_create_physical_replication_slot('mine')")

    former.run(["crm_resource", "--ban", "--promoted", f"--resource={CLONE}", f"--node={former.name}"])
    lab.wait("the standby took over", lambda now: now.promoted == heir, within=30)
    former.run(["crm_resource", "--clear", f"--resource={CLONE}"])
    lab.wait("redundant again", is_redundant, within=60)
    assert slots(lab.node(heir)) == {f"rep_{former.name}": "t"}
    lab.wait("the former primary holds no WAL back for others", lambda _: slots(former) == others, within=20)
    # What is not the slot of one of the cluster's nodes is somebody else's, whatever its name begins with.


def test_promotion_by_restart_keeps_the_timeline(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab, Configuration(parameters={"restart_on_promote": "true"}))
    assert lab.primary().sql("SELECT timeline_id FROM pg_control_checkpoint()") == "1"


@contextmanager
def outside_standby(lab: Lab, name: str) -> Iterator[None]:
    """A receiver that is no node of the cluster and confirms what it has flushed."""
    node = lab.nodes[1]
    receive = [f"{lab.settings.postgres_bin}/pg_receivewal", "-D", "/tmp", "--synchronous", "--no-loop"]
    process = subprocess.Popen(
        [*node.enter(), "su", "postgres", "-c", " ".join([*receive, "-d", f"'host={VIP} application_name={name}'"])],
        stderr=subprocess.PIPE,
    )
    try:
        yield
    finally:
        node.kill("pg_receivewal")
        process.communicate(timeout=20)


def test_commits_wait_for_a_standby_outside_of_the_cluster_while_it_streams(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    standby = synchronous_standby(start(lab, Configuration(parameters={"external_standby_node_list": "backup"})))
    with writing(lab):
        with outside_standby(lab, "backup"):
            wanted = f'FIRST 2 ("{standby}", "backup")'
            lab.wait("commits wait for both", lambda _: synchronous_names(lab) == wanted, within=30)
        lab.wait("it is released when it is gone", lambda _: synchronous_names(lab) == f'"{standby}"', within=30)
    assert data_status(lab.status().node(standby or "")) == "STREAMING|SYNC"

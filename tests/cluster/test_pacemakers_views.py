# SPDX-License-Identifier: GPL-2.0-or-later
"""Pacemaker's own tools and modes beside a running database: nothing of them restarts or fails it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.cluster.conftest import Cluster
from tests.cluster.support import is_redundant, start, synchronous_standby, writing
from tests.lab import Lab, eventually
from tests.lab.cib_view import Status
from tests.lab.crm import CLONE, RESOURCE
from tests.lab.node import Node


@contextmanager
def maintenance(lab: Lab) -> Iterator[None]:
    """Within this context the cluster leaves its resources alone."""
    node = lab.nodes[0]
    node.run(["crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--update=true"])
    # The recurring monitors end some time later: until then they find what is done to the servers by hand.
    node.run(["crm_resource", "--wait", "--timeout=30"], timeout=60)
    yield
    node.run(["crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--delete"])


def test_maintenance_and_unmanaged_leave_the_servers_alone(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab)
    node = lab.nodes[0]
    before = {each.name: each.postmasters() for each in lab.nodes}
    with writing(lab) as client:
        with maintenance(lab):
            client.wait_for(100)
        lab.wait("redundant", is_redundant, within=30)
        node.run(
            ["crm_resource", "--meta", f"--resource={CLONE}", "--set-parameter=is-managed", "--parameter-value=false"]
        )
        client.wait_for(100)
        node.run(["crm_resource", "--meta", f"--resource={CLONE}", "--delete-parameter=is-managed"])
        lab.wait("redundant", is_redundant, within=30)
        node.run(["crm_resource", "--cleanup"])
        node.run(["crm_resource", "--refresh", "--force"], timeout=90)
        lab.wait("redundant after a new probe of everything", is_redundant, within=60)
    assert {each.name: each.postmasters() for each in lab.nodes} == before
    assert not lab.status().failures


def test_checks_by_hand(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    standby = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()
    assert primary.run(["crm_verify", "--live-check", "--verbose"]).stdout.strip() == ""
    assert primary.run(["crm_resource", f"--resource={RESOURCE}", "--validate"]).returncode == 0
    for node, word in ((primary, "promoted"), (standby, "ok")):
        done = node.run(["crm_resource", f"--resource={RESOURCE}", "--force-check"], check=False)
        assert word in done.stdout, done.stdout + done.stderr
    attributes = primary.run(["crm_mon", "--one-shot", "--show-node-attributes"]).stdout
    for expected in ("pgsql-data-status", "LATEST", "STREAMING|SYNC", "HS:sync", "PRI"):
        assert expected in attributes


def test_a_restart_of_the_resource(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab)
    with writing(lab):
        lab.nodes[0].run(["crm_resource", "--restart", f"--resource={CLONE}", "--timeout=90s"], timeout=120)
        lab.wait("redundant again", is_redundant, within=60)
    assert not lab.status().failures


def test_attrd_loses_its_values(cluster: Cluster) -> None:
    """kill -9 of the attribute daemon on the primary: its score is asserted again, nothing is lost, whoever leads
    then.
    """
    lab = cluster(nodes=2)
    start(lab)
    with writing(lab):
        lab.primary().kill("pacemaker-attrd")
        lab.wait("redundant again", is_redundant, within=90)
    assert lab.fenced() == []


def test_the_cib_loses_what_attrd_still_has(cluster: Cluster) -> None:
    """kill -9 of the controller on the standby: its score is wiped out of the CIB, and attrd does not know."""
    lab = cluster(nodes=2)
    seen = start(lab)
    standby = lab.node(synchronous_standby(seen) or "")
    asserted = f"promotion score of {standby.name} = 100"
    before = lab.primary().log_text().count(asserted)
    with writing(lab):
        standby.kill("pacemaker-contr")
        eventually("it is said again", lambda: lab.primary().log_text().count(asserted) > before, within=60)
        lab.wait("redundant again", is_redundant, within=60)
    assert lab.fenced() == []


def test_pacemaker_restarts_under_running_servers(cluster: Cluster) -> None:
    """An upgrade of Pacemaker: first on the primary's node, later on all nodes at once."""
    lab = cluster(nodes=2)
    seen = start(lab)
    primary = lab.primary()
    before = {each.name: each.postmasters() for each in lab.nodes}
    with writing(lab):
        for restarted in ([primary], lab.nodes):
            with maintenance(lab):
                with ThreadPoolExecutor() as all_at_once:
                    list(all_at_once.map(Node.restart_pacemaker, restarted))
                names = {node.name for node in restarted}
                lab.wait("the servers were found again", lambda now: _is_found_again(now, seen, names), within=60)  # noqa: B023
            lab.wait("redundant", is_redundant, within=60)
    assert lab.status().promoted == primary.name
    assert {each.name: each.postmasters() for each in lab.nodes} == before
    assert lab.fenced() == []
    assert not lab.status().failures


def _is_found_again(now: Status, before: Status, restarted: set[str]) -> bool:
    """The same roles as before; and what attrd knew of the nodes that were restarted is lost."""
    lost = {node.name for node in now.nodes if node.promotion_score is None}
    return now.promoted == before.promoted and now.unpromoted == before.unpromoted and lost == restarted


def test_actions_by_hand_in_maintenance_mode(cluster: Cluster) -> None:
    """crm_resource runs them without the variables of a transition, and without telling the cluster."""
    lab = cluster(nodes=2)
    standby = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()

    def force(node: Node, action: str) -> int:
        command = ["crm_resource", f"--resource={RESOURCE}", f"--force-{action}"]
        return node.run(command, check=False, timeout=90).returncode

    with maintenance(lab):
        assert force(standby, "stop") == 0
        assert standby.postgres_processes() == []
        assert force(standby, "start") == 0
        assert standby.is_in_recovery()
        assert force(standby, "promote") != 0, "there is a primary"
        assert standby.is_in_recovery()
        assert force(primary, "demote") == 0
        assert primary.is_in_recovery()
        assert force(primary, "promote") == 0
        assert lab.writable() == [primary]
    seen = lab.wait("redundant", is_redundant, within=60)
    assert seen.promoted == primary.name
    assert not seen.failures
    with writing(lab) as client:
        client.wait_for(20)

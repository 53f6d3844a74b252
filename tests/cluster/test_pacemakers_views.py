# SPDX-License-Identifier: GPL-2.0-or-later
"""Pacemaker's own tools and modes beside a running database: nothing of them restarts or fails it."""

from tests.cluster.conftest import Cluster
from tests.cluster.support import is_redundant, start, synchronous_standby, writing
from tests.lab.crm import CLONE, RESOURCE


def test_maintenance_and_unmanaged_leave_the_servers_alone(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab)
    node = lab.nodes[0]
    before = {each.name: each.postmasters() for each in lab.nodes}
    with writing(lab) as client:
        node.run(["crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--update=true"])
        client.wait_for(100)
        node.run(["crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--delete"])
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

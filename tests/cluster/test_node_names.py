# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of nodes as people choose them: capitals, hyphens and dots, and keywords of PostgreSQL."""

from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, start, synchronous_names, synchronous_standby, writing
from tests.cluster.test_features import slots
from tests.lab import Configuration, Lab
from tests.lab.crm import CLONE


def slot(node: str) -> str:
    """The slot of a node: lower case, and an underscore for what a slot's name cannot hold."""
    return f"rep_{node.lower().replace('-', '_').replace('.', '_')}"


def test_unusual_names_are_quoted_wherever_they_are_written(cluster: Cluster) -> None:
    """`any` is a keyword of synchronous_standby_names (src/backend/replication/syncrep_scanner.l)."""
    names = ("Node-A.b", "any")
    lab = cluster(nodes=names)
    parameters = {"replication_slot_name": "rep", "node_list": " ".join(names).swapcase()}
    start(lab, Configuration(parameters=parameters))
    with writing(lab):
        move(lab, names)
        move(lab, names)
    seen = lab.status()
    assert {node.name: data_status(node) for node in seen.nodes} == {
        seen.promoted: "LATEST",
        seen.unpromoted[0]: "STREAMING|SYNC",
    }
    assert not seen.failures


def move(lab: Lab, names: tuple[str, str]) -> None:
    """Look at the replication from end to end, and move the primary."""
    old, heir = lab.primary(), synchronous_standby(lab.status()) or ""
    assert {old.name, heir} == set(names)
    assert synchronous_names(lab) == f'"{heir.lower()}"'
    assert old.sql("SELECT application_name FROM pg_stat_replication") == heir.lower()
    lab.wait("its slot is in use", lambda _: slots(old) == {slot(heir): "t"}, within=20)
    old.run(["crm_resource", "--ban", "--promoted", f"--resource={CLONE}", f"--node={old.name}"])
    lab.wait("the standby took over", lambda now: now.promoted == heir, within=30)
    old.run(["crm_resource", "--clear", f"--resource={CLONE}"])
    seen = lab.wait("redundant again", is_redundant, within=60)
    assert synchronous_standby(seen) == old.name

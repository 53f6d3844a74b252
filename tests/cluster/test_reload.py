# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing a parameter of a running cluster: reloadable ones restart nothing, the others restart everything in
order.
"""

from tests.cluster.conftest import Cluster
from tests.cluster.support import is_redundant, start, synchronous_standby, writing
from tests.lab.crm import RESOURCE


def test_reloadable_parameters_change_without_a_restart(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    standby = lab.node(synchronous_standby(start(lab)) or "")
    before = [node.postmasters() for node in lab.nodes]
    with writing(lab):
        standby.run(["crm_resource", "-r", RESOURCE, "-p", "primary_conninfo_opt", "-v", "keepalives_idle=7"])
        lab.wait(
            "the standby's server has it",
            lambda _: "keepalives_idle=7" in standby.sql("SHOW primary_conninfo"),
            within=30,
        )
        lab.wait("still redundant", is_redundant, within=30)
    assert [node.postmasters() for node in lab.nodes] == before
    assert not lab.status().failures

# SPDX-License-Identifier: GPL-2.0-or-later
"""The network of one node fails: the rest goes on without it, and it comes back as what the rest needs."""

from tests.cluster.conftest import Cluster
from tests.cluster.support import DISCONNECT, data_status, start, synchronous_standby, writing


def test_a_primary_that_is_cut_off_is_fenced_and_returns(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    start(lab)
    victim = lab.primary()
    witness = lab.standbys()[0].name
    with writing(lab) as client:
        victim.cut_network()
        # Not always the synchronous one: the other may have received more of what was never acknowledged.
        lab.wait(
            "a standby took over",
            lambda now: now.promoted not in (None, victim.name) and now.location() == now.promoted,
            within=60,
            seen_by=witness,
        )
        assert lab.fenced() == [victim.name]
        assert data_status(lab.status(witness).node(victim.name)) == DISCONNECT
        client.wait_for(20, within=30)
        victim.restore_network()
        victim.boot()
        lab.wait("the other standby is synchronous", lambda now: synchronous_standby(now) is not None, within=60)
        lab.wait("the node is a member again", lambda now: victim.name in now.online, within=60)

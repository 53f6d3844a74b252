# SPDX-License-Identifier: GPL-2.0-or-later
"""What an earlier election, or an action that was killed, left behind must not decide anything later.

Schedules rather than chance: random walks do not come across these often enough to prove anything.
"""

from dataclasses import replace

from pgsql_ra.replication.changes import Plan
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.snapshot import Method, Primary, Snapshot, Standby
from pgsql_ra.replication.status import STREAMING_ASYNC, STREAMING_SYNC
from tests.unit.builders import ALPHA, BETA, a_cluster, a_node, a_snapshot, a_standby, at
from tests.unit.model.cluster import Cluster
from tests.unit.model.machine import NEVER_KILLED
from tests.unit.model.state import Reconcile, Unkind, Violation

MOST_STEPS = 16
"""More than an action that lets a standby go takes."""


def calm_down(cluster: Cluster) -> None:
    """n1 is the primary, the others stream, and its monitor has nothing left to do."""
    for _ in range(8):
        for name in cluster.names:
            cluster.watch(name)
            cluster.connect(name)
            cluster.receive(name, 99)
        cluster.act("n1", 20)
        cluster.take_setting("n1", walsenders=True, checkpointer=True)


def running(size: int, unkind: Unkind, reconcile_with: Reconcile = reconcile) -> Cluster:
    """A calm cluster whose synchronous standby is n2."""
    cluster = Cluster(size, 1, reconcile_with, unkind=unkind)
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    assert cluster.nodes["n1"].server.in_checkpointer.names == ("n2",)
    assert cluster.nodes["n1"].cib["n2"].data_status == STREAMING_SYNC
    return cluster


def test_a_position_on_another_timeline_proves_nothing() -> None:
    """It is from before the last promotion: where its node is now, nobody has said."""
    server: Standby = a_standby(0x110, timeline=2)
    holder = a_node(BETA, data_status=STREAMING_SYNC, position=at(0x80))
    snapshot = a_snapshot(server, a_cluster(a_node(ALPHA, data_status=STREAMING_ASYNC), holder))
    assert decide_promotion(snapshot, server).refusal


def test_a_position_from_the_last_election_promotes_nobody() -> None:
    """n2 has the newest commit and is down with the position it published before; n3 is past that, and lacks it."""
    cluster = running(3, Unkind(stale_positions=True))
    cluster.commit("n1")
    cluster.receive("n2", 1)
    assert len(cluster.acked) == 1
    cluster.crash_server("n2")
    cluster.stop("n1")
    cluster.start("n1")
    cluster.promote("n3", NEVER_KILLED)
    assert cluster.primaries() == []


def looks_at_the_server_only(snapshot: Snapshot, server: Primary) -> Plan:
    """Wrong: what stands in the file does not count."""
    blind = replace(server, written=None)
    return reconcile(replace(snapshot, server=blind), blind)


def breaks_after_a_kill(reconcile_with: Reconcile) -> list[int]:
    """After how many steps an action must be killed, while it lets n2 go, so that a reload later breaks the promise."""
    broken = []
    for steps in range(1, MOST_STEPS):
        cluster = running(2, Unkind(torn_reloads=True), reconcile_with)
        cluster.disconnect("n2", leaves_a_row=False)
        cluster.act("n1", steps)
        cluster.kill_action("n1")
        cluster.connect("n2")
        for _ in range(2):
            cluster.receive("n2", 9)
            cluster.act("n1", 40)
        cluster.reload("n1")  # logrotate, an administrator
        cluster.take_setting("n1", walsenders=True, checkpointer=True)
        cluster.commit("n1")
        try:
            cluster.check()
        except Violation:
            broken.append(steps)
    return broken


def test_names_that_were_written_and_never_reloaded_do_not_take_effect_later() -> None:
    assert breaks_after_a_kill(reconcile) == []


def test_and_would_if_the_file_did_not_count() -> None:
    assert breaks_after_a_kill(looks_at_the_server_only) != []


def test_a_voter_that_goes_on_receiving_is_heard_before_another_one_is_promoted() -> None:
    """The primary is cut off from Pacemaker only, and lives until it is fenced. n3 published where its WAL ends, then
    received a commit that was acknowledged by it; the notification before the promotion does not reach it.
    """
    cluster = Cluster(3, 1, method=Method.QUORUM)
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    cluster.isolate("n1")
    for _ in range(4):
        cluster.watch("n2")
        cluster.watch("n3")
    assert cluster.nodes["n3"].cib["n3"].position is not None
    cluster.commit("n1")
    cluster.receive("n3", 9)
    assert not cluster.nodes["n1"].server.waiting, "it is acknowledged"
    cluster.fence("n1", by="n2")
    cluster.promote("n2", NEVER_KILLED, deaf="n3")
    assert cluster.primaries() == []
    cluster.watch("n3")
    cluster.watch("n3")
    cluster.promote("n2", NEVER_KILLED, deaf="n3")
    assert cluster.primaries() == [], "n3 holds more, and says so"
    cluster.promote("n3", NEVER_KILLED)
    assert [node.name for node in cluster.primaries()] == ["n3"]

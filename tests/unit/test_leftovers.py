# SPDX-License-Identifier: GPL-2.0-or-later
"""What an earlier election, or an action that was killed, left behind must not decide anything later.

Schedules rather than chance: random walks do not come across these often enough to prove anything.
"""

from dataclasses import replace

import pytest

from pgsql_ra.replication.changes import Plan
from pgsql_ra.replication.policy import Method
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Primary, Snapshot, Standby
from pgsql_ra.replication.status import STREAMING_ASYNC, STREAMING_SYNC
from tests.unit.builders import ALPHA, BETA, a_cluster, a_node, a_snapshot, a_standby, at
from tests.unit.model.cluster import Cluster
from tests.unit.model.machine import NEVER_KILLED
from tests.unit.model.state import Decide, Reconcile, Unkind, Violation
from tests.unit.model.wrong_rules import (
    counts_positions_that_may_grow,
    counts_what_was_lowered,
    does_not_ask_whom_it_has_met,
    takes_writes_for_known,
)

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


def a_voter_that_goes_on_receiving(decide_with: Decide) -> Cluster:
    """The primary is cut off from Pacemaker only, and lives until it is fenced. n3 published where its WAL ends, then
    received a commit that was acknowledged by it; the notification before n2's promotion does not reach it.
    """
    cluster = Cluster(3, 1, decide_with=decide_with, method=Method.QUORUM)
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
    return cluster


def test_a_voter_that_goes_on_receiving_is_heard_before_another_one_is_promoted() -> None:
    cluster = a_voter_that_goes_on_receiving(decide_promotion)
    assert cluster.primaries() == []
    cluster.watch("n3")
    cluster.watch("n3")
    cluster.promote("n2", NEVER_KILLED, deaf="n3")
    assert cluster.primaries() == [], "n3 holds more, and says so"
    cluster.promote("n3", NEVER_KILLED)
    assert [node.name for node in cluster.primaries()] == ["n3"]


def test_and_would_not_be_if_every_position_counted() -> None:
    with pytest.raises(Violation, match="lacks 1 acknowledged"):
        a_voter_that_goes_on_receiving(counts_positions_that_may_grow)


def an_old_cib_wins_before_anybody_but_the_primary_looked(decide_with: Decide) -> None:
    """n2 was synchronous, was fenced and released; a commit later the primary dies as well, and n2 boots with its CIB
    of then. The server of n3, which holds everything, fails: n2 is asked.
    """
    cluster = Cluster(3, decide_with=decide_with)
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    cluster.power_cut("n2")
    cluster.fence("n2", by="n1")
    cluster.act("n1", 40)
    cluster.take_setting("n1", walsenders=True, checkpointer=True)
    cluster.act("n1", 40)
    cluster.commit("n1")
    cluster.receive("n3", 9)
    assert len(cluster.acked) == 1
    cluster.power_cut("n1")
    cluster.fence("n1", by="n3")
    cluster.boot("n2", its_cib_wins=True)
    cluster.start("n2")
    assert cluster.nodes["n2"].cib["n2"].data_status == STREAMING_SYNC
    cluster.check()


def test_a_record_that_was_lowered_does_not_come_back_with_an_old_cib() -> None:
    an_old_cib_wins_before_anybody_but_the_primary_looked(decide_promotion)


def test_and_would_if_nobody_had_counted() -> None:
    with pytest.raises(Violation, match="n2 may be promoted"):
        an_old_cib_wins_before_anybody_but_the_primary_looked(counts_what_was_lowered)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("reconcile_with", [reconcile, takes_writes_for_known])
def test_commits_go_on_only_when_another_node_has_read_that_they_may(size: int, reconcile_with: Reconcile) -> None:
    """The primary is cut off from everybody. corosync has not noticed, and the connections break at once."""
    cluster = Cluster(size, 1, reconcile_with)
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    cluster.isolate("n1", unnoticed=True)
    for name in cluster.names[1:]:
        cluster.disconnect(name, leaves_a_row=False)
    for _ in range(3):
        cluster.act("n1", 20)
        cluster.take_setting("n1", walsenders=True, checkpointer=True)
    cluster.commit("n1")
    acknowledged_alone = bool(cluster.acked)
    cluster.notice("n1")
    cluster.fence("n1", by="n2")
    if reconcile_with is reconcile:
        cluster.promote("n2", NEVER_KILLED)
        assert not acknowledged_alone
        assert [node.name for node in cluster.primaries()] == ["n2"]
    else:
        with pytest.raises(Violation):
            cluster.promote("n2", NEVER_KILLED)


def a_node_that_boots_alone(decide_with: Decide) -> Cluster:
    """Two nodes, no-quorum-policy=ignore: n2 is fenced, n1 goes on alone and dies, and n2 comes back by itself."""
    cluster = Cluster(2, decide_with=decide_with)
    cluster.ignores_quorum = True
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    cluster.power_cut("n2")
    cluster.fence("n2", by="n1")
    calm_down(cluster)
    cluster.commit("n1")
    cluster.nodes["n2"].file = Promotion(1, "n1")
    cluster.boot_alone("n2")
    cluster.start("n2")
    cluster.promote("n2", NEVER_KILLED)
    return cluster


def test_a_node_that_boots_alone_is_not_promoted_by_what_it_knew() -> None:
    assert a_node_that_boots_alone(decide_promotion).primaries() == []


def test_and_would_be_if_it_were_not_asked_whom_it_has_met() -> None:
    with pytest.raises(Violation, match="n2 may be promoted"):
        a_node_that_boots_alone(does_not_ask_whom_it_has_met)


def test_a_standby_that_was_there_when_the_primary_died_is_promoted() -> None:
    cluster = Cluster(2)
    cluster.ignores_quorum = True
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    cluster.power_cut("n1")
    cluster.fence("n1", by="n2")
    cluster.promote("n2", NEVER_KILLED)
    assert [node.name for node in cluster.primaries()] == ["n2"]


def test_after_a_promotion_that_did_not_come_about_another_copy_is_promoted() -> None:
    """n2's server died when it was told, before it had left recovery; n2 says so, and n3 holds as much."""
    cluster = Cluster(3, 2)
    cluster.promote("n1", NEVER_KILLED)
    calm_down(cluster)
    cluster.commit("n1")
    calm_down(cluster)
    assert len(cluster.acked) == 1
    cluster.power_cut("n1")
    cluster.fence("n1", by="n2")
    cluster.promote_in_vain("n2")
    cluster.promote("n3", NEVER_KILLED)
    assert cluster.primaries() == [], "whether n2 took commits, only n2 knows"
    cluster.withdraw("n2")
    cluster.promote("n3", NEVER_KILLED)
    assert [node.name for node in cluster.primaries()] == ["n3"]
    cluster.check()

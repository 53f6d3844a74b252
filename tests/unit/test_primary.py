# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running primary says of itself and of its standbys, and what holds for whatever it does."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from pgsql_ra.replication.changes import (
    Confirm,
    EndWalsender,
    Plan,
    ProvokeReply,
    SetDataStatus,
    SetStatus,
    SetSynchronousStandbys,
)
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState, Primary, Role, Snapshot
from pgsql_ra.replication.status import DISCONNECT, LATEST, SCORE_NEVER, SCORE_PRIMARY, SCORE_STANDBY, STREAMING_SYNC
from tests.unit.builders import (
    ALPHA,
    BETA,
    GAMMA,
    a_cluster,
    a_gone_node,
    a_history,
    a_node,
    a_primary,
    a_snapshot,
    a_sync_node,
    a_sync_walsender,
    a_walsender,
    an_async_node,
    at,
    the_primary_node,
)
from tests.unit.effects import after, bare, visible
from tests.unit.primary_cases import STEPS, a_pair, changes_of, lets_go, plan_of
from tests.unit.strategies import primaries, snapshots


class TestNothingToDo:
    """A healthy monitor writes nothing."""

    @pytest.mark.parametrize(
        "snapshot",
        [
            pytest.param(a_pair(a_primary(a_sync_walsender(BETA), names=(BETA,)), a_sync_node(BETA)), id="sync, two"),
            pytest.param(
                a_snapshot(
                    a_primary(a_sync_walsender(BETA), a_walsender(GAMMA, pid=2), names=(BETA,)),
                    a_cluster(the_primary_node(), a_sync_node(BETA), an_async_node(GAMMA)),
                ),
                id="sync, three",
            ),
            pytest.param(
                a_snapshot(
                    a_primary(a_walsender(BETA)),
                    a_cluster(
                        the_primary_node(),
                        replace(an_async_node(BETA), score=SCORE_STANDBY),
                    ),
                    mode=Mode.ASYNC,
                ),
                id="async",
            ),
            pytest.param(a_pair(a_primary(), a_gone_node(BETA)), id="alone, the standby's server is down"),
            pytest.param(
                a_pair(a_primary(), a_gone_node(BETA, Membership.CLEAN)), id="alone, the standby's node is down"
            ),
            pytest.param(
                a_pair(a_primary(), a_gone_node(BETA, Membership.UNCLEAN)), id="alone, the standby's node is lost"
            ),
        ],
    )
    def test_the_plan_is_empty(self, snapshot: Snapshot) -> None:
        assert plan_of(snapshot) == Plan()

    def test_a_settled_standby_is_not_asked_for_a_mark_again(self) -> None:
        """It was proven once; from then on every commit waited for it."""
        server = a_primary(a_sync_walsender(BETA, flush=0x10), names=(BETA,), settled=False)
        assert plan_of(a_pair(server, a_sync_node(BETA))) == Plan()


class TestOwnNode:
    """What the primary says of itself."""

    def test_the_record_comes_before_the_score_that_rests_on_it(self) -> None:
        snapshot = a_snapshot(a_primary(position=at(0x180, 2)), a_cluster(a_node(ALPHA, role=Role.PROMOTED)))
        assert changes_of(snapshot) == [
            ("record", ALPHA, LATEST),
            ("timeline", ALPHA, "2:1@0/100"),
            ("score", ALPHA, SCORE_PRIMARY),
            ("status", ALPHA, "PRI"),
        ]

    def test_a_position_from_the_election_is_withdrawn(self) -> None:
        own = replace(the_primary_node(), position=at(0x80), location=at(0x80).lsn.padded())
        assert changes_of(a_snapshot(a_primary(), a_cluster(own))) == [("position", ALPHA, None)]

    def test_an_older_timeline_is_recorded_anew(self) -> None:
        own = replace(the_primary_node(), record=a_history(1))
        snapshot = a_snapshot(a_primary(position=at(0x180, 2)), a_cluster(own))
        assert changes_of(snapshot) == [("timeline", ALPHA, "2:1@0/100")]

    def test_names_are_compared_in_any_case_and_written_as_pacemaker_has_them(self) -> None:
        own, peer = replace(the_primary_node("Alpha"), score=""), a_node("BETA")
        snapshot = a_snapshot(a_primary(), a_cluster(own, peer))
        assert changes_of(snapshot) == [
            ("score", "Alpha", SCORE_PRIMARY),
            ("score", "BETA", SCORE_NEVER),
            ("record", "BETA", DISCONNECT),
        ]


class TestStatusOfStandbys:
    """What administrators read."""

    @pytest.mark.parametrize("said", ["STOP", "UNKNOWN"])
    def test_what_a_node_says_of_itself_stands(self, said: str) -> None:
        """The row may be a dead connection's; the node knows better."""
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        assert plan_of(a_pair(server, replace(a_sync_node(BETA), status=said))) == Plan()

    def test_a_node_without_a_row_keeps_its_status(self) -> None:
        peer = replace(a_sync_node(BETA), status="HS:alone")
        assert not any(isinstance(change, SetStatus) for change in plan_of(a_pair(a_primary(), peer)).changes)


class TestOtherPrimaries:
    """Two primaries seen at once: neither gets a score."""

    def test_both_lose_their_score_and_nothing_else_is_written(self) -> None:
        snapshot = a_pair(a_primary(names=(BETA,)), the_primary_node(BETA))
        assert changes_of(snapshot) == [("score", ALPHA, SCORE_NEVER)]
        assert BETA in plan_of(snapshot).refusal

    def test_nothing_is_left_to_do_after_that(self) -> None:
        own = replace(the_primary_node(), score=SCORE_NEVER)
        snapshot = a_snapshot(a_primary(), a_cluster(own, the_primary_node(BETA)))
        assert plan_of(snapshot).changes == ()
        assert plan_of(snapshot).refusal

    @pytest.mark.parametrize(
        ("node", "expected"),
        [
            pytest.param(a_node(BETA, role=Role.PROMOTED), (BETA,), id="by Pacemaker's record"),
            pytest.param(a_node(BETA, status="PRI"), (BETA,), id="by its own word"),
            pytest.param(a_node("Beta", status="PRI"), ("Beta",), id="the name as Pacemaker has it"),
            pytest.param(a_node(BETA), (), id="a standby"),
            pytest.param(a_node(BETA, Membership.CLEAN, Role.PROMOTED), (), id="a node that is down"),
            pytest.param(a_node(BETA, Membership.UNCLEAN, Role.PROMOTED), (), id="a lost node: fencing decides"),
            pytest.param(a_node(ALPHA, role=Role.PROMOTED), (), id="this node itself"),
        ],
    )
    def test_who_counts(self, node: NodeState, expected: tuple[str, ...]) -> None:
        assert other_primaries(a_cluster(node), ALPHA) == expected


class TestStrangeClusters:
    """What node_list says and what the cluster has need not be the same."""

    def test_a_name_that_the_cluster_does_not_know_is_left_out(self) -> None:
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        cluster = a_cluster(the_primary_node(), a_sync_node(BETA))
        assert plan_of(a_snapshot(server, cluster, members=(ALPHA, BETA, "typo"))) == Plan()

    def test_a_node_that_is_not_in_node_list_is_left_alone(self) -> None:
        server = a_primary(a_sync_walsender(BETA), a_walsender(GAMMA, pid=2), names=(BETA,))
        cluster = a_cluster(the_primary_node(), a_sync_node(BETA), a_node(GAMMA))
        assert plan_of(a_snapshot(server, cluster, members=(ALPHA, BETA))) == Plan()

    def test_a_node_that_left_node_list_is_let_go_in_the_right_order(self) -> None:
        server = a_primary(a_sync_walsender(BETA), a_walsender(GAMMA, pid=2), names=(BETA,))
        cluster = a_cluster(the_primary_node(), a_sync_node(BETA), an_async_node(GAMMA))
        snapshot = a_snapshot(server, cluster, members=(ALPHA, GAMMA))
        first = plan_of(snapshot)
        assert [change for change in visible(first.changes) if change[1] == BETA] == [
            ("score", BETA, SCORE_NEVER),
            ("record", BETA, DISCONNECT),
        ]
        assert not lets_go(first, BETA)
        assert ("names", GAMMA) in changes_of(after(snapshot, first.changes))

    def test_a_primary_without_peers_waits_for_nobody(self) -> None:
        assert plan_of(a_snapshot(a_primary(), a_cluster(the_primary_node()))) == Plan()

    def test_a_cib_that_does_not_show_this_node_is_no_failure(self) -> None:
        plan = plan_of(a_snapshot(a_primary(), ClusterState(True, True), members=(ALPHA, BETA)))
        assert [bare(change)[:2] for change in plan.changes[:2]] == [("promotion", ALPHA), ("record", ALPHA)]


class TestProperties:
    """What holds whatever the cluster looks like."""

    @given(snapshots(primaries))
    def test_without_quorum_nothing_is_planned(self, snapshot: Snapshot) -> None:
        if snapshot.cluster.may_decide or other_primaries(snapshot.cluster, snapshot.policy.node):
            return
        assert plan_of(snapshot).changes == ()

    @given(snapshots(primaries))
    def test_only_a_standby_whose_record_was_seen_to_forbid_its_promotion_is_let_go(self, snapshot: Snapshot) -> None:
        if snapshot.policy.mode is not Mode.SYNC:
            return
        assert isinstance(snapshot.server, Primary)
        plan = plan_of(snapshot)
        for name in snapshot.server.synchronous.names:
            node = snapshot.cluster.node(name)
            if node is not None and name in snapshot.policy.members and lets_go(plan, name):
                assert node.membership is not Membership.UNCLEAN
                assert node.data_status not in ("", LATEST, STREAMING_SYNC)

    @given(snapshots(primaries))
    def test_a_plan_never_lets_go_and_makes_promotable_at_once(self, snapshot: Snapshot) -> None:
        plan = plan_of(snapshot)
        raised = [
            change for change in plan.changes if isinstance(change, SetDataStatus) and change.value == STREAMING_SYNC
        ]
        assert not raised or not any(isinstance(change, SetSynchronousStandbys) for change in plan.changes)

    @given(snapshots(primaries))
    def test_only_differences_are_planned(self, snapshot: Snapshot) -> None:
        for change in plan_of(snapshot).changes:
            if isinstance(change, ProvokeReply | Confirm):
                continue
            assert after(snapshot, [change]) != snapshot

    @given(snapshots(primaries))
    def test_no_attribute_is_changed_twice(self, snapshot: Snapshot) -> None:
        targets = [bare(change)[:2] for change in plan_of(snapshot).changes if not isinstance(change, EndWalsender)]
        assert len(targets) == len(set(targets))

    @settings(max_examples=200)
    @given(snapshots(primaries))
    def test_it_comes_to_rest(self, snapshot: Snapshot) -> None:
        """If nothing else happens, a few looks are enough."""
        for _ in range(STEPS):
            plan = plan_of(snapshot)
            if not plan.changes:
                return
            snapshot = after(snapshot, plan.changes)
        pytest.fail(f"still not at rest: {plan.changes}")

# SPDX-License-Identifier: GPL-2.0-or-later
"""For which of its standbys a running primary waits, and which may be promoted."""

from dataclasses import replace

import pytest

from pgsql_ra.replication.changes import Plan, SetSynchronousStandbys
from pgsql_ra.replication.policy import Degrading, Mode
from pgsql_ra.replication.primary import release
from pgsql_ra.replication.snapshot import (
    Membership,
    NodeState,
    Primary,
    ReplicationState,
    Snapshot,
    SynchronousStandbys,
)
from pgsql_ra.replication.status import DISCONNECT, SCORE_NEVER, SCORE_STANDBY, STREAMING_ASYNC, STREAMING_SYNC
from pgsql_ra.replication.synchronous import first_setting
from tests.unit.builders import (
    BETA,
    GAMMA,
    a_cluster,
    a_gone_node,
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
from tests.unit.effects import after, visible
from tests.unit.primary_cases import a_pair, changes_of, lets_go, plan_of


class TestThreeNodes:
    """One of two standbys is the synchronous one."""

    @staticmethod
    def snapshot(server: Primary, beta: NodeState, gamma: NodeState) -> Snapshot:
        return a_snapshot(server, a_cluster(the_primary_node(), beta, gamma))

    def test_the_most_advanced_is_chosen(self) -> None:
        server = a_primary(a_walsender(BETA, flush=0x40, pid=1), a_walsender(GAMMA, flush=0x80, pid=2))
        assert ("names", GAMMA) in changes_of(self.snapshot(server, an_async_node(BETA), an_async_node(GAMMA)))

    def test_of_equals_the_first_in_node_list_is_chosen(self) -> None:
        server = a_primary(a_walsender(GAMMA, pid=2), a_walsender(BETA, pid=1))
        assert ("names", BETA) in changes_of(self.snapshot(server, an_async_node(BETA), an_async_node(GAMMA)))

    def test_one_whose_position_is_unknown_is_not_chosen(self) -> None:
        server = a_primary(a_walsender(BETA, flush=None, pid=1), a_walsender(GAMMA, flush=0x10, pid=2))
        assert ("names", GAMMA) in changes_of(self.snapshot(server, an_async_node(BETA), an_async_node(GAMMA)))

    def test_the_synchronous_one_stays_although_the_other_is_ahead(self) -> None:
        server = a_primary(a_sync_walsender(BETA, flush=0x40), a_walsender(GAMMA, flush=0x80, pid=2), names=(BETA,))
        assert plan_of(self.snapshot(server, a_sync_node(BETA), an_async_node(GAMMA))) == Plan()

    def test_the_other_one_takes_over_when_it_is_fenced(self) -> None:
        server = a_primary(a_walsender(GAMMA, pid=2), names=(BETA,))
        snapshot = self.snapshot(server, a_sync_node(BETA, Membership.CLEAN), an_async_node(GAMMA))
        first = plan_of(snapshot)
        assert not lets_go(first, BETA)
        second = plan_of(after(snapshot, first.changes))
        assert visible(second.changes) == [("names", GAMMA)]

    def test_the_other_one_does_not_take_over_while_it_is_unclean(self) -> None:
        server = a_primary(a_walsender(GAMMA, pid=2), names=(BETA,))
        plan = plan_of(self.snapshot(server, a_sync_node(BETA, Membership.UNCLEAN), an_async_node(GAMMA)))
        assert plan.changes == ()
        assert plan.stalled

    def test_a_lost_third_node_does_not_matter(self) -> None:
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        snapshot = self.snapshot(server, a_sync_node(BETA), a_gone_node(GAMMA, Membership.UNCLEAN))
        assert plan_of(snapshot) == Plan()

    def test_two_that_are_named_and_stream_both_stay(self) -> None:
        server = a_primary(a_sync_walsender(BETA), a_sync_walsender(GAMMA, pid=2), names=(BETA, GAMMA))
        assert plan_of(self.snapshot(server, a_sync_node(BETA), a_sync_node(GAMMA))) == Plan()


class TestSeveralSynchronousStandbys:
    """synchronous_node_count: each of so many holds everything."""

    @staticmethod
    def two_of(
        server: Primary, *peers: NodeState, degrading: Degrading = Degrading.ALLOWED, count: int = 2
    ) -> Snapshot:
        snapshot = a_snapshot(server, a_cluster(the_primary_node(), *peers))
        return replace(snapshot, policy=replace(snapshot.policy, synchronous_count=count, degrading=degrading))

    def test_as_many_are_chosen_as_there_should_be(self) -> None:
        server = a_primary(a_walsender(BETA, pid=1), a_walsender(GAMMA, pid=2))
        assert ("names", BETA, GAMMA) in changes_of(self.two_of(server, an_async_node(BETA), an_async_node(GAMMA)))

    def test_the_one_that_is_left_is_waited_for(self) -> None:
        server = a_primary(a_sync_walsender(BETA), names=(BETA, GAMMA))
        snapshot = self.two_of(server, a_sync_node(BETA), a_gone_node(GAMMA))
        assert changes_of(snapshot) == [("names", BETA)]

    def test_strict_holds_on_to_the_name_of_the_one_that_is_gone(self) -> None:
        """And leaves its record as it is: nothing is acknowledged that it does not have."""
        server = a_primary(a_sync_walsender(BETA), names=(BETA, GAMMA))
        plan = plan_of(self.two_of(server, a_sync_node(BETA), a_sync_node(GAMMA), degrading=Degrading.NEVER))
        assert plan.changes == ()
        assert "strict" in plan.stalled

    def test_strict_puts_names_in_that_nobody_has_yet(self) -> None:
        snapshot = self.two_of(a_primary(), a_gone_node(BETA), a_gone_node(GAMMA), degrading=Degrading.NEVER, count=1)
        assert changes_of(snapshot) == [("names", BETA)]

    def test_strict_does_not_wait_for_a_node_that_is_never_synchronous(self) -> None:
        barred = replace(a_gone_node(BETA), priority=0)
        snapshot = self.two_of(a_primary(), barred, a_gone_node(GAMMA), degrading=Degrading.NEVER, count=1)
        assert changes_of(snapshot) == [("names", GAMMA)]

    def test_strict_takes_one_that_streams_in_place_of_one_that_is_gone(self) -> None:
        server = a_primary(a_walsender(GAMMA, pid=2), names=(BETA,))
        snapshot = self.two_of(server, a_sync_node(BETA), an_async_node(GAMMA), degrading=Degrading.NEVER, count=1)
        first = plan_of(snapshot)
        assert ("record", BETA, DISCONNECT) in visible(first.changes)
        assert changes_of(after(snapshot, first.changes)) == [("names", GAMMA)]

    def test_strict_never_waits_for_fewer(self) -> None:
        for peers in ((a_gone_node(BETA), a_gone_node(GAMMA)), (a_sync_node(BETA), a_gone_node(GAMMA))):
            server = a_primary(a_sync_walsender(BETA), names=(BETA, GAMMA))
            snapshot = replace(self.two_of(server, *peers, degrading=Degrading.NEVER), leaving=frozenset({BETA}))
            for change in plan_of(snapshot).changes:
                assert not isinstance(change, SetSynchronousStandbys) or len(change.standbys.names) == 2

    def test_the_setting_that_a_server_starts_with(self) -> None:
        assert first_setting((BETA, GAMMA), 1, Degrading.ALLOWED) == SynchronousStandbys()
        assert first_setting((BETA, GAMMA), 1, Degrading.NEVER) == SynchronousStandbys((BETA,))


class TestTakingOver:
    """Before a synchronous standby stops by plan, another one is synchronous, too."""

    SERVER = a_primary(a_sync_walsender(BETA), a_walsender(GAMMA, pid=2), names=(BETA,))
    CLUSTER = a_cluster(the_primary_node(), a_sync_node(BETA), an_async_node(GAMMA))

    def steps(self, snapshot: Snapshot) -> list[tuple[object, ...]]:
        assert isinstance(snapshot.server, Primary)
        return visible(release(snapshot, snapshot.server).changes)

    def test_the_other_one_is_named_beside_it(self) -> None:
        assert self.steps(a_snapshot(self.SERVER, self.CLUSTER, leaving=(BETA,))) == [("names", BETA, GAMMA)]

    def test_and_proven_before_the_first_is_let_go(self) -> None:
        server = a_primary(a_sync_walsender(BETA), a_sync_walsender(GAMMA, pid=2), names=(BETA, GAMMA))
        snapshot = a_snapshot(server, self.CLUSTER, leaving=(BETA,), mark=0x80)
        assert ("record", GAMMA, STREAMING_SYNC) in self.steps(snapshot)
        proven = a_snapshot(
            server, a_cluster(the_primary_node(), a_sync_node(BETA), a_sync_node(GAMMA)), leaving=(BETA,)
        )
        assert self.steps(proven) == []
        first = plan_of(proven)
        assert ("record", BETA, DISCONNECT) in visible(first.changes)
        assert changes_of(after(proven, first.changes)) == [("names", GAMMA)]

    def test_where_nobody_can_take_over_nothing_is_done_for_it(self) -> None:
        snapshot = a_pair(a_primary(a_sync_walsender(BETA), names=(BETA,)), a_sync_node(BETA), leaving=(BETA,))
        assert self.steps(snapshot) == []

    def test_one_that_is_not_synchronous_may_just_go(self) -> None:
        assert self.steps(a_snapshot(self.SERVER, self.CLUSTER, leaving=(GAMMA,))) == []


class TestPriorities:
    """What the administrator gave a node."""

    def test_the_higher_priority_is_chosen_before_the_more_advanced(self) -> None:
        server = a_primary(a_walsender(BETA, flush=0x90, pid=1), a_walsender(GAMMA, flush=0x80, pid=2))
        cluster = a_cluster(the_primary_node(), an_async_node(BETA), replace(an_async_node(GAMMA), priority=5))
        assert ("names", GAMMA) in changes_of(a_snapshot(server, cluster))

    def test_a_node_with_priority_0_is_never_synchronous(self) -> None:
        cluster = a_cluster(the_primary_node(), replace(an_async_node(BETA), priority=0))
        assert plan_of(a_snapshot(a_primary(a_walsender(BETA)), cluster)) == Plan()

    @pytest.mark.parametrize(("priority", "score"), [(0, SCORE_NEVER), (1, SCORE_STANDBY), (5, "104"), (10**6, "999")])
    def test_its_score_follows(self, priority: int, score: str) -> None:
        peer = replace(an_async_node(BETA), priority=priority, score="")
        snapshot = a_snapshot(a_primary(a_walsender(BETA)), a_cluster(the_primary_node(), peer), mode=Mode.ASYNC)
        assert ("score", BETA, score) in changes_of(snapshot)


class TestLag:
    """max_lag: a standby that is too far behind is not promotable in async mode."""

    @pytest.mark.parametrize(
        ("behind", "recorded", "expected"),
        [
            pytest.param(0x100, STREAMING_ASYNC, None, id="at the limit"),
            pytest.param(0x101, STREAMING_ASYNC, "CATCHUP|ASYNC", id="beyond it"),
            pytest.param(0x81, "CATCHUP|ASYNC", None, id="not yet well within it again"),
            pytest.param(0x80, "CATCHUP|ASYNC", STREAMING_ASYNC, id="well within it"),
        ],
    )
    def test_the_record_follows(self, behind: int, recorded: str, expected: str | None) -> None:
        score = SCORE_STANDBY if recorded == STREAMING_ASYNC else SCORE_NEVER
        peer = a_node(BETA, data_status=recorded, status="HS:async", score=score)
        server = a_primary(a_walsender(BETA, flush=0x1000 - behind), position=at(0x1000))
        snapshot = a_snapshot(server, a_cluster(the_primary_node(), peer), mode=Mode.ASYNC)
        snapshot = replace(snapshot, policy=replace(snapshot.policy, max_lag=0x100))
        records = [change[2] for change in changes_of(snapshot) if change[0] == "record"]
        assert records == ([] if expected is None else [expected])

    def test_no_limit_no_change(self) -> None:
        server = a_primary(a_walsender(BETA, flush=0), position=at(0x1000000))
        peer = a_node(BETA, data_status=STREAMING_ASYNC, status="HS:async", score=SCORE_STANDBY)
        assert plan_of(a_snapshot(server, a_cluster(the_primary_node(), peer), mode=Mode.ASYNC)) == Plan()


class TestLeftPositions:
    """A position from an election is where its WAL ended then."""

    def test_the_primary_withdraws_it(self) -> None:
        peer = replace(a_sync_node(BETA), position=at(0x40))
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        assert changes_of(a_pair(server, peer)) == [("position", BETA, None)]


class TestAsynchronousMode:
    """Nobody waits; whoever streams may be promoted."""

    @pytest.mark.parametrize(
        ("server", "peer", "expected"),
        [
            pytest.param(
                a_primary(a_walsender(BETA)),
                a_gone_node(BETA),
                [
                    ("promotion", BETA, "1@alpha"),
                    ("record", BETA, STREAMING_ASYNC),
                    ("score", BETA, SCORE_STANDBY),
                    ("status", BETA, "HS:async"),
                ],
                id="it streams",
            ),
            pytest.param(
                a_primary(a_walsender(BETA, ReplicationState.CATCHUP)),
                replace(an_async_node(BETA), score=SCORE_STANDBY),
                [
                    ("score", BETA, SCORE_NEVER),
                    ("record", BETA, "CATCHUP|ASYNC"),
                    ("status", BETA, "HS:connected"),
                ],
                id="it catches up",
            ),
            pytest.param(
                a_primary(),
                replace(an_async_node(BETA), score=SCORE_STANDBY),
                [("score", BETA, SCORE_NEVER), ("record", BETA, DISCONNECT)],
                id="it is gone",
            ),
        ],
    )
    def test_the_record_follows_the_row(
        self, server: Primary, peer: NodeState, expected: list[tuple[object, ...]]
    ) -> None:
        snapshot = a_snapshot(server, a_cluster(the_primary_node(), peer), mode=Mode.ASYNC)
        assert changes_of(snapshot) == expected

    def test_names_are_never_set(self) -> None:
        snapshot = a_snapshot(
            a_primary(a_walsender(BETA)), a_cluster(the_primary_node(), a_gone_node(BETA)), mode=Mode.ASYNC
        )
        assert not any(isinstance(change, SetSynchronousStandbys) for change in plan_of(snapshot).changes)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may become the primary: elections, the freeze before a promotion, and the last word in promote."""

from dataclasses import replace

import pytest
from hypothesis import given

from pgsql_ra.replication.changes import Plan, Receive, RememberPromotion, SetDataStatus, SetScore, StopReceiving
from pgsql_ra.replication.election import elect, freeze, heir, receive_again, watch
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Link,
    Membership,
    Mode,
    NodeState,
    Role,
    Snapshot,
    Standby,
)
from pgsql_ra.replication.status import (
    DISCONNECT,
    LATEST,
    SCORE_NEVER,
    SCORE_PRIMARY,
    SCORE_STANDBY,
    STREAMING_ASYNC,
    STREAMING_SYNC,
)
from tests.unit.builders import (
    ALPHA,
    BETA,
    GAMMA,
    a_cluster,
    a_node,
    a_snapshot,
    a_standby,
    a_sync_node,
    an_async_node,
    at,
    the_primary_node,
)
from tests.unit.effects import after, bare
from tests.unit.strategies import snapshots, standbys

ELSEWHERE = Position(Lsn(0x180), History(2, ((1, Lsn(0x40)),)))
"""A promotion that left timeline 1 at another place than the builders' one."""

MODES = pytest.mark.parametrize("mode", Mode)


def waiting(
    name: str,
    lsn: int | None = 0x80,
    data_status: str = "",
    score: str = "",
    timeline: int = 1,
    membership: Membership = Membership.MEMBER,
) -> NodeState:
    """A node whose standby published where its WAL ends, as in an election; None if it has not yet."""
    position = None if lsn is None else at(lsn, timeline)
    shown = "" if position is None else position.lsn.padded()
    return replace(
        a_node(name, membership, data_status=data_status, status="HS:alone", score=score, position=position),
        location=shown,
    )


def absent(name: str, data_status: str = "", membership: Membership = Membership.CLEAN) -> NodeState:
    """A node that is down: only its permanent record is left."""
    return a_node(name, membership, role=Role.STOPPED, data_status=data_status)


def seen(
    *nodes: NodeState, lsn: int | None = 0x80, timeline: int = 1, mode: Mode = Mode.SYNC, quorum: bool = True
) -> Snapshot:
    """What the first of these nodes sees, whose own WAL ends here."""
    return a_snapshot(a_standby(lsn, timeline), a_cluster(*nodes, quorum=quorum), mode=mode, own=nodes[0].key)


def server_of(snapshot: Snapshot) -> Standby:
    """This node's server."""
    assert isinstance(snapshot.server, Standby)
    return snapshot.server


def elected(snapshot: Snapshot) -> Plan:
    """What an election makes of it."""
    return elect(snapshot, server_of(snapshot))


def decided(snapshot: Snapshot) -> Plan:
    """What promote makes of it."""
    return decide_promotion(snapshot, server_of(snapshot))


def changes(plan: Plan) -> list[tuple[object, ...]]:
    """The changes without their reasons."""
    return [bare(change) for change in plan.changes]


class TestColdStart:
    """Nothing is recorded, or everybody went down: all that run publish where their WAL ends, and the best is
    chosen.
    """

    @MODES
    def test_a_node_says_first_where_its_wal_ends(self, mode: Mode) -> None:
        plan = elected(seen(a_node(ALPHA), a_node(BETA), mode=mode))
        assert changes(plan) == [
            ("status", ALPHA, "HS:alone"),
            ("position", ALPHA, "0/80 1:"),
            ("location", ALPHA, "0000000000000080"),
        ]

    @MODES
    def test_it_waits_for_those_that_run_and_say_nothing_yet(self, mode: Mode) -> None:
        plan = elected(seen(waiting(ALPHA), waiting(BETA, None), mode=mode))
        assert plan.changes == ()
        assert BETA in plan.waiting_for

    @MODES
    @pytest.mark.parametrize(
        ("own", "other", "expected"),
        [
            pytest.param(0x80, 0x40, [("score", ALPHA, SCORE_PRIMARY)], id="ahead"),
            pytest.param(0x80, 0x80, [("score", ALPHA, SCORE_PRIMARY)], id="equal, first in node_list"),
            pytest.param(0x40, 0x80, [("score", ALPHA, SCORE_NEVER)], id="behind"),
        ],
    )
    def test_when_all_are_heard_the_best_is_elected(
        self, mode: Mode, own: int, other: int, expected: list[tuple[object, ...]]
    ) -> None:
        plan = elected(seen(waiting(ALPHA, own), waiting(BETA, other), lsn=own, mode=mode))
        assert changes(plan) == expected

    def test_the_second_in_node_list_gives_way_to_an_equal(self) -> None:
        snapshot = a_snapshot(a_standby(), a_cluster(waiting(BETA), waiting(ALPHA)), own=ALPHA)
        assert changes(elected(snapshot)) == [("score", ALPHA, SCORE_NEVER)]

    def test_both_nodes_come_to_the_same_result(self) -> None:
        nodes = waiting(ALPHA, 0x80), waiting(BETA, 0x90)
        first = a_snapshot(a_standby(0x80), a_cluster(*nodes), own=ALPHA)
        second = a_snapshot(a_standby(0x90), a_cluster(*nodes), own=BETA)
        assert changes(elected(first)) == [("score", ALPHA, SCORE_NEVER)]
        assert changes(elected(second)) == [("score", BETA, SCORE_PRIMARY)]

    @MODES
    def test_the_timeline_counts_before_the_lsn(self, mode: Mode) -> None:
        """A higher LSN on a timeline that the cluster left is not newer; it is a branch that was given up."""
        ahead = elected(seen(waiting(ALPHA, 0x110, timeline=2), waiting(BETA, 0x100), lsn=0x110, timeline=2, mode=mode))
        assert changes(ahead) == [("score", ALPHA, SCORE_PRIMARY)]

    @MODES
    def test_an_equal_former_primary_wins(self, mode: Mode) -> None:
        snapshot = seen(waiting(ALPHA, data_status=STREAMING_SYNC), waiting(BETA, data_status=LATEST), mode=mode)
        assert changes(elected(snapshot)) == [("score", ALPHA, SCORE_NEVER)]

    @MODES
    def test_a_former_primary_that_crashed_may_win(self, mode: Mode) -> None:
        snapshot = seen(
            waiting(ALPHA, 0x90, data_status=LATEST), waiting(BETA, 0x80, STREAMING_SYNC), lsn=0x90, mode=mode
        )
        assert changes(elected(snapshot)) == [("score", ALPHA, SCORE_PRIMARY)]

    def test_a_disconnected_node_that_is_alone_is_not_elected(self) -> None:
        plan = elected(seen(waiting(ALPHA, data_status=DISCONNECT), absent(BETA, DISCONNECT)))
        assert [change[:2] for change in changes(plan)] == [("why", ALPHA), ("score", ALPHA)]
        assert "pgsql-ra allow" in plan.changes[1].because

    @MODES
    def test_histories_that_contradict_each_other_elect_nobody(self, mode: Mode) -> None:
        other = replace(waiting(BETA), position=ELSEWHERE)
        plan = elected(seen(waiting(ALPHA, 0x180, timeline=2), other, lsn=0x180, timeline=2, mode=mode))
        assert [change[:2] for change in changes(plan)] == [("why", ALPHA), ("score", ALPHA)]
        assert "contradict" in plan.changes[1].because

    def test_a_server_that_still_reads_its_own_wal_publishes_nothing(self) -> None:
        plan = elected(seen(waiting(ALPHA, None), waiting(BETA), lsn=None))
        assert plan.changes == ()
        assert plan.waiting_for

    def test_without_quorum_nobody_is_elected(self) -> None:
        plan = elected(seen(waiting(ALPHA), waiting(BETA, 0x40), quorum=False))
        assert plan.changes == ()
        assert "quorum" in plan.stalled

    def test_an_old_position_is_corrected(self) -> None:
        plan = elected(seen(waiting(ALPHA, 0x70), waiting(BETA, 0x70), lsn=0x80))
        assert ("position", ALPHA, "0/80 1:") in changes(plan)

    def test_a_verdict_that_stands_is_not_repeated(self) -> None:
        assert elected(seen(waiting(ALPHA, 0x40, score=SCORE_NEVER), waiting(BETA, 0x80), lsn=0x40)) == Plan()


class TestBranches:
    """After a second failover before the first former primary was repaired."""

    def nodes(self) -> tuple[NodeState, NodeState, NodeState]:
        """ALPHA was promoted last, BETA followed; GAMMA was the primary before and went past that on timeline 2."""
        newest = Promotion(2, ALPHA, at(0x200, 2))
        return (
            replace(waiting(ALPHA, 0x240, LATEST, SCORE_NEVER, timeline=3), promotion=newest),
            replace(waiting(BETA, 0x240, STREAMING_ASYNC, SCORE_NEVER, timeline=3), promotion=Promotion(2, ALPHA)),
            replace(
                waiting(GAMMA, 0x280, DISCONNECT, SCORE_NEVER, timeline=2), promotion=Promotion(1, GAMMA, at(0x100))
            ),
        )

    @MODES
    def test_a_branch_that_was_given_up_stands_in_nobodys_way(self, mode: Mode) -> None:
        alpha, beta, gamma = self.nodes()
        snapshot = seen(alpha, beta, gamma, lsn=0x240, timeline=3, mode=mode)
        assert ("score", ALPHA, SCORE_PRIMARY) in changes(elected(snapshot))
        assert recorded(decided(snapshot))

    @MODES
    def test_it_is_not_promoted_itself(self, mode: Mode) -> None:
        alpha, beta, gamma = self.nodes()
        snapshot = seen(gamma, alpha, beta, lsn=0x280, timeline=2, mode=mode)
        assert ("score", GAMMA, SCORE_PRIMARY) not in changes(elected(snapshot))
        assert decided(snapshot).refusal


class TestAbsentNodes:
    """Whoever does not run could hold newer data, unless its record says that it is behind."""

    @pytest.mark.parametrize("membership", [Membership.CLEAN, Membership.UNCLEAN])
    def test_the_wait_is_bounded(self, membership: Membership) -> None:
        snapshot = seen(waiting(ALPHA), absent(BETA, LATEST, membership))
        for done in (1, 2, 3):
            plan = elected(snapshot)
            assert changes(plan) == [("election", ALPHA, f"{done}/3 waits for {BETA}")]
            assert BETA in plan.stalled
            snapshot = after(snapshot, plan.changes)
        assert changes(elected(snapshot)) == [("score", ALPHA, SCORE_PRIMARY)]

    @MODES
    def test_nobody_is_waited_for_when_the_node_that_was_promoted_last_is_there(self, mode: Mode) -> None:
        """Whatever the others have, they have from it."""
        own = replace(waiting(ALPHA, data_status=LATEST), promotion=Promotion(3, ALPHA, at(0x40)))
        gone = replace(absent(BETA, STREAMING_SYNC), promotion=Promotion(3, ALPHA))
        assert ("score", ALPHA, SCORE_PRIMARY) in changes(elected(seen(own, gone, mode=mode)))
        replaced = seen(own, gone, mode=mode, lsn=0x30)
        assert any("1/3 waits" in str(change) or change[0] == "why" for change in changes(elected(replaced)))

    def test_no_rounds_mean_no_wait(self) -> None:
        snapshot = seen(waiting(ALPHA), absent(BETA, LATEST))
        hasty = replace(snapshot, policy=replace(snapshot.policy, election_rounds=0))
        assert changes(elected(hasty)) == [("score", ALPHA, SCORE_PRIMARY)]

    def test_an_election_value_that_cannot_be_read_starts_again(self) -> None:
        plan = elected(seen(replace(waiting(ALPHA), election="soon/3"), absent(BETA)))
        assert changes(plan) == [("election", ALPHA, f"1/3 waits for {BETA}")]

    def test_one_that_is_recorded_as_behind_is_not_waited_for(self) -> None:
        snapshot = seen(waiting(ALPHA, data_status=LATEST), absent(BETA, DISCONNECT))
        assert changes(elected(snapshot)) == [("score", ALPHA, SCORE_PRIMARY)]

    def test_an_asynchronous_standby_is_waited_for_in_async_mode_only(self) -> None:
        nodes = waiting(ALPHA, data_status=LATEST), absent(BETA, STREAMING_ASYNC)
        assert changes(elected(seen(*nodes, mode=Mode.SYNC))) == [("score", ALPHA, SCORE_PRIMARY)]
        assert changes(elected(seen(*nodes, mode=Mode.ASYNC))) == [("election", ALPHA, f"1/3 waits for {BETA}")]

    def test_a_node_that_may_not_be_promoted_waits_without_end(self) -> None:
        """What it waits for is the only good copy."""
        snapshot = seen(waiting(ALPHA, data_status=DISCONNECT), absent(BETA, LATEST))
        for _ in range(5):
            plan = elected(snapshot)
            assert all(change[0] == "why" for change in changes(plan))
            assert BETA in plan.stalled
            snapshot = after(snapshot, plan.changes)

    def test_a_position_that_a_node_left_behind_does_not_count(self) -> None:
        """Transient values of a node that is gone may still be shown."""
        plan = elected(seen(waiting(ALPHA), waiting(BETA, 0x40, membership=Membership.UNCLEAN)))
        assert changes(plan) == [("election", ALPHA, f"1/3 waits for {BETA}")]


class TestHeir:
    """While somebody can be promoted already, nobody is elected."""

    def test_who_it_is(self) -> None:
        assert heir(seen(a_node(ALPHA), a_sync_node(BETA))) == BETA
        assert heir(seen(a_sync_node(ALPHA), an_async_node(BETA))) == ALPHA

    @pytest.mark.parametrize(
        "node",
        [
            pytest.param(a_node(BETA), id="no score"),
            pytest.param(a_node(BETA, score="0"), id="a score of 0"),
            pytest.param(an_async_node(BETA), id="a negative score"),
            pytest.param(a_sync_node(BETA, Membership.CLEAN), id="down"),
            pytest.param(a_sync_node(BETA, Membership.UNCLEAN), id="lost"),
            pytest.param(a_node(BETA, role=Role.STOPPED, score=SCORE_STANDBY), id="stopped"),
            pytest.param(the_primary_node(BETA), id="a primary"),
        ],
    )
    def test_who_it_is_not(self, node: NodeState) -> None:
        assert heir(seen(a_node(ALPHA), node)) == ""

    def test_one_that_leaves_is_none(self) -> None:
        snapshot = replace(seen(a_node(ALPHA), a_sync_node(BETA)), leaving=frozenset({BETA}))
        assert heir(snapshot) == ""

    def test_the_heir_itself_has_nothing_to_do(self) -> None:
        assert elected(seen(a_sync_node(ALPHA), a_node(BETA))) == Plan()

    def test_the_others_wait_for_its_promotion_for_a_while(self) -> None:
        snapshot = seen(waiting(ALPHA), replace(a_sync_node(BETA), position=at(0x70)))
        for done in (1, 2, 3):
            plan = elected(snapshot)
            assert changes(plan) == [("election", ALPHA, f"{done}/3 waits for {BETA}")]
            snapshot = after(snapshot, plan.changes)
        assert ("score", ALPHA, SCORE_PRIMARY) in changes(elected(snapshot))


class TestWatch:
    """A standby's monitor."""

    @staticmethod
    def plan_of(snapshot: Snapshot) -> Plan:
        return watch(snapshot, server_of(snapshot))

    def test_with_a_primary_there_is_nothing_to_do(self) -> None:
        assert self.plan_of(seen(a_sync_node(ALPHA), the_primary_node(BETA))) == Plan()

    def test_with_a_primary_the_traces_of_an_election_go(self) -> None:
        own = replace(waiting(ALPHA, data_status=STREAMING_ASYNC), election="2/3 waits for beta")
        assert changes(self.plan_of(seen(own, the_primary_node(BETA)))) == [
            ("election", ALPHA, ""),
            ("position", ALPHA, None),
        ]

    def test_a_standby_that_the_primary_does_not_see_says_so(self) -> None:
        own = a_node(ALPHA, data_status=DISCONNECT, status="HS:sync")
        assert changes(self.plan_of(seen(own, the_primary_node(BETA)))) == [("status", ALPHA, "HS:alone")]

    def test_without_a_primary_there_is_an_election(self) -> None:
        snapshot = seen(waiting(ALPHA), waiting(BETA, 0x40))
        assert self.plan_of(snapshot) == elected(snapshot)

    def test_a_lost_primary_is_none(self) -> None:
        lost = replace(the_primary_node(BETA), membership=Membership.UNCLEAN)
        assert self.plan_of(seen(waiting(ALPHA), lost)).stalled

    def test_a_standby_that_can_never_follow_fails(self) -> None:
        """It holds WAL that the primary does not."""
        snapshot = seen(a_node(ALPHA), the_primary_node(BETA, timeline=2), lsn=0x110)
        assert "16 bytes of WAL" in self.plan_of(snapshot).refusal

    @pytest.mark.parametrize(
        ("server", "primary"),
        [
            pytest.param(a_standby(0x100), the_primary_node(BETA, 2), id="ends at the fork"),
            pytest.param(a_standby(0x110, streaming=True), the_primary_node(BETA, 2), id="it streams"),
            pytest.param(a_standby(None), the_primary_node(BETA, 2), id="its end is not known"),
            pytest.param(a_standby(0x110), replace(the_primary_node(BETA), record=None), id="no record yet"),
            pytest.param(a_standby(0x110), the_primary_node(BETA, 1), id="the same timeline"),
        ],
    )
    def test_a_standby_that_can_follow_or_might_does_not_fail(self, server: Standby, primary: NodeState) -> None:
        snapshot = a_snapshot(server, a_cluster(a_node(ALPHA), primary))
        assert self.plan_of(snapshot).refusal == ""

    def test_with_two_primaries_nobody_can_tell(self) -> None:
        snapshot = seen(a_node(ALPHA), the_primary_node(BETA, 2), the_primary_node(GAMMA, 2), lsn=0x110)
        assert self.plan_of(snapshot).refusal == ""


class TestFreeze:
    """Before a promotion every standby receives no more and says where its WAL ends, and the best of those heard has
    the score.
    """

    @staticmethod
    def frozen(snapshot: Snapshot, promoted: str, link: Link = Link.CUT, receiver: int = 0) -> Plan:
        return freeze(snapshot, replace(server_of(snapshot), link=link, receiver=receiver), promoted)

    @pytest.mark.parametrize("receiver", [0, 77])
    def test_a_standby_receives_nothing_more_before_it_speaks(self, receiver: int) -> None:
        snapshot = seen(an_async_node(ALPHA), waiting(BETA), the_primary_node(GAMMA))
        plan = self.frozen(snapshot, BETA, Link.OPEN, receiver)
        assert changes(plan) == [("stop receiving", receiver)]
        assert "receiver" in plan.waiting_for

    def test_it_waits_for_the_end_of_its_receiver(self) -> None:
        plan = self.frozen(seen(an_async_node(ALPHA), waiting(BETA)), BETA, Link.CUT, 77)
        assert changes(plan) == [("stop receiving", 77)]
        assert "receiver" in plan.waiting_for

    def test_before_postgresql_13_it_speaks_all_the_same(self) -> None:
        plan = self.frozen(seen(an_async_node(ALPHA), waiting(BETA)), BETA, Link.FIXED, 77)
        assert changes(plan)[0] == ("position", ALPHA, "0/80 1:")

    def test_the_one_that_is_promoted_ends_its_receiver_by_that(self) -> None:
        plan = self.frozen(seen(a_sync_node(ALPHA), waiting(BETA, 0x40)), ALPHA, Link.OPEN, 77)
        assert changes(plan) == [("position", ALPHA, "0/80 1:")]

    @pytest.mark.parametrize(("link", "done"), [(Link.CUT, [("receive",)]), (Link.OPEN, []), (Link.FIXED, [])])
    def test_a_primary_ends_that(self, link: Link, done: list[tuple[object, ...]]) -> None:
        snapshot = seen(replace(an_async_node(ALPHA), status="HS:async"), the_primary_node(BETA))
        assert [bare(change) for change in receive_again(snapshot, link)] == done
        plan = watch(snapshot, replace(server_of(snapshot), link=link))
        assert [change for change in changes(plan) if change[0] == "receive"] == done

    def test_nothing_else_does(self) -> None:
        snapshot = seen(an_async_node(ALPHA), waiting(BETA))
        assert not any(isinstance(change, Receive) for change in watch(snapshot, server_of(snapshot)).changes)
        assert list(receive_again(snapshot, Link.CUT)) == []

    def test_the_position_is_published_and_the_others_are_waited_for(self) -> None:
        plan = self.frozen(seen(an_async_node(ALPHA), a_sync_node(BETA)), BETA)
        assert changes(plan) == [("position", ALPHA, "0/80 1:")]
        assert BETA in plan.waiting_for

    def test_a_server_that_still_reads_its_own_wal_says_nothing(self) -> None:
        plan = self.frozen(seen(an_async_node(ALPHA), a_sync_node(BETA), lsn=None), BETA)
        assert plan.changes == ()
        assert plan.waiting_for

    @pytest.mark.parametrize("lsn", [0x40, 0x80])
    def test_nothing_changes_if_the_promoted_node_is_the_best(self, lsn: int) -> None:
        nodes = waiting(ALPHA, lsn, STREAMING_ASYNC, SCORE_NEVER), waiting(BETA, 0x80, STREAMING_SYNC, SCORE_STANDBY)
        assert self.frozen(seen(*nodes, lsn=lsn), BETA) == Plan()

    def test_one_that_is_ahead_takes_the_score(self) -> None:
        nodes = waiting(ALPHA, 0x90, STREAMING_ASYNC, SCORE_NEVER), waiting(BETA, 0x80, STREAMING_SYNC, SCORE_STANDBY)
        assert changes(self.frozen(seen(*nodes, lsn=0x90), BETA)) == [("score", ALPHA, SCORE_PRIMARY)]

    def test_the_promoted_node_gives_its_score_up_for_it(self) -> None:
        nodes = waiting(ALPHA, 0x80, STREAMING_SYNC, SCORE_STANDBY), waiting(BETA, 0x90, STREAMING_ASYNC, SCORE_NEVER)
        assert changes(self.frozen(seen(*nodes), ALPHA)) == [("score", ALPHA, SCORE_NEVER)]

    def test_nothing_is_said_if_it_is_the_primary_already(self) -> None:
        """Its standbys stream: where their WAL ends would be said again and again."""
        assert self.frozen(seen(an_async_node(ALPHA), the_primary_node(BETA)), BETA) == Plan()

    def test_a_third_one_has_no_part_in_it(self) -> None:
        nodes = waiting(ALPHA, 0x40), waiting(BETA, 0x80, STREAMING_SYNC), waiting(GAMMA, 0x90, STREAMING_ASYNC)
        assert self.frozen(seen(*nodes, lsn=0x40), BETA) == Plan()

    def test_a_disconnected_node_never_takes_the_score_by_its_record(self) -> None:
        nodes = waiting(ALPHA, 0x40, DISCONNECT, SCORE_NEVER), waiting(BETA, 0x80, STREAMING_SYNC, SCORE_STANDBY)
        assert self.frozen(seen(*nodes, lsn=0x40), BETA) == Plan()


def recorded(plan: Plan) -> list[tuple[object, ...]]:
    """What a plan that promotes says of the nodes, after the promotion's own record; fails if it does not promote."""
    assert (plan.refusal, plan.waiting_for, plan.stalled) == ("", "", "")
    own = [change[0] for change in changes(plan) if change[0] in ("promotion", "remember")]
    assert [change[0] for change in changes(plan)[: len(own)]] == own, "the promotion's record comes first"
    return changes(plan)[len(own) :]


class TestPromote:
    """The last word."""

    def test_every_other_node_is_disconnected_before_this_one_is_the_latest(self) -> None:
        snapshot = seen(a_sync_node(ALPHA), absent(BETA, LATEST), a_sync_node(GAMMA))
        plan = decided(replace(snapshot, cluster=replace_node(snapshot.cluster, waiting(GAMMA, 0x80, "", "100"))))
        assert recorded(plan) == [
            ("record", BETA, DISCONNECT),
            ("record", GAMMA, DISCONNECT),
            ("score", GAMMA, SCORE_NEVER),
            ("record", ALPHA, LATEST),
        ]

    def test_nothing_is_written_that_stands_already(self) -> None:
        own = replace(waiting(ALPHA, data_status=LATEST), promotion=Promotion(1, ALPHA, at(0x80)))
        snapshot = seen(own, waiting(BETA, 0x40, DISCONNECT, SCORE_NEVER))
        assert decided(snapshot) == Plan()

    @MODES
    def test_a_node_with_priority_0_is_not_promoted_and_stands_in_nobodys_way(self, mode: Mode) -> None:
        barred = replace(waiting(BETA, 0x90, STREAMING_SYNC), priority=0)
        assert recorded(decided(seen(waiting(ALPHA, 0x80, STREAMING_SYNC), barred, mode=mode)))
        own = replace(waiting(ALPHA, 0x90, STREAMING_SYNC), priority=0)
        plan = decided(seen(own, absent(BETA, DISCONNECT), lsn=0x90, mode=mode))
        assert "priority is 0" in plan.refusal

    def test_nothing_is_left_to_write_after_that(self) -> None:
        snapshot = seen(a_sync_node(ALPHA), absent(BETA, LATEST), waiting(GAMMA, 0x40, STREAMING_ASYNC))
        assert decided(after(snapshot, decided(snapshot).changes)) == Plan()

    @MODES
    def test_nothing_is_promoted_without_quorum(self, mode: Mode) -> None:
        plan = decided(seen(a_sync_node(ALPHA), absent(BETA, LATEST), quorum=False, mode=mode))
        assert "quorum" in plan.refusal
        assert plan.changes == ()

    def test_quorum_does_not_matter_where_the_administrator_says_so(self) -> None:
        cluster = a_cluster(a_sync_node(ALPHA), absent(BETA, DISCONNECT), quorum=False, quorum_needed=False)
        assert recorded(decided(a_snapshot(a_standby(), cluster))) == [("record", ALPHA, LATEST)]

    @pytest.mark.parametrize(
        "rival", [the_primary_node(BETA), a_node(BETA, role=Role.PROMOTED), a_node(BETA, status="PRI")]
    )
    def test_nothing_is_promoted_beside_a_primary(self, rival: NodeState) -> None:
        plan = decided(seen(a_sync_node(ALPHA), rival))
        assert BETA in plan.refusal
        assert plan.changes == ()

    @MODES
    def test_a_lost_node_is_fenced_first(self, mode: Mode) -> None:
        plan = decided(seen(a_sync_node(ALPHA), absent(BETA, LATEST, Membership.UNCLEAN), mode=mode))
        assert "fenced" in plan.waiting_for
        assert plan.changes == ()

    def test_a_lost_node_that_holds_no_copy_does_not_matter(self) -> None:
        nodes = a_cluster(a_sync_node(ALPHA), absent(BETA, DISCONNECT), absent(GAMMA, "", Membership.UNCLEAN))
        snapshot = a_snapshot(a_standby(), nodes, members=(ALPHA, BETA))
        assert recorded(decided(snapshot)) == [("record", ALPHA, LATEST)]

    def test_a_server_that_still_reads_its_own_wal_is_waited_for(self) -> None:
        assert decided(seen(a_sync_node(ALPHA), absent(BETA, LATEST), lsn=None)).waiting_for

    @pytest.mark.parametrize("value", [DISCONNECT, STREAMING_ASYNC, "CATCHUP|ASYNC", "junk"])
    def test_sync_a_record_that_does_not_allow_it_refuses(self, value: str) -> None:
        plan = decided(seen(waiting(ALPHA, 0x900, data_status=value), absent(BETA, LATEST), lsn=0x900))
        assert value in plan.refusal
        assert plan.changes == ()

    @pytest.mark.parametrize("value", ["", LATEST, STREAMING_SYNC])
    def test_sync_a_record_that_allows_it_is_enough(self, value: str) -> None:
        snapshot = seen(waiting(ALPHA, data_status=value), absent(BETA, DISCONNECT))
        assert recorded(decided(snapshot)) == ([] if value == LATEST else [("record", ALPHA, LATEST)])

    @pytest.mark.parametrize("lsn", [0x80, 0x90])
    def test_sync_one_that_holds_all_that_the_synchronous_standby_holds_may_be_promoted(self, lsn: int) -> None:
        nodes = waiting(ALPHA, lsn, STREAMING_ASYNC), waiting(BETA, 0x80, STREAMING_SYNC)
        assert recorded(decided(seen(*nodes, lsn=lsn))) == [
            ("record", BETA, DISCONNECT),
            ("record", ALPHA, LATEST),
        ]

    def test_sync_one_that_is_behind_the_synchronous_standby_may_not(self) -> None:
        nodes = waiting(ALPHA, 0x70, STREAMING_ASYNC, "100"), waiting(BETA, 0x80, STREAMING_SYNC)
        plan = decided(seen(*nodes, lsn=0x70))
        assert changes(plan) == [("score", ALPHA, SCORE_NEVER)]
        assert plan.refusal == "beta holds newer data: its WAL ends at 0/80 on timeline 1, ours at 0/70 on 1"

    def test_sync_a_synchronous_standby_that_was_not_heard_proves_nothing(self) -> None:
        for silent in (a_sync_node(BETA), a_sync_node(BETA, Membership.CLEAN)):
            assert decided(seen(waiting(ALPHA, 0x900, STREAMING_ASYNC), silent, lsn=0x900)).refusal

    def test_sync_a_crashed_former_primary_does_not_turn_the_failover_back(self) -> None:
        """What it holds beyond the synchronous standby was acknowledged to nobody."""
        nodes = waiting(ALPHA, 0x80, STREAMING_SYNC), waiting(BETA, 0x90, LATEST)
        assert recorded(decided(seen(*nodes))) == [("record", BETA, DISCONNECT), ("record", ALPHA, LATEST)]

    def test_sync_a_crashed_former_primary_may_itself_be_promoted_again(self) -> None:
        nodes = waiting(ALPHA, 0x90, LATEST), waiting(BETA, 0x80, STREAMING_SYNC)
        assert recorded(decided(seen(*nodes, lsn=0x90))) == [("record", BETA, DISCONNECT)]

    def test_sync_one_that_holds_all_that_a_crashed_former_primary_has_may_be_promoted(self) -> None:
        """Whatever is recorded of it: an election comes to the same result."""
        nodes = waiting(ALPHA, 0x80, DISCONNECT), waiting(BETA, 0x80, LATEST)
        assert recorded(decided(seen(*nodes)))
        behind = waiting(ALPHA, 0x7F, DISCONNECT), waiting(BETA, 0x80, LATEST)
        assert decided(seen(*behind, lsn=0x7F)).refusal

    def test_async_the_one_that_is_ahead_wins_even_if_it_crashed(self) -> None:
        nodes = waiting(ALPHA, 0x80, STREAMING_ASYNC, "100"), waiting(BETA, 0x90, LATEST)
        plan = decided(seen(*nodes, mode=Mode.ASYNC))
        assert BETA in plan.refusal
        assert changes(plan) == [("score", ALPHA, SCORE_NEVER)]

    def test_async_a_streaming_standby_is_promoted_when_the_primary_is_gone(self) -> None:
        snapshot = seen(waiting(ALPHA, 0x80, STREAMING_ASYNC), absent(BETA, LATEST), mode=Mode.ASYNC)
        assert recorded(decided(snapshot)) == [("record", BETA, DISCONNECT), ("record", ALPHA, LATEST)]

    @pytest.mark.parametrize("value", [DISCONNECT, "CATCHUP|ASYNC"])
    def test_async_a_standby_that_did_not_stream_is_not(self, value: str) -> None:
        assert decided(seen(waiting(ALPHA, 0x80, value), absent(BETA, LATEST), mode=Mode.ASYNC)).refusal

    @MODES
    def test_histories_that_contradict_each_other_refuse(self, mode: Mode) -> None:
        other = replace(waiting(BETA, data_status=STREAMING_SYNC), position=ELSEWHERE)
        nodes = waiting(ALPHA, 0x180, STREAMING_SYNC, timeline=2), other
        assert "contradict" in decided(seen(*nodes, lsn=0x180, timeline=2, mode=mode)).refusal

    def test_a_branch_that_was_given_up_is_not_newer(self) -> None:
        """Its LSN is higher, but the others left its timeline before."""
        nodes = waiting(ALPHA, 0x110, STREAMING_SYNC, timeline=2), waiting(BETA, 0x900, DISCONNECT)
        assert (
            recorded(decided(seen(*nodes, lsn=0x110, timeline=2)))
            == [
                ("record", BETA, DISCONNECT),
                ("record", ALPHA, LATEST),
            ][1:]
        )

    def test_a_name_that_the_cluster_does_not_know_is_left_out(self) -> None:
        snapshot = a_snapshot(a_standby(), a_cluster(a_sync_node(ALPHA)), members=(ALPHA, "typo"))
        assert recorded(decided(snapshot)) == [("record", ALPHA, LATEST)]


def replace_node(cluster: ClusterState, node: NodeState) -> ClusterState:
    """The cluster with this node in place of the one of the same name."""
    return replace(cluster, nodes=tuple(node if one.key == node.key else one for one in cluster.nodes))


class TestProperties:
    """What holds whatever the cluster looks like."""

    @given(snapshots(standbys))
    def test_a_promotion_needs_quorum_no_rival_and_no_lost_node(self, snapshot: Snapshot) -> None:
        plan = decided(snapshot)
        if plan.refusal or plan.waiting_for:
            return
        others = [node for node in snapshot.cluster.nodes if node.key != snapshot.policy.node]
        assert snapshot.cluster.may_decide
        assert not any(node.membership is Membership.MEMBER and node.role is Role.PROMOTED for node in others)
        if snapshot.cluster.fencing:
            assert not any(node.membership is Membership.UNCLEAN for node in others)

    @given(snapshots(standbys))
    def test_records_stand_before_a_promotion(self, snapshot: Snapshot) -> None:
        plan = decided(snapshot)
        if plan.refusal or plan.waiting_for:
            return
        records = [change.node for change in plan.changes if isinstance(change, SetDataStatus)]
        assert snapshot.policy.node not in records[:-1]
        then = after(snapshot, plan.changes).cluster
        assert {node.key: node.data_status for node in then.nodes} == {
            node.key: LATEST if node.key == snapshot.policy.node else DISCONNECT for node in then.nodes
        }

    @given(snapshots(standbys))
    def test_a_refusal_makes_no_durable_statement_and_raises_no_score(self, snapshot: Snapshot) -> None:
        plan = decided(snapshot)
        if plan.refusal or plan.waiting_for:
            assert not any(isinstance(change, SetDataStatus) for change in plan.changes)
            assert all(change.score == SCORE_NEVER for change in plan.changes if isinstance(change, SetScore))

    @given(snapshots(standbys))
    def test_a_standby_speaks_for_itself_only_and_writes_nothing_durable(self, snapshot: Snapshot) -> None:
        server, promoted = server_of(snapshot), snapshot.policy.peers[0]
        plans = [watch(snapshot, server)]
        plans += [freeze(snapshot, replace(server, link=link), promoted) for link in Link]
        for change in (change for plan in plans for change in plan.changes):
            assert not isinstance(change, SetDataStatus)
            on_its_own = isinstance(change, RememberPromotion | StopReceiving | Receive)
            assert on_its_own or bare(change)[1] == snapshot.policy.node

    @given(snapshots(standbys))
    def test_in_sync_mode_whoever_elects_itself_has_a_record_or_proof(self, snapshot: Snapshot) -> None:
        plan = elected(snapshot)
        raised = [change for change in plan.changes if isinstance(change, SetScore) and change.score == SCORE_PRIMARY]
        if snapshot.policy.mode is not Mode.SYNC or not raised:
            return
        own = server_of(snapshot).position
        assert own is not None
        numbers = [one.number for one in snapshot.promotions if one is not None]
        newest = max(numbers, default=0)
        named = {one.node for one in snapshot.promotions if one is not None and one.number == newest}
        allowed = [
            node
            for node in snapshot.cluster.nodes
            if node.key in named
            or (
                node.data_status in ("", LATEST, STREAMING_SYNC)
                and newest == (node.promotion.number if node.promotion else 0)
            )
        ]
        voted = any(
            node.key in named and node.voters is not None and node.voters.number == newest
            for node in snapshot.cluster.nodes
        )
        heard = [node for node in allowed if node.key != snapshot.policy.node and node.position is not None]
        assert (
            snapshot.own in allowed
            or voted
            or any(
                node.position is not None and own.compare(node.position).value in ("newer", "equal") for node in heard
            )
        )

    @given(snapshots(standbys))
    def test_a_decision_stands_after_its_own_records(self, snapshot: Snapshot) -> None:
        """The look that promotes comes after the one that writes them, and must not see another world."""
        plan = decided(snapshot)
        if plan.refusal or plan.waiting_for:
            return
        assert decided(after(snapshot, plan.changes)) == Plan()

    @given(snapshots(standbys))
    def test_whoever_is_elected_is_not_refused(self, snapshot: Snapshot) -> None:
        """Otherwise an election and promote contradict each other for ever."""
        plan = elected(snapshot)
        raised = any(isinstance(change, SetScore) and change.score == SCORE_PRIMARY for change in plan.changes)
        rivals = other_primaries(snapshot.cluster, snapshot.policy.node)
        if raised and not rivals and not snapshot.contradiction:
            assert not decided(snapshot).refusal

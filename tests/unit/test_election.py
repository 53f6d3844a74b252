# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may become the primary: elections."""

from dataclasses import replace

import pytest

from pgsql_ra.replication.changes import Plan
from pgsql_ra.replication.election import heir, watch
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Membership, NodeState, Role, Snapshot, Standby
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
from tests.unit.effects import after
from tests.unit.standby_cases import (
    ELSEWHERE,
    MODES,
    absent,
    changes,
    decided,
    elected,
    recorded,
    seen,
    server_of,
    waiting,
)


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running primary does about its standbys: every branch of the switch between waiting and not waiting."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from pgsql_ra.replication.changes import (
    EndWalsender,
    Plan,
    ProvokeReply,
    SetDataStatus,
    SetStatus,
    SetSynchronousStandbys,
)
from pgsql_ra.replication.primary import other_primaries, reconcile, release
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Degrading,
    Membership,
    Mode,
    NodeState,
    Primary,
    ReplicationState,
    Role,
    Snapshot,
    SynchronousStandbys,
    SyncState,
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
from pgsql_ra.replication.synchronous import first_setting
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
from tests.unit.effects import after, bare
from tests.unit.strategies import primaries, snapshots

STEPS = 20
"""More than any plan of three nodes needs to come to rest."""


def plan_of(snapshot: Snapshot) -> Plan:
    """What the primary of this snapshot does."""
    assert isinstance(snapshot.server, Primary)
    return reconcile(snapshot, snapshot.server)


def changes_of(snapshot: Snapshot) -> list[tuple[object, ...]]:
    """What the primary changes, without the reasons."""
    return [bare(change) for change in plan_of(snapshot).changes]


def lets_go(plan: Plan, name: str) -> bool:
    """Whether commits would no longer wait for this standby."""
    return any(
        isinstance(change, SetSynchronousStandbys) and name not in change.standbys.names for change in plan.changes
    )


def a_pair(server: Primary, peer: NodeState, quorum: bool = True, leaving: tuple[str, ...] = ()) -> Snapshot:
    """A primary on alpha and one peer, beta."""
    return a_snapshot(server, a_cluster(the_primary_node(), peer, quorum=quorum), leaving=leaving)


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


class TestDegrade:
    """The synchronous standby is gone: the primary wants to stop waiting for it."""

    GONE = a_primary(names=(BETA,))

    @pytest.mark.parametrize("membership", [Membership.MEMBER, Membership.CLEAN])
    def test_the_record_comes_before_the_names(self, membership: Membership) -> None:
        snapshot = a_pair(self.GONE, a_sync_node(BETA, membership))
        first = plan_of(snapshot)
        assert ("record", BETA, DISCONNECT) in [bare(change) for change in first.changes]
        assert not lets_go(first, BETA)
        assert BETA in first.waiting_for
        # The second look has seen the record, so everybody who could promote beta sees it too.
        second = plan_of(after(snapshot, first.changes))
        assert [bare(change) for change in second.changes] == [("names",)]

    def test_a_record_that_was_not_taken_keeps_commits_waiting(self) -> None:
        """Writes are acknowledged without quorum too: only what is read back counts."""
        snapshot = a_pair(self.GONE, a_sync_node(BETA))
        scores = [change for change in plan_of(snapshot).changes if not isinstance(change, SetDataStatus)]
        assert not lets_go(plan_of(after(snapshot, scores)), BETA)

    def test_the_score_goes_before_the_record(self) -> None:
        assert changes_of(a_pair(self.GONE, a_sync_node(BETA))) == [
            ("score", BETA, SCORE_NEVER),
            ("record", BETA, DISCONNECT),
        ]

    def test_a_node_that_is_down_has_no_score_to_take_away(self) -> None:
        assert changes_of(a_pair(self.GONE, a_sync_node(BETA, Membership.CLEAN))) == [("record", BETA, DISCONNECT)]

    def test_an_unclean_node_is_kept_and_commits_wait_for_fencing(self) -> None:
        plan = plan_of(a_pair(self.GONE, a_sync_node(BETA, Membership.UNCLEAN)))
        assert plan.changes == ()
        assert "not fenced" in plan.stalled

    def test_an_unclean_node_is_kept_even_if_its_record_forbids_its_promotion(self) -> None:
        """The record may be what only this side of the cut knows."""
        plan = plan_of(a_pair(self.GONE, a_gone_node(BETA, Membership.UNCLEAN)))
        assert plan.changes == ()
        assert plan.stalled

    def test_an_unclean_node_does_not_count_as_streaming(self) -> None:
        """Its walsender's row may be a dead connection's."""
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        plan = plan_of(a_pair(server, a_sync_node(BETA, Membership.UNCLEAN)))
        assert plan.changes == ()
        assert plan.stalled

    def test_without_quorum_nothing_is_written(self) -> None:
        snapshot = a_pair(self.GONE, a_sync_node(BETA), quorum=False)
        plan = plan_of(snapshot)
        assert plan.changes == ()
        assert "quorum" in plan.stalled

    def test_without_quorum_nothing_is_written_after_the_record_either(self) -> None:
        assert plan_of(a_pair(self.GONE, a_gone_node(BETA), quorum=False)).changes == ()

    def test_quorum_does_not_matter_where_the_administrator_says_so(self) -> None:
        cluster = a_cluster(the_primary_node(), a_gone_node(BETA), quorum=False, quorum_needed=False)
        assert changes_of(a_snapshot(self.GONE, cluster)) == [("names",)]

    @pytest.mark.parametrize("state", [state for state in ReplicationState if state is not ReplicationState.STREAMING])
    def test_a_standby_that_does_not_stream_is_let_go(self, state: ReplicationState) -> None:
        """It would hold up commits for as long as it catches up."""
        server = a_primary(a_walsender(BETA, state, SyncState.SYNC), names=(BETA,))
        snapshot = a_pair(server, a_sync_node(BETA))
        first = plan_of(snapshot)
        assert not lets_go(first, BETA)
        assert lets_go(plan_of(after(snapshot, first.changes)), BETA)

    def test_a_standby_that_is_just_connecting_is_left_alone(self) -> None:
        server = a_primary(a_walsender(BETA, ReplicationState.STARTUP))
        assert plan_of(a_pair(server, a_gone_node(BETA))) == Plan()

    def test_the_walsender_of_a_fenced_node_is_ended(self) -> None:
        """TCP would not notice for wal_sender_timeout."""
        server = a_primary(a_sync_walsender(BETA, pid=4711), a_walsender(BETA, pid=4712), names=(BETA,))
        changes = changes_of(a_pair(server, a_sync_node(BETA, Membership.CLEAN)))
        assert changes == [("record", BETA, DISCONNECT), ("end", 4711), ("end", 4712)]

    def test_somebody_elses_walsender_is_left_alone(self) -> None:
        server = a_primary(a_walsender("pg_basebackup", ReplicationState.BACKUP))
        assert plan_of(a_pair(server, a_gone_node(BETA))) == Plan()


class TestPlannedStop:
    """A stop is announced: the standby is released before it stops."""

    STREAMING = a_primary(a_sync_walsender(BETA), names=(BETA,))

    def test_a_leaving_standby_is_released_while_it_still_streams(self) -> None:
        snapshot = a_pair(self.STREAMING, a_sync_node(BETA), leaving=(BETA,))
        first = plan_of(snapshot)
        assert [bare(change) for change in first.changes] == [
            ("score", BETA, SCORE_NEVER),
            ("record", BETA, DISCONNECT),
        ]
        second = plan_of(after(snapshot, first.changes))
        assert [bare(change) for change in second.changes] == [("names",)]
        assert plan_of(after(after(snapshot, first.changes), second.changes)) == Plan()

    def test_its_walsender_is_left_alone(self) -> None:
        snapshot = a_pair(self.STREAMING, a_sync_node(BETA), leaving=(BETA,))
        assert not any(isinstance(change, EndWalsender) for change in plan_of(snapshot).changes)

    def test_the_other_standby_takes_its_place(self) -> None:
        server = a_primary(a_sync_walsender(BETA), a_walsender(GAMMA, pid=2), names=(BETA,))
        cluster = a_cluster(the_primary_node(), a_sync_node(BETA), an_async_node(GAMMA))
        snapshot = a_snapshot(server, cluster, leaving=(BETA,))
        first = plan_of(snapshot)
        assert not lets_go(first, BETA)
        second = plan_of(after(snapshot, first.changes))
        assert [bare(change) for change in second.changes] == [("names", GAMMA)]

    def test_a_lost_node_does_not_leave_it_is_kept(self) -> None:
        snapshot = a_pair(self.STREAMING, a_sync_node(BETA, Membership.UNCLEAN), leaving=(BETA,))
        assert plan_of(snapshot).changes == ()


class TestUpgrade:
    """A standby streams: the primary wants commits to wait for it, and may then be replaced by it."""

    def test_the_steps_come_one_after_the_other(self) -> None:
        returned = replace(a_gone_node(BETA), status="HS:alone")
        # 1. Its record says that it streams, and no more; commits are to wait for it.
        snapshot = a_pair(a_primary(a_walsender(BETA, flush=0x70)), returned)
        first = plan_of(snapshot)
        assert [bare(change) for change in first.changes] == [
            ("record", BETA, STREAMING_ASYNC),
            ("promotion", BETA, "1@alpha"),
            ("status", BETA, "HS:async"),
            ("names", BETA),
        ]
        # 2. The postmaster has the setting, the checkpointer has not.
        snapshot = after(snapshot, first.changes)
        snapshot = replace(snapshot, server=a_primary(a_sync_walsender(BETA), names=(BETA,), settled=False))
        second = plan_of(snapshot)
        assert second.changes == ()
        assert "in force" in second.waiting_for
        # 3. It is in force, but nobody has looked where the primary was after that.
        snapshot = replace(snapshot, server=a_primary(a_sync_walsender(BETA, flush=0x70), names=(BETA,)))
        third = plan_of(snapshot)
        assert [bare(change) for change in third.changes] == [("provoke",)]
        assert "report" in third.waiting_for
        # 4. The standby is not there yet.
        fourth = plan_of(replace(snapshot, mark=at(0x80).lsn))
        assert fourth.changes == ()
        assert "flush" in fourth.waiting_for
        # 5. It is.
        snapshot = replace(
            snapshot, server=a_primary(a_sync_walsender(BETA, flush=0x80), names=(BETA,)), mark=at(0x80).lsn
        )
        fifth = plan_of(snapshot)
        assert [bare(change) for change in fifth.changes] == [
            ("record", BETA, STREAMING_SYNC),
            ("score", BETA, SCORE_STANDBY),
            ("status", BETA, "HS:sync"),
        ]
        assert plan_of(after(snapshot, fifth.changes)) == Plan()

    @pytest.mark.parametrize(
        ("server", "mark"),
        [
            pytest.param(
                a_primary(a_sync_walsender(BETA), names=(BETA,), settled=False), 0x80, id="not in the checkpointer"
            ),
            pytest.param(a_primary(a_walsender(BETA), names=(BETA,)), 0x80, id="not in the walsender"),
            pytest.param(a_primary(a_sync_walsender(BETA), names=(BETA,)), None, id="no mark"),
            pytest.param(a_primary(a_sync_walsender(BETA, flush=0x7F), names=(BETA,)), 0x80, id="behind the mark"),
            pytest.param(
                a_primary(a_walsender(BETA, sync=SyncState.SYNC, flush=None), names=(BETA,)), 0x80, id="flush unknown"
            ),
            pytest.param(a_primary(a_walsender(BETA)), 0x80, id="not named"),
        ],
    )
    def test_no_proof_no_promotable_record(self, server: Primary, mark: int | None) -> None:
        for peer in (a_gone_node(BETA), an_async_node(BETA)):
            snapshot = replace(a_pair(server, peer), mark=None if mark is None else at(mark).lsn)
            changes = changes_of(snapshot)
            assert ("record", BETA, STREAMING_SYNC) not in changes
            assert ("score", BETA, SCORE_STANDBY) not in changes

    def test_quorum_based_standbys_count(self) -> None:
        server = a_primary(a_walsender(BETA, sync=SyncState.QUORUM), names=(BETA,))
        snapshot = replace(a_pair(server, an_async_node(BETA)), mark=at(0x80).lsn)
        assert ("record", BETA, STREAMING_SYNC) in changes_of(snapshot)

    def test_what_an_earlier_primary_recorded_is_no_proof_for_a_standby_that_is_not_waited_for(self) -> None:
        """A record that allows it is taken back before anything else."""
        snapshot = a_pair(a_primary(a_walsender(BETA)), a_sync_node(BETA))
        changes = changes_of(snapshot)
        assert changes[:2] == [("score", BETA, SCORE_NEVER), ("record", BETA, STREAMING_ASYNC)]
        assert ("names", BETA) in changes

    def test_a_lost_score_is_said_again(self) -> None:
        """attrd's values die with attrd."""
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        snapshot = a_pair(server, replace(a_sync_node(BETA), score=""))
        assert changes_of(snapshot) == [("score", BETA, SCORE_STANDBY)]

    def test_of_two_rows_of_one_standby_the_streaming_one_counts(self) -> None:
        """A standby that came back may have its old connection's row beside the new one."""
        old = a_walsender(BETA, ReplicationState.CATCHUP, pid=1)
        server = a_primary(old, a_sync_walsender(BETA, pid=2), names=(BETA,))
        plan = plan_of(a_pair(server, a_sync_node(BETA)))
        assert [bare(change) for change in plan.changes] == [("end", 1)], "the dead one would count as a standby, too"

    def test_a_file_that_was_written_and_not_taken_is_written_again(self) -> None:
        """The next reload, whoever asks for it, would put it in force behind the back of the record."""
        server = replace(a_primary(a_sync_walsender(BETA), names=(BETA,)), written=SynchronousStandbys())
        plan = plan_of(a_pair(server, a_sync_node(BETA)))
        assert [bare(change) for change in plan.changes] == [("names", BETA)]


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
        assert [bare(change) for change in second.changes] == [("names", GAMMA)]

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
        assert ("record", BETA, DISCONNECT) in [bare(change) for change in first.changes]
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
        return [bare(change) for change in release(snapshot, snapshot.server).changes]

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
        assert ("record", BETA, DISCONNECT) in [bare(change) for change in first.changes]
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
        assert [bare(change) for change in first.changes if bare(change)[1] == BETA] == [
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
            if isinstance(change, ProvokeReply):
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

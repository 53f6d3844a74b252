# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running primary does about its standbys: every branch of the switch between waiting and not waiting."""

from dataclasses import replace

import pytest

from pgsql_ra.replication.changes import EndWalsender, Plan, SetDataStatus
from pgsql_ra.replication.snapshot import Membership, Primary, ReplicationState, SynchronousStandbys, SyncState
from pgsql_ra.replication.status import DISCONNECT, SCORE_NEVER, SCORE_STANDBY, STREAMING_ASYNC, STREAMING_SYNC
from tests.unit.builders import (
    BETA,
    GAMMA,
    a_cluster,
    a_gone_node,
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


class TestDegrade:
    """The synchronous standby is gone: the primary wants to stop waiting for it."""

    GONE = a_primary(names=(BETA,))

    @pytest.mark.parametrize("membership", [Membership.MEMBER, Membership.CLEAN])
    def test_the_record_comes_before_the_names(self, membership: Membership) -> None:
        snapshot = a_pair(self.GONE, a_sync_node(BETA, membership))
        first = plan_of(snapshot)
        assert ("record", BETA, DISCONNECT) in visible(first.changes)
        assert not lets_go(first, BETA)
        assert BETA in first.waiting_for
        # The second look has seen the record, so everybody who could promote beta sees it too.
        second = plan_of(after(snapshot, first.changes))
        assert visible(second.changes) == [("names",)]

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
        assert visible(first.changes) == [
            ("score", BETA, SCORE_NEVER),
            ("record", BETA, DISCONNECT),
        ]
        second = plan_of(after(snapshot, first.changes))
        assert visible(second.changes) == [("names",)]
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
        assert visible(second.changes) == [("names", GAMMA)]

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
        assert visible(first.changes) == [
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
        assert visible(third.changes) == [("provoke",)]
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
        assert visible(fifth.changes) == [
            ("promotion", BETA, "1@alpha"),
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
        assert visible(plan.changes) == [("end", 1)], "the dead one would count as a standby, too"

    def test_a_file_that_was_written_and_not_taken_is_written_again(self) -> None:
        """The next reload, whoever asks for it, would put it in force behind the back of the record."""
        server = replace(a_primary(a_sync_walsender(BETA), names=(BETA,)), written=SynchronousStandbys())
        plan = plan_of(a_pair(server, a_sync_node(BETA)))
        assert visible(plan.changes) == [("names", BETA)]

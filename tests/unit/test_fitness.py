# SPDX-License-Identifier: GPL-2.0-or-later
"""A standby that cannot be promoted as it runs: passed over while another one will do, and no data is lost for that."""

from dataclasses import replace

import pytest

from pgsql_ra.replication.candidates import best, heard_by
from pgsql_ra.replication.changes import RestartStandby
from pgsql_ra.replication.election import elect, watch
from pgsql_ra.replication.fitness import LONGEST_DELAY, Remedy, hindrance
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.recovery import Recovery, Replay
from pgsql_ra.replication.snapshot import NodeState, Primary, Snapshot, Standby, SyncState
from pgsql_ra.replication.status import DISCONNECT, LATEST, SCORE_NEVER, SCORE_PRIMARY, STREAMING_ASYNC, STREAMING_SYNC
from tests.unit.builders import (
    ALPHA,
    BETA,
    GAMMA,
    a_cluster,
    a_primary,
    a_snapshot,
    a_standby,
    a_sync_node,
    a_sync_walsender,
    a_walsender,
    an_async_node,
    the_primary_node,
)
from tests.unit.effects import after, bare
from tests.unit.primary_cases import STEPS, plan_of
from tests.unit.standby_cases import absent, decided, seen, server_of, waiting

AIMED = Recovery(targets=(("recovery_target_time", "2026-01-01"),))
SMALL = Recovery(replay=Replay.PAUSED, sizes=(("max_connections", 20),), demands=(("max_connections", 30),))
PAUSED = Recovery(replay=Replay.PAUSED, sizes=(("max_connections", 30),), demands=(("max_connections", 30),))
WHY = "restart it"


def said(recovery: Recovery) -> tuple[str, Remedy]:
    """What is said of a standby that recovers like this."""
    found = hindrance(replace(a_standby(), recovery=recovery))
    assert found is not None
    return found.because, found.remedy


def unfit(node: NodeState) -> NodeState:
    """A node that says that its standby cannot be promoted as it runs."""
    return replace(node, unfit=WHY)


def hindered(snapshot: Snapshot, recovery: Recovery = AIMED) -> Snapshot:
    """The same with a server of this node that recovers like this."""
    return replace(snapshot, server=replace(server_of(snapshot), recovery=recovery))


class TestWhatKeepsAStandbyFromBeingPromoted:
    def test_one_that_replays_everything_is_fit(self) -> None:
        assert hindrance(a_standby()) is None
        assert hindrance(replace(a_standby(), recovery=Recovery(sizes=(("max_connections", 1),)))) is None

    def test_a_target_names_the_setting_and_where_it_ends(self) -> None:
        because, remedy = said(AIMED)
        assert "remove recovery_target_time" in because
        assert "to 2026-01-01 only" in because
        assert remedy is Remedy.RESTART

    def test_a_setting_that_is_too_low_is_named_with_the_value_it_needs(self) -> None:
        because, remedy = said(SMALL)
        assert because.startswith("raise max_connections to 30")
        assert "it is 20" in because
        assert remedy is Remedy.RESTART

    def test_a_pause_is_ended_by_the_promotion_or_by_a_restart_where_that_would_wait(self) -> None:
        assert said(PAUSED)[1] is Remedy.PROMOTION
        assert said(replace(PAUSED, replay=Replay.PAUSED_FOR_GOOD))[1] is Remedy.RESTART

    def test_only_a_long_delay_counts(self) -> None:
        assert hindrance(replace(a_standby(), recovery=Recovery(delay=LONGEST_DELAY - 1))) is None
        because, remedy = said(Recovery(delay=LONGEST_DELAY))
        assert because.startswith("lower recovery_min_apply_delay")
        assert remedy is Remedy.PROMOTION

    def test_the_sentence_comes_through_whole(self) -> None:
        """An exit reason is one line, of which Pacemaker shows the first 127 bytes."""
        because, _ = said(Recovery(targets=(("recovery_target_name", "a\nb"),)))
        assert because.isprintable()


def chosen(snapshot: Snapshot, preferred: str = "") -> str | None:
    """Who is to be promoted, as this node sees it."""
    position = server_of(snapshot).position
    assert position is not None
    return best(snapshot, heard_by(snapshot, position), preferred)


class TestElection:
    """Without a primary."""

    def test_one_that_is_fit_goes_before_one_that_is_not(self) -> None:
        """Also if the other one has received more, which nobody was told of."""
        nodes = (waiting(ALPHA, 0x80, STREAMING_SYNC), unfit(waiting(BETA, 0x90, STREAMING_SYNC)))
        assert chosen(seen(*nodes, lsn=0x80), preferred=BETA) == ALPHA

    def test_of_this_node_the_server_says_it_and_not_its_attribute(self) -> None:
        nodes = (unfit(waiting(ALPHA, 0x80, STREAMING_SYNC)), waiting(BETA, 0x80, STREAMING_SYNC))
        assert chosen(seen(*nodes), preferred=ALPHA) == ALPHA
        assert chosen(hindered(seen(*nodes)), preferred=ALPHA) == BETA

    def test_nobody_takes_its_place_who_may_lack_what_it_holds(self) -> None:
        nodes = (waiting(ALPHA, 0x90, STREAMING_SYNC), waiting(BETA, 0x80, STREAMING_ASYNC))
        assert chosen(hindered(seen(*nodes, lsn=0x90))) == ALPHA

    def test_in_async_mode_the_most_advanced_is_promoted_all_the_same(self) -> None:
        nodes = (waiting(ALPHA, 0x90, STREAMING_ASYNC), waiting(BETA, 0x80, STREAMING_ASYNC))
        assert chosen(hindered(seen(*nodes, lsn=0x90, mode=Mode.ASYNC))) == ALPHA
        nodes = (waiting(ALPHA, 0x80, STREAMING_ASYNC), waiting(BETA, 0x80, STREAMING_ASYNC))
        assert chosen(hindered(seen(*nodes, mode=Mode.ASYNC)), preferred=ALPHA) == BETA

    def test_one_that_is_alone_is_elected(self) -> None:
        snapshot = hindered(seen(waiting(ALPHA, 0x80, STREAMING_SYNC), absent(BETA, DISCONNECT)))
        elected = elect(snapshot, server_of(snapshot))
        assert ("score", ALPHA, SCORE_PRIMARY) in [bare(change) for change in elected.changes]


class TestPromote:
    """The last word."""

    def test_one_that_needs_a_restart_is_restarted_before_anything_is_recorded(self) -> None:
        snapshot = hindered(seen(waiting(ALPHA, 0x80, STREAMING_SYNC), absent(BETA, LATEST)))
        first = decided(snapshot)
        assert [type(change) for change in first.changes] == [RestartStandby]
        assert first.waiting_for
        second = [bare(change)[0] for change in decided(after(snapshot, first.changes)).changes]
        assert second[0] == "promotion"

    def test_so_is_one_whose_promotion_was_recorded_already(self) -> None:
        """By an action that was killed then."""
        snapshot = seen(waiting(ALPHA, 0x80, STREAMING_SYNC), absent(BETA, LATEST))
        begun = hindered(after(snapshot, decided(snapshot).changes))
        assert [type(change) for change in decided(begun).changes] == [RestartStandby]

    def test_one_that_a_promotion_helps_is_promoted_as_it_is(self) -> None:
        snapshot = hindered(seen(waiting(ALPHA, 0x80, STREAMING_SYNC), absent(BETA, LATEST)), PAUSED)
        assert next(bare(change)[0] for change in decided(snapshot).changes) == "promotion"

    def test_it_is_refused_while_another_one_will_do_and_nothing_is_recorded(self) -> None:
        nodes = (waiting(ALPHA, 0x80, STREAMING_SYNC, score="100"), waiting(BETA, 0x80, STREAMING_SYNC))
        plan = decided(hindered(seen(*nodes)))
        assert [bare(change) for change in plan.changes] == [("score", ALPHA, SCORE_NEVER)]
        assert "beta holds as much" in plan.refusal
        assert "remove recovery_target_time" in plan.refusal


class TestAsAStandby:
    """What it says of itself."""

    @staticmethod
    def watching(recovery: Recovery, own: NodeState) -> list[tuple[object, ...]]:
        snapshot = a_snapshot(
            replace(a_standby(streaming=True), recovery=recovery),
            a_cluster(replace(own, status="HS:sync"), the_primary_node(BETA)),
        )
        assert isinstance(snapshot.server, Standby)
        return [bare(change) for change in watch(snapshot, snapshot.server).changes]

    def test_it_says_why_and_takes_its_score_away(self) -> None:
        said_of_it = self.watching(AIMED, a_sync_node(ALPHA))
        assert [change[:2] for change in said_of_it] == [("unfit", ALPHA), ("score", ALPHA)]
        assert said_of_it[1] == ("score", ALPHA, SCORE_NEVER)

    def test_it_takes_that_back_when_it_is_over(self) -> None:
        assert self.watching(Recovery(), unfit(a_sync_node(ALPHA))) == [("unfit", ALPHA, "")]

    def test_it_says_it_once(self) -> None:
        own = replace(a_sync_node(ALPHA), score=SCORE_NEVER, unfit=said(AIMED)[0])
        assert self.watching(AIMED, own) == []


class TestAsItsPrimary:
    """Commits wait for it while there is nobody else: what it has flushed is safe there."""

    @staticmethod
    def at_rest(snapshot: Snapshot) -> Snapshot:
        """When nothing is left to do, the walsenders of those that are named being synchronous."""
        for _ in range(STEPS):
            plan = plan_of(snapshot)
            if not plan.changes and not plan.waiting_for:
                return snapshot
            snapshot = after(snapshot, plan.changes)
            assert isinstance(snapshot.server, Primary)
            names = snapshot.server.synchronous.names
            rows = tuple(
                replace(row, sync_state=SyncState.SYNC if row.node in names else SyncState.ASYNC)
                for row in snapshot.server.walsenders
            )
            snapshot = replace(snapshot, server=replace(snapshot.server, walsenders=rows))
        raise AssertionError("it does not come to rest")

    def test_the_only_one_stays_synchronous_and_has_no_score(self) -> None:
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        snapshot = a_snapshot(server, a_cluster(the_primary_node(), unfit(a_sync_node(BETA))))
        rested = self.at_rest(snapshot)
        beta = rested.cluster.node(BETA)
        assert beta is not None
        assert (beta.data_status, beta.score) == (STREAMING_SYNC, SCORE_NEVER)

    def test_it_becomes_synchronous_if_there_is_nobody_else(self) -> None:
        snapshot = a_snapshot(a_primary(a_walsender(BETA)), a_cluster(the_primary_node(), unfit(an_async_node(BETA))))
        rested = self.at_rest(snapshot)
        beta = rested.cluster.node(BETA)
        assert beta is not None
        assert (beta.data_status, beta.score) == (STREAMING_SYNC, SCORE_NEVER)

    @pytest.mark.parametrize("flushed", [0x40, 0x80])
    def test_another_one_takes_over_before_it_is_let_go(self, flushed: int) -> None:
        server = a_primary(a_sync_walsender(BETA, pid=1), a_walsender(GAMMA, flush=flushed, pid=2), names=(BETA,))
        nodes = (the_primary_node(), unfit(a_sync_node(BETA)), an_async_node(GAMMA))
        snapshot = a_snapshot(server, a_cluster(*nodes))
        first = plan_of(snapshot)
        assert ("names", BETA, GAMMA) in [bare(change) for change in first.changes]
        if flushed < 0x80:
            return  # it is not let go as long as the other one has not caught up: nothing follows
        rested = self.at_rest(snapshot)
        assert isinstance(rested.server, Primary)
        assert rested.server.synchronous.names == (GAMMA,)
        beta, gamma = rested.cluster.node(BETA), rested.cluster.node(GAMMA)
        assert beta is not None
        assert gamma is not None
        assert (beta.data_status, beta.score) == (STREAMING_ASYNC, SCORE_NEVER)
        assert (gamma.data_status, gamma.score) == (STREAMING_SYNC, "100")

    def test_it_is_not_let_go_before_the_other_one_has_proven_itself(self) -> None:
        """Commits wait for both by now; what was committed before that only this one holds for sure."""
        rows = (a_sync_walsender(BETA, pid=1), a_sync_walsender(GAMMA, flush=0x40, pid=2))
        nodes = (the_primary_node(), unfit(a_sync_node(BETA)), an_async_node(GAMMA))
        plan = plan_of(a_snapshot(a_primary(*rows, names=(BETA, GAMMA)), a_cluster(*nodes), mark=0x80))
        assert ("names", GAMMA) not in [bare(change) for change in plan.changes]
        assert ("record", BETA, STREAMING_ASYNC) not in [bare(change) for change in plan.changes]
        assert "gamma to flush" in plan.waiting_for

    def test_of_two_the_fit_one_is_chosen(self) -> None:
        server = a_primary(a_walsender(BETA, flush=0x80, pid=1), a_walsender(GAMMA, flush=0x40, pid=2))
        nodes = (the_primary_node(), unfit(an_async_node(BETA)), an_async_node(GAMMA))
        assert ("names", GAMMA) in [bare(change) for change in plan_of(a_snapshot(server, a_cluster(*nodes))).changes]

    def test_if_none_is_fit_one_is_enough(self) -> None:
        server = a_primary(a_sync_walsender(BETA, pid=1), a_walsender(GAMMA, pid=2), names=(BETA,))
        nodes = (the_primary_node(), unfit(a_sync_node(BETA)), unfit(an_async_node(GAMMA)))
        rested = self.at_rest(a_snapshot(server, a_cluster(*nodes)))
        assert isinstance(rested.server, Primary)
        assert rested.server.synchronous.names == (BETA,)

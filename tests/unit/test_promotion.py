# SPDX-License-Identifier: GPL-2.0-or-later
"""The freeze before a promotion, the last word in promote, and what holds for all of it."""

from dataclasses import replace

import pytest
from hypothesis import given

from pgsql_ra.replication.changes import Plan, Receive, RememberPromotion, SetDataStatus, SetScore, StopReceiving
from pgsql_ra.replication.election import freeze, has_stopped, promotes, receive_again, watch
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Link, Membership, NodeState, Role, Snapshot
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
from tests.unit.standby_cases import (
    ELSEWHERE,
    MODES,
    absent,
    changes,
    decided,
    elected,
    recorded,
    replace_met,
    replace_node,
    seen,
    server_of,
    waiting,
)
from tests.unit.strategies import snapshots, standbys


class TestFreeze:
    """Before a promotion every standby receives no more and says where its WAL ends, and the best of those heard has
    the score.
    """

    @staticmethod
    def frozen(snapshot: Snapshot, promoted: str, link: Link = Link.CUT, receiver: int = 0) -> Plan:
        server = replace(server_of(snapshot), link=link, receiver=receiver)
        own = snapshot.own
        if own.position is not None and has_stopped(server):
            cluster = replace_node(snapshot.cluster, replace(own, cut_for=snapshot.next_number))
            snapshot = replace(snapshot, cluster=cluster)
        return freeze(snapshot, server, promoted)

    @pytest.mark.parametrize("receiver", [0, 77])
    def test_a_standby_receives_nothing_more_before_it_speaks(self, receiver: int) -> None:
        snapshot = seen(an_async_node(ALPHA), waiting(BETA), the_primary_node(GAMMA))
        plan = self.frozen(snapshot, BETA, Link.OPEN, receiver)
        assert changes(plan) == [("stop receiving", receiver)]
        assert "receiver" in plan.waiting_for

    def test_an_older_position_does_not_stand_meanwhile(self) -> None:
        own = replace(an_async_node(ALPHA), position=at(0x40))
        plan = self.frozen(seen(own, waiting(BETA), the_primary_node(GAMMA)), BETA, Link.OPEN, 77)
        assert changes(plan) == [("position", ALPHA, None), ("stop receiving", 77)]

    def test_it_waits_for_the_end_of_its_receiver(self) -> None:
        plan = self.frozen(seen(an_async_node(ALPHA), waiting(BETA)), BETA, Link.CUT, 77)
        assert changes(plan) == [("stop receiving", 77)]
        assert "receiver" in plan.waiting_for

    def test_before_postgresql_13_it_waits_for_an_end_that_it_cannot_bring_about(self) -> None:
        """The primary that it receives from is about to be fenced."""
        plan = self.frozen(seen(an_async_node(ALPHA), waiting(BETA)), BETA, Link.FIXED, 77)
        assert plan.changes == ()
        assert "receiver" in plan.waiting_for
        plan = self.frozen(seen(an_async_node(ALPHA), waiting(BETA)), BETA, Link.FIXED)
        assert changes(plan)[0] == ("position", ALPHA, "0/80 1: cut=1")

    def test_a_link_that_was_torn_is_cut_anew(self) -> None:
        """Whoever wrote the file was killed before the server heard of it: it would start another receiver."""
        plan = self.frozen(seen(an_async_node(ALPHA), waiting(BETA)), BETA, Link.TORN)
        assert changes(plan) == [("stop receiving", 0)]
        snapshot = seen(an_async_node(ALPHA), the_primary_node(BETA))
        assert list(receive_again(snapshot, Link.TORN)) != []

    def test_a_position_from_before_it_had_stopped_is_said_anew(self) -> None:
        snapshot = seen(replace(an_async_node(ALPHA), position=at(0x80)), waiting(BETA))
        plan = freeze(snapshot, replace(server_of(snapshot), link=Link.CUT), BETA)
        assert ("position", ALPHA, "0/80 1: cut=1") in changes(plan)

    def test_a_promotion_that_waits_is_heard_of_by_monitors_too(self) -> None:
        """The notification failed, or never came."""
        heir = replace(waiting(BETA, data_status=STREAMING_ASYNC), election=promotes(1))
        snapshot = seen(an_async_node(ALPHA), heir, mode=Mode.ASYNC)
        assert ("stop receiving", 0) in changes(watch(snapshot, server_of(snapshot)))
        stopped = replace(server_of(snapshot), link=Link.CUT)
        assert ("position", ALPHA, "0/80 1: cut=1") in changes(watch(snapshot, stopped))

    def test_a_promotion_that_was_given_up_waits_for_nobody(self) -> None:
        snapshot = seen(replace(waiting(ALPHA), election=promotes(1)), waiting(BETA))
        assert ("election", ALPHA, "") in changes(elected(snapshot))

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
        assert changes(plan) == [("position", ALPHA, "0/80 1: cut=1")]
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
        assert changes(decided(snapshot)) == []
        assert decided(after(snapshot, decided(snapshot).changes)) == Plan()

    @MODES
    def test_a_node_with_priority_0_is_not_promoted_and_stands_in_nobodys_way(self, mode: Mode) -> None:
        barred = replace(waiting(BETA, 0x90, STREAMING_SYNC), priority=0)
        assert recorded(decided(seen(waiting(ALPHA, 0x80, STREAMING_SYNC), barred, mode=mode)))
        own = replace(waiting(ALPHA, 0x90, STREAMING_SYNC), priority=0)
        plan = decided(seen(own, absent(BETA, DISCONNECT), lsn=0x90, mode=mode))
        assert "priority is 0" in plan.refusal

    def test_that_the_only_copy_that_counts_is_barred_is_no_contradiction(self) -> None:
        barred = replace(waiting(BETA, 0x90, STREAMING_SYNC), priority=0)
        refusal = decided(seen(waiting(ALPHA, 0x80, DISCONNECT), barred)).refusal
        assert "it may lack acknowledged commits" in refusal
        assert "contradict" not in refusal

    @pytest.mark.parametrize(
        "newest", [None, Promotion(7, ALPHA, forced=7)], ids=["the first one", "by an administrator's word"]
    )
    def test_one_that_has_met_nobody_goes_on_with_what_it_has_begun(self, newest: Promotion | None) -> None:
        own = replace(waiting(ALPHA, data_status=LATEST), promotion=newest)
        snapshot = seen(own, absent(BETA))
        snapshot = replace_met(snapshot, ())
        assert recorded(decided(snapshot))
        then = after(snapshot, decided(snapshot).changes)
        assert (decided(then).refusal, changes(decided(then))) == ("", [])

    def test_one_that_boots_alone_is_not_promoted_by_what_it_knew(self) -> None:
        own = replace(waiting(ALPHA, data_status=LATEST), promotion=Promotion(7, ALPHA, at(0x80)))
        assert BETA in decided(replace_met(seen(own, absent(BETA, DISCONNECT)), ())).refusal
        assert not decided(replace_met(seen(own, absent(BETA, DISCONNECT)), (BETA,))).refusal
        assert not decided(replace_met(seen(own, waiting(BETA, 0x40, DISCONNECT)), ())).refusal, "beta is here"
        assert BETA in elected(replace_met(seen(own, absent(BETA, DISCONNECT)), ())).stalled

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
        own = waiting(ALPHA, 0x900, STREAMING_ASYNC)
        assert decided(seen(own, a_sync_node(BETA, Membership.CLEAN), lsn=0x900)).refusal
        assert BETA in decided(seen(own, a_sync_node(BETA), lsn=0x900)).waiting_for

    def test_sync_a_synchronous_standby_that_may_still_receive_proves_nothing(self) -> None:
        """The primary is cut off and lives, and has commits acknowledged by it."""
        own, holder = waiting(ALPHA, 0x900, STREAMING_ASYNC), waiting(BETA, 0x80, STREAMING_SYNC)
        assert recorded(decided(seen(own, holder, lsn=0x900)))
        assert BETA in decided(seen(own, holder, lsn=0x900, receiving=[BETA])).waiting_for

    @MODES
    def test_a_position_under_another_promotion_is_no_proof(self, mode: Mode) -> None:
        """The same timeline, further on, and not the same data: beta was promoted by a restart, which keeps it."""
        seventh = Promotion(7, BETA, at(0x40))
        beta = replace(waiting(BETA, 0x45, LATEST), promotion=seventh)
        alpha = replace(waiting(ALPHA, 0x50, DISCONNECT), promotion=Promotion(6, ALPHA, at(0x10)))
        assert decided(seen(alpha, beta, lsn=0x50, mode=mode)).refusal
        assert ("score", ALPHA, SCORE_PRIMARY) not in changes(elected(seen(alpha, beta, lsn=0x50, mode=mode)))
        plan = elected(seen(beta, alpha, lsn=0x45, mode=mode))
        assert ("score", BETA, SCORE_PRIMARY) in changes(plan)
        assert changes(decided(seen(beta, alpha, lsn=0x45, mode=mode)))[0] == ("promotion", BETA, "8@beta 0/45 1:")

    @pytest.mark.parametrize("value", [STREAMING_ASYNC, DISCONNECT])
    def test_async_a_standby_that_runs_and_has_not_spoken_is_waited_for(self, value: str) -> None:
        """Its notification failed, or it still reads its WAL: it may hold more."""
        own, gone = waiting(ALPHA, 0x80, STREAMING_ASYNC), absent(GAMMA, LATEST)
        silent = seen(own, a_node(BETA, data_status=value), gone, mode=Mode.ASYNC)
        assert BETA in decided(silent).waiting_for
        assert changes(decided(silent)) == [("election", ALPHA, promotes(1))]
        assert decided(after(silent, decided(silent).changes)).changes == ()
        growing = seen(own, waiting(BETA, 0x40, value), gone, mode=Mode.ASYNC, receiving=[BETA])
        assert BETA in decided(growing).waiting_for
        assert recorded(decided(seen(own, waiting(BETA, 0x40, value), gone, mode=Mode.ASYNC)))
        ahead = seen(own, waiting(BETA, 0x90, value), gone, mode=Mode.ASYNC)
        assert "holds newer data" in decided(ahead).refusal

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

# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of promotions: which is the newest, whose statements count, and what happens to a CIB that went back."""

from dataclasses import replace

import pytest
from hypothesis import given

from pgsql_ra.replication.candidates import counts
from pgsql_ra.replication.changes import Change, RememberPromotion, SetDataStatus, SetKnown, SetPromotion
from pgsql_ra.replication.election import freeze, watch
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.record import Promotion, contradiction, newest
from pgsql_ra.replication.snapshot import Link, Membership, Primary, Snapshot, Standby
from pgsql_ra.replication.status import DISCONNECT, LATEST, STREAMING_SYNC
from tests.unit.builders import (
    ALPHA,
    BETA,
    GAMMA,
    a_cluster,
    a_node,
    a_primary,
    a_snapshot,
    a_standby,
    a_sync_node,
    a_sync_walsender,
    a_walsender,
    at,
    the_primary_node,
)
from tests.unit.effects import after, bare, visible
from tests.unit.strategies import promotions

OLD = Promotion(6, ALPHA, at(0x40))
NEW = Promotion(7, BETA, at(0x80))


def decided(snapshot: Snapshot) -> list[tuple[object, ...]]:
    """What promote writes; fails if it refuses or waits."""
    assert isinstance(snapshot.server, Standby)
    plan = decide_promotion(snapshot, snapshot.server)
    assert (plan.refusal, plan.waiting_for) == ("", "")
    return visible(plan.changes)


def refusal(snapshot: Snapshot) -> str:
    """Why promote refuses."""
    assert isinstance(snapshot.server, Standby)
    return decide_promotion(snapshot, snapshot.server).refusal


class TestValues:
    """Text and back, and which one is newer."""

    @given(promotions)
    def test_what_is_written_is_read_back(self, promotion: Promotion) -> None:
        assert Promotion.parse(str(promotion)) == promotion

    @pytest.mark.parametrize("text", ["", "7", "7@", "@node", "x@node", "-1@node", "7@node 0/40", "٣@node"])
    def test_anything_else_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            Promotion.parse(text)

    def test_the_highest_number_is_the_newest(self) -> None:
        assert newest([OLD, None, NEW]) == NEW
        assert newest([None]) is None

    def test_of_equal_accounts_the_one_that_says_more(self) -> None:
        assert newest([Promotion(7, BETA), NEW]) == NEW

    def test_one_number_for_two_nodes_is_a_contradiction(self) -> None:
        assert contradiction([NEW, Promotion(7, ALPHA), OLD])
        assert not contradiction([NEW, Promotion(7, BETA), OLD, None])
        assert not contradiction([])

    def test_an_older_copy_does_not_hold_what_the_promotion_began_with(self) -> None:
        assert NEW.is_held_by(at(0x80))
        assert not NEW.is_held_by(at(0x7F))
        assert NEW.is_held_by(at(0x180, 2))
        assert Promotion(7, BETA).is_held_by(at(0))

    def test_a_history_that_left_before_that_lacks_something(self) -> None:
        """`begin` is the end of a whole record, so recovery gets there before the new timeline begins."""
        promotion = Promotion(7, BETA, at(0x110))
        assert not promotion.is_held_by(at(0x180, 2)), "timeline 2 begins at 0/100"
        assert not promotion.is_held_by(at(0x100))
        assert Promotion(7, BETA, at(0x100)).is_held_by(at(0x180, 2))


class TestWhoCounts:
    """A record is worth something only under the newest promotion."""

    @pytest.mark.parametrize("value", ["", LATEST, STREAMING_SYNC])
    @pytest.mark.parametrize(
        ("promotion", "expected"),
        [
            pytest.param(None, False, id="none"),
            pytest.param(OLD, False, id="older"),
            pytest.param(Promotion(7, BETA), True, id="the newest"),
        ],
    )
    def test_by_its_number(self, value: str, promotion: Promotion | None, expected: bool) -> None:
        own = a_node(ALPHA, data_status=value, promotion=promotion)
        assert counts(a_snapshot(a_standby(), a_cluster(own, a_node(BETA, promotion=NEW))), own) is expected

    def test_the_node_that_the_newest_names_counts_whatever_is_recorded_of_it(self) -> None:
        """The CIB that said so may have been taken back."""
        own = a_node(ALPHA, data_status=DISCONNECT, promotion=OLD)
        snapshot = replace(a_snapshot(a_standby(), a_cluster(own)), remembered=Promotion(7, ALPHA))
        assert counts(snapshot, own)

    def test_without_any_promotion_records_count_as_they_are(self) -> None:
        own = a_node(ALPHA, data_status=LATEST)
        assert counts(a_snapshot(a_standby(), a_cluster(own)), own)


class TestACibThatWentBack:
    """alpha was the primary; beta took over, and the CIB of alpha's old partition has won since."""

    ALPHA_THEN = a_node(ALPHA, data_status=LATEST, promotion=OLD, position=at(0x90))
    GAMMA_THEN = a_node(GAMMA, data_status="STREAMING|ASYNC", promotion=Promotion(6, ALPHA), position=at(0x80))
    BETA_GONE = a_node(BETA, Membership.CLEAN, data_status=STREAMING_SYNC, promotion=Promotion(6, ALPHA))

    def seen(self, known: Promotion | None, remembered: Promotion | None = None) -> Snapshot:
        """What alpha sees."""
        gamma = replace(self.GAMMA_THEN, known=known)
        snapshot = a_snapshot(a_standby(0x90), a_cluster(self.ALPHA_THEN, gamma, self.BETA_GONE))
        return replace(snapshot, remembered=remembered or OLD)

    def test_it_would_be_promoted_if_nobody_knew_better(self) -> None:
        assert ("record", ALPHA, LATEST) not in decided(self.seen(OLD)), "it stands already"

    def test_a_node_that_heard_of_the_newer_promotion_is_enough(self) -> None:
        assert "older than promotion 7, which beta had" in refusal(self.seen(Promotion(7, BETA)))

    def test_its_own_file_is_enough(self) -> None:
        assert "older than promotion 7" in refusal(self.seen(OLD, remembered=NEW))

    def test_what_a_node_that_is_gone_once_said_does_not_count_as_said(self) -> None:
        """attrd has forgotten it; a value that is still shown is from before."""
        gamma = replace(self.GAMMA_THEN, known=Promotion(7, BETA), membership=Membership.CLEAN)
        snapshot = a_snapshot(a_standby(0x90), a_cluster(self.ALPHA_THEN, gamma, self.BETA_GONE))
        assert decided(replace(snapshot, remembered=OLD))

    def test_the_primary_of_the_newer_one_is_promoted_when_it_is_back(self) -> None:
        beta = a_node(BETA, data_status=DISCONNECT, promotion=Promotion(6, ALPHA), position=at(0x180, 2))
        cluster = a_cluster(self.ALPHA_THEN, self.GAMMA_THEN, beta)
        snapshot = replace(a_snapshot(a_standby(0x180, 2), cluster, own=BETA), remembered=NEW)
        assert decided(snapshot)[0] == ("promotion", BETA, "8@beta 0/180 2:1@0/100")

    @pytest.mark.parametrize("mode", Mode)
    def test_two_nodes_with_one_number_are_promoted_by_a_person_only(self, mode: Mode) -> None:
        own = a_node(ALPHA, data_status=LATEST, promotion=Promotion(7, ALPHA))
        snapshot = a_snapshot(a_standby(), a_cluster(own, a_node(BETA, promotion=NEW)), mode=mode)
        assert "promotion 7 is recorded for alpha and for beta" in refusal(snapshot)


class TestPromotion:
    """The number comes first."""

    def test_it_is_one_more_than_the_newest_that_anybody_knows(self) -> None:
        own = a_node(ALPHA, data_status=STREAMING_SYNC, promotion=Promotion(7, BETA))
        gone = a_node(BETA, Membership.CLEAN, data_status=LATEST, promotion=NEW)
        assert decided(a_snapshot(a_standby(), a_cluster(own, gone))) == [
            ("promotion", ALPHA, "8@alpha 0/80 1:"),
            ("remember", "", "8@alpha 0/80 1:"),
            ("record", BETA, DISCONNECT),
            ("record", ALPHA, LATEST),
        ]

    def test_the_first_one_is_number_1(self) -> None:
        assert decided(a_snapshot(a_standby(), a_cluster(a_node(ALPHA))))[0] == ("promotion", ALPHA, "1@alpha 0/80 1:")

    def test_a_look_that_sees_them_stand_writes_nothing_more(self) -> None:
        snapshot = a_snapshot(a_standby(), a_cluster(a_node(ALPHA), a_node(BETA, Membership.CLEAN)))
        assert isinstance(snapshot.server, Standby)
        then = after(snapshot, decide_promotion(snapshot, snapshot.server).changes)
        assert decided(then) == []

    def test_a_cold_start_of_the_same_primary_is_another_promotion(self) -> None:
        """A CIB of before would make its standby of then promotable."""
        own = a_node(ALPHA, data_status=LATEST, promotion=replace(OLD, node=ALPHA))
        assert decided(a_snapshot(a_standby(0x90), a_cluster(own)))[0] == ("promotion", ALPHA, "7@alpha 0/90 1:")

    def test_one_that_was_recorded_and_did_not_come_about_is_taken_up_by_its_own_node(self) -> None:
        """beta's promotion was killed after its record. Whether it took commits before that, only beta knows."""
        beta = a_node(BETA, data_status=DISCONNECT, promotion=NEW, position=at(0x80))
        own = a_node(ALPHA, data_status=STREAMING_SYNC, promotion=Promotion(6, GAMMA))
        assert "beta holds newer data" in refusal(a_snapshot(a_standby(), a_cluster(own, beta)))

    def test_a_crashed_primary_that_is_ahead_does_not_turn_back_what_has_begun(self) -> None:
        """Its server was started again as a standby. What it holds beyond this one was acknowledged to nobody."""
        crashed = a_node(BETA, data_status=LATEST, promotion=Promotion(6, BETA, at(0x40)), position=at(0x90))
        own = a_node(ALPHA, data_status=STREAMING_SYNC, promotion=Promotion(6, BETA))
        snapshot = a_snapshot(a_standby(0x80), a_cluster(own, crashed))
        assert isinstance(snapshot.server, Standby)
        then = after(snapshot, decide_promotion(snapshot, snapshot.server).changes)
        assert decided(then) == []
        assert isinstance(then.server, Standby)
        assert not any(bare(change)[0] == "score" for change in freeze(then, then.server, ALPHA).changes)

    def test_nor_does_one_of_whose_promotion_nothing_is_recorded(self) -> None:
        """ocf:heartbeat:pgsql had promoted it; by then its record says DISCONNECT like everybody's."""
        crashed = a_node(BETA, data_status=LATEST, position=at(0x90))
        snapshot = a_snapshot(a_standby(0x80), a_cluster(a_node(ALPHA, data_status=STREAMING_SYNC), crashed))
        assert isinstance(snapshot.server, Standby)
        assert decided(after(snapshot, decide_promotion(snapshot, snapshot.server).changes)) == []

    def test_a_directory_that_was_replaced_by_an_older_copy_is_not_promoted(self) -> None:
        own = a_node(ALPHA, data_status=LATEST, promotion=Promotion(7, ALPHA, at(0x80)))
        assert "older copy" in refusal(a_snapshot(a_standby(0x40), a_cluster(own)))


class TestRemembering:
    """Every node keeps the newest number that it hears of, and says so."""

    @staticmethod
    def kept(changes: tuple[Change, ...]) -> list[Change]:
        return [change for change in changes if isinstance(change, RememberPromotion | SetKnown)]

    def test_a_standby_does_in_its_monitor_and_before_a_promotion(self) -> None:
        snapshot = replace(
            a_snapshot(a_standby(), a_cluster(a_node(ALPHA, status="HS:alone"), the_primary_node(BETA))),
            remembered=OLD,
        )
        cluster = a_cluster(*(replace(node, promotion=NEW, known=None) for node in snapshot.cluster.nodes))
        snapshot = replace(snapshot, cluster=cluster)
        assert isinstance(snapshot.server, Standby)
        frozen = replace(snapshot.server, link=Link.CUT)
        for plan in (watch(snapshot, snapshot.server), freeze(snapshot, frozen, GAMMA)):
            assert [bare(change) for change in self.kept(plan.changes)] == [
                ("remember", "", str(NEW)),
                ("known", ALPHA, NEW.stamp),
            ]

    def test_a_primary_does_and_says_anew_what_its_cib_has_lost(self) -> None:
        """Its own file knows that it was promoted, whatever the CIB says now."""
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        own = replace(the_primary_node(), promotion=Promotion(6, BETA))
        snapshot = a_snapshot(server, a_cluster(own, replace(a_sync_node(BETA), promotion=Promotion(6, BETA))))
        snapshot = replace(snapshot, remembered=Promotion(7, ALPHA, at(0x40)))
        plan = reconcile(snapshot, server)
        assert SetPromotion(ALPHA, Promotion(7, ALPHA, at(0x40)), "this server is the primary") in plan.changes
        # What made beta promotable was said under the older one: it has to be proven again.
        assert not any(isinstance(change, SetPromotion) and change.node == BETA for change in plan.changes)

    def test_a_primary_that_nobody_has_recorded_counts_as_promoted_now(self) -> None:
        """It was made one by another agent, or by a person; it takes commits."""
        cluster = a_cluster(replace(the_primary_node(), promotion=NEW), a_node(BETA, promotion=NEW))
        snapshot = a_snapshot(a_primary(), cluster)
        assert isinstance(snapshot.server, Primary)
        changes = visible(reconcile(snapshot, snapshot.server).changes)
        assert changes[0] == ("promotion", ALPHA, "8@alpha 0/80 1: forced=8"), (
            "what others hold may have been acknowledged"
        )

    def test_a_stamp_comes_before_the_record_that_rests_on_it(self) -> None:
        server = a_primary(a_sync_walsender(BETA), names=(BETA,))
        beta = a_node(BETA, data_status="STREAMING|ASYNC", promotion=Promotion(0, ALPHA))
        snapshot = replace(a_snapshot(server, a_cluster(the_primary_node(), beta)), mark=at(0x80).lsn)
        changes = reconcile(snapshot, server).changes
        kinds = [type(change) for change in changes if bare(change)[1] == BETA]
        assert kinds.index(SetPromotion) < kinds.index(SetDataStatus)

    def test_a_stamp_comes_after_a_record_that_lowers(self) -> None:
        """What was said under an older promotion must not come to count by its successor's number."""
        beta = replace(a_sync_node(BETA), promotion=Promotion(0, ALPHA))
        changes = reconcile(
            a_snapshot(a_primary(a_walsender(BETA)), a_cluster(the_primary_node(), beta)), a_primary(a_walsender(BETA))
        ).changes
        kinds = [type(change) for change in changes if bare(change)[1] == BETA]
        assert kinds.index(SetDataStatus) < kinds.index(SetPromotion)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits that wait for any k of n: the record of voters, the order in which it changes, and promotion by quorum."""

from dataclasses import replace

import pytest
from hypothesis import given

from pgsql_ra.replication.candidates import voters
from pgsql_ra.replication.changes import Plan, SetSynchronousStandbys, SetVoters
from pgsql_ra.replication.policy import Degrading, Method
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import (
    Membership,
    NodeState,
    Primary,
    Role,
    Snapshot,
    Standby,
    SyncState,
    Voters,
    Walsender,
)
from pgsql_ra.replication.status import DISCONNECT, LATEST, SCORE_NEVER, SCORE_STANDBY, STREAMING_QUORUM
from tests.unit.builders import (
    ALPHA,
    BETA,
    GAMMA,
    a_cluster,
    a_gone_node,
    a_node,
    a_primary,
    a_snapshot,
    a_standby,
    a_sync_node,
    a_walsender,
    an_async_node,
    at,
    the_primary_node,
)
from tests.unit.effects import after, bare, visible
from tests.unit.strategies import primaries, snapshots

BOTH = Voters(1, 2, (BETA, GAMMA))


def voting(node: str, flush: int = 0x80, pid: int = 1) -> Walsender:
    """The row of a voter."""
    return a_walsender(node, sync=SyncState.QUORUM, flush=flush, pid=pid)


def a_voter(name: str, membership: Membership = Membership.MEMBER) -> NodeState:
    """The node of a voter."""
    return a_node(name, membership, data_status=STREAMING_QUORUM, status="HS:sync", score=SCORE_STANDBY)


def seen(server: Primary, *peers: NodeState, recorded: Voters | None = None, count: int = 1) -> Snapshot:
    """What a primary that has recorded these voters sees."""
    own = replace(the_primary_node(), voters=recorded)
    snapshot = a_snapshot(server, a_cluster(own, *peers))
    return replace(snapshot, policy=replace(snapshot.policy, method=Method.QUORUM, synchronous_count=count))


def plan_of(snapshot: Snapshot) -> Plan:
    """What the primary does."""
    assert isinstance(snapshot.server, Primary)
    return reconcile(snapshot, snapshot.server)


def changes_of(snapshot: Snapshot) -> list[tuple[object, ...]]:
    """The same, without reasons."""
    return visible(plan_of(snapshot).changes)


TWO = a_primary(voting(BETA, pid=1), voting(GAMMA, pid=2), names=(BETA, GAMMA), any_of=1)


class TestSteps:
    """Records that hold under both settings, then the setting, then what it allows."""

    def test_calm(self) -> None:
        assert plan_of(seen(TWO, a_voter(BETA), a_voter(GAMMA), recorded=BOTH)) == Plan()

    def test_from_nobody_to_two(self) -> None:
        server = a_primary(a_walsender(BETA, pid=1), a_walsender(GAMMA, pid=2))
        snapshot = seen(server, a_gone_node(BETA), a_gone_node(GAMMA))
        first = plan_of(snapshot)
        assert not any(isinstance(change, SetSynchronousStandbys) for change in first.changes)
        snapshot = after(snapshot, first.changes)
        assert changes_of(snapshot) == [("names", "any 1", BETA, GAMMA)]
        snapshot = replace(after(snapshot, plan_of(snapshot).changes), server=replace(TWO, settled=False))
        assert "in force" in plan_of(snapshot).waiting_for
        snapshot = replace(snapshot, server=TWO)
        assert ("provoke",) in changes_of(snapshot)
        late = a_primary(voting(BETA, pid=1), voting(GAMMA, 0x7F, pid=2), names=(BETA, GAMMA), any_of=1)
        assert GAMMA in plan_of(replace(snapshot, server=late, mark=at(0x80).lsn)).waiting_for
        snapshot = replace(snapshot, mark=at(0x80).lsn)
        assert ("voters", ALPHA, "1: 2 of beta gamma") in changes_of(snapshot)
        assert plan_of(after(snapshot, plan_of(snapshot).changes)) == Plan()

    @pytest.mark.parametrize("membership", [Membership.MEMBER, Membership.CLEAN])
    def test_one_of_two_goes(self, membership: Membership) -> None:
        """Commits from before may be on the one that goes only: nobody is promoted until the other one has them."""
        server = a_primary(voting(BETA), names=(BETA, GAMMA), any_of=1)
        snapshot = seen(server, a_voter(BETA), a_voter(GAMMA, membership), recorded=BOTH)
        first = plan_of(snapshot)
        assert ("voters", ALPHA, "1: 2 of beta") in visible(first.changes)
        assert ("record", GAMMA, DISCONNECT) in visible(first.changes)
        assert not any(isinstance(change, SetSynchronousStandbys) for change in first.changes)
        snapshot = after(snapshot, first.changes)
        assert changes_of(snapshot) == [("names", "any 1", BETA)]
        snapshot = replace(
            after(snapshot, plan_of(snapshot).changes),
            server=a_primary(voting(BETA), names=(BETA,), any_of=1),
            mark=at(0x80).lsn,
        )
        assert ("voters", ALPHA, "1: 1 of beta") in changes_of(snapshot)

    def test_one_that_is_lost_changes_nothing_until_it_is_fenced(self) -> None:
        """Commits go on: the other one streams."""
        server = a_primary(voting(BETA), names=(BETA, GAMMA), any_of=1)
        plan = plan_of(seen(server, a_voter(BETA), a_voter(GAMMA, Membership.UNCLEAN), recorded=BOTH))
        assert plan.changes == ()
        assert GAMMA in plan.stalled

    def test_more_copies_are_asked_for(self) -> None:
        snapshot = seen(TWO, a_voter(BETA), a_voter(GAMMA), recorded=BOTH, count=2)
        assert changes_of(snapshot) == [("names", "any 2", BETA, GAMMA)]
        stricter = a_primary(voting(BETA, pid=1), voting(GAMMA, pid=2), names=(BETA, GAMMA), any_of=2)
        snapshot = replace(snapshot, server=stricter, mark=at(0x80).lsn)
        assert ("voters", ALPHA, "1: 1 of beta gamma") in changes_of(snapshot)

    def test_fewer_copies_are_asked_for(self) -> None:
        server = a_primary(voting(BETA, pid=1), voting(GAMMA, pid=2), names=(BETA, GAMMA), any_of=2)
        snapshot = seen(server, a_voter(BETA), a_voter(GAMMA), recorded=Voters(1, 1, (BETA, GAMMA)))
        assert changes_of(snapshot) == [("voters", ALPHA, "1: 2 of beta gamma")]
        assert changes_of(after(snapshot, plan_of(snapshot).changes)) == [("names", "any 1", BETA, GAMMA)]

    def test_from_a_chosen_one_to_any(self) -> None:
        """Its record says that it holds everything: that ends before commits can go past it."""
        server = a_primary(a_walsender(BETA, sync=SyncState.SYNC, pid=1), a_walsender(GAMMA, pid=2), names=(BETA,))
        snapshot = seen(server, a_sync_node(BETA), an_async_node(GAMMA))
        first = plan_of(snapshot)
        assert ("score", BETA, SCORE_NEVER) in visible(first.changes)
        assert not any(isinstance(change, SetSynchronousStandbys) for change in first.changes)

    def test_from_any_to_a_chosen_one(self) -> None:
        snapshot = seen(TWO, a_voter(BETA), a_voter(GAMMA), recorded=BOTH)
        snapshot = replace(snapshot, policy=replace(snapshot.policy, method=Method.FIRST))
        assert changes_of(snapshot) == [("voters", ALPHA, "1: 1 of")]
        then = after(snapshot, plan_of(snapshot).changes)
        assert ("names", BETA, GAMMA) in changes_of(then)

    def test_what_was_recorded_under_another_promotion_is_nothing(self) -> None:
        snapshot = seen(TWO, a_voter(BETA), a_voter(GAMMA), recorded=replace(BOTH, number=9))
        assert "report" in plan_of(snapshot).waiting_for

    def test_strict_waits_for_as_many_although_they_are_not_there(self) -> None:
        server = a_primary(voting(BETA), names=(BETA, GAMMA), any_of=2)
        snapshot = seen(server, a_voter(BETA), a_gone_node(GAMMA), recorded=Voters(1, 1, (BETA, GAMMA)), count=2)
        strict = replace(snapshot, policy=replace(snapshot.policy, degrading=Degrading.NEVER))
        assert not any(isinstance(change, SetSynchronousStandbys) for change in plan_of(strict).changes)
        assert GAMMA in plan_of(strict).stalled
        assert any(change[0] == "voters" for change in changes_of(snapshot)), "and without strict it does not"


class TestPromotionByQuorum:
    """Enough of the voters are heard, and the newest of them is promoted."""

    PRIMARY_GONE = replace(
        a_node(GAMMA, Membership.CLEAN, data_status=LATEST),
        promotion=Promotion(1, GAMMA),
        voters=Voters(1, 2, (ALPHA, BETA)),
    )

    def decided(self, own: int, other: int | None, gone: NodeState = PRIMARY_GONE) -> Plan:
        """What alpha does when beta's WAL ends there; None: beta is not heard."""
        beta = a_voter(BETA)
        if other is not None:
            beta = replace(beta, position=at(other))
        snapshot = a_snapshot(a_standby(own), a_cluster(a_voter(ALPHA), beta, gone))
        assert isinstance(snapshot.server, Standby)
        return decide_promotion(snapshot, snapshot.server)

    @pytest.mark.parametrize("other", [0x70, 0x80])
    def test_the_newest_of_all_voters_is_promoted(self, other: int) -> None:
        plan = self.decided(0x80, other)
        assert not plan.refusal
        assert bare(plan.changes[0]) == ("promotion", ALPHA, "2@alpha 0/80 1:")

    def test_one_that_is_behind_is_not(self) -> None:
        assert "beta holds newer data" in self.decided(0x70, 0x80).refusal

    def test_too_few_that_are_heard_promote_nobody(self) -> None:
        assert BETA in self.decided(0x80, None).waiting_for
        snapshot = a_snapshot(
            a_standby(), a_cluster(a_voter(ALPHA), a_node(BETA, role=Role.STOPPED), self.PRIMARY_GONE)
        )
        assert isinstance(snapshot.server, Standby)
        refusal = decide_promotion(snapshot, snapshot.server).refusal
        assert "1 of its voters are heard, 2 of alpha beta are needed" in refusal

    def test_a_voter_that_may_still_receive_is_not_heard(self) -> None:
        """What it published while the primary was only cut off from Pacemaker is not where its WAL ends."""
        nodes = a_cluster(a_voter(ALPHA), replace(a_voter(BETA), position=at(0x70)), self.PRIMARY_GONE)
        snapshot = a_snapshot(a_standby(), nodes, receiving=[BETA])
        assert isinstance(snapshot.server, Standby)
        assert BETA in decide_promotion(snapshot, snapshot.server).waiting_for

    def test_one_is_enough_where_commits_waited_for_all(self) -> None:
        gone = replace(self.PRIMARY_GONE, voters=Voters(1, 1, (ALPHA, BETA)))
        assert not self.decided(0x80, None, gone).refusal

    def test_voters_of_an_older_promotion_are_none(self) -> None:
        gone = replace(self.PRIMARY_GONE, promotion=Promotion(2, GAMMA))
        assert self.decided(0x80, 0x80, gone).refusal

    def test_nobody_votes_where_nothing_is_recorded(self) -> None:
        assert voters(a_snapshot(a_standby(), a_cluster(a_node(ALPHA)))) is None


@given(snapshots(primaries))
def test_the_setting_never_allows_what_the_record_does_not(snapshot: Snapshot) -> None:
    """When the setting is changed, the record that stands holds for whatever it lets through."""
    assert isinstance(snapshot.server, Primary)
    policy = replace(snapshot.policy, method=Method.QUORUM)
    plan = reconcile(replace(snapshot, policy=policy), snapshot.server)
    own, newest = snapshot.own.voters, snapshot.newest
    number = newest.number if newest and newest.node == snapshot.policy.node else 0
    for change in plan.changes:
        if isinstance(change, SetSynchronousStandbys) and own is not None and own.names and own.number == number:
            missing = min(len(set(own.names) & set(change.standbys.names)), change.standbys.may_lack)
            outside = len(set(own.names) - set(change.standbys.names))
            assert snapshot.policy.mode.value == "async" or own.needed > missing + outside
        assert not (
            isinstance(change, SetVoters) and any(isinstance(other, SetSynchronousStandbys) for other in plan.changes)
        ), "a record and the setting that rests on it are not written in one go"

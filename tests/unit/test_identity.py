# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever calls itself beta is not beta: whose connection a row of pg_stat_replication is, and what that changes."""

from dataclasses import replace

import pytest

from pgsql_ra.replication.changes import Plan
from pgsql_ra.replication.policy import Degrading, Method, Mode
from pgsql_ra.replication.receiver import tell_endpoint
from pgsql_ra.replication.snapshot import (
    NodeState,
    ReplicationState,
    Snapshot,
    Standby,
    SyncState,
    Voters,
    Walsender,
)
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
    a_sync_walsender,
    a_walsender,
    the_primary_node,
)
from tests.unit.effects import bare, visible
from tests.unit.primary_cases import a_pair, changes_of, lets_go, plan_of

OWN, ANEW, ELSEWHERE = "10.0.0.2:5000", "10.0.0.2:5001", "10.0.0.9:5000"
SYNC = SyncState.SYNC


def beta(receives: str = OWN, sync: bool = False) -> NodeState:
    """Beta, which says this of its receiver; recorded as the synchronous standby or as nothing."""
    return replace(a_sync_node(BETA) if sync else a_gone_node(BETA), receives=receives)


def from_(
    client: str, pid: int = 1, state: ReplicationState = ReplicationState.STREAMING, sync: SyncState = SYNC
) -> Walsender:
    """A connection from there that calls itself beta."""
    return a_walsender(BETA, state, sync, pid=pid, client=client)


def seen(*rows: Walsender, node: NodeState, named: bool = True, mode: Mode = Mode.SYNC) -> Snapshot:
    """What alpha, the primary, sees of beta."""
    server = a_primary(*rows, names=(BETA,) if named and mode is Mode.SYNC else ())
    return a_snapshot(server, a_cluster(the_primary_node(), node), mode=mode, mark=0x80)


def raises(plan: Plan) -> bool:
    """Whether beta would become promotable."""
    said = visible(plan.changes)
    return any(change[0] == "score" and not str(change[2]).startswith("-") for change in said if change[1:2] == (BETA,))


class TestRaising:
    """A record that makes a node promotable needs a connection that is known to be the node's."""

    @pytest.mark.parametrize("mode", Mode)
    def test_its_own(self, mode: Mode) -> None:
        assert raises(plan_of(seen(from_(OWN), node=beta(), mode=mode)))

    @pytest.mark.parametrize("mode", Mode)
    @pytest.mark.parametrize(
        ("client", "says"), [(ANEW, OWN), (ELSEWHERE, OWN), (OWN, ""), (OWN, "none"), ("", OWN), ("", "")]
    )
    def test_any_other(self, client: str, says: str, mode: Mode) -> None:
        assert not raises(plan_of(seen(from_(client), node=beta(says), mode=mode)))

    def test_it_is_not_named_either(self) -> None:
        plan = plan_of(seen(from_(ELSEWHERE), node=beta(), named=False))
        assert not [change for change in plan.changes if bare(change)[0] == "names"]
        assert ELSEWHERE in plan.stalled
        assert "replication_slot_name" in plan.stalled

    def test_one_that_has_yet_to_speak_is_waited_for(self) -> None:
        plan = plan_of(seen(from_(OWN), node=beta(""), named=False))
        assert not [change for change in plan.changes if bare(change)[0] == "names"]
        assert "beta to say" in plan.waiting_for
        assert plan.stalled == ""

    def test_by_its_slot(self) -> None:
        """Addresses differ where there is NAT in between."""
        snapshot = seen(replace(from_(ELSEWHERE), slot="rep_beta"), node=beta())
        assert not raises(plan_of(snapshot))
        assert raises(
            plan_of(replace(snapshot, policy=replace(snapshot.policy, slots=((BETA, "rep_beta"),), slot_prefix="rep")))
        )

    def test_voters(self) -> None:
        row = from_(ANEW, sync=SyncState.QUORUM)
        snapshot = seen(row, node=beta())
        server = a_primary(row, names=(BETA,), any_of=1)
        quorum = replace(snapshot, server=server, policy=replace(snapshot.policy, method=Method.QUORUM))
        assert not [change for change in plan_of(quorum).changes if bare(change)[0] == "voters"]
        known = replace(quorum, server=replace(server, walsenders=(replace(row, client=OWN),)))
        assert [change for change in plan_of(known).changes if bare(change)[0] == "voters"]


class TestKeeping:
    """Who is recorded keeps that until it has said which of its connections is the new one."""

    @pytest.mark.parametrize("mode", Mode)
    @pytest.mark.parametrize(("client", "says"), [(OWN, OWN), (ANEW, OWN), (OWN, "")])
    def test_kept(self, client: str, says: str, mode: Mode) -> None:
        node = beta(says, sync=True)
        if mode is Mode.ASYNC:
            node = replace(node, data_status="STREAMING|ASYNC", status="HS:async")
        row = from_(client, sync=SYNC if mode is Mode.SYNC else SyncState.ASYNC)
        assert changes_of(seen(row, node=node, mode=mode)) == []

    @pytest.mark.parametrize(("client", "says"), [(ELSEWHERE, OWN), (OWN, "none"), ("", OWN)])
    def test_not_kept(self, client: str, says: str) -> None:
        plan = plan_of(seen(from_(client), node=beta(says, sync=True)))
        assert visible(plan.changes)[:2] == [
            ("score", BETA, "-INFINITY"),
            ("record", BETA, "DISCONNECT"),
        ]
        assert not [change for change in plan.changes if bare(change)[0] == "end"]
        assert not lets_go(plan, BETA), "the record stands first"
        assert "calls itself beta" in plan.stalled


class TestTwoOfOneName:
    """Commits are acknowledged by either: the record falls, unless the other one is what the node left behind."""

    @pytest.mark.parametrize("order", [(OWN, ELSEWHERE), (ELSEWHERE, OWN)])
    @pytest.mark.parametrize("state", [ReplicationState.STREAMING, ReplicationState.CATCHUP])
    def test_somebody_elsewhere(self, order: tuple[str, str], state: ReplicationState) -> None:
        rows = [
            from_(client, pid, state if client == ELSEWHERE else ReplicationState.STREAMING)
            for pid, client in enumerate(order)
        ]
        plan = plan_of(seen(*rows, node=beta(sync=True)))
        assert ("record", BETA, "DISCONNECT") in visible(plan.changes)
        assert not [change for change in plan.changes if bare(change)[0] == "end"], "nobody is ended"
        assert not raises(plan_of(seen(*rows, node=beta())))

    def test_nobody_knows_which(self) -> None:
        plan = plan_of(seen(from_(OWN, 1), from_(ELSEWHERE, 2), node=beta("", sync=True)))
        assert ("record", BETA, "DISCONNECT") in visible(plan.changes)

    def test_what_it_left_behind_is_ended(self) -> None:
        """It has connected anew; rows come newest first."""
        plan = plan_of(seen(from_(ANEW, 2), from_(OWN, 1), node=beta(ANEW, sync=True)))
        assert visible(plan.changes) == [("end", 1)]

    def test_until_it_has_said_so_both_stay(self) -> None:
        assert changes_of(seen(from_(ANEW, 2), from_(OWN, 1), node=beta(OWN, sync=True))) == []

    def test_a_younger_one_from_its_host_is_not_ended(self) -> None:
        plan = plan_of(seen(from_(ANEW, 2), from_(OWN, 1), node=beta(OWN)))
        assert not [change for change in plan.changes if bare(change)[0] == "end"]


def test_strict_holds_the_name_and_lowers_the_record() -> None:
    """Commits wait for the name by order of the administrator, and whoever has it acknowledges them."""
    snapshot = seen(from_(ELSEWHERE), node=beta(sync=True))
    strict = replace(snapshot, policy=replace(snapshot.policy, degrading=Degrading.NEVER))
    plan = plan_of(strict)
    assert ("record", BETA, "DISCONNECT") in visible(plan.changes)
    assert not lets_go(plan, BETA)


@pytest.mark.parametrize("degrading", Degrading)
def test_a_voter_whose_name_somebody_else_uses_is_none(degrading: Degrading) -> None:
    server = a_primary(
        from_(ELSEWHERE, sync=SyncState.QUORUM),
        a_walsender(GAMMA, sync=SyncState.QUORUM, pid=2),
        names=(BETA, GAMMA),
        any_of=1,
    )
    primary = replace(the_primary_node(), voters=Voters(1, 2, (BETA, GAMMA)))
    snapshot = a_snapshot(server, a_cluster(primary, beta(), a_node(GAMMA)), mark=0x80)
    policy = replace(snapshot.policy, method=Method.QUORUM, degrading=degrading)
    changes = [bare(change) for change in plan_of(replace(snapshot, policy=policy)).changes]
    assert ("voters", ALPHA, "1: 2 of gamma") in changes
    assert not [change for change in changes if change[0] == "names"], "the record stands first"


class TestTheStandbysWord:
    """A standby says where it receives from, once."""

    def snapshot(self, endpoint: str, said: str) -> Snapshot:
        """Beta as it sees itself."""
        server: Standby = replace(a_standby(), endpoint=endpoint)
        return a_snapshot(server, a_cluster(the_primary_node(), beta(said)), own=BETA)

    @pytest.mark.parametrize("said", ["", "none", ANEW])
    def test_said(self, said: str) -> None:
        assert [bare(change) for change in tell_endpoint(self.snapshot(OWN, said))] == [("receives", BETA, OWN)]

    @pytest.mark.parametrize(("endpoint", "said"), [(OWN, OWN), ("none", "none"), ("", OWN), ("", "")])
    def test_nothing_to_say(self, endpoint: str, said: str) -> None:
        assert tell_endpoint(self.snapshot(endpoint, said)) == ()


class TestWhatANodeSays:
    """Of its receiver, when that ends and connects anew."""

    @pytest.mark.parametrize(
        ("before", "now", "expected"),
        [
            ("", "none", "none"),
            ("", "10.0.0.2:5000", "10.0.0.2:5000"),
            ("10.0.0.2:5000", "none", "gone 10.0.0.2:5000"),
            ("gone 10.0.0.2:5000", "none", None),
            ("gone 10.0.0.2:5000", "10.0.0.2:5001", "10.0.0.2:5001"),
            ("10.0.0.2:5000", "10.0.0.2:5000", None),
            ("10.0.0.2:5000", "", None),
            ("none", "none", None),
        ],
    )
    def test_where_it_connects_from(self, before: str, now: str, expected: str | None) -> None:
        own = replace(a_node(ALPHA), receives=before)
        snapshot = a_snapshot(replace(a_standby(), endpoint=now), a_cluster(own))
        assert [change.value for change in tell_endpoint(snapshot)] == ([] if expected is None else [expected])

    @pytest.mark.parametrize(("client", "kept"), [("10.0.0.2:5001", True), ("10.0.0.9:5001", False)])
    def test_a_connection_that_was_made_anew_is_taken_for_its_own_until_it_has_spoken(
        self, client: str, kept: bool
    ) -> None:
        """The receiver ended, its node said so, and it is back from the same host."""
        row = replace(a_sync_walsender(BETA), client=client)
        beta = replace(a_sync_node(BETA), receives="gone 10.0.0.2:5000")
        plan = plan_of(a_pair(a_primary(row, names=(BETA,)), beta))
        assert (("record", BETA, "DISCONNECT") not in visible(plan.changes)) is kept

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running primary does about its standbys: the switch between synchronous and asynchronous replication.

The law (SAFETY: "Degrade", "Upgrade"). In sync mode every acknowledged commit is flushed on every promotable node. So
  * a standby leaves synchronous_standby_names only after its record says, acknowledged in a partition with quorum, that
    it may not be promoted, and while it is either a member of this partition or known to be down;
  * a standby gets a record that makes it promotable only after the setting that makes commits wait for it is in force
    (in the checkpointer, which is where backends take it from) and it has flushed what the primary had flushed by then.
Every step rests on what was *observed*, not on what was just written: `reconcile` plans one step, the caller applies
it, looks again and asks again, until nothing is left to do. Killed anywhere, the next action goes on from what it
finds.
"""

from collections.abc import Iterator
from dataclasses import replace

from pgsql_ra.replication.changes import (
    Change,
    Plan,
    RememberPromotion,
    SetDataStatus,
    SetElection,
    SetKnown,
    SetMet,
    SetPromotion,
    SetRecord,
    SetScore,
    SetStatus,
    SetUnfit,
    SetWhy,
    WithdrawPosition,
)
from pgsql_ra.replication.peer import Peer
from pgsql_ra.replication.policy import Method, Mode
from pgsql_ra.replication.quorum import drop_voters, wait_for_any
from pgsql_ra.replication.record import Promotion, after
from pgsql_ra.replication.slots import keep_slots
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState, Primary, Role, Snapshot
from pgsql_ra.replication.status import (
    DISCONNECT,
    LAGGING,
    LATEST,
    SCORE_NEVER,
    SCORE_PRIMARY,
    STATUS_PRIMARY,
    data_status,
    may_be_promoted,
)
from pgsql_ra.replication.synchronous import wait_for_each


def other_primaries(cluster: ClusterState, own: str) -> tuple[str, ...]:
    """Names of the other member nodes on which this resource runs as a primary.

    By its status, too: its monitor has seen that, whatever Pacemaker has recorded. But a status that was left behind,
    because the last write of a stop was refused, is not stronger than Pacemaker's record of that stop.
    """
    return tuple(
        node.name
        for node in cluster.nodes
        if node.key != own
        and node.membership is Membership.MEMBER
        and (node.role is Role.PROMOTED or (node.status == STATUS_PRIMARY and node.role is not Role.STOPPED))
    )


def reconcile(snapshot: Snapshot, server: Primary) -> Plan:
    """The next step of a primary towards what its standbys are able to give it now."""
    rivals = other_primaries(snapshot.cluster, snapshot.policy.node)
    if rivals:
        because = f"{', '.join(rivals)} runs as a primary too: look at fencing, and stop one of them (crm_standby)"
        return Plan(tuple(_score(snapshot.own, SCORE_NEVER, because)), refusal=because)
    if not snapshot.cluster.may_decide:
        # Statements made without quorum may win later against those of the majority: say nothing.
        return Plan(
            stalled="no quorum: nothing is recorded, and commits go on only while the synchronous standby takes them"
        )
    promotion = _own_promotion(snapshot, server)
    own = tuple(_own(snapshot, server, promotion))
    known = [name for name in snapshot.policy.peers if snapshot.cluster.node(name) is not None]
    strangers = _strangers(snapshot, server)
    # Let go like those that are about to stop: the record first, then the setting.
    seen = replace(snapshot, leaving=snapshot.leaving | frozenset(strangers))
    peers = tuple(Peer(seen, server, name, promotion) for name in (*known, *strangers))
    if snapshot.policy.mode is Mode.ASYNC:
        plan = Plan(own + tuple(change for peer in peers for change in _asynchronous(snapshot, server, peer)))
    elif snapshot.policy.method is Method.QUORUM:
        plan = wait_for_any(snapshot, server, own, peers, promotion)
    else:
        dropped = drop_voters(snapshot, promotion)
        if dropped:
            return Plan((*own, *dropped), "the record that nobody is promoted by quorum")
        plan = wait_for_each(snapshot, server, own, peers)
    slots, concern = keep_slots(snapshot, server)
    told = (plan.stalled, *(peer.stranger for peer in peers), concern)
    return replace(plan, changes=(*plan.changes, *slots), stalled="; ".join(filter(None, told)))


def _strangers(snapshot: Snapshot, server: Primary) -> list[str]:
    """Nodes that are not in node_list (any more), and that commits wait for or that a record makes promotable."""
    return [
        node.key
        for node in snapshot.cluster.nodes
        if node.key not in snapshot.policy.members
        and (
            node.key in server.synchronous.names
            or (node.data_status and may_be_promoted(node.data_status, snapshot.policy.mode))
        )
    ]


def release(snapshot: Snapshot, server: Primary) -> Plan:
    """Before the synchronous standbys in `leaving` are let go: others take over from them while they are still there.

    So there is no moment in which nobody but the primary holds what was acknowledged.
    """
    named = [name for name in snapshot.leaving if name in server.synchronous.names]
    if not named or snapshot.policy.method is Method.QUORUM or snapshot.policy.mode is Mode.ASYNC:
        return Plan()
    more = replace(snapshot.policy, synchronous_count=snapshot.policy.synchronous_count + len(named))
    return reconcile(replace(snapshot, policy=more, leaving=frozenset()), server)


def _asynchronous(snapshot: Snapshot, server: Primary, peer: Peer) -> Iterator[Change]:
    yield from peer.tidy()
    value = data_status(peer.row)
    if peer.waits_to_be_known and not peer.is_proven:
        value = DISCONNECT
    if peer.streams and value != DISCONNECT and _lags(snapshot.policy.max_lag, server, peer):
        value = LAGGING
    yield from peer.say(value, peer.score if peer.streams and value not in (LAGGING, DISCONNECT) else SCORE_NEVER)
    yield from peer.end_dead_walsenders()


def _lags(max_lag: int, server: Primary, peer: Peer) -> bool:
    """Whether it is too far behind to be promoted. One that was has to come well within the limit again: every change
    is a write to the CIB.
    """
    if not max_lag:
        return False
    limit = max_lag // 2 if peer.node.data_status == LAGGING else max_lag
    return peer.flushed < 0 or server.position.lsn - peer.flushed > limit


def _own_promotion(snapshot: Snapshot, server: Primary) -> Promotion:
    """The promotion that this primary acts under.

    A server that runs as a primary while the newest record names another node, or none, was made one by somebody else
    (another agent, an administrator): it counts as promoted now, because it takes commits.
    """
    newest = snapshot.newest
    if newest is None:
        return Promotion(1, snapshot.own.key, server.position)
    if newest.node == snapshot.own.key and not newest.is_void and not snapshot.contradiction:
        return newest
    # By no rule of ours: what other copies hold may have been acknowledged, as after an administrator's word.
    number = newest.number + 1
    return Promotion(number, snapshot.own.key, server.position, forced=number, after=after(newest))


def _own(snapshot: Snapshot, server: Primary, promotion: Promotion) -> Iterator[Change]:
    """What a primary says of itself; the records come before the score that rests on them."""
    own = snapshot.own
    because = "this server is the primary"
    if not promotion.is_same(own.promotion):
        yield SetPromotion(own.name, replace(promotion, lowered=()), because)
    if own.data_status != LATEST:
        yield SetDataStatus(own.name, LATEST, because)
    if own.record != server.position.history:
        yield SetRecord(own.name, server.position.history, because)
    yield from remember(snapshot, promotion)
    yield from _score(own, SCORE_PRIMARY, because)
    if own.status != STATUS_PRIMARY:
        yield SetStatus(own.name, STATUS_PRIMARY, because)
    if own.position is not None or own.location:
        yield WithdrawPosition(own.name, because)
    if own.why:
        yield SetWhy(own.name, "", because)
    if own.election:
        yield SetElection(own.name, "", because)
    if own.unfit:
        yield SetUnfit(own.name, "", because)


def remember(snapshot: Snapshot, promotion: Promotion | None) -> Iterator[Change]:
    """This node keeps the newest promotion in its file, and the cluster is told that it does; and whom it has met."""
    met = snapshot.own.met | {name for name in snapshot.policy.peers if is_member(snapshot.cluster, name)}
    if met != snapshot.own.met:
        yield SetMet(snapshot.own.name, met, "they are members now")
    if promotion is None:
        return
    because = f"the newest promotion is number {promotion.number}, of {promotion.node}"
    if not promotion.is_known_by(snapshot.remembered):
        yield RememberPromotion(promotion, because)
    if not promotion.is_known_by(snapshot.own.known):
        yield SetKnown(snapshot.own.name, replace(promotion, begin=None), because)


def is_member(cluster: ClusterState, name: str) -> bool:
    """Whether Pacemaker runs on this node, in the same partition."""
    node = cluster.node(name)
    return node is not None and node.membership is Membership.MEMBER


def _score(node: NodeState, score: str, because: str) -> Iterator[Change]:
    if node.score != score:
        yield SetScore(node.name, score, because)

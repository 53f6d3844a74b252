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
    EndWalsender,
    Plan,
    ProvokeReply,
    SetDataStatus,
    SetRecord,
    SetScore,
    SetStatus,
    SetSynchronousStandbys,
    WithdrawPosition,
)
from pgsql_ra.replication.slots import keep_slots
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Membership,
    Mode,
    NodeState,
    Primary,
    ReplicationState,
    Role,
    Snapshot,
    SyncState,
)
from pgsql_ra.replication.status import (
    DISCONNECT,
    LATEST,
    SCORE_NEVER,
    SCORE_PRIMARY,
    SCORE_STANDBY,
    STATUS_PRIMARY,
    STATUS_STOPPED,
    STATUS_UNKNOWN,
    STREAMING_SYNC,
    data_status,
    may_be_promoted,
    score_value,
    standby_status,
)


def other_primaries(cluster: ClusterState, own: str) -> tuple[str, ...]:
    """Names of the other member nodes on which this resource runs as a primary."""
    return tuple(
        node.name
        for node in cluster.nodes
        if node.key != own
        and node.membership is Membership.MEMBER
        and (node.role is Role.PROMOTED or node.status == STATUS_PRIMARY)
    )


def reconcile(snapshot: Snapshot, server: Primary) -> Plan:
    """The next step of a primary towards what its standbys are able to give it now."""
    rivals = other_primaries(snapshot.cluster, snapshot.policy.node)
    if rivals:
        because = f"{', '.join(rivals)} runs as a primary too"
        return Plan(tuple(_score(snapshot.own, SCORE_NEVER, because)), refusal=because)
    if not snapshot.cluster.may_decide:
        # Statements made without quorum may win later against those of the majority: say nothing.
        return Plan(
            stalled="no quorum: nothing is recorded, and commits go on only while the synchronous standby takes them"
        )
    own = tuple(_own(snapshot, server))
    known = (name for name in snapshot.policy.peers if snapshot.cluster.node(name) is not None)
    peers = tuple(_Peer(snapshot, server, name) for name in known)
    if snapshot.policy.mode is Mode.ASYNC:
        plan = Plan(own + tuple(change for peer in peers for change in _asynchronous(peer)))
    else:
        plan = _synchronous(snapshot, server, own, peers)
    slots, concern = keep_slots(snapshot, server)
    return replace(plan, changes=(*plan.changes, *slots), stalled="; ".join(filter(None, (plan.stalled, concern))))


class _Peer:
    """One member beside this primary: its row, its node, and whether commits may wait for it."""

    def __init__(self, snapshot: Snapshot, server: Primary, name: str) -> None:
        self.name = name
        # A name in node_list that the cluster does not know can neither be recorded nor promoted: it is left out
        # before.
        self.node = snapshot.cluster.node(name) or NodeState(name, Membership.UNCLEAN)
        self.rows = tuple(row for row in server.walsenders if row.node == name)
        self.is_member = self.node.membership is Membership.MEMBER
        gone = not self.is_member or name in snapshot.leaving
        # A standby that came back may have its old connection's row beside the new one (rows come newest first).
        streaming = [row for row in self.rows if row.state is ReplicationState.STREAMING]
        self.row = None if gone else next(iter([*streaming, *self.rows]), None)
        self.streams = self.row is not None and self.row.state is ReplicationState.STREAMING
        self.is_named = name in server.synchronous_names
        self.is_promotable = may_be_promoted(self.node.data_status, snapshot.policy.mode)

    @property
    def flushed(self) -> int:
        """Up to where it has flushed what it received; -1 if that is not known."""
        return -1 if self.row is None or self.row.flush is None else int(self.row.flush)

    @property
    def is_arriving(self) -> bool:
        """Whether its connection is being made just now: what it is will be seen in a moment."""
        return self.row is not None and self.row.state is ReplicationState.STARTUP

    @property
    def may_be_released(self) -> bool:
        """Whether its record, once written, is known to whoever could promote it."""
        return self.node.membership is not Membership.UNCLEAN


def _synchronous(snapshot: Snapshot, server: Primary, own: tuple[Change, ...], peers: tuple[_Peer, ...]) -> Plan:
    changes: list[Change] = list(own)
    waiting: list[str] = []
    stalled: list[str] = []
    kept: list[str] = []
    for peer in peers:
        changes += _dead_connections(peer)
        if peer.is_named and not peer.streams and not peer.may_be_released:
            kept.append(peer.name)
            stalled.append(
                f"{peer.name} is lost and not fenced yet: it might still be promoted, so commits wait for it"
            )
            continue
        if peer.is_named and peer.streams:
            kept.append(peer.name)
            continue
        # Not a synchronous standby, or no longer one: its record comes first, the setting below waits for it.
        if peer.is_arriving and not peer.is_promotable:
            continue
        changes += _not_promotable(peer)
        if peer.is_named and peer.is_promotable:
            kept.append(peer.name)
            waiting.append(f"the record that {peer.name} may not be promoted")
    policy = snapshot.policy
    chosen = _choose(peers, kept, policy.synchronous_count - len(kept))
    outside = tuple(name for name in policy.external_standbys if _streams(server, name))
    wanted = (*kept, *chosen, *outside)
    stalled += [
        f"the external standby {name} does not stream" for name in policy.external_standbys if name not in outside
    ]
    is_written = server.written_names is None or set(server.written_names) == set(wanted)
    if set(wanted) != set(server.synchronous_names) or not is_written:
        # An action that was killed between writing the file and the reload left a setting that the next reload would
        # put in force, whatever was recorded since: the file counts as much as what is in force.
        changes += _switch(server.synchronous_names, wanted)
        if wanted:
            waiting.append(f"the setting that makes commits wait for {', '.join(wanted)}")
        return Plan(tuple(changes), "; ".join(waiting), "; ".join(stalled))
    for peer in peers:
        if peer.is_named and peer.streams:
            done, missing = _upgrade(snapshot, server, peer)
            changes += done
            waiting += missing
    return Plan(tuple(changes), "; ".join(waiting), "; ".join(stalled))


def _dead_connections(peer: _Peer) -> Iterator[Change]:
    """A standby that came back beside its dead connection: two walsenders of one name count as two standbys."""
    if peer.streams:
        for row in peer.rows:
            if row is not peer.row:
                yield EndWalsender(row.pid, f"{peer.name} has another connection")


def _choose(peers: tuple[_Peer, ...], kept: list[str], count: int) -> tuple[str, ...]:
    """The standbys that become synchronous ones beside `kept`: the most advanced, by node_list where they are equal."""
    able = [peer for peer in peers if peer.streams and peer.name not in kept]
    best = sorted(able, key=lambda peer: peer.flushed, reverse=True)
    return tuple(peer.name for peer in best[: max(0, count)])


def _streams(server: Primary, name: str) -> bool:
    return any(row.node == name and row.state is ReplicationState.STREAMING for row in server.walsenders)


def _switch(present: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[Change]:
    if wanted:
        new = [name for name in wanted if name not in present]
        gone = [name for name in present if name not in wanted]
        because = f"{', '.join(new)} streams" if new else f"{', '.join(gone) or 'nobody'} is gone"
        yield SetSynchronousStandbys(wanted, f"{because}: commits will wait for {', '.join(wanted)}")
    else:
        yield SetSynchronousStandbys((), f"{', '.join(present) or 'nobody'} is gone: commits wait for nobody")


def _upgrade(snapshot: Snapshot, server: Primary, peer: _Peer) -> tuple[list[Change], list[str]]:
    """Make a named standby promotable once it is proven to hold every acknowledged commit."""
    if peer.row is None:
        return [], []
    if peer.is_promotable and peer.node.data_status == STREAMING_SYNC:
        return list(_standby(peer, STREAMING_SYNC, SCORE_STANDBY)), []
    if not server.settled or peer.row.sync_state not in (SyncState.SYNC, SyncState.QUORUM):
        lower = list(_not_promotable(peer)) if peer.is_promotable else []
        return lower, [f"synchronous_standby_names to be in force for {peer.name}"]
    if snapshot.mark is None:
        provoke = ProvokeReply(f"commits that wait already are released when {peer.name} reports")
        return [provoke], [f"{peer.name} to report what it has flushed"]
    if peer.row.flush is None or peer.row.flush < snapshot.mark:
        return [], [f"{peer.name} to flush what was committed before commits waited for it"]
    return list(_standby(peer, STREAMING_SYNC, SCORE_STANDBY)), []


def _not_promotable(peer: _Peer) -> Iterator[Change]:
    """Score first, then the durable record; both before anything that lets commits go on without this node."""
    value = data_status(peer.row)
    if value == STREAMING_SYNC:
        # The walsender calls it synchronous already; commits are not known to wait for it yet.
        value = f"{ReplicationState.STREAMING.name}|{SyncState.ASYNC.name}"
    yield from _standby(peer, value, SCORE_NEVER)
    if peer.row is None and not peer.is_member:
        for row in peer.rows:
            yield EndWalsender(row.pid, f"{peer.name} is {peer.node.membership.value}")


def _asynchronous(peer: _Peer) -> Iterator[Change]:
    score = SCORE_STANDBY if peer.streams else SCORE_NEVER
    yield from _standby(peer, data_status(peer.row), score)


def _standby(peer: _Peer, value: str, score: str) -> Iterator[Change]:
    """Bring a standby's three attributes to what they should be. Lowering goes score, record; raising the reverse."""
    because = _reason(peer, value)
    score_change = [] if not peer.is_member else list(_score(peer.node, score, because))
    record = [] if peer.node.data_status == value else [SetDataStatus(peer.node.name, value, because)]
    if score_value(score) < 0:
        yield from score_change
        yield from record
    else:
        yield from record
        yield from score_change
    if peer.row is None or peer.node.status in (STATUS_STOPPED, STATUS_UNKNOWN):
        return  # what the node says of itself stands
    status = standby_status(peer.row)
    if status != peer.node.status:
        yield SetStatus(peer.node.name, status, because)


def _reason(peer: _Peer, value: str) -> str:
    if value != DISCONNECT:
        return f"pg_stat_replication shows {peer.name} as {value}"
    if peer.node.membership is Membership.CLEAN:
        return f"node {peer.name} is down"
    if peer.rows and peer.is_member:
        return f"the standby on {peer.name} stops"
    return f"no standby called {peer.name} is connected"


def _own(snapshot: Snapshot, server: Primary) -> Iterator[Change]:
    """What a primary says of itself; the record comes before the score that rests on it."""
    own = snapshot.own
    because = "this server is the primary"
    if own.data_status != LATEST:
        yield SetDataStatus(own.name, LATEST, because)
    if own.record != server.position.history:
        yield SetRecord(own.name, server.position.history, because)
    yield from _score(own, SCORE_PRIMARY, because)
    if own.status != STATUS_PRIMARY:
        yield SetStatus(own.name, STATUS_PRIMARY, because)
    if own.position is not None or own.location:
        yield WithdrawPosition(own.name, because)


def _score(node: NodeState, score: str, because: str) -> Iterator[Change]:
    if node.score != score:
        yield SetScore(node.name, score, because)

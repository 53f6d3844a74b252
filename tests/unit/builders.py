# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of snapshots that state only what matters to a case.

What is not stated is a healthy cluster in sync mode: quorum, fencing, every node a member. This node is `alpha`, its
peers are `beta` and `gamma`. WAL positions are small numbers on timeline 1.
"""

from collections.abc import Iterable
from dataclasses import replace

from pgsql_ra.replication.election import has_stopped
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.policy import Mode, Policy
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Membership,
    NodeState,
    Primary,
    ReplicationState,
    Role,
    ServerState,
    Snapshot,
    Standby,
    SynchronousStandbys,
    SyncState,
    Walsender,
)
from pgsql_ra.replication.status import (
    DISCONNECT,
    LATEST,
    SCORE_NEVER,
    SCORE_PRIMARY,
    SCORE_STANDBY,
    STATUS_PRIMARY,
    STREAMING_ASYNC,
    STREAMING_SYNC,
)

ALPHA = "alpha"
BETA = "beta"
GAMMA = "gamma"
NODES = (ALPHA, BETA, GAMMA)

FORKS = {1: (), 2: ((1, Lsn(0x100)),), 3: ((1, Lsn(0x100)), (2, Lsn(0x200)))}
"""One line of promotions: timeline 2 left timeline 1 at 0/100, timeline 3 left timeline 2 at 0/200."""


def a_history(timeline: int = 1) -> History:
    """The history of a timeline in that one line."""
    return History(timeline, FORKS[timeline])


def at(lsn: int, timeline: int = 1) -> Position:
    """A position in that one line."""
    return Position(Lsn(lsn), a_history(timeline))


def a_walsender(
    node: str,
    state: ReplicationState = ReplicationState.STREAMING,
    sync: SyncState = SyncState.ASYNC,
    flush: int | None = 0x80,
    pid: int = 4711,
    client: str | None = None,
) -> Walsender:
    """A row of pg_stat_replication; it streams, and is the node's own unless it says where it comes from."""
    return Walsender(
        node, pid, state, sync, None if flush is None else Lsn(flush), f"{node}:1" if client is None else client
    )


def a_sync_walsender(node: str, flush: int = 0x80, pid: int = 4711) -> Walsender:
    """The row of the synchronous standby."""
    return a_walsender(node, sync=SyncState.SYNC, flush=flush, pid=pid)


def a_primary(
    *walsenders: Walsender,
    names: tuple[str, ...] = (),
    settled: bool = True,
    position: Position | None = None,
    any_of: int = 0,
) -> Primary:
    """A primary with these standbys."""
    setting = SynchronousStandbys(names, any_of)
    return Primary(100, position or at(0x80), setting, setting, settled, walsenders)


def a_standby(lsn: int | None = 0x80, timeline: int = 1, streaming: bool = False) -> Standby:
    """A standby whose WAL ends here; None for one that has not read all of its own WAL."""
    return Standby(100, None if lsn is None else at(lsn, timeline), streaming)


def a_node(
    name: str,
    membership: Membership = Membership.MEMBER,
    role: Role = Role.UNPROMOTED,
    data_status: str = "",
    status: str = "",
    score: str = "",
    position: Position | None = None,
    record: History | None = None,
    election: str = "",
    promotion: Promotion | None = None,
    priority: int = 1,
    receives: str | None = None,
) -> NodeState:
    """A member that runs a standby and has no attributes but the one that says where it receives from."""
    return NodeState(
        name=name,
        membership=membership,
        role=role,
        data_status=data_status,
        status=status,
        score=score,
        position=position,
        record=record,
        election=election,
        promotion=promotion,
        priority=priority,
        receives=f"{name}:1" if receives is None else receives,
    )


def the_primary_node(name: str = ALPHA, timeline: int = 1) -> NodeState:
    """The primary's node when it has said everything that it has to."""
    return a_node(
        name,
        role=Role.PROMOTED,
        data_status=LATEST,
        status=STATUS_PRIMARY,
        score=SCORE_PRIMARY,
        record=a_history(timeline),
    )


def a_sync_node(name: str, membership: Membership = Membership.MEMBER) -> NodeState:
    """The synchronous standby's node, as the records of a healthy cluster show it."""
    return a_node(name, membership, data_status=STREAMING_SYNC, status="HS:sync", score=SCORE_STANDBY)


def an_async_node(name: str) -> NodeState:
    """The node of a standby that streams and is not the synchronous one."""
    return a_node(name, data_status=STREAMING_ASYNC, status="HS:async", score=SCORE_NEVER)


def a_gone_node(name: str, membership: Membership = Membership.MEMBER) -> NodeState:
    """The node of a standby that may not be promoted, and is recorded so."""
    return a_node(name, membership, data_status=DISCONNECT, score=SCORE_NEVER)


def a_cluster(*nodes: NodeState, quorum: bool = True, fencing: bool = True, quorum_needed: bool = True) -> ClusterState:
    """A cluster of these nodes, with quorum and fencing."""
    return ClusterState(quorum, fencing, nodes, quorum_needed)


def a_snapshot(
    server: ServerState,
    cluster: ClusterState,
    mode: Mode = Mode.SYNC,
    members: Iterable[str] | None = None,
    leaving: Iterable[str] = (),
    mark: int | None = None,
    own: str = ALPHA,
    rounds: int = 3,
    receiving: Iterable[str] = (),
) -> Snapshot:
    """A snapshot taken on `own`; node_list holds the cluster's nodes.

    What nodes do not say of promotions is what they would say in a calm cluster: a primary was made one by the first of
    them, what it said of its standbys was said under it, and this node knows the newest. Positions were published when
    nothing was received any more, but for those of the nodes in `receiving`; and this node has met all the others.
    """
    names = tuple(members) if members is not None else tuple(node.key for node in cluster.nodes)
    policy = Policy(own, mode, names, rounds)
    if isinstance(server, Primary):
        cluster = replace(cluster, nodes=tuple(_stamped(node, own) for node in cluster.nodes))
    snapshot = Snapshot(server, cluster, policy, frozenset(leaving), None if mark is None else Lsn(mark))
    newest = snapshot.newest
    grows = {*receiving, *([own] if isinstance(server, Standby) and not has_stopped(server) else [])}
    final = (
        node if node.position is None or node.key in grows else replace(node, cut_for=snapshot.next_number)
        for node in cluster.nodes
    )
    met = frozenset(name for name in names if name != own)
    knowing = (replace(node, known=newest, met=met) if node.key == own else node for node in final)
    return replace(snapshot, cluster=replace(cluster, nodes=tuple(knowing)), remembered=newest)


def _stamped(node: NodeState, primary: str) -> NodeState:
    is_said = node.data_status not in ("", DISCONNECT)
    if node.promotion is None and (node.key == primary or is_said):
        return replace(node, promotion=Promotion(1, primary))
    return node

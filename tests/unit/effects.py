# SPDX-License-Identifier: GPL-2.0-or-later
"""What the changes of a plan make of the world, as values: a cluster and a server that do at once what they are
told.
"""

from collections.abc import Iterable
from dataclasses import replace

from pgsql_ra.replication.changes import (
    Change,
    Confirm,
    CountLowering,
    CreateSlot,
    DropSlot,
    EndWalsender,
    ProvokeReply,
    PublishPosition,
    Receive,
    RememberPromotion,
    RestartStandby,
    SetDataStatus,
    SetElection,
    SetKnown,
    SetLastRecord,
    SetMet,
    SetPromotion,
    SetReceiver,
    SetReceives,
    SetRecord,
    SetScore,
    SetStatus,
    SetSynchronousStandbys,
    SetUnfit,
    SetVoters,
    SetWhy,
    ShowLocation,
    StopReceiving,
    WithdrawPosition,
)
from pgsql_ra.replication.record import newest
from pgsql_ra.replication.recovery import Recovery
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Link,
    NodeState,
    Primary,
    ServerState,
    Snapshot,
    Standby,
)

NOT_ATTRIBUTES = (
    RememberPromotion,
    Confirm,
    SetSynchronousStandbys,
    ProvokeReply,
    CreateSlot,
    DropSlot,
    EndWalsender,
    StopReceiving,
    Receive,
    RestartStandby,
)


def on_node(node: NodeState, change: Change) -> NodeState:
    """The node's attributes after a change; the same if it concerns another node, or no attribute."""
    if isinstance(change, CountLowering):
        heard = node.name in change.hearers
        return replace(node, known=newest((node.known, change.knowledge))) if heard else node
    if isinstance(change, NOT_ATTRIBUTES) or change.node.lower() != node.key:
        return node
    match change:
        case SetScore(score=score):
            return replace(node, score=score)
        case SetDataStatus(value=value):
            return replace(node, data_status=value)
        case SetStatus(value=value):
            return replace(node, status=value)
        case SetRecord(history=history):
            return replace(node, record=history)
        case PublishPosition(published=published):
            return replace(node, **published._asdict())
        case ShowLocation(position=position):
            return replace(node, location=position.lsn.padded())
        case WithdrawPosition():
            return replace(node, position=None, cut_for=0, system="", went_back=False, location="")
        case SetElection(value=value):
            return replace(node, election=value)
        case SetReceiver(value=value):
            return replace(node, receiver=value)
        case SetReceives(value=value):
            return replace(node, receives=value)
        case SetPromotion(promotion=promotion, proof=proof):
            return replace(node, promotion=promotion, proof=proof)
        case SetKnown(promotion=promotion):
            return replace(node, known=promotion, last=None)
        case SetMet(met=met):
            return replace(node, met=met)
        case SetLastRecord(record=record):
            return replace(node, last=record, known=None)
        case SetVoters(voters=voters):
            return replace(node, voters=voters)
        case SetWhy(why=why):
            return replace(node, why=why)
        case SetUnfit(why=why):
            return replace(node, unfit=why)


def on_cluster(cluster: ClusterState, change: Change) -> ClusterState:
    """The cluster after a change."""
    return replace(cluster, nodes=tuple(on_node(node, change) for node in cluster.nodes))


def on_server(server: ServerState, change: Change) -> ServerState:
    """The server after a change, which is in force at once."""
    match server, change:
        case Primary(), SetSynchronousStandbys(standbys=standbys):
            return replace(server, synchronous=standbys, written=standbys, settled=True)
        case Primary(), EndWalsender(pid=pid):
            return replace(server, walsenders=tuple(row for row in server.walsenders if row.pid != pid))
        case Standby(), StopReceiving():
            return replace(server, link=Link.CUT, receiver=0, streaming=False)
        case Standby(), Receive():
            return replace(server, link=Link.OPEN)
        case Standby(), RestartStandby():
            return replace(server, recovery=Recovery())
    return server


def after(snapshot: Snapshot, changes: Iterable[Change]) -> Snapshot:
    """What the next look of the same action sees when these changes were applied and nothing else happened."""
    for change in changes:
        if isinstance(change, ProvokeReply) and isinstance(snapshot.server, Primary):
            snapshot = replace(snapshot, mark=snapshot.server.position.lsn)
        if isinstance(change, RememberPromotion):
            snapshot = replace(snapshot, remembered=change.promotion)
        if isinstance(change, CountLowering):
            snapshot = replace(snapshot, remembered=newest((snapshot.remembered, change.knowledge)))
        snapshot = replace(
            snapshot,
            cluster=on_cluster(snapshot.cluster, change),
            server=on_server(snapshot.server, change),
        )
    return snapshot


SAFEGUARDS = ("lowered", "confirm", "known", "met")
"""What is counted, told and read back beside the changes that show (test_lowering.py)."""


def visible(changes: Iterable[Change]) -> list[tuple[object, ...]]:
    """The changes that show, without their reasons."""
    return [change for change in map(bare, changes) if change[0] not in SAFEGUARDS]


def bare(change: Change) -> tuple[object, ...]:
    """A change without its reason, and short enough for a table."""
    match change:
        case SetScore(node, score):
            return ("score", node, score)
        case SetDataStatus(node, value):
            return ("record", node, value)
        case SetStatus(node, value):
            return ("status", node, value)
        case SetRecord(node, history):
            return ("timeline", node, str(history))
        case PublishPosition(node, published):
            return ("position", node, str(published))
        case ShowLocation(node, position):
            return ("location", node, position.lsn.padded())
        case WithdrawPosition(node):
            return ("position", node, None)
        case SetElection(node, value):
            return ("election", node, value)
        case SetReceiver(node, value):
            return ("receiver", node, value)
        case SetReceives(node, value):
            return ("receives", node, value)
        case CreateSlot(name):
            return ("slot", name, "create")
        case DropSlot(name):
            return ("slot", name, "drop")
        case SetPromotion(node, promotion):
            return ("promotion", node, str(promotion))
        case RememberPromotion(promotion):
            return ("remember", "", str(promotion))
        case SetKnown(node, promotion):
            return ("known", node, str(promotion))
        case CountLowering(node, count):
            return ("lowered", node, count)
        case SetMet(node, met):
            return ("met", node, *sorted(met))
        case Confirm(nodes, needed):
            return ("confirm", needed, *nodes)
        case SetLastRecord(node, record):
            return ("last", node, str(record))
        case SetVoters(node, voters):
            return ("voters", node, str(replace(voters, version=0)))
        case SetWhy(node, why):
            return ("why", node, why)
        case SetUnfit(node, why):
            return ("unfit", node, why)
        case RestartStandby():
            return ("restart",)
        case SetSynchronousStandbys(standbys):
            return ("names", *([f"any {standbys.any_of}"] if standbys.any_of else []), *standbys.names)
        case ProvokeReply():
            return ("provoke",)
        case EndWalsender(pid):
            return ("end", pid)
        case StopReceiving(pid):
            return ("stop receiving", pid)
        case Receive():
            return ("receive",)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a decision asks for: plain values, each with its reason. The order in which a Plan lists them is the argument
for its safety: each is acknowledged before the next is begun, and the first that fails ends the action.
"""

from dataclasses import dataclass, replace

from pgsql_ra.replication.lsn import History, LastRecord, Position
from pgsql_ra.replication.record import Promotion, Proof, Published
from pgsql_ra.replication.snapshot import SynchronousStandbys, Voters


@dataclass(frozen=True)
class SetScore:
    """Set a node's promotion score (`master-<resource>`)."""

    node: str
    score: str
    because: str


@dataclass(frozen=True)
class SetDataStatus:
    """Set a node's permanent `<resource>-data-status`. Only ever planned in a partition with quorum."""

    node: str
    value: str
    because: str


@dataclass(frozen=True)
class SetStatus:
    """Set a node's `<resource>-status`, which administrators and location rules read."""

    node: str
    value: str
    because: str


@dataclass(frozen=True)
class SetRecord:
    """Record durably on which timeline this primary is and where it left the earlier ones (`<resource>-timeline`)."""

    node: str
    history: History
    because: str


@dataclass(frozen=True)
class SetPromotion:
    """Record under which promotion what is said of a node is said, and on what that rests; on a primary, its own
    (`<resource>-promotion`).
    """

    node: str
    promotion: Promotion
    because: str
    proof: Proof | None = None


@dataclass(frozen=True)
class RememberPromotion:
    """Keep the newest promotion in this node's own file, which no other node's CIB can overwrite."""

    promotion: Promotion
    because: str


@dataclass(frozen=True)
class SetKnown:
    """Tell the cluster which promotion is the newest that this node has heard of (`<resource>-known`)."""

    node: str
    promotion: Promotion
    because: str


@dataclass(frozen=True)
class CountLowering:
    """The record of `node` is about to be lowered, as the `count`-th time under `promotion`: this node keeps that in
    its file, and `hearers` (this node among them) know it, whatever becomes of the CIB or of this node.
    """

    node: str
    count: int
    promotion: Promotion
    hearers: tuple[str, ...]
    because: str

    @property
    def knowledge(self) -> Promotion:
        """The promotion, with this count."""
        return replace(self.promotion, begin=None, lowered=((self.node, self.count),))


@dataclass(frozen=True)
class SetMet:
    """Say whom this node has seen since Pacemaker was started on it (`<resource>-met`)."""

    node: str
    met: frozenset[str]
    because: str


@dataclass(frozen=True)
class Confirm:
    """Read the CIB of other nodes: at least `needed` of them must hold everything that was written before.

    A write is acknowledged by this node's own CIB. Whether it reached anybody else is not known while a cut of the
    network has not been noticed yet (corosync's token timeout): what must not be lost with this node is read back.
    """

    nodes: tuple[str, ...]
    needed: int
    because: str


@dataclass(frozen=True)
class SetLastRecord:
    """Tell a cluster that never had a primary which record is the last of this node's WAL (`<resource>-known`)."""

    node: str
    record: LastRecord
    because: str


@dataclass(frozen=True)
class SetVoters:
    """Record how many of which standbys must be heard before one of them is promoted (`<resource>-voters`)."""

    node: str
    voters: Voters
    because: str


@dataclass(frozen=True)
class PublishPosition:
    """Tell the cluster where this node's WAL ends, and whether that is for good."""

    node: str
    published: Published
    because: str


@dataclass(frozen=True)
class ShowLocation:
    """Show people in an election where this node's WAL ends (`<resource>-xlog-loc`)."""

    node: str
    position: Position
    because: str


@dataclass(frozen=True)
class WithdrawPosition:
    """Take this node's published position back."""

    node: str
    because: str


@dataclass(frozen=True)
class SetElection:
    """Say how an election on this node stands; empty ends it (`<resource>-election`)."""

    node: str
    value: str
    because: str


@dataclass(frozen=True)
class SetWhy:
    """Show people why a node is not promoted while nobody is; empty takes it back (`<resource>-not-promoted`)."""

    node: str
    why: str
    because: str


@dataclass(frozen=True)
class SetUnfit:
    """Show why a node's standby cannot be promoted as it runs; empty takes it back (`<resource>-unfit`)."""

    node: str
    why: str
    because: str


@dataclass(frozen=True)
class RestartStandby:
    """Restart this node's standby with the settings that it needs to be promoted."""

    because: str


@dataclass(frozen=True)
class SetReceiver:
    """Show the state of a node's WAL receiver (`<resource>-receiver-status`)."""

    node: str
    value: str
    because: str


@dataclass(frozen=True)
class SetReceives:
    """Tell the primary where this node's WAL receiver connects from (`<resource>-receiver-from`)."""

    node: str
    value: str
    because: str


@dataclass(frozen=True)
class CreateSlot:
    """Make a physical replication slot that holds WAL back from now on."""

    name: str
    because: str


@dataclass(frozen=True)
class DropSlot:
    """Drop a physical replication slot that nobody uses."""

    name: str
    because: str


@dataclass(frozen=True)
class StopReceiving:
    """End this standby's WAL receiver (process `pid`, 0 if there is none) and let it start none until `Receive`."""

    pid: int
    because: str


@dataclass(frozen=True)
class Receive:
    """Let this standby receive WAL from the primary again."""

    because: str


@dataclass(frozen=True)
class SetSynchronousStandbys:
    """Write synchronous_standby_names and reload."""

    standbys: SynchronousStandbys
    because: str


@dataclass(frozen=True)
class ProvokeReply:
    """Write a little WAL, so that the standbys report their positions now.

    A walsender releases waiting commits when its standby reports, and an idle standby reports every
    wal_receiver_status_interval (10 s): commits that waited for a standby that is gone would wait on for another one
    that has long had them (SyncRepReleaseWaiters is called from ProcessStandbyReplyMessage only).
    """

    because: str


@dataclass(frozen=True)
class EndWalsender:
    """End the walsender of a standby that is gone; TCP would not notice for wal_sender_timeout."""

    pid: int
    because: str


Change = (
    SetScore
    | SetDataStatus
    | SetStatus
    | SetRecord
    | SetPromotion
    | RememberPromotion
    | SetKnown
    | CountLowering
    | SetMet
    | Confirm
    | SetLastRecord
    | SetVoters
    | PublishPosition
    | ShowLocation
    | WithdrawPosition
    | SetElection
    | SetWhy
    | SetUnfit
    | RestartStandby
    | StopReceiving
    | Receive
    | SetSynchronousStandbys
    | ProvokeReply
    | SetReceiver
    | SetReceives
    | CreateSlot
    | DropSlot
    | EndWalsender
)


@dataclass(frozen=True)
class Plan:
    """What follows from a snapshot.

    `changes` are applied in order. `waiting_for` says that another look soon is worth while and what it hopes to see;
    `stalled` what only somebody else can bring about (fencing, quorum, an administrator). `refusal` says why the action
    must not do what it was asked to.
    """

    changes: tuple[Change, ...] = ()
    waiting_for: str = ""
    stalled: str = ""
    refusal: str = ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cluster in memory consists of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pgsql_ra.replication.changes import Change, Plan
from pgsql_ra.replication.lsn import Lsn, Position
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import (
    Membership,
    NodeState,
    Primary,
    ReplicationState,
    Snapshot,
    Standby,
    SynchronousStandbys,
    SyncState,
    Walsender,
)
from tests.unit.wal import Wal, position_of

Cib = dict[str, NodeState]

NOBODY = SynchronousStandbys()


def permanent_part(state: NodeState, membership: Membership) -> NodeState:
    """What is left of a node's attributes when attrd has forgotten it."""
    return NodeState(
        state.name,
        membership,
        data_status=state.data_status,
        record=state.record,
        promotion=state.promotion,
        proof=state.proof,
        voters=state.voters,
    )


def carry(permanent: NodeState, transient: NodeState | None) -> NodeState:
    """One CIB's permanent attributes, another one's transient ones."""
    if transient is None:
        return permanent_part(permanent, permanent.membership)
    return replace(
        transient,
        data_status=permanent.data_status,
        record=permanent.record,
        promotion=permanent.promotion,
        proof=permanent.proof,
        voters=permanent.voters,
    )


class Violation(AssertionError):
    """The promise was broken."""


@dataclass(frozen=True)
class Unkind:
    """What the decisions are not known to survive, or known not to."""

    torn_reloads: bool = True
    """An action is killed after it has written synchronous_standby_names and before it has told the server."""
    stale_positions: bool = True
    """The position that a standby published in an earlier election stands when it is down at the next promotion: its
    node did not get to the notification that withdraws it.
    """
    duplicate_rows: bool = False
    """A standby comes back beside its dead connection, and with several synchronous standbys counts twice.

    Not survived: PostgreSQL counts connections, not names, and only a replication slot keeps the second one out.
    """


@dataclass
class Row:
    """A walsender, alive or not."""

    node: str
    pid: int
    state: ReplicationState
    flush: Lsn
    setting: SynchronousStandbys = NOBODY
    """The setting as this walsender knows it."""


@dataclass
class Server:
    """One PostgreSQL server and its data directory."""

    wal: Wal = ()
    role: str = "stopped"
    was_primary: bool = False
    upstream: str = ""
    cut: bool = False
    """It receives from nobody, for a promotion."""
    rows: list[Row] = field(default_factory=list)
    in_file: SynchronousStandbys = NOBODY
    in_postmaster: SynchronousStandbys = NOBODY
    """What every later session sees."""
    in_checkpointer: SynchronousStandbys = NOBODY
    """Whether a commit waits at all."""
    waiting: list[int] = field(default_factory=list)
    """Commits on this primary whose clients wait for an answer."""

    def look(self) -> Primary:
        """What SQL tells of a primary."""
        synchronous = SyncState.QUORUM if self.in_postmaster.any_of else SyncState.SYNC
        rows = (
            Walsender(
                row.node,
                row.pid,
                row.state,
                synchronous
                if row.node in row.setting.names and row.node in self.in_postmaster.names
                else SyncState.ASYNC,
                row.flush,
                client=f"{row.node}:1",
            )
            for row in reversed(self.rows)
        )
        settled = self.in_checkpointer.is_like(self.in_postmaster)
        return Primary(1, position_of(self.wal), self.in_postmaster, self.in_file, settled, walsenders=tuple(rows))

    def end_rows(self, name: str) -> None:
        """All connections of a standby end."""
        self.rows = [row for row in self.rows if row.node != name]

    def flushed_by_enough(self, row: Row) -> Lsn:
        """Up to where this walsender releases commits: what so many standbys have flushed; 0 if it has no say in it."""
        setting = row.setting
        rows = [one for one in self.rows if one.state is ReplicationState.STREAMING and one.node in setting.names]
        if setting.any_of:
            # SyncRepGetSyncRecPtr, SYNC_REP_QUORUM: what so many of all of them have flushed.
            flushes = sorted((one.flush for one in rows), reverse=True)
            enough = row in rows and len(flushes) >= setting.any_of
            return flushes[setting.any_of - 1] if enough else Lsn(0)
        # SYNC_REP_PRIORITY: the first so many rows by priority, and the least of what they have flushed.
        first = sorted(rows, key=lambda one: setting.names.index(one.node))[: len(setting.names)]
        enough = row in first and len(first) == len(setting.names)
        return min((one.flush for one in first), default=Lsn(0)) if enough else Lsn(0)


@dataclass
class Action:
    """An action of the agent under way: what `converge` keeps between its steps."""

    leaving: frozenset[str]
    look: Primary | None = None
    settled: SynchronousStandbys | None = None
    mark: Lsn | None = None
    queue: list[Change] = field(default_factory=list)
    waits: bool = False
    torn: bool = False
    """The names are in the file, and nobody has been told."""


@dataclass
class Node:
    """A machine. `side` is its partition; `clean` counts while it is down: it was fenced, or it left properly.

    `on_disk` is the CIB that it had when it went down, `file` the newest promotion that it has heard of, `held` how far
    its WAL went when its monitor looked last. It is `unaware` while it has been cut off and corosync has not noticed:
    it still sees the others as members, and a quorum.
    """

    name: str
    cib: Cib
    server: Server = field(default_factory=Server)
    powered: bool = True
    clean: bool = False
    side: int = 0
    action: Action | None = None
    file: Promotion | None = None
    on_disk: Cib = field(default_factory=dict)
    unaware: bool = False
    held: Position | None = None


Reconcile = Callable[[Snapshot, Primary], Plan]
Decide = Callable[[Snapshot, Standby], Plan]

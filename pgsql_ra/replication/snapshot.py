# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen, as plain values: the server on this node, the cluster around it, and the few parameters that matter.

Unknown is a value of its own here, never a guess: a membership that cannot be told is UNCLEAN, a position that was not
published is None and counts as "could be anything".
"""

from dataclasses import dataclass, field
from enum import Enum

from pgsql_ra.replication.lsn import History, LastRecord, Lsn, Position
from pgsql_ra.replication.policy import Policy
from pgsql_ra.replication.record import Promotion, Proof, contradiction, newest
from pgsql_ra.replication.recovery import Recovery


class Membership(Enum):
    """What Pacemaker knows of a node, as far as safety depends on it."""

    MEMBER = "member"
    """In the same partition as this node, and Pacemaker runs on it."""
    CLEAN = "offline, clean"
    """Known to be down: it left properly or it was fenced."""
    UNCLEAN = "offline, unclean"
    """Lost, and nobody knows what it still does; fencing will end that."""


class Role(Enum):
    """The role of this resource's instance on a node, by Pacemaker's record of operations."""

    PROMOTED = "promoted"
    UNPROMOTED = "unpromoted"
    STOPPED = "stopped"
    UNKNOWN = "unknown"
    """Nothing is recorded: it never ran there, or somebody has cleaned that up."""


class ReplicationState(Enum):
    """`state` of pg_stat_replication."""

    STARTUP = "startup"
    CATCHUP = "catchup"
    STREAMING = "streaming"
    BACKUP = "backup"
    STOPPING = "stopping"
    UNKNOWN = "unknown"


class SyncState(Enum):
    """`sync_state` of pg_stat_replication."""

    ASYNC = "async"
    POTENTIAL = "potential"
    SYNC = "sync"
    QUORUM = "quorum"


@dataclass(frozen=True)
class Walsender:
    """One row of pg_stat_replication: a standby as the primary sees it. `node` is its application_name in lower
    case.
    """

    node: str
    pid: int
    state: ReplicationState
    sync_state: SyncState
    flush: Lsn | None
    client: str = ""
    """Where its connection comes from, `address:port`; "" if that is not known."""
    slot: str = ""
    """The replication slot that it uses."""


@dataclass(frozen=True)
class Slot:
    """A physical replication slot. `retained` is how much WAL it holds back, in bytes; `lost` that it holds none any
    more.
    """

    name: str
    active: bool
    lost: bool
    retained: int


@dataclass(frozen=True)
class Stopped:
    """No process works on the data directory. `because` says how that is known."""

    because: str = "no server process"


@dataclass(frozen=True)
class Unresponsive:
    """A server process is there, but it does not answer; what it still does is unknown."""

    pid: int
    because: str


@dataclass(frozen=True)
class Starting:
    """The postmaster is up and does not take connections yet (crash recovery, or shutting down)."""

    pid: int
    because: str


class Link(Enum):
    """Whether a standby may receive WAL from whoever answers at the primary's address."""

    OPEN = "open"
    CUT = "cut"
    """The agent has taken primary_conninfo away, for the time of a promotion."""
    TORN = "torn"
    """The file and what is in force say different things: whoever wrote it was killed before it told the server."""
    UNSEEN = "unseen"
    """What the server does may not be seen by who asks it: the file has to do."""
    FIXED = "fixed"
    """It cannot be taken away without a restart (before PostgreSQL 13)."""


@dataclass(frozen=True)
class Unread:
    """How far a standby has replayed that has more WAL than that: up to `received`, which may be in the middle of a
    record, or if that is None up to an unknown end in its files.
    """

    replayed: Lsn
    received: Lsn | None = None


@dataclass(frozen=True)
class Standby:
    """A server in recovery. `position` is the end of the WAL that it holds, replayed or not; None while that is not
    known yet, and then `unread` says what is known.
    """

    pid: int
    position: Position | None
    streaming: bool
    slots: tuple[Slot, ...] = ()
    unread: Unread | None = None
    link: Link = Link.OPEN
    receiver: int = 0
    """The process of its WAL receiver, 0 if there is none."""
    system: str = ""
    """PostgreSQL's system identifier; "" if it is not known."""
    endpoint: str = ""
    """Where its receiver's connection begins (see NodeState.receives); "" if that was not looked at."""
    recovery: Recovery = field(default_factory=Recovery)


@dataclass(frozen=True)
class SynchronousStandbys:
    """A synchronous_standby_names: commits wait for all of `names`, or if `any_of` is not 0 for any so many of them.

    Two are equal if commits wait by them in the same way: the order of names is no part of it.
    """

    names: tuple[str, ...] = ()
    any_of: int = 0

    def is_like(self, other: "SynchronousStandbys | None") -> bool:
        """Whether commits wait in the same way by both, however the names are ordered."""
        return other is not None and set(self.names) == set(other.names) and self.any_of == other.any_of

    @property
    def may_lack(self) -> int:
        """How many of the names may lack an acknowledged commit."""
        return len(self.names) - self.any_of if self.any_of else 0


@dataclass(frozen=True)
class Voters:
    """Recorded for the quorum method: whoever hears `needed` of `names` and takes the newest lacks no commit that was
    acknowledged under promotion `number`. Without names, nobody is promoted by quorum.

    `version` counts the changes of the record under one promotion, as other records count how often they were lowered
    (see record.py): an older version does not count.
    """

    number: int
    needed: int
    names: tuple[str, ...]
    version: int = 0

    @classmethod
    def parse(cls, text: str) -> "Voters":
        """Read `7: 2 of node2 node3` or, as its third version, `7.3: 2 of node2 node3`. ValueError if it is something
        else.

        >>> str(Voters.parse("7.3: 2 of node2 node3"))
        '7.3: 2 of node2 node3'
        """
        numbers, _, rest = text.strip().partition(":")
        number, dot, version = numbers.partition(".")
        needed, word, *names = rest.split() or [""]
        if word != "of":
            raise ValueError(f"not a number of voters: {text!r}")
        return cls(int(number), int(needed), tuple(name.lower() for name in names), int(version) if dot else 0)

    def __str__(self) -> str:
        version = f".{self.version}" if self.version else ""
        return f"{self.number}{version}: {self.needed} of {' '.join(self.names)}".rstrip()


@dataclass(frozen=True)
class Primary:
    """A server that takes writes.

    `synchronous` is the setting in force in the postmaster; `written` is what its file says, which the next reload,
    whoever asks for it, puts in force (None if the file is not the agent's to read); `settled` says that the
    checkpointer has taken it too, so that every later commit waits by it (see postgres.session).
    """

    pid: int
    position: Position
    synchronous: SynchronousStandbys = SynchronousStandbys()
    written: SynchronousStandbys | None = None
    settled: bool = False
    walsenders: tuple[Walsender, ...] = ()
    slots: tuple[Slot, ...] = ()
    system: str = ""
    """PostgreSQL's system identifier; "" if it is not known."""


ServerState = Stopped | Unresponsive | Starting | Standby | Primary


@dataclass(frozen=True)
class NodeState:
    """A node as the cluster's CIB shows it. Attributes that are not set are empty strings."""

    name: str
    membership: Membership
    role: Role = Role.STOPPED
    data_status: str = ""
    status: str = ""
    score: str = ""
    position: Position | None = None
    cut_for: int = 0
    """The number of the promotion for which it had stopped receiving when it published the position, so that this is
    where its WAL ends for good; 0: it may still grow.
    """
    system: str = ""
    """The system identifier of the database in which it published the position; "" if it does not say."""
    went_back: bool = False
    """It says that its WAL had gone further already: its data directory was replaced by an older copy."""
    location: str = ""
    """The LSN of the position as the attribute `<resource>-xlog-loc` shows it to people during an election."""
    record: History | None = None
    """Its timelines when it was last promoted (permanent, written by that primary itself)."""
    promotion: Promotion | None = None
    """The promotion under which this node's data-status was said; on the primary its own (permanent)."""
    proof: Proof | None = None
    """What its data-status rests on; None on the primary, and where nothing was proven (permanent)."""
    known: Promotion | None = None
    """The newest promotion that this node has heard of, and how often records were lowered under it."""
    met: frozenset[str] = frozenset()
    """Whom this node has seen as members since Pacemaker was started on it, as it says itself."""
    last: LastRecord | None = None
    """The last record of its WAL, as it says itself while it knows of no promotion."""
    voters: Voters | None = None
    """On the primary: who may be promoted by the quorum method (permanent)."""
    priority: int = 1
    """What the administrator gave it (permanent): the highest is preferred, 0 is never promoted."""
    election: str = ""
    why: str = ""
    """Why this node is not promoted while nobody is, in its own words (`<resource>-not-promoted`)."""
    receiver: str = ""
    """`<resource>-receiver-status`."""
    receives: str = ""
    """Where its WAL receiver's connection begins, `address:port`, as it says itself (`<resource>-receiver-from`);
    with "gone " before it if that one has ended, "none" if there was none, "" if it has not said anything.
    """
    unfit: str = ""
    """Why its standby cannot be promoted as it runs, in its own words (`<resource>-unfit`; see fitness.py)."""

    @property
    def key(self) -> str:
        """The name as it is compared: PostgreSQL and the parameters fold case, Pacemaker does too."""
        return self.name.lower()


@dataclass(frozen=True)
class ClusterState:
    """The cluster as this node's partition sees it."""

    quorum: bool
    fencing: bool
    nodes: tuple[NodeState, ...] = ()
    quorum_needed: bool = True
    """False if no-quorum-policy is `ignore`: the administrator gave the question to somebody else."""

    def node(self, name: str) -> NodeState | None:
        """The node of this name, in any case; None if the cluster does not know it."""
        return next((node for node in self.nodes if node.key == name.lower()), None)

    @property
    def may_decide(self) -> bool:
        """Whether a statement made now is made for the whole cluster."""
        return self.quorum or not self.quorum_needed


@dataclass(frozen=True)
class Snapshot:
    """Everything that a decision may look at.

    `leaving` are nodes whose instance stops now or has just stopped, as a notification said. `mark` is the primary's
    flush position at an earlier look of the same action that already saw the present synchronous names settled.
    `remembered` is the newest promotion in this node's own file. In a cluster that never had a primary, `last` is the
    last record of this node's WAL, and `unlike` names the nodes of which the last record contradicts it.
    """

    server: ServerState
    cluster: ClusterState
    policy: Policy
    leaving: frozenset[str] = field(default_factory=frozenset)
    mark: Lsn | None = None
    remembered: Promotion | None = None
    held: Position | None = None
    """How far this node's WAL went when one of its monitors looked last, by its own file."""
    last: LastRecord | None = None
    unlike: tuple[str, ...] = ()

    @property
    def promotions(self) -> tuple[Promotion | None, ...]:
        """Every account of a promotion: this node's file, what the nodes say, what is recorded of them."""
        nodes = self.cluster.nodes
        said = [node.known for node in nodes if node.membership is Membership.MEMBER]
        return (self.remembered, *said, *(node.promotion for node in nodes))

    @property
    def newest(self) -> Promotion | None:
        """The newest promotion that anybody here knows of."""
        return newest(self.promotions)

    @property
    def next_number(self) -> int:
        """The number of the promotion that comes next."""
        newest = self.newest
        return (newest.number if newest else 0) + 1

    @property
    def contradiction(self) -> str:
        """Why nobody can tell which promotion is the newest; "" if that is clear."""
        return contradiction(self.promotions)

    @property
    def own(self) -> NodeState:
        """This node; one without attributes if the CIB does not show it."""
        return self.cluster.node(self.policy.node) or NodeState(self.policy.node, Membership.MEMBER)

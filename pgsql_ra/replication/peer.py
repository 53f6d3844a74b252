# SPDX-License-Identifier: GPL-2.0-or-later
"""One standby in the eyes of its primary, and how what is said of it is changed."""

from collections.abc import Iterator
from typing import Final

from pgsql_ra.replication.changes import (
    Change,
    CountLowering,
    EndWalsender,
    SetDataStatus,
    SetPromotion,
    SetScore,
    SetStatus,
    WithdrawPosition,
)
from pgsql_ra.replication.lsn import Lsn
from pgsql_ra.replication.record import Promotion, Proof
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Membership,
    NodeState,
    Primary,
    ReplicationState,
    Snapshot,
    SyncState,
    Walsender,
)
from pgsql_ra.replication.status import (
    DISCONNECT,
    SCORE_NEVER,
    STATUS_STOPPED,
    STATUS_UNKNOWN,
    STREAMING_ASYNC,
    STREAMING_SYNC,
    data_status,
    may_be_promoted,
    score_value,
    standby_score,
    standby_status,
)

LIVING: Final = (ReplicationState.STREAMING, ReplicationState.CATCHUP)
NOTHING_RECEIVED: Final = "none"
GONE: Final = "gone "
"""What a node says before the address of a connection that has ended."""


def _host(client: str) -> str:
    return client.rpartition(":")[0]


def members(cluster: ClusterState) -> tuple[str, ...]:
    """Every node on which Pacemaker runs in this partition: they hear what is said here."""
    return tuple(node.name for node in cluster.nodes if node.membership is Membership.MEMBER)


class Peer:
    """One member beside this primary: its row, its node, and whether commits may wait for it."""

    def __init__(self, snapshot: Snapshot, server: Primary, name: str, promotion: Promotion) -> None:
        """`promotion` is the one that made this server a primary."""
        self.name = name
        # A name in node_list that the cluster does not know can neither be recorded nor promoted: it is left out
        # before.
        self.node = snapshot.cluster.node(name) or NodeState(name, Membership.UNCLEAN)
        self.promotion = promotion
        self.rows = tuple(row for row in server.walsenders if row.node == name)
        self.is_member = self.node.membership is Membership.MEMBER
        gone = not self.is_member or name in snapshot.leaving
        self._slot = dict(snapshot.policy.slots).get(name, "")
        self.stranger = "" if gone else self._find_stranger()
        # A standby that came back may have its old connection's row beside the new one (rows come newest first).
        may_be = [row for row in self.rows if self.owns(row) or self._may_own(row)]
        streaming = [row for row in may_be if row.state is ReplicationState.STREAMING]
        first = [*filter(self.owns, streaming), *streaming, *may_be]
        self.row = None if gone or self.stranger else next(iter(first), None)
        self.streams = self.row is not None and self.row.state is ReplicationState.STREAMING
        self.is_identified = self.row is not None and self.owns(self.row)
        self.is_named = name in server.synchronous.names
        # Whoever is to be waited for anew has to be known; who is waited for already has a moment to say who it is.
        self.is_able = self.streams and self.node.priority > 0 and (self.is_identified or self.is_named)
        self.mode = snapshot.policy.mode
        # Whether anybody might take its record for a permission, and whether it was made under this promotion.
        self.is_promotable = may_be_promoted(self.node.data_status, self.mode)
        self.times_lowered = promotion.times_lowered(name)
        self.is_proven = self.is_promotable and self._is_current and not self._went_back
        self.system = server.system
        self.hearers = members(snapshot.cluster)

    # ---- whose connection it is (anybody may call itself by the name of a node)

    def owns(self, row: Walsender) -> bool:
        """Whether this connection is the node's own for certain: it begins where the node says, or uses its slot."""
        return bool((row.client and row.client == self.node.receives) or (row.slot and row.slot == self._slot))

    def _may_own(self, row: Walsender) -> bool:
        """Whether it may be: the node has connected anew, and has not said so yet; or has said nothing at all."""
        said = self.node.receives.removeprefix(GONE)
        return not said or (":" in said and _host(row.client) == _host(said))

    def _find_stranger(self) -> str:
        """What to say if somebody else has connected by this name, or if it cannot be told who is who; else "".

        Commits that wait for this name are then released by anybody's word: it is no proof any more.
        """
        living = [row for row in self.rows if row.state in LIVING]
        foreign = [row for row in living if not self.owns(row) and not self._may_own(row)]
        if not foreign and len({_host(row.client) for row in living}) <= 1:
            return ""
        whom = " and ".join(sorted({row.client or "an unknown address" for row in foreign or living}))
        receives = {"": "has not said where it connects from", NOTHING_RECEIVED: "says that it receives nothing"}
        own = receives.get(self.node.receives, f"connects from {self.node.receives}")
        return (
            f"somebody at {whom} calls itself {self.name}, and {self.name} {own}: give the other one another"
            " application_name (if there is NAT between the nodes, set replication_slot_name)"
        )

    @property
    def waits_to_be_known(self) -> bool:
        """Whether it streams, and has only to say so itself to be known."""
        return self.streams and not self.is_identified

    @property
    def flushed(self) -> int:
        """Up to where it has flushed what it received; -1 if that is not known."""
        return -1 if self.row is None or self.row.flush is None else int(self.row.flush)

    @property
    def _is_current(self) -> bool:
        """Whether its record was made under this promotion, and was not lowered since."""
        lowered = self.node.proof.lowered if self.node.proof else 0
        return self.promotion.is_same(self.node.promotion) and lowered >= self.times_lowered

    @property
    def _went_back(self) -> bool:
        """Whether it holds less than when its record was made: its data directory was replaced by an older one."""
        return self.streams and self.node.proof is not None and 0 <= self.flushed < self.node.proof.flushed

    @property
    def is_synchronous(self) -> bool:
        """Whether its walsender releases commits that wait."""
        return self.row is not None and self.row.sync_state in (SyncState.SYNC, SyncState.QUORUM)

    @property
    def is_arriving(self) -> bool:
        """Whether its connection is being made just now: what it is will be seen in a moment."""
        return self.row is not None and self.row.state is ReplicationState.STARTUP

    @property
    def may_be_released(self) -> bool:
        """Whether its record, once written, is known to whoever could promote it."""
        return self.node.membership is not Membership.UNCLEAN

    @property
    def score(self) -> str:
        """The score that it has if its record says that it may be promoted."""
        fit = self.node.priority > 0 and not self.node.unfit
        return standby_score(self.node.priority) if fit else SCORE_NEVER

    # ---- what is said of it

    def tidy(self) -> Iterator[Change]:
        """What must not be left over: a position from an election, which would be taken for where its WAL ends now; and
        a dead connection beside the living one, because two walsenders of one name count as two standbys.
        """
        if self.node.position is not None and self.is_member:
            yield WithdrawPosition(self.node.name, "the cluster has a primary")
        if self.row is None or not self.streams or not self.is_identified:
            return
        # Rows come newest first: what comes after its own, from the same host, is what it has left behind.
        older = self.rows[self.rows.index(self.row) + 1 :]
        for row in self.rows:
            if row is not self.row and (
                self.owns(row) or (row in older and _host(row.client) == _host(self.row.client))
            ):
                yield EndWalsender(row.pid, f"{self.name} has another connection")

    def say(self, value: str, score: str) -> Iterator[Change]:
        """Bring its attributes to what they should be. Lowering goes count, score, record, number; raising the reverse.

        The number is that of the promotion under which the record is made: only with the newest one it counts, and
        only until the next time that it is lowered.
        """
        because = self._reason(value)
        scores = tuple(self._set_score(score, because))
        record: tuple[Change, ...] = ()
        if self.node.data_status != value:
            record = (SetDataStatus(self.node.name, value, because),)
        if may_be_promoted(value, self.mode):
            record = (*(() if self.is_proven else self._prove(because)), *record)
        else:
            yield from self._count(because)
            if self.row is not None:
                record = (*record, *self._stamp(because))
        yield from (*scores, *record) if score_value(score) < 0 else (*record, *scores)
        if self.row is None or self.node.status in (STATUS_STOPPED, STATUS_UNKNOWN):
            return  # what the node says of itself stands
        status = standby_status(self.row)
        if status != self.node.status:
            yield SetStatus(self.node.name, status, because)

    def say_not_promotable(self) -> Iterator[Change]:
        """Score first, then the durable record; both before anything that lets commits go on without this node."""
        value = data_status(self.row)
        if value == STREAMING_SYNC:
            # The walsender calls it synchronous already; commits are not known to wait for it yet.
            value = STREAMING_ASYNC
        yield from self.say(value, SCORE_NEVER)

    def end_dead_walsenders(self) -> Iterator[Change]:
        """TCP would not notice for wal_sender_timeout that its node is gone. A lost one may still stream."""
        if self.node.membership is Membership.CLEAN:
            for row in self.rows:
                yield EndWalsender(row.pid, f"{self.name} is {self.node.membership.value}")

    def _count(self, because: str) -> Iterator[Change]:
        """A record that counts now is about to be taken back."""
        if self.is_promotable and self._is_current:
            count = self.times_lowered + 1
            yield CountLowering(self.name, count, self.promotion, self.hearers, because)

    def _prove(self, because: str) -> Iterator[Change]:
        proof = Proof(self.times_lowered, Lsn(max(0, self.flushed)), self.system)
        if self.node.proof != proof or not self.promotion.is_same(self.node.promotion):
            stamp = Promotion(self.promotion.number, self.promotion.node)
            yield SetPromotion(self.node.name, stamp, because, proof)

    def _stamp(self, because: str) -> Iterator[Change]:
        if not self.promotion.is_same(self.node.promotion):
            yield SetPromotion(self.node.name, Promotion(self.promotion.number, self.promotion.node), because)

    def _set_score(self, score: str, because: str) -> Iterator[Change]:
        if self.is_member and self.node.score != score:
            yield SetScore(self.node.name, score, because)

    def _reason(self, value: str) -> str:
        if self.stranger:
            return self.stranger
        if value == DISCONNECT and self.waits_to_be_known:
            return f"{self.name} has not said yet which connection is its own"
        if value != DISCONNECT:
            return f"pg_stat_replication shows {self.name} as {value}"
        if self.node.membership is Membership.CLEAN:
            return f"node {self.name} is down"
        if self.rows and self.is_member:
            return f"the standby on {self.name} stops"
        return f"no standby called {self.name} is connected"

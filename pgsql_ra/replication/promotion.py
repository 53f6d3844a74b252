# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may become the primary: elections while there is none, and the last word in `promote`.

The law (SAFETY: "Election", "Promotion").
  * sync mode: a node whose record allows it holds every acknowledged commit. So does a standby that was heard to be at
    or past such a node on the same history. Nobody else is promoted without an administrator's word.
  * async mode: the most advanced of all that were heard.
  * A node elects itself only when every member that could hold newer data is accounted for: it published where its WAL
    ends, or its record says that it is behind. For members that never say anything, `xlog_check_count` bounds the wait.
  * `promote` asks again, by itself, with what is known then: scores are hints that Pacemaker may act on too early.
"""

from collections.abc import Iterator

from pgsql_ra.replication.changes import (
    Change,
    Plan,
    PublishPosition,
    SetDataStatus,
    SetElection,
    SetScore,
    SetStatus,
    ShowLocation,
    WithdrawPosition,
)
from pgsql_ra.replication.lsn import Order, Position
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.rejoin import beyond_fork
from pgsql_ra.replication.snapshot import Membership, Mode, NodeState, Role, Snapshot, Standby
from pgsql_ra.replication.status import (
    DISCONNECT,
    LATEST,
    SCORE_NEVER,
    SCORE_PRIMARY,
    STATUS_ALONE,
    STATUS_STOPPED,
    STATUS_UNKNOWN,
    may_be_promoted,
    score_value,
)


def watch(snapshot: Snapshot, server: Standby) -> Plan:
    """What a standby does in a monitor: nothing while there is a primary, an election while there is none."""
    primaries = other_primaries(snapshot.cluster, snapshot.policy.node)
    if not primaries:
        return elect(snapshot, server)
    return Plan(tuple(_calm(snapshot)), refusal=_diverged(snapshot, server, primaries))


def _diverged(snapshot: Snapshot, server: Standby, primaries: tuple[str, ...]) -> str:
    """Why this standby can never follow the primary; "" if it can, or if that is not known."""
    primary = snapshot.cluster.node(primaries[0])
    if len(primaries) > 1 or primary is None or primary.record is None or server.position is None or server.streaming:
        return ""
    if server.position.leads_to(primary.record):
        return ""
    return beyond_fork(snapshot.own.name, server.position, primary.name, primary.record)


def elect(snapshot: Snapshot, server: Standby) -> Plan:
    """Publish this node's position and, when everybody is accounted for, decide whether this node is the one."""
    own = snapshot.own
    if (wait := _await_heir(snapshot)) is not None:
        return wait
    alone = [] if own.status == STATUS_ALONE else [SetStatus(own.name, STATUS_ALONE, "the cluster has no primary")]
    if not snapshot.cluster.may_decide:
        return Plan(tuple(alone), stalled="no quorum: nobody is elected")
    if server.position is None:
        return Plan(tuple(alone), waiting_for="the server to have read all of its own WAL")
    changes: list[Change] = [*alone]
    if own.position != server.position:
        changes.append(PublishPosition(own.name, server.position, "the cluster has no primary"))
    if own.location != server.position.lsn.padded():
        changes.append(ShowLocation(own.name, server.position, "the cluster has no primary"))
    silent = tuple(_silent(snapshot))
    wait = _await_silent(snapshot, silent) if silent else None
    if wait is not None:
        return Plan(tuple(changes) + wait.changes, wait.waiting_for, wait.stalled)
    return Plan(tuple(changes + list(_verdict(snapshot, server.position))))


def freeze(snapshot: Snapshot, server: Standby, promoted: str) -> Plan:
    """Before a promotion: say where this node's WAL ends, and let the best of those heard have the score.

    Run by every standby in the pre-promote notification. `promoted` is the node that Pacemaker is about to promote.
    """
    if server.position is None:
        return Plan(waiting_for="the server to have read all of its own WAL")
    own = snapshot.own
    changes: list[Change] = []
    if own.position != server.position:
        changes.append(PublishPosition(own.name, server.position, f"{promoted} is to be promoted"))
    missing = [node.name for node in _standbys(snapshot) if node.key != own.key and node.position is None]
    if missing:
        return Plan(tuple(changes), waiting_for=f"the position of {', '.join(missing)}")
    best = _best(snapshot, _takeover(snapshot, _heard(snapshot, server.position), promoted), promoted)
    if best is None or best == promoted.lower():
        return Plan(tuple(changes))
    because = f"{best} holds newer data than {promoted}"
    if best == own.key:
        changes += _score(own, SCORE_PRIMARY, because)
    elif own.key == promoted.lower() and score_value(own.score) > 0:
        changes += _score(own, SCORE_NEVER, because)
    return Plan(tuple(changes))


def decide_promotion(snapshot: Snapshot, server: Standby) -> Plan:
    """The last word before this server is promoted: the records to write first, or the reason why it must not be."""
    own, cluster, policy = snapshot.own, snapshot.cluster, snapshot.policy
    if not cluster.may_decide:
        return Plan(refusal="this partition has no quorum: another partition may have a primary")
    rivals = other_primaries(cluster, policy.node)
    if rivals:
        return Plan(refusal=f"{', '.join(rivals)} still runs as the primary")
    unclean = [node.name for node in cluster.nodes if cluster.fencing and node.membership is Membership.UNCLEAN]
    lost = [name for name in unclean if name.lower() in policy.members]
    if lost:
        return Plan(waiting_for=f"{', '.join(lost)} to be fenced: it may still be the primary")
    if server.position is None:
        return Plan(waiting_for="the server to have read all of its own WAL")
    heard = _takeover(snapshot, _heard(snapshot, server.position), own.key)
    best = _best(snapshot, heard, own.key)
    if best is None:
        return Plan(refusal=_why_nobody(snapshot, heard))
    if best != own.key:
        there, here = heard[best].position, server.position
        changes = (*_score(own, SCORE_NEVER, f"{best} holds newer data"),)
        ends = f"its WAL ends at {there.lsn} on timeline {there.timeline}, ours at {here.lsn} on {here.timeline}"
        return Plan(changes, refusal=f"{best} holds newer data: {ends}")
    return Plan(tuple(_records(snapshot)))


def _records(snapshot: Snapshot) -> Iterator[Change]:
    """Durable statements first: whoever reads them later knows that only this node holds what is committed from now
    on.
    """
    for name in snapshot.policy.peers:
        node = snapshot.cluster.node(name)
        if node is None:
            continue
        because = f"{snapshot.own.name} is being promoted and waits for nobody"
        if node.data_status != DISCONNECT:
            yield SetDataStatus(node.name, DISCONNECT, because)
        if node.membership is Membership.MEMBER and node.score:
            yield from _score(node, SCORE_NEVER, because)
    if snapshot.own.data_status != LATEST:
        yield SetDataStatus(snapshot.own.name, LATEST, "this node is being promoted")


def _calm(snapshot: Snapshot) -> Iterator[Change]:
    """With a primary in place, the traces of an election go."""
    own = snapshot.own
    if own.election:
        yield SetElection(own.name, "", "the cluster has a primary")
    if own.position is not None or own.location:
        yield WithdrawPosition(own.name, "the cluster has a primary")
    if own.data_status == DISCONNECT and own.status != STATUS_ALONE:
        yield SetStatus(own.name, STATUS_ALONE, "the primary does not see this standby")
    elif own.status in ("", STATUS_STOPPED, STATUS_UNKNOWN):
        # Not at the end of start: a write to the CIB there makes Pacemaker compute a failover under way once more.
        yield SetStatus(own.name, STATUS_ALONE, "this server runs as a standby")


def _standbys(snapshot: Snapshot) -> Iterator[NodeState]:
    """The members on which a standby runs now."""
    for name in snapshot.policy.members:
        node = snapshot.cluster.node(name)
        if (
            node
            and node.membership is Membership.MEMBER
            and node.role is Role.UNPROMOTED
            and name not in snapshot.leaving
        ):
            yield node


def _silent(snapshot: Snapshot) -> Iterator[NodeState]:
    """The members that could hold newer data than anybody who was heard."""
    for name in snapshot.policy.peers:
        node = snapshot.cluster.node(name) or NodeState(name, Membership.UNCLEAN)
        was_heard = node.position is not None and node.membership is Membership.MEMBER
        if not was_heard and may_be_promoted(node.data_status, snapshot.policy.mode):
            yield node


def heir(snapshot: Snapshot) -> str:
    """The standby that may be promoted already, so that no election is needed; "" if there is none."""
    ready = (node.name for node in _standbys(snapshot) if score_value(node.score) > 0)
    return next(ready, "")


def _await_heir(snapshot: Snapshot) -> Plan | None:
    """While a standby with a positive score is there, its promotion is Pacemaker's next step and nobody is elected.

    Should Pacemaker not be able to (a ban, a constraint), the election begins after the usual number of looks.
    """
    name = heir(snapshot)
    if not name:
        return None
    if name.lower() == snapshot.own.key:
        return Plan()
    return _count_round(snapshot, name, f"{name} can be promoted")


def _await_silent(snapshot: Snapshot, silent: tuple[NodeState, ...]) -> Plan | None:
    """Wait for members that say nothing: those that run will speak in a moment, the others get a bounded number of
    looks.

    None when the wait is over.
    """
    own, policy = snapshot.own, snapshot.policy
    names = ", ".join(node.name for node in silent)
    running = {node.key for node in _standbys(snapshot)}
    if expected := [node.name for node in silent if node.key in running]:
        return Plan(waiting_for=f"the position of {', '.join(expected)}")
    if not may_be_promoted(own.data_status, policy.mode):
        return Plan(stalled=f"{_why_not(own)}; {names} may be ahead of it and does not run")
    return _count_round(snapshot, names, f"{names} may hold newer data")


def _count_round(snapshot: Snapshot, names: str, because: str) -> Plan | None:
    """One look more in which an election waits; None when there were enough of them."""
    own, rounds = snapshot.own, snapshot.policy.election_rounds
    done = _rounds(own.election)
    if done >= rounds:
        return None
    change = SetElection(own.name, f"{done + 1}/{rounds} waits for {names}", because)
    return Plan((change,), stalled=f"the election waits for {names}: {because}")


def _rounds(election: str) -> int:
    """How many looks an election has waited, as its attribute says; what cannot be read counts as none."""
    count, slash, _ = election.partition("/")
    return int(count) if slash and count.isdigit() else 0


def _verdict(snapshot: Snapshot, position: Position) -> Iterator[Change]:
    own = snapshot.own
    heard = _heard(snapshot, position)
    best = _best(snapshot, heard, "")
    if best == own.key:
        yield from _score(
            own, SCORE_PRIMARY, f"its data is the newest of all that were heard (WAL ends at {position.lsn})"
        )
    elif score_value(own.score) > 0 or not own.score:
        yield from _score(own, SCORE_NEVER, f"{best} holds newer data" if best else _why_nobody(snapshot, heard))


def _heard(snapshot: Snapshot, position: Position) -> dict[str, "_Candidate"]:
    """Every member whose position is known, this node by its server and not by its attribute."""
    heard = {snapshot.own.key: _Candidate(snapshot.own, position)}
    for node in _standbys(snapshot):
        if node.key != snapshot.own.key and node.position is not None:
            heard[node.key] = _Candidate(node, node.position)
    return heard


class _Candidate:
    """A node and where its WAL ends."""

    def __init__(self, node: NodeState, position: Position) -> None:
        self.node = node
        self.position = position

    def holds_all_of(self, other: "_Candidate") -> bool:
        return self.position.compare(other.position) in (Order.NEWER, Order.EQUAL)

    def proves_to_hold_all_of(self, other: "_Candidate") -> bool:
        return self.position.timeline == other.position.timeline and self.holds_all_of(other)


def _best(snapshot: Snapshot, heard: dict[str, _Candidate], preferred: str) -> str | None:
    """The node to promote: the one that holds what every other eligible one holds; None if there is no such node.

    Where several hold the same, `preferred` wins, then the former primary, then the order of node_list.
    """
    allowed = [one for one in heard.values() if may_be_promoted(one.node.data_status, snapshot.policy.mode)]
    if not allowed:
        return None
    eligible = dict(heard)
    if snapshot.policy.mode is Mode.SYNC:
        # A record that allows it, or proof by position of holding all that such a node holds. Positions on different
        # timelines prove nothing: one of them may be left over from an earlier election.
        eligible = {
            key: one
            for key, one in heard.items()
            if one in allowed or any(one.proves_to_hold_all_of(holder) for holder in allowed)
        }
    newest = [key for key, one in eligible.items() if all(one.holds_all_of(other) for other in eligible.values())]

    def rank(key: str) -> tuple[bool, bool, int]:
        is_former = eligible[key].node.data_status == LATEST
        return (key != preferred.lower(), not is_former, snapshot.policy.members.index(key))

    return min(newest, key=rank, default=None)


def _takeover(snapshot: Snapshot, heard: dict[str, "_Candidate"], promoted: str) -> dict[str, "_Candidate"]:
    """Those who count when `promoted` takes over: in sync mode not a primary that crashed and was started as a standby.

    What that one holds beyond the synchronous standby was acknowledged to nobody, and a failover under way is not
    turned back for it. In async mode it holds commits that were acknowledged, and counts.
    """
    if snapshot.policy.mode is Mode.ASYNC:
        return heard
    return {key: one for key, one in heard.items() if one.node.data_status != LATEST or key == promoted.lower()}


def _why_nobody(snapshot: Snapshot, heard: dict[str, _Candidate]) -> str:
    if any(may_be_promoted(one.node.data_status, snapshot.policy.mode) for one in heard.values()):
        ends = ", ".join(f"{one.node.name} ends at {one.position}" for one in heard.values())
        return f"the histories of the copies contradict each other, a person has to choose: {ends}"
    return _why_not(snapshot.own)


def _why_not(own: NodeState) -> str:
    return (
        f"{own.name} is recorded as {own.data_status or 'empty'}: it may lack acknowledged commits. If no better copy"
        f" is left, set its data-status attribute to {LATEST} (see the README, 'When nothing is promoted')"
    )


def _score(node: NodeState, score: str, because: str) -> Iterator[Change]:
    if node.score != score:
        yield SetScore(node.name, score, because)

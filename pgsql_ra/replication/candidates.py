# SPDX-License-Identifier: GPL-2.0-or-later
"""Which copies of the data hold what must not be lost, and which of them is to be promoted.

The law (SAFETY: "Election", "Promotion").
  * A record counts only if it was made under the newest promotion that anybody knows of (see record.py); the node which
    that one names counts whatever its record says.
  * sync mode: a node whose record allows it holds every acknowledged commit. So does the newest of enough voters (see
    quorum.py), and a standby that was heard to be at or past such a node on the same history. Nobody else is promoted
    without an administrator's word.
  * async mode: the most advanced of all that were heard.
  * A position proves something only beside another one under the same promotion: a timeline number is not an identity
    (restart_on_promote keeps it, two forks at one place share it). The last word before a promotion counts those
    positions only that were published after their receivers had been stopped for this very promotion.
"""

from collections.abc import Iterator
from dataclasses import replace

from pgsql_ra.replication.fitness import unfitness
from pgsql_ra.replication.lsn import Order, Position
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.primary import is_member
from pgsql_ra.replication.snapshot import Membership, NodeState, Role, Snapshot, Standby, Voters
from pgsql_ra.replication.status import LATEST, may_be_promoted


class Candidate:
    """A node and where its WAL ends."""

    def __init__(self, node: NodeState, position: Position, system: str = "") -> None:
        """`system` is the identifier of the database that it holds."""
        self.node = node
        self.position = position
        self.system = system or node.system

    def holds_all_of(self, other: "Candidate") -> bool:
        """Whether it has at least what the other one has."""
        return self.position.compare(other.position) in (Order.NEWER, Order.EQUAL)

    def proves_to_hold_all_of(self, other: "Candidate") -> bool:
        """The same, and both are on one timeline.

        Positions on different timelines prove nothing: one of them may be left over from an earlier election.
        """
        return self.position.timeline == other.position.timeline and self.holds_all_of(other)

    @property
    def keeps_its_proof(self) -> bool:
        """Whether it still is what its record was made of."""
        proof = self.node.proof
        if proof is None:
            return True
        is_other = bool(proof.system and self.system and proof.system != self.system)
        return not is_other and self.position.lsn >= proof.flushed

    def is_given_up_by(self, other: "Candidate") -> bool:
        """Whether it is on a branch that the other one's history gave up."""
        diverged = self.position.compare(other.position) is Order.DIVERGED
        return diverged and other.position.history.left(self.position.timeline) is not None


Heard = dict[str, Candidate]
"""Every member whose position is known, by name in lower case."""


def standbys(snapshot: Snapshot) -> Iterator[NodeState]:
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


def heard_by(snapshot: Snapshot, position: Position) -> Heard:
    """Everybody who was heard, this node by its server and not by its attribute."""
    system = snapshot.server.system if isinstance(snapshot.server, Standby) else ""
    own = replace(snapshot.own, unfit=unfitness(snapshot.server))
    heard = {own.key: Candidate(own, position, system)}
    for node in standbys(snapshot):
        if node.key != snapshot.own.key and node.position is not None:
            heard[node.key] = Candidate(node, node.position)
    return heard


def cut_off(snapshot: Snapshot, position: Position) -> Heard:
    """Those of the heard whose WAL cannot grow any more: they stopped receiving for the promotion that comes next.

    This node's own may: what it still receives, it has when it is promoted.
    """
    heard = heard_by(snapshot, position)
    return {
        key: one for key, one in heard.items() if key == snapshot.own.key or one.node.cut_for == snapshot.next_number
    }


def not_cut_off(snapshot: Snapshot, position: Position) -> list[NodeState]:
    """The running standbys that could hold what this node lacks and whose last word is still to come."""
    heard, quorum = cut_off(snapshot, position), voters(snapshot)
    return [
        node
        for node in standbys(snapshot)
        if node.key not in heard
        and (
            counts(snapshot, node)
            or (quorum is not None and node.key in quorum.names)
            or (snapshot.policy.mode is Mode.ASYNC and has_followed(snapshot, node))
        )
    ]


def counts(snapshot: Snapshot, node: NodeState) -> bool:
    """Whether by its record this node may be promoted: one that was made under the newest promotion, or the node that
    this one names.
    """
    promotion = snapshot.newest
    if promotion is not None and promotion.node == node.key:
        return True
    if promotion is not None and promotion.is_void:
        return has_followed(snapshot, node)  # if it holds what that one would have begun with (see `holders`)
    return is_current(snapshot, node) and may_be_promoted(node.data_status, snapshot.policy.mode)


def is_current(snapshot: Snapshot, node: NodeState) -> bool:
    """Whether what is recorded of it was said under the newest promotion, and was not taken back since."""
    newest, lowered = snapshot.newest, node.proof.lowered if node.proof else 0
    if newest is None:
        return node.promotion is None or node.promotion.number == 0
    number = node.promotion.number if node.promotion else 0
    return number == newest.number and lowered >= newest.times_lowered(node.key)


def has_followed(snapshot: Snapshot, node: NodeState) -> bool:
    """Whether its primary has seen it under the newest promotion, or it was that primary: only then can its position be
    compared. If the newest one did not come about, one under which the last one was that did will do.
    """
    newest, number = snapshot.newest, node.promotion.number if node.promotion else 0
    if newest is None:
        return number == 0
    return (newest.previous if newest.is_void else newest.number) <= number <= newest.number


def voters(snapshot: Snapshot) -> Voters | None:
    """Who may be promoted by quorum; None if nobody may."""
    promotion = snapshot.newest
    primary = snapshot.cluster.node(promotion.node) if promotion else None
    if snapshot.policy.mode is Mode.ASYNC or promotion is None or primary is None or primary.voters is None:
        return None
    recorded = primary.voters
    is_current = recorded.number == promotion.number and recorded.version >= promotion.times_lowered(primary.key)
    return recorded if is_current and recorded.names else None


def silent(snapshot: Snapshot) -> Iterator[NodeState]:
    """The members that could hold newer data than anybody who was heard, or without whom too few were heard.

    Nobody, if the node that was promoted last is heard: whatever the others have, they have from it.
    """
    if _source_is_heard(snapshot):
        return
    quorum = voters(snapshot)
    unheard = [name for name in quorum.names if not _is_heard(snapshot, name)] if quorum else []
    missing = unheard if quorum and len(quorum.names) - len(unheard) < quorum.needed else []
    for name in snapshot.policy.peers:
        node = snapshot.cluster.node(name) or NodeState(name, Membership.UNCLEAN)
        if not _is_heard(snapshot, name) and (counts(snapshot, node) or name in missing):
            yield node


def _source_is_heard(snapshot: Snapshot) -> bool:
    promotion = snapshot.newest
    if promotion is None or promotion.is_void:
        return False
    if promotion.node == snapshot.own.key:
        position = snapshot.server.position if isinstance(snapshot.server, Standby) else None
    else:
        position = next((node.position for node in standbys(snapshot) if node.key == promotion.node), None)
    return position is not None and promotion.is_held_by(position)


def _is_heard(snapshot: Snapshot, name: str) -> bool:
    node = snapshot.cluster.node(name)
    if name == snapshot.own.key:
        return True
    return node is not None and node.position is not None and node.membership is Membership.MEMBER


def holders(snapshot: Snapshot, heard: Heard) -> list[Candidate]:
    """Those of the heard that hold every acknowledged commit (in async mode: that may be promoted)."""
    promotion, quorum = snapshot.newest, voters(snapshot)
    found = [one for one in heard.values() if counts(snapshot, one.node)]
    if quorum is not None:
        present = [heard[name] for name in quorum.names if name in heard]
        if len(present) >= quorum.needed:
            found += [one for one in present if all(one.holds_all_of(other) for other in present)]
    # A directory that was replaced by an older copy holds less than its record says, or another database.
    held = [one for one in found if promotion is None or promotion.is_held_by(one.position)]
    return [one for one in held if one.keeps_its_proof and not went_back(snapshot, one)]


def went_back(snapshot: Snapshot, one: Candidate) -> bool:
    """Whether its WAL ends before the place to which it went already: the data directory was replaced by an older copy,
    about which no record knows. Only the node itself can tell.
    """
    if one.node.key != snapshot.own.key:
        return one.node.went_back
    if owes_nobody(snapshot):
        return False  # the whole cluster was taken back to an earlier time, say
    return snapshot.held is not None and one.position.compare(snapshot.held) is Order.OLDER


def best(snapshot: Snapshot, heard: Heard, preferred: str) -> str | None:
    """The node to promote: the one that holds what every other eligible one holds; None if there is no such node.

    Where several hold the same, `preferred` wins, then the higher priority, then the former primary, then the order of
    node_list. A node with priority 0 is left out. One that is unfit (fitness.py) comes last; in sync mode everybody
    eligible who is fit goes before it, whatever it holds beyond what was acknowledged.
    """
    proven = holders(snapshot, heard)
    if not proven:
        return None
    # Whoever never followed the newest promotion can be compared with nobody, and stands in nobody's way.
    eligible = {
        key: one
        for key, one in heard.items()
        if one.node.priority > 0
        and key in snapshot.policy.members
        and (one in proven or has_followed(snapshot, one.node))
    }
    if snapshot.policy.mode is Mode.SYNC:
        eligible = {
            key: one
            for key, one in eligible.items()
            if one in proven or any(one.proves_to_hold_all_of(holder) for holder in proven)
        }
        eligible = {key: one for key, one in eligible.items() if not one.node.unfit} or eligible
    else:
        # A former primary that went on alone, and has not been repaired yet, stands in nobody's way either.
        eligible = {
            key: one for key, one in eligible.items() if one in proven or not any(map(one.is_given_up_by, proven))
        }
    newest = [key for key, one in eligible.items() if all(one.holds_all_of(other) for other in eligible.values())]

    def rank(key: str) -> tuple[bool, bool, int, bool, int]:
        node = eligible[key].node
        is_former, place = was_primary_last(snapshot, node), snapshot.policy.members.index(key)
        return (bool(node.unfit), key != preferred.lower(), -node.priority, not is_former, place)

    return min(newest, key=rank, default=None)


def was_primary_last(snapshot: Snapshot, node: NodeState) -> bool:
    """Whether this node is the one that was promoted last."""
    promotion = snapshot.newest
    return node.data_status == LATEST if promotion is None else promotion.node == node.key


def stranger_to(snapshot: Snapshot) -> tuple[str, ...]:
    """Whom this node would have to have met before it may speak for the cluster: nobody, or some of its peers.

    A node that boots alone knows what was true when it went down. Corosync's wait_for_all makes it wait for the others;
    with no-quorum-policy=ignore, or wait_for_all=0, nothing does, and they may have gone on without it since, and have
    died. So unless more than half of the copies are here, this node must have seen all the others since Pacemaker was
    started on it: then it was there when they were lost.
    """
    own = snapshot.own
    if owes_nobody(snapshot):
        return ()
    peers = [name for name in snapshot.policy.peers if snapshot.cluster.node(name) is not None]
    here = [name for name in peers if is_member(snapshot.cluster, name)]
    if 2 * (1 + len(here)) > 1 + len(peers):
        return ()
    return tuple(name for name in peers if name not in here and name not in own.met)


def owes_nobody(snapshot: Snapshot) -> bool:
    """Whether nothing was ever promised, or a person has said that this node may be promoted whatever was."""
    promotion = snapshot.newest
    if promotion is None:
        return True
    return promotion.forced == promotion.number and promotion.node == snapshot.own.key


def takeover(snapshot: Snapshot, heard: Heard, promoted: str) -> Heard:
    """Those who count when `promoted` takes over: in sync mode not a primary that crashed and was started as a standby.

    What that one holds beyond the synchronous standby was acknowledged to nobody, and a failover under way is not
    turned back for it. In async mode it holds commits that were acknowledged, and counts. So does everybody where
    `promoted` holds everything only because it holds all that such a node has.
    """
    if snapshot.policy.mode is Mode.ASYNC:
        return heard
    living = {key: one for key, one in heard.items() if key == promoted.lower() or not _has_crashed(one)}
    proven = {one.node.key for one in holders(snapshot, living)}
    return living if promoted.lower() in proven else heard


def _has_crashed(one: Candidate) -> bool:
    """Whether it was a primary when something was last said of it.

    Whoever says something of a standby that streams stamps it with that one's own promotion.
    """
    promotion = one.node.promotion
    return one.node.data_status == LATEST if promotion is None else promotion.node == one.node.key


def has_begun(snapshot: Snapshot, position: Position) -> bool:
    """Whether this node's promotion is recorded already and only the server is left to be promoted.

    Nobody else was promoted since (that promotion would be newer), and nothing was acknowledged.
    """
    promotion = snapshot.newest
    if promotion is None or promotion.is_void or went_back(snapshot, Candidate(snapshot.own, position)):
        return False
    return promotion.node == snapshot.own.key and promotion.begin == position

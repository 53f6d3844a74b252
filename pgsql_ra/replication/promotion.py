# SPDX-License-Identifier: GPL-2.0-or-later
"""The last word before a standby is promoted.

The law (SAFETY: "Promotion"). `promote` decides by itself, with what is known then: scores are hints that Pacemaker may
act on too early. Nobody is promoted without quorum, beside another primary, or while a lost node is not fenced. Before
the server is promoted it stands durably that this node only may be the primary from now on.
"""

from collections.abc import Iterator
from dataclasses import replace

from pgsql_ra.replication.candidates import (
    Candidate,
    best,
    cut_off,
    has_begun,
    not_cut_off,
    owes_nobody,
    stranger_to,
    takeover,
)
from pgsql_ra.replication.changes import (
    Change,
    Plan,
    RememberPromotion,
    RestartStandby,
    SetDataStatus,
    SetElection,
    SetKnown,
    SetMet,
    SetPromotion,
    SetScore,
)
from pgsql_ra.replication.election import promotes
from pgsql_ra.replication.fitness import Remedy, hindrance, unfitness
from pgsql_ra.replication.lsn import Position
from pgsql_ra.replication.originals import compare_originals
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.reasons import ADVICE, why_nobody, why_stranger
from pgsql_ra.replication.record import Promotion, after
from pgsql_ra.replication.snapshot import Membership, NodeState, Snapshot, Standby
from pgsql_ra.replication.status import DISCONNECT, LATEST, SCORE_NEVER
from pgsql_ra.replication.synchronous import confirm


def decide_promotion(snapshot: Snapshot, server: Standby) -> Plan:
    """The last word before this server is promoted: the records to write first, or the reason why it must not be."""
    own = snapshot.own
    if obstacle := _obstacle(snapshot):
        return obstacle
    if server.position is None:
        return Plan(waiting_for="the server to have read all of its own WAL")
    if snapshot.policy.mode is Mode.SYNC and has_begun(snapshot, server.position):
        # A look that was made with all that was known then has found it to be the best.
        return _promote(snapshot, server, server.position)
    heard = takeover(snapshot, cut_off(snapshot, server.position), own.key)
    chosen = best(snapshot, heard, own.key)
    wait = compare_originals(snapshot, [one.node for one in heard.values()])
    if wait := wait or _await_the_silent(snapshot, server.position, chosen):
        return wait
    if chosen is None:
        return Plan(refusal=why_nobody(snapshot, heard))
    if chosen != own.key:
        return _give_way(server, heard[own.key], heard[chosen])
    return _promote(snapshot, server, server.position)


def _obstacle(snapshot: Snapshot) -> Plan | None:
    """Why nobody may be promoted here now, whatever the copies hold; None if nothing stands in the way."""
    cluster, policy = snapshot.cluster, snapshot.policy
    if not cluster.may_decide:
        return Plan(refusal="this partition has no quorum: another partition may have a primary")
    rivals = other_primaries(cluster, policy.node)
    if rivals:
        return Plan(refusal=f"{', '.join(rivals)} still runs as the primary")
    unclean = [node.name for node in cluster.nodes if cluster.fencing and node.membership is Membership.UNCLEAN]
    lost = [name for name in unclean if name.lower() in policy.members]
    if lost:
        return Plan(waiting_for=f"{', '.join(lost)} to be fenced: it may still be the primary")
    if snapshot.contradiction:
        return Plan(refusal=f"{snapshot.contradiction}. {ADVICE}")
    if unmet := stranger_to(snapshot):
        return Plan(refusal=why_stranger(unmet))
    return None


def _give_way(server: Standby, own: Candidate, chosen: Candidate) -> Plan:
    """Why another node is to be promoted; this one's score says so."""
    there, here, name = chosen.position, own.position, chosen.node.name
    if (because := unfitness(server)) and own.holds_all_of(chosen):
        refusal = f"{name} holds as much, and this server cannot be promoted as it runs: {because}"
    else:
        because = f"{name} holds newer data"
        ends = f"its WAL ends at {there.lsn} on timeline {there.timeline}, ours at {here.lsn} on {here.timeline}"
        refusal = f"{because}: {ends}"
    return Plan((*_score(own.node, SCORE_NEVER, because),), refusal=refusal)


def _promote(snapshot: Snapshot, server: Standby, position: Position) -> Plan:
    """The records; but first the server must be one that a promotion lets replay all that it holds."""
    found = hindrance(server)
    if found is not None and found.remedy is Remedy.RESTART:
        return Plan((RestartStandby(found.because),), waiting_for=f"this: {found.because}")
    return Plan(tuple(_records(snapshot, position)))


def _await_the_silent(snapshot: Snapshot, position: Position, chosen: str | None) -> Plan | None:
    """Silence of a living standby is not absence: nobody is promoted past one that may hold more, nor is it given up
    that somebody can be promoted, before each has said where its WAL ends. None if nobody has to be waited for.

    A notification may not have reached it, or have failed. So this node says that it is about to be promoted, and the
    monitors of the others do what the notification would have done.
    """
    own = snapshot.own
    missing = [node.name for node in not_cut_off(snapshot, position)]
    is_enough = chosen is not None and (snapshot.policy.mode is Mode.SYNC or chosen != own.key)
    if not missing or is_enough:
        return None
    wish = promotes(snapshot.next_number)
    changes = () if own.election == wish else (SetElection(own.name, wish, "others have to stop receiving first"),)
    return Plan(changes, waiting_for=f"{', '.join(missing)} to stop receiving and say where its WAL ends")


def _records(snapshot: Snapshot, position: Position) -> Iterator[Change]:
    """Durable statements first: whoever reads them later knows that only this node holds what is committed from now
    on.

    The number of the promotion is what does it, in one write: everything said under an older number stops counting. The
    rest says the same for people, and in the words of ocf:heartbeat:pgsql.
    """
    promotion, newest, because = snapshot.newest, snapshot.newest, "this node is being promoted"
    if promotion is None or not has_begun(snapshot, position):
        forced = newest.forced if newest else 0
        promotion = Promotion(snapshot.next_number, snapshot.own.key, position, forced=forced, after=after(newest))
    if not promotion.is_same(snapshot.own.promotion):
        yield SetPromotion(snapshot.own.name, promotion, because)
    if not promotion.is_same(snapshot.remembered):
        yield RememberPromotion(promotion, because)
    if owes_nobody(snapshot) and not snapshot.own.met >= set(snapshot.policy.peers):
        # The look that promotes comes after the one that writes these records, and must not see another world.
        yield SetMet(snapshot.own.name, snapshot.own.met | set(snapshot.policy.peers), "nothing was promised to them")
    for member in snapshot.cluster.nodes:
        # Whatever becomes of the CIB and of this node, they know of it before it takes commits.
        if member.membership is Membership.MEMBER and not promotion.is_known_by(member.known):
            yield SetKnown(member.name, replace(promotion, begin=None), because)
    yield from _disconnect_the_others(snapshot)
    if snapshot.own.data_status != LATEST:
        yield SetDataStatus(snapshot.own.name, LATEST, because)


def _disconnect_the_others(snapshot: Snapshot) -> Iterator[Change]:
    because = f"{snapshot.own.name} is being promoted and waits for nobody"
    for name in snapshot.policy.peers:
        node = snapshot.cluster.node(name)
        if node is None:
            continue
        if node.data_status != DISCONNECT:
            yield SetDataStatus(node.name, DISCONNECT, because)
        if node.membership is Membership.MEMBER and node.score:
            yield from _score(node, SCORE_NEVER, because)


def withdraw(snapshot: Snapshot) -> Plan:
    """Take back this node's own promotion, which did not come about: its server has ended without having left
    recovery (whoever asks has looked), so nothing was committed under it.

    That is safe to say, because nobody else says so and because this node never goes on with that promotion: another
    attempt gets another number. Who may be promoted then: candidates.counts.
    """
    newest, own = snapshot.newest, snapshot.own
    if newest is None or newest.node != own.key or newest.is_void or newest.begin is None or snapshot.contradiction:
        return Plan()
    if not snapshot.cluster.may_decide or other_primaries(snapshot.cluster, own.key):
        return Plan(stalled="without quorum, or beside a primary, no promotion is taken back")
    void, because = replace(newest, is_void=True), "its server ended before it was promoted"
    hearers = (node for node in snapshot.cluster.nodes if node.membership is Membership.MEMBER)
    return Plan(
        (
            *_score(own, SCORE_NEVER, because),
            SetPromotion(own.name, replace(void, lowered=()), because),
            RememberPromotion(void, because),
            *(SetKnown(node.name, replace(void, begin=None), because) for node in hearers),
        )
    )


def confirmation(snapshot: Snapshot) -> Plan:
    """The last step before the server is promoted, whether or not there was anything left to write."""
    return Plan(tuple(confirm(snapshot, "this node is about to take commits and waits for nobody")))


def _score(node: NodeState, score: str, because: str) -> Iterator[Change]:
    if node.score != score:
        yield SetScore(node.name, score, because)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What standbys do while there is no primary: they say where their WAL ends, and the best of them claims the
promotion.

The law (SAFETY: "Election"; who is the best: candidates.py). A node elects itself only when every member that could
hold newer data is accounted for: it published where its WAL ends, or its record says that it is behind. Notifications
drive it, monitors repeat it. For members that never say anything, `xlog_check_count` bounds the wait.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pgsql_ra.replication.candidates import (
    Candidate,
    Heard,
    best,
    heard_by,
    holders,
    silent,
    standbys,
    stranger_to,
    takeover,
    went_back,
)
from pgsql_ra.replication.changes import (
    Change,
    Plan,
    PublishPosition,
    Receive,
    SetElection,
    SetScore,
    SetStatus,
    SetUnfit,
    SetWhy,
    ShowLocation,
    StopReceiving,
    WithdrawPosition,
)
from pgsql_ra.replication.fitness import unfitness
from pgsql_ra.replication.originals import compare_originals, say_last
from pgsql_ra.replication.primary import other_primaries, remember
from pgsql_ra.replication.reasons import ADVICE, line, why_nobody, why_stranger
from pgsql_ra.replication.record import Published
from pgsql_ra.replication.rejoin import beyond_fork
from pgsql_ra.replication.snapshot import Link, NodeState, Snapshot, Standby
from pgsql_ra.replication.status import (
    DISCONNECT,
    SCORE_NEVER,
    SCORE_PRIMARY,
    STATUS_ALONE,
    STATUS_STOPPED,
    STATUS_UNKNOWN,
    score_value,
)


def watch(snapshot: Snapshot, server: Standby) -> Plan:
    """What a standby does in a monitor: nothing while there is a primary, an election while there is none."""
    primaries = other_primaries(snapshot.cluster, snapshot.policy.node)
    heard = (*remember(snapshot, snapshot.newest), *_tell_fitness(snapshot, primaries))
    if not primaries:
        plan = elect(snapshot, server)
        return replace(plan, changes=(*heard, *plan.changes))
    changes = (*heard, *_calm(snapshot), *_open(snapshot, server.link))
    return Plan(changes, refusal=_diverged(snapshot, server, primaries))


def _diverged(snapshot: Snapshot, server: Standby, primaries: tuple[str, ...]) -> str:
    """Why this standby can never follow the primary; "" if it can, or if that is not known."""
    primary = snapshot.cluster.node(primaries[0])
    if len(primaries) > 1 or primary is None or primary.record is None or server.position is None or server.streaming:
        return ""
    if server.position.leads_to(primary.record):
        return ""
    return beyond_fork(snapshot.own.name, server.position, primary.name, primary.record)


def _tell_fitness(snapshot: Snapshot, primaries: tuple[str, ...]) -> Iterator[Change]:
    """Say why this standby cannot be promoted as it runs. The primary takes its score away too, with its next look."""
    own, because = snapshot.own, unfitness(snapshot.server)
    if own.unfit != because:
        yield SetUnfit(own.name, because, "so this server says" if because else "nothing speaks against it any more")
    if because and primaries and score_value(own.score) > 0:
        yield SetScore(own.name, SCORE_NEVER, because)


def elect(snapshot: Snapshot, server: Standby) -> Plan:
    """Publish this node's position and, when everybody is accounted for, decide whether this node is the one."""
    own = snapshot.own
    if promoted := _about_to_be_promoted(snapshot):
        return freeze(snapshot, server, promoted)
    if (wait := _await_heir(snapshot)) is not None:
        return wait
    alone: list[Change] = (
        [] if own.status == STATUS_ALONE else [SetStatus(own.name, STATUS_ALONE, "the cluster has no primary")]
    )
    if own.election.startswith(_PROMOTES):
        alone.append(SetElection(own.name, "", "its promotion was given up"))
    if not snapshot.cluster.may_decide:
        return Plan(tuple(alone), stalled="no quorum: nobody is elected")
    if unmet := stranger_to(snapshot):
        return Plan((*alone, *_explain(snapshot, why_stranger(unmet))), stalled=why_stranger(unmet))
    if server.position is None:
        return Plan(tuple(alone), waiting_for="the server to have read all of its own WAL")
    changes: list[Change] = [*alone, *say_last(snapshot)]
    changes += _publish(snapshot, server, "the cluster has no primary")
    if own.location != server.position.lsn.padded():
        changes.append(ShowLocation(own.name, server.position, "the cluster has no primary"))
    heard = heard_by(snapshot, server.position)
    wait = _await_silent(snapshot, heard)
    if wait is not None:
        return Plan(tuple(changes) + wait.changes, wait.waiting_for, wait.stalled)
    if (wait := compare_originals(snapshot, [one.node for one in heard.values()])) is not None:
        explained = _explain(snapshot, wait.refusal) if wait.refusal else ()
        return Plan((*changes, *explained, *wait.changes), wait.waiting_for, stalled=wait.refusal)
    return Plan(tuple(changes + list(_verdict(snapshot, heard))))


def freeze(snapshot: Snapshot, server: Standby, promoted: str) -> Plan:
    """Before a promotion: receive nothing more, say where this node's WAL ends, and let the best of those heard have
    the score.

    A position that can still grow proves nothing, and a primary that is cut off and lives (there is no fencing, say)
    gets no more commits acknowledged by a standby that is about to follow another one. The node that is promoted ends
    its receiver by that.

    In sync mode, too, although whoever may be promoted holds every acknowledged commit: a standby that has received
    more than the new primary could not follow it.

    Run by every standby in the pre-promote notification. `promoted` is the node that Pacemaker is about to promote.
    """
    own, is_promoted = snapshot.own, snapshot.own.key == promoted.lower()
    if promoted.lower() in (name.lower() for name in other_primaries(snapshot.cluster, own.key)):
        # Pacemaker plans a promotion anew when the number of instances changes: it is the primary already.
        return Plan()
    if not is_promoted and not has_stopped(server):
        # Should it not end in time, this node is not heard, which is safe. An older position would pass for its end.
        older = [WithdrawPosition(own.name, "its WAL may still grow")] if own.position is not None else []
        # Before PostgreSQL 13 it cannot be stopped: it ends with the primary.
        stop = [StopReceiving(server.receiver, f"{promoted} is to be promoted")]
        return Plan((*older, *(stop if server.link is not Link.FIXED else [])), waiting_for="the WAL receiver to end")
    if server.position is None:
        return Plan(waiting_for="the server to have read all of its own WAL")
    # Whoever sees the position has seen which promotion this node knows of.
    changes: list[Change] = [*remember(snapshot, snapshot.newest), *say_last(snapshot)]
    changes += _publish(snapshot, server, f"{promoted} is to be promoted")
    missing = [node.name for node in standbys(snapshot) if node.key != own.key and node.position is None]
    if missing:
        return Plan(tuple(changes), waiting_for=f"the position of {', '.join(missing)}")
    chosen = best(snapshot, takeover(snapshot, heard_by(snapshot, server.position), promoted), promoted)
    if chosen is None or chosen == promoted.lower():
        return Plan(tuple(changes))
    because = f"{chosen} holds newer data than {promoted}"
    if chosen == own.key:
        changes += _score(own, SCORE_PRIMARY, because)
    elif own.key == promoted.lower() and score_value(own.score) > 0:
        changes += _score(own, SCORE_NEVER, because)
    return Plan(tuple(changes))


def has_stopped(server: Standby) -> bool:
    """Whether this standby receives nothing, and will not before it is told to."""
    return server.link in (Link.CUT, Link.FIXED) and not server.receiver


def _publish(snapshot: Snapshot, server: Standby, because: str) -> Iterator[Change]:
    """Where this node's WAL ends, and whether that is for good."""
    if server.position is None:
        return
    own, position = snapshot.own, server.position
    is_older = went_back(snapshot, Candidate(own, position))
    cut_for = snapshot.next_number if has_stopped(server) else 0
    if (own.position, own.cut_for, own.went_back) != (position, cut_for, is_older):
        yield PublishPosition(own.name, Published(position, cut_for, server.system, is_older), because)


_PROMOTES: Final = "promotes "


def promotes(number: int) -> str:
    """What a node says in `<resource>-election` while its promotion, of this number, waits for others."""
    return f"{_PROMOTES}{number}"


def _about_to_be_promoted(snapshot: Snapshot) -> str:
    """Another node whose promotion waits for this one; "" if there is none."""
    others = (node for node in standbys(snapshot) if node.key != snapshot.own.key)
    return next((node.name for node in others if node.election.startswith(_PROMOTES)), "")


def receive_again(snapshot: Snapshot, link: Link) -> Iterator[Change]:
    """What ends a `freeze`: a primary is there to receive from. The position that was the last word goes first."""
    opened = tuple(_open(snapshot, link))
    if opened and snapshot.own.position is not None:
        yield WithdrawPosition(snapshot.own.name, "its WAL may grow again")
    yield from opened


def _open(snapshot: Snapshot, link: Link) -> Iterator[Change]:
    if link in (Link.CUT, Link.TORN) and other_primaries(snapshot.cluster, snapshot.policy.node):
        yield Receive("the cluster has a primary")


def _calm(snapshot: Snapshot) -> Iterator[Change]:
    """With a primary in place, the traces of an election go."""
    own = snapshot.own
    if own.election:
        yield SetElection(own.name, "", "the cluster has a primary")
    yield from _explain(snapshot, "")
    if own.position is not None or own.location:
        yield WithdrawPosition(own.name, "the cluster has a primary")
    if own.data_status == DISCONNECT and own.status != STATUS_ALONE:
        yield SetStatus(own.name, STATUS_ALONE, "the primary does not see this standby")
    elif own.status in ("", STATUS_STOPPED, STATUS_UNKNOWN):
        # Not at the end of start: a write to the CIB there makes Pacemaker compute a failover under way once more.
        yield SetStatus(own.name, STATUS_ALONE, "this server runs as a standby")


def heir(snapshot: Snapshot) -> str:
    """The standby that may be promoted already, so that no election is needed; "" if there is none."""
    ready = (node.name for node in standbys(snapshot) if score_value(node.score) > 0)
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


def _await_silent(snapshot: Snapshot, heard: Heard) -> Plan | None:
    """Wait for members that say nothing: those that run will speak in a moment, the others get a bounded number of
    looks.

    None when the wait is over, or when nobody has to be waited for.
    """
    missing = tuple(silent(snapshot))
    if not missing:
        return None
    own = snapshot.own
    names = ", ".join(node.name for node in missing)
    running = {node.key for node in standbys(snapshot)}
    if expected := [node.name for node in missing if node.key in running]:
        return Plan(waiting_for=f"the position of {', '.join(expected)}")
    if heard[own.key] not in holders(snapshot, heard):
        because = f"{line(snapshot, own, heard)}; {names} may be ahead of it and does not run. {ADVICE}"
        return Plan(tuple(_explain(snapshot, because)), stalled=because)
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


def _verdict(snapshot: Snapshot, heard: Heard) -> Iterator[Change]:
    own = snapshot.own
    chosen = best(snapshot, heard, "")
    if chosen == own.key:
        ends = heard[own.key].position.lsn
        yield from _explain(snapshot, "")
        yield from _score(own, SCORE_PRIMARY, f"its data is the newest of all that were heard (WAL ends at {ends})")
        return
    if chosen is None:
        yield from _explain(snapshot, f"{line(snapshot, own, heard)}. {ADVICE}")
    if score_value(own.score) > 0 or not own.score:
        yield from _score(own, SCORE_NEVER, f"{chosen} holds newer data" if chosen else why_nobody(snapshot, heard))


def _explain(snapshot: Snapshot, why: str) -> Iterator[Change]:
    """Show people why this node is not promoted. Only while nobody is: a write to the CIB disturbs a promotion."""
    if snapshot.own.why != why:
        yield SetWhy(snapshot.own.name, why, "the cluster has no primary" if why else "there is nothing to explain")


def _score(node: NodeState, score: str, because: str) -> Iterator[Change]:
    if node.score != score:
        yield SetScore(node.name, score, because)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits that wait for every one of a few chosen standbys (the method `first`).

Each of the chosen holds every acknowledged commit, so each of them may be promoted by its own record. With `strict`
there are never fewer of them than the administrator asked for: names are held, or put in, although nobody of that name
streams, and commits wait until somebody does.

A standby that cannot be promoted as it runs (fitness.py) holds what it has flushed all the same: commits wait for it
as long as there are not enough others, and it is let go when these have proven themselves.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pgsql_ra.replication.changes import Change, Confirm, Plan, ProvokeReply, SetSynchronousStandbys
from pgsql_ra.replication.peer import Peer, members
from pgsql_ra.replication.policy import Degrading
from pgsql_ra.replication.snapshot import Primary, ReplicationState, Snapshot, SynchronousStandbys
from pgsql_ra.replication.status import STREAMING_SYNC


def wait_for_each(snapshot: Snapshot, server: Primary, own: tuple[Change, ...], peers: tuple[Peer, ...]) -> Plan:
    """The next step of a primary towards its synchronous standbys."""
    policy = snapshot.policy
    held, spare = _held(snapshot, peers), _spare(snapshot, peers)
    parts = [_keep_or_let_go(peer, held, spare) for peer in peers]
    changes = [*own, *(change for part in parts for change in part.changes)]
    waiting = [part.waiting_for for part in parts if part.waiting_for]
    stalled = [part.stalled for part in parts if part.stalled]
    kept = [peer.name for peer, part in zip(peers, parts, strict=True) if part.keeps]
    chosen = _choose(peers, kept, policy.synchronous_count)
    if len(kept) + len(chosen) < policy.synchronous_count:
        waiting += [
            f"{peer.name} to say that this connection is its own"
            for peer in peers
            if peer.waits_to_be_known and not peer.is_named
        ]
    outside = tuple(name for name in policy.external_standbys if _streams(server, name))
    stalled += [
        f"the external standby {name} does not stream" for name in policy.external_standbys if name not in outside
    ]
    wanted = SynchronousStandbys((*kept, *chosen, *held, *outside))
    if not is_in_file_and_force(server, wanted):
        changes += switch(snapshot, server, wanted)
        if wanted.names:
            waiting.append(f"the setting that makes commits wait for {', '.join(wanted.names)}")
        return Plan(tuple(changes), "; ".join(waiting), "; ".join(stalled))
    for peer in peers:
        if peer.is_named and peer.streams:
            done, missing = _upgrade(snapshot, server, peer)
            changes += done
            waiting += missing
    return Plan(tuple(changes), "; ".join(waiting), "; ".join(stalled))


class _Part(NamedTuple):
    """What one standby adds to the plan, and whether commits go on to wait for it."""

    changes: tuple[Change, ...] = ()
    keeps: bool = False
    waiting_for: str = ""
    stalled: str = ""


def _keep_or_let_go(peer: Peer, held: tuple[str, ...], spare: tuple[str, ...]) -> _Part:
    tidy = tuple(peer.tidy())
    if peer.is_named and not peer.streams and not peer.may_be_released:
        because = f"{peer.name} is lost and not fenced yet: it might still be promoted, so commits wait for it"
        return _Part(tidy, keeps=True, stalled=because)
    if peer.is_named and peer.streams and peer.name not in spare:
        return _Part(tidy, keeps=True)
    if peer.name in held:
        because = f"commits wait for {peer.name}, which does not stream: the parameter strict says so"
        # Whoever uses its name releases them all the same.
        return _Part((*tidy, *(peer.say_not_promotable() if peer.stranger else ())), stalled=because)
    # Not a synchronous standby, or no longer one: its record comes first, the setting waits for it.
    if peer.is_arriving and not peer.is_promotable:
        return _Part(tidy)
    changes = (*tidy, *peer.say_not_promotable(), *peer.end_dead_walsenders())
    if peer.is_named and peer.is_promotable:
        return _Part(changes, keeps=True, waiting_for=f"the record that {peer.name} may not be promoted")
    return _Part(changes)


def is_in_file_and_force(server: Primary, wanted: SynchronousStandbys) -> bool:
    """Whether nothing has to be written.

    An action that was killed between writing the file and the reload left a setting that the next reload would put in
    force, whatever was recorded since: the file counts as much as what is in force.
    """
    return server.synchronous.is_like(wanted) and (server.written is None or server.written.is_like(wanted))


def switch(snapshot: Snapshot, server: Primary, wanted: SynchronousStandbys) -> Iterator[Change]:
    """The change of the setting, and why. Before commits go on without somebody, those who could promote that one must
    have read that they may not.
    """
    present = server.synchronous.names
    if set(present) - set(wanted.names) or wanted.may_lack > server.synchronous.may_lack:
        yield from confirm(snapshot, "commits are about to go on without some of those that they waited for")
    new = [name for name in wanted.names if name not in present]
    gone = [name for name in present if name not in wanted.names]
    if wanted.names:
        because = f"{', '.join(new)} came" if new else f"{', '.join(gone) or 'nobody'} is gone"
        many = f"{wanted.any_of} of " if wanted.any_of else ""
        yield SetSynchronousStandbys(wanted, f"{because}: commits will wait for {many}{', '.join(wanted.names)}")
    else:
        yield SetSynchronousStandbys(wanted, f"{', '.join(present) or 'nobody'} is gone: commits wait for nobody")


def confirm(snapshot: Snapshot, because: str) -> Iterator[Change]:
    """What was written before stands on so many nodes that no other part of the cluster can decide without it: on more
    than half of all nodes, or on all that are left when the rest are known to be down.
    """
    here = members(snapshot.cluster)
    needed = min(len(here), len(snapshot.cluster.nodes) // 2 + 1) - 1
    if needed > 0:
        yield Confirm(tuple(name for name in here if name.lower() != snapshot.own.key), needed, because)


def fill(names: tuple[str, ...], peers: tuple[Peer, ...], count: int) -> tuple[str, ...]:
    """The names that commits wait for beside `names` although nobody streams, so that there are `count` in all: those
    that commits wait for already before others.
    """
    spare = [peer for peer in peers if peer.name not in names and peer.node.priority > 0]
    spare.sort(key=lambda peer: not peer.is_named)
    return tuple(peer.name for peer in spare[: max(0, count - len(names))])


def first_setting(peers: tuple[str, ...], count: int, degrading: Degrading) -> SynchronousStandbys:
    """The setting that a server starts with, and has when it is promoted: it waits for nobody, or with `strict` for
    as many as it should, whoever of them comes first to prove itself.
    """
    return SynchronousStandbys(peers[:count] if degrading is Degrading.NEVER else ())


def _held(snapshot: Snapshot, peers: tuple[Peer, ...]) -> tuple[str, ...]:
    if snapshot.policy.degrading is Degrading.ALLOWED:
        return ()
    lost = [peer for peer in peers if peer.is_named and not peer.streams and not peer.may_be_released]
    there = tuple(peer.name for peer in peers if peer.is_able or (peer.is_named and peer.streams) or peer in lost)
    return fill(there, peers, snapshot.policy.synchronous_count)


def _spare(snapshot: Snapshot, peers: tuple[Peer, ...]) -> tuple[str, ...]:
    """The synchronous standbys that could not be promoted as they run, if there are enough without them."""
    unfit = tuple(peer.name for peer in peers if peer.is_named and peer.streams and peer.node.unfit)
    fit = [peer for peer in peers if peer.is_named and peer.streams and not peer.node.unfit]
    ready = [peer for peer in fit if peer.is_proven and peer.node.data_status == STREAMING_SYNC]
    return unfit if len(ready) >= snapshot.policy.synchronous_count else ()


def _choose(peers: tuple[Peer, ...], kept: list[str], count: int) -> tuple[str, ...]:
    """The standbys that become synchronous ones beside `kept`: by priority, then the most advanced, then node_list.

    There are to be `count` that can be promoted as they run; if there are not so many, others do.
    """
    able = [peer for peer in peers if peer.is_able and peer.name not in kept]
    best = sorted(able, key=lambda peer: (peer.node.priority, peer.flushed), reverse=True)
    unfit = {peer.name for peer in peers if peer.node.unfit}
    names = [peer.name for peer in best if peer.name not in unfit][: max(0, count - len(set(kept) - unfit))]
    missing = max(0, count - len(kept) - len(names))
    return (*names, *[peer.name for peer in best if peer.name in unfit][:missing])


def _streams(server: Primary, name: str) -> bool:
    return any(row.node == name and row.state is ReplicationState.STREAMING for row in server.walsenders)


def _upgrade(snapshot: Snapshot, server: Primary, peer: Peer) -> tuple[list[Change], list[str]]:
    """Make a named standby promotable once it is proven to hold every acknowledged commit."""
    if peer.row is None:
        return [], []
    if peer.is_proven and peer.node.data_status == STREAMING_SYNC:
        return list(peer.say(STREAMING_SYNC, peer.score)), []
    if not server.settled or not peer.is_synchronous:
        lower = list(peer.say_not_promotable()) if peer.is_promotable else []
        return lower, [f"synchronous_standby_names to be in force for {peer.name}"]
    if not peer.is_identified:
        return [], [f"{peer.name} to say that this connection is its own"]
    if snapshot.mark is None:
        provoke = ProvokeReply(f"commits that wait already are released when {peer.name} reports")
        return [provoke], [f"{peer.name} to report what it has flushed"]
    if peer.row.flush is None or peer.row.flush < snapshot.mark:
        return [], [f"{peer.name} to flush what was committed before commits waited for it"]
    return list(peer.say(STREAMING_SYNC, peer.score)), []

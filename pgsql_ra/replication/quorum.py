# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits that wait for any k of the standbys that stream (the method `quorum`).

The law (SAFETY: "Invariant of sync mode"). A commit is acknowledged when any k of the n named standbys have flushed
it, so nobody knows which; but of any n - k + 1 of them one has it. Those n are the *voters*, and n - k + 1 is how many
must be heard before the newest of the heard is promoted. What is recorded has to hold for every commit, also for those
that were acknowledged under an earlier setting. So, between two settings,
  * before the setting changes, a record stands that holds under the old and under the new one: only those who are
    voters and stay named, and of these as many as either setting needs;
  * it is brought to what the new setting allows only after that is in force and every named standby has flushed what
    the primary had flushed by then (as with the upgrade of a single synchronous standby).
While a named standby is lost and not fenced, nothing changes: its side may act on the record that it has. Commits go on
as long as k others stream.
"""

from collections.abc import Iterator
from dataclasses import replace

from pgsql_ra.replication.changes import Change, CountLowering, Plan, ProvokeReply, SetVoters
from pgsql_ra.replication.peer import Peer, members
from pgsql_ra.replication.policy import Degrading
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Primary, Snapshot, SynchronousStandbys, Voters
from pgsql_ra.replication.status import STREAMING_QUORUM
from pgsql_ra.replication.synchronous import fill, is_in_file_and_force, switch


def wait_for_any(
    snapshot: Snapshot, server: Primary, own: tuple[Change, ...], peers: tuple[Peer, ...], promotion: Promotion
) -> Plan:
    """The next step of a primary towards any `synchronous_count` of its standbys."""
    recorded = voters_of(snapshot, promotion)
    tidy = (*own, *(change for peer in peers for change in (*peer.tidy(), *peer.end_dead_walsenders())))
    lost = [peer.name for peer in peers if peer.is_named and not peer.streams and not peer.may_be_released]
    if lost:
        because = f"{', '.join(lost)} is lost and not fenced yet: it might still be promoted"
        return Plan(tidy, stalled=f"{because}, so what commits wait for is left as it is")
    false = [peer for peer in peers if peer.stranger and peer.name in recorded.names]
    if false:
        # What somebody else acknowledged by their name counts for nobody: as many as before have to be heard of fewer.
        left = tuple(name for name in recorded.names if name not in [peer.name for peer in false])
        said = SetVoters(snapshot.own.name, Voters(recorded.number, recorded.needed, left), false[0].stranger)
        lower = (change for peer in false for change in peer.say_not_promotable())
        return Plan((*tidy, *lower, said), "the record that these are no voters")
    wanted = _wanted(snapshot, peers)
    if not is_in_file_and_force(server, wanted):
        before = _before_the_change(snapshot, peers, wanted, recorded, promotion)
        if before:
            return Plan((*tidy, *before), "the records that have to stand before commits wait for others")
        return Plan((*tidy, *switch(snapshot, server, wanted)), "the setting that says for whom commits wait")
    return _after_the_change(snapshot, server, tidy, peers, recorded, promotion)


def voters_of(snapshot: Snapshot, promotion: Promotion) -> Voters:
    """What this primary has recorded; nobody if that was under another promotion, or is an older version."""
    recorded = snapshot.own.voters
    if recorded is None or recorded.number != promotion.number:
        return Voters(promotion.number, 1, ())
    if recorded.version < promotion.times_lowered(snapshot.own.key):
        return Voters(promotion.number, 1, ())
    return recorded


def _record(snapshot: Snapshot, promotion: Promotion, voters: Voters, because: str) -> Iterator[Change]:
    """Other voters are recorded; before that everybody hears that those who are recorded now do not count any more."""
    own, version = snapshot.own, promotion.times_lowered(snapshot.own.key) + 1
    yield CountLowering(own.key, version, promotion, members(snapshot.cluster), because)
    yield SetVoters(own.name, replace(voters, version=version), because)


def drop_voters(snapshot: Snapshot, promotion: Promotion) -> tuple[Change, ...]:
    """With another method nobody is promoted by quorum: said before anything else."""
    recorded = voters_of(snapshot, promotion)
    if not recorded.names:
        return ()
    nobody = Voters(promotion.number, 1, ())
    return tuple(_record(snapshot, promotion, nobody, "commits wait for chosen standbys now"))


def _wanted(snapshot: Snapshot, peers: tuple[Peer, ...]) -> SynchronousStandbys:
    able = tuple(peer.name for peer in peers if peer.is_able)
    count = snapshot.policy.synchronous_count
    if snapshot.policy.degrading is Degrading.NEVER:
        able = (*able, *fill(able, peers, count))
    return SynchronousStandbys(able, min(count, len(able)))


def _before_the_change(
    snapshot: Snapshot, peers: tuple[Peer, ...], wanted: SynchronousStandbys, recorded: Voters, promotion: Promotion
) -> list[Change]:
    """What has to stand before the setting is changed. Empty when it does."""
    changes: list[Change] = []
    for peer in peers:
        if peer.name not in recorded.names or peer.name not in wanted.names or peer.is_promotable:
            changes += _say_not_a_voter(peer)
    return [*changes, *_weaken(snapshot, recorded, wanted, promotion)]


def _weaken(
    snapshot: Snapshot, recorded: Voters, setting: SynchronousStandbys, promotion: Promotion
) -> Iterator[Change]:
    """A record that holds for what was acknowledged before and for what is acknowledged by this setting."""
    stay = tuple(name for name in recorded.names if name in setting.names)
    between = replace(recorded, needed=max(recorded.needed, setting.may_lack + 1), names=stay)
    if recorded.names and recorded != between:
        because = f"commits wait for {setting.any_of} of {', '.join(setting.names) or 'nobody'}"
        yield from _record(snapshot, promotion, between, because)


def _after_the_change(
    snapshot: Snapshot,
    server: Primary,
    tidy: tuple[Change, ...],
    peers: tuple[Peer, ...],
    recorded: Voters,
    promotion: Promotion,
) -> Plan:
    setting = server.synchronous
    target = Voters(recorded.number, setting.may_lack + 1, setting.names)
    named = [peer for peer in peers if peer.is_named]
    others = [change for peer in peers if not peer.is_named for change in _say_not_a_voter(peer)]
    changes = (*tidy, *others, *_weaken(snapshot, recorded, setting, promotion))
    voters = tuple(change for peer in named for change in peer.say(STREAMING_QUORUM, peer.score))
    if not named:
        return Plan(changes)
    absent = [peer.name for peer in named if not peer.streams]
    if absent:
        because = f"commits wait for {', '.join(absent)}, which does not stream: the parameter strict says so"
        return Plan(changes, stalled=because)
    if set(recorded.names) == set(target.names) and recorded.needed == target.needed:
        return Plan((*changes, *voters))
    names = ", ".join(setting.names)
    if not server.settled or not all(peer.is_synchronous for peer in named):
        return Plan(changes, f"synchronous_standby_names to be in force for {names}")
    unknown = [peer.name for peer in named if not peer.is_identified]
    if unknown:
        return Plan(changes, f"{', '.join(unknown)} to say which connection is its own")
    if snapshot.mark is None:
        provoke = ProvokeReply(f"commits that wait already are released when {names} report")
        return Plan((*changes, provoke), f"{names} to report what they have flushed")
    late = [peer.name for peer in named if peer.flushed < snapshot.mark]
    if late:
        return Plan(changes, f"{', '.join(late)} to flush what was committed before commits waited for it")
    because = f"commits wait for {setting.any_of} of {names}"
    return Plan((*changes, *_record(snapshot, promotion, target, because), *voters))


def _say_not_a_voter(peer: Peer) -> tuple[Change, ...]:
    """Its score goes; a record by which it could be promoted alone goes too."""
    if peer.is_arriving and not peer.is_promotable:
        return ()
    return tuple(peer.say_not_promotable())

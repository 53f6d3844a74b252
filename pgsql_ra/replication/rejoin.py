# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a data directory may follow the cluster's primary as it is, and what has to be done to it if it may not.

The law (SAFETY: "The former primary"). A former primary may hold WAL that the new one never saw. It follows as it is
only if its WAL ends at or before the point where the new primary's timeline left its own; both ends are read, not
guessed. What goes too far is thrown away only where the policy says so, and never without saying how much.

  * No primary: nothing can be compared with it, and nothing be copied. A whole directory may run as a standby, which
    throws nothing away; one in which a rewind was broken off may not run at all, and what needs a copy waits for one.
  * pg_rewind needs checksums or wal_log_hints on this node (it reads from the WAL which blocks were changed), and a
    timeline of the primary's own that began after the two parted: it takes equal timelines for equal data.
  * A copy needs none of that, but never replaces the data of another database system.
  * Neither takes anything from a server that only answers at the primary's address (replication.upstream).
  * Where the positions fit, the content has to fit as well: a copy that was started as a primary of its own once has
    other WAL under the same numbers. pg_rewind looks at timelines only, so nothing but a new copy helps then. What
    could not be compared yet may run, but receives nothing before it was (actions.same).
  * A place without data has nothing to lose: a copy may be put there. Data whose control file is damaged do not say
    themselves whose they are; what this node remembers of them does, or they are left alone.
"""

from dataclasses import dataclass, replace
from enum import Enum

from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.record import newest
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState
from pgsql_ra.replication.upstream import Content, Upstream, why_not_primary


class Rejoin(Enum):
    """The parameter `rejoin`: what the agent may do by itself to a copy that cannot follow."""

    SAFE = "safe"
    REWIND = "rewind"
    COPY = "copy"
    MANUAL = "manual"
    ASKED = "asked"
    """No value of the parameter: a person who was shown what would be lost has asked for it (`pgsql-ra rejoin`)."""

    @property
    def may_rewind(self) -> bool:
        """Whether pg_rewind is allowed."""
        return self in (Rejoin.REWIND, Rejoin.COPY, Rejoin.ASKED)

    @property
    def may_copy(self) -> bool:
        """Whether a new base backup is allowed."""
        return self in (Rejoin.COPY, Rejoin.ASKED)


class ChangedBlocks(Enum):
    """Whether the WAL names every block that was changed, which pg_rewind depends on."""

    LOGGED = "logged"
    NOT_LOGGED = "not logged"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Vacancy:
    """Why no server can run from a data directory, wherever its WAL ends."""

    because: str
    holds_data: bool = False
    """Whether something of a database lies there all the same: only a copy of that database may replace it."""
    hindrance: str = ""
    """Why nothing can be put in its place, and what to do about that; "" if nothing is in the way."""


@dataclass(frozen=True)
class LocalData:
    """What lies in the data directory of a server, which runs as a standby or not at all.

    `end` is where its valid WAL ends, None if that could not be found. For a standby that does not run it is how far it
    must replay at least before it is consistent, which is known without reading WAL.
    """

    was_primary: bool
    end: Position | None = None
    system: str = ""
    """PostgreSQL's system identifier; "" if it is not known."""
    changed_blocks: ChangedBlocks = ChangedBlocks.UNKNOWN
    broken_off: str = ""
    """What was done to this directory and not ended, so that it must not be started; "" if nothing."""
    unproven: bool = False
    """It was a primary before its server was started as a standby, and was not compared with another one since."""
    followed: int = 0
    """The number of the last promotion under which it was the primary, or streamed from it; 0 if that is not known."""
    outvoted: str = ""
    """Why what it holds and the primary does not may have been acknowledged; "" if it was not (see decide_rejoin)."""
    lock: str = ""
    """The lock file of ocf:heartbeat:pgsql, if there is one."""
    vacancy: Vacancy | None = None
    """If no server can run from it; the rest is not known then, but for `system`, which this node remembers."""


@dataclass(frozen=True)
class LostWal:
    """WAL that the primary never had: from `begin` on `timeline` to `end`, which may lie on a later timeline."""

    timeline: int
    begin: Lsn
    end: Lsn

    def __str__(self) -> str:
        return f"{self.end - self.begin} bytes of WAL ({self.begin} to {self.end}, timeline {self.timeline})"


@dataclass(frozen=True)
class Follow:
    """The directory may be started as a standby; it may receive WAL only if its content is the SAME."""

    because: str
    content: Content = Content.UNKNOWN


@dataclass(frozen=True)
class Rewind:
    """pg_rewind has to bring it back to where the primary left its timeline; `lost` None if the end is not known."""

    because: str
    lost: LostWal | None = None


@dataclass(frozen=True)
class Copy:
    """A new copy of the primary has to take its place."""

    because: str
    lost: LostWal | None = None


@dataclass(frozen=True)
class Refuse:
    """Starting it would throw WAL away, or nobody can tell."""

    because: str
    lost: LostWal | None = None
    content: Content = Content.UNKNOWN
    """DIFFERENT: what clients read there is not the cluster's."""


@dataclass(frozen=True)
class AwaitPrimary:
    """It has to be rewound or replaced, and the primary is not there yet, or not at its address."""

    because: str


Verdict = Follow | Rewind | Copy | AwaitPrimary | Refuse


def _advise(because: str) -> str:
    """A reason with what to do about it: that comes first, because Pacemaker shows the first 127 bytes."""
    return f"run `pgsql-ra rejoin` here, or set the parameter rejoin: {because}"


def decide_rejoin(
    node: str,
    local: LocalData,
    cluster: ClusterState,
    policy: Rejoin = Rejoin.SAFE,
    upstream: Upstream | None = None,
) -> Verdict:
    """May this node's data follow the primary that runs now, and if not, what may be done about it?

    What a promotion by the rule leaves behind was never acknowledged (sync mode). One that an administrator's word
    brought about may have passed over acknowledged commits, so what such a copy holds is thrown away by nobody but a
    person, until it has followed that promotion, or a later one.
    """
    forced = newest(each.promotion for each in cluster.nodes)
    if forced is not None and forced.forced > local.followed:
        local = replace(local, outvoted=f"promotion {forced.forced} was an administrator's word")
    primaries = other_primaries(cluster, node.lower())
    vacancy = local.vacancy
    if vacancy and vacancy.hindrance:
        return Refuse(f"{vacancy.because}, and {vacancy.hindrance}")
    if policy is Rejoin.MANUAL and local.lock and not vacancy:
        return Refuse(f"{node} was a primary, and rejoin=manual: rebuild its data if need be, then remove {local.lock}")
    if not primaries:
        if vacancy or local.broken_off:
            return _without_primary(local, policy)
        return Follow(f"no other node is the primary: the election decides{_outlook(node, local, cluster)}")
    if len(primaries) > 1:
        return Refuse(f"{', '.join(primaries)} run as primaries at the same time")
    state = cluster.node(primaries[0]) or NodeState(primaries[0], Membership.MEMBER)
    if upstream and upstream.system and local.system and upstream.system != local.system:
        return Refuse(
            f"the data of {node} are another database's than those of {state.name} (system identifiers {local.system}"
            f" and {upstream.system}): check pgdata and master_ip; the agent does not replace them"
        )
    stranger = why_not_primary(upstream, state) if upstream else ""
    verdict = _beside_primary(node, local, state, policy, None if stranger else upstream)
    if stranger and (isinstance(verdict, Rewind | Copy) or (isinstance(verdict, Refuse) and state.record is None)):
        return AwaitPrimary(stranger)
    return verdict


def _beside_primary(
    node: str, local: LocalData, primary: NodeState, policy: Rejoin, upstream: Upstream | None
) -> Verdict:
    if local.vacancy:
        return _fill(primary.name, local.vacancy, local.system, policy)
    if local.broken_off:
        return _repair(node, local, policy, local.broken_off, None, upstream)
    return _compare(node, local, primary.name, primary.record, policy, upstream)


def _without_primary(local: LocalData, policy: Rejoin) -> Verdict:
    because = f"{local.vacancy.because if local.vacancy else local.broken_off}, and there is no primary to copy"
    if policy.may_copy and not (local.vacancy and _is_of_nobody(local.vacancy, local.system)):
        return AwaitPrimary(because)
    return Refuse(f"{because}: start another node first")


def _is_of_nobody(vacancy: Vacancy, system: str) -> bool:
    """Whether data lie there that may be any database's, so that nothing may replace them."""
    return vacancy.holds_data and not system


def _fill(primary: str, vacancy: Vacancy, system: str, policy: Rejoin) -> Verdict:
    if _is_of_nobody(vacancy, system):
        return Refuse(
            f"{vacancy.because}, and nothing on this node says whose data they were: if a copy of {primary} may replace"
            " them, move the directory away"
        )
    if policy.may_copy:
        return Copy(vacancy.because)
    return Refuse(f"copy {primary} with `pgsql-ra rejoin`, or set the parameter rejoin to copy: {vacancy.because}")


def _compare(
    node: str, local: LocalData, primary: str, history: History | None, policy: Rejoin, upstream: Upstream | None
) -> Verdict:
    if history is None and local.was_primary:
        return Refuse(_advise(f"{node} was a primary, and {primary} has not recorded where its timeline came from"))
    if local.end is None and local.was_primary:
        because = f"{node} was a primary, and the end of its WAL cannot be found with pg_waldump"
        return _repair(node, local, policy, because, None, upstream)
    content = upstream.content if upstream else Content.UNKNOWN
    if content is Content.DIFFERENT:
        return _replace(policy, _own_history(node, primary), content)
    if history is None or local.end is None:
        return Follow("it was a standby", content)
    if not _continues(local, history, content):
        lost = lost_wal(local.end, history)
        return _repair(node, local, policy, _beyond(node, local.end, primary, history), lost, upstream)
    if upstream and upstream.lacks:
        return _replace(policy, f"{primary} does not have the WAL any more that {node} needs: {upstream.lacks}")
    if content is Content.GONE and (local.was_primary or local.unproven):
        return _replace(policy, f"{node} was a primary, and {primary} has no WAL any more to compare its end with")
    if not local.was_primary:
        return Follow("it was a standby", content)
    return Follow(f"its WAL ends at {local.end.lsn}, and that of {primary} goes on from there", content)


def _own_history(node: str, primary: str) -> str:
    return (
        f"{node} has other WAL than {primary} under the same numbers: its data were once started as a primary of their"
        " own (by systemd, or by hand), and differ"
    )


def _continues(local: LocalData, history: History, content: Content) -> bool:
    """Whether the primary's WAL goes on where this one ends. A former primary's own timeline nobody else continues,
    unless the content says so (restart_on_promote).
    """
    if local.end is None or not local.end.leads_to(history):
        return False
    return not local.was_primary or history.timeline != local.end.timeline or content is Content.SAME


def _repair(
    node: str, local: LocalData, policy: Rejoin, because: str, lost: LostWal | None, upstream: Upstream | None
) -> Verdict:
    """Rewind if that can work, else copy; Refuse if the policy allows neither."""
    if local.outvoted and not local.broken_off and policy is not Rejoin.ASKED:
        return Refuse(
            f"{local.outvoted}, so {node} may hold commits that were acknowledged: save them, or run `pgsql-ra rejoin`"
            f" here to give them up: {because}",
            lost,
        )
    cannot = _why_no_rewind(node, local, upstream)
    if policy.may_rewind and not cannot:
        return Rewind(because, lost)
    if policy.may_copy:
        return Copy(f"{because} ({cannot})", lost)
    if policy.may_rewind:
        because = f"{cannot}; {because}"
    return Refuse(_advise(because), lost)


def _why_no_rewind(node: str, local: LocalData, upstream: Upstream | None) -> str:
    """Why pg_rewind cannot help; "" if it can."""
    if local.broken_off:
        # The first attempt has overwritten some of the WAL that names the blocks to fetch.
        return "pg_rewind cannot help a second time"
    if local.changed_blocks is ChangedBlocks.NOT_LOGGED:
        return f"pg_rewind cannot help: {node} has neither wal_log_hints=on nor data checksums"
    if local.end and upstream and parting(local.end.history, upstream.history) is None:
        return "pg_rewind cannot help: the two have no timeline in common"
    if local.end and upstream and upstream.history.timeline == local.end.timeline:
        return f"pg_rewind cannot help: both are on timeline {local.end.timeline}"
    return ""


def _replace(policy: Rejoin, because: str, content: Content = Content.UNKNOWN) -> Verdict:
    return Copy(because) if policy.may_copy else Refuse(_advise(because), content=content)


def _outlook(node: str, local: LocalData, cluster: ClusterState) -> str:
    """What the records of promotions say of this copy while no primary is up; "" if they have nothing against it."""
    others = [each for each in cluster.nodes if each.key != node.lower() and each.record]
    newest = max(others, key=lambda each: each.record.timeline if each.record else 0, default=None)
    if newest is None or newest.record is None or local.end is None:
        return ""
    if newest.record.timeline <= local.end.timeline or local.end.leads_to(newest.record):
        return ""
    return f"; {newest.name} was promoted last, and {_gap(node, local.end, newest.name, newest.record)}"


def parting(first: History, second: History) -> tuple[int, Lsn | None] | None:
    """The last timeline that two histories share, and where the first of them left it (None: neither did).

    None if they share none, so that nothing is known to be equal.
    """
    common = None
    for (timeline, left, begin), (other, other_left, other_begin) in zip(_spans(first), _spans(second), strict=False):
        if timeline != other or (begin is not None and other_begin is not None and begin != other_begin):
            break
        ends = [end for end in (left, other_left) if end is not None]
        common = (timeline, min(ends, default=None))
        if left != other_left:
            break
    return common


def _spans(history: History) -> list[tuple[int, Lsn | None, Lsn | None]]:
    """Each timeline of a history, where it was left (None: it is the last one) and where it began (None: at first)."""
    timelines = [*(timeline for timeline, _ in history.forks), history.timeline]
    left = [*(fork for _, fork in history.forks), None]
    return list(zip(timelines, left, [None, *left[:-1]], strict=True))


def lost_wal(end: Position, history: History) -> LostWal | None:
    """What a server that ends there has and one with this history has not; None if that cannot be told."""
    parted = parting(end.history, history)
    if parted is None or parted[1] is None or parted[1] >= end.lsn:
        return None
    return LostWal(parted[0], parted[1], end.lsn)


def beyond_fork(node: str, end: Position, primary: str, record: History) -> str:
    """The sentence for WAL on this node that the primary does not have, with what to do about it."""
    return _advise(_beyond(node, end, primary, record))


def _beyond(node: str, end: Position, primary: str, record: History) -> str:
    if record.timeline == end.timeline:
        return f"{node} was a primary, and {primary} is one on the same timeline {end.timeline}"
    return _gap(node, end, primary, record)


def _gap(node: str, end: Position, primary: str, record: History) -> str:
    fork = record.left(end.timeline)
    if fork is None:
        return f"{node} is on timeline {end.timeline}, where {primary} (timeline {record.timeline}) never was"
    return (
        f"{end.lsn - fork} bytes of WAL on {node} are not in the cluster: it ends at {end.lsn}, {primary} left timeline"
        f" {end.timeline} at {fork}"
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a data directory may follow the cluster's primary as it is.

The law (SAFETY: "The former primary"). A former primary may hold WAL that the new one never saw. It follows as it is
only if its WAL ends at or before the point where the new primary's timeline left its own; both ends are read, not
guessed.
"""

from dataclasses import dataclass

from pgsql_ra.replication.lsn import History, Position
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.snapshot import ClusterState


@dataclass(frozen=True)
class LocalData:
    """What lies in the data directory of a server that is not running.

    `end` is where its valid WAL ends, None if that could not be found. For a standby it is how far it must replay at
    least before it is consistent, which is known without reading WAL.
    """

    was_primary: bool
    end: Position | None = None


@dataclass(frozen=True)
class Follow:
    """The directory may be started as a standby."""

    because: str


@dataclass(frozen=True)
class Refuse:
    """Starting it would throw WAL away, or nobody can tell."""

    because: str


def decide_rejoin(node: str, local: LocalData, cluster: ClusterState) -> Follow | Refuse:
    """May this node's data follow the primary that runs now?"""
    primaries = other_primaries(cluster, node.lower())
    if not primaries:
        return Follow("no other node is the primary: the election decides")
    if len(primaries) > 1:
        return Refuse(f"{', '.join(primaries)} run as primaries at the same time")
    primary = cluster.node(primaries[0])
    record = primary.record if primary else None
    if not local.was_primary:
        if primary and record and local.end and not local.end.leads_to(record):
            return Refuse(beyond_fork(node, local.end, primary.name, record))
        return Follow("it was a standby")
    if primary is None or record is None:
        return Refuse(
            f"{node} was a primary, and {primaries[0]} has not recorded where its timeline came from. {_ADVICE}"
        )
    if local.end is None:
        return Refuse(f"{node} was a primary, and the end of its WAL cannot be found with pg_waldump. {_ADVICE}")
    if record.timeline != local.end.timeline and local.end.leads_to(record):
        return Follow(f"its WAL ends at {local.end.lsn}, before {primary.name} left timeline {local.end.timeline}")
    return Refuse(beyond_fork(node, local.end, primary.name, record))


_ADVICE = "Rebuild it from the primary (pg_rewind, or pg_basebackup), then crm_resource --cleanup"


def beyond_fork(node: str, end: Position, primary: str, record: History) -> str:
    """The sentence for WAL on this node that the primary does not have."""
    fork = record.left(end.timeline)
    if record.timeline == end.timeline:
        return f"{node} was a primary, and {primary} is one on the same timeline {end.timeline}. {_ADVICE}"
    if fork is None:
        return (
            f"{node} is on timeline {end.timeline}, where {primary} (timeline {record.timeline}) never was. {_ADVICE}"
        )
    return (
        f"{end.lsn - fork} bytes of WAL on {node} are not in the cluster: it ends at {end.lsn}, {primary} left timeline"
        f" {end.timeline} at {fork}. {_ADVICE}"
    )

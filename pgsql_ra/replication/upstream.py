# SPDX-License-Identifier: GPL-2.0-or-later
"""What the server at the primary's address says of itself, and whether that is the primary.

An address is not an identity. Behind it may be a former primary that nobody fenced, or that a stale ARP entry leads to:
of the same database system, and with WAL that the cluster gave up. So nothing is taken from who answers unless its
timelines are those that the primary itself has recorded after its promotion (`<resource>-timeline`). A history that is
longer than the record, or another one, is not assumed to be fine; one that was not recorded yet is waited for.

With restart_on_promote a promotion begins no timeline. Then only where the answering server's WAL ends can tell: it
ends before the primary's promotion if it is an old copy, and not if it went on by itself. So this helps in part only;
such a cluster depends on fencing.
"""

from dataclasses import dataclass
from enum import Enum

from pgsql_ra.replication.candidates import is_current
from pgsql_ra.replication.lsn import History, Lsn
from pgsql_ra.replication.snapshot import NodeState, ReplicationState, Snapshot


class Content(Enum):
    """Whether the primary's WAL has the same bytes where that of a copy ends. Equal positions are not equal histories:
    a copy that was started as a primary once has WAL of its own under the same numbers.
    """

    SAME = "same"
    DIFFERENT = "different"
    GONE = "gone"
    """The primary does not have that WAL any more. PostgreSQL can go on from there only at the border of a segment, and
    then looks at the link between the records: enough for a copy that never was a primary."""
    UNKNOWN = "unknown"
    """It was not compared, or could not be."""


@dataclass(frozen=True)
class Upstream:
    """What the server at the primary's address says of itself over the replication protocol."""

    system: str
    history: History
    lacks: str = ""
    """Its words if it does not have the WAL any more that this standby needs next; "" if it has, or was not asked."""
    flushed: Lsn | None = None
    """How far its WAL is flushed."""
    address: str = "master_ip"
    content: Content = Content.UNKNOWN
    """How the WAL of this node's copy compares with its own."""


def why_not_primary(upstream: Upstream, primary: NodeState) -> str:
    """Why who answers must not be taken for this primary; "" if it is what the primary has recorded of itself."""
    if primary.record is None:
        return f"{primary.name} has not recorded yet where its timeline came from"
    who = f"the server that answers at {upstream.address} is not that of {primary.name}"
    advice = "check fencing, and who has the address (stale ARP entries)"
    if upstream.history != primary.record:
        return f"{who}: it is on timeline {upstream.history}, and {primary.name} recorded {primary.record}; {advice}"
    promotion = primary.promotion
    begin = promotion.begin if promotion and promotion.node == primary.key else None
    if begin and upstream.flushed is not None and upstream.flushed < begin.lsn:
        return (
            f"{who}: its WAL ends at {upstream.flushed}, and {primary.name} was promoted at {begin.lsn} on the same"
            f" timeline; {advice}"
        )
    return ""


def may_receive(content: Content, snapshot: Snapshot) -> bool:
    """Whether a standby with this content, which never was a primary, may stream from the primary. One that could not
    be compared may if the primary itself recorded under the newest promotion that it streamed.
    """
    if content is Content.UNKNOWN:
        recorded = snapshot.own.data_status.startswith(f"{ReplicationState.STREAMING.name}|")
        return recorded and is_current(snapshot, snapshot.own)
    return content in (Content.SAME, Content.GONE)

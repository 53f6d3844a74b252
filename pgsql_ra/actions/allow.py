# SPDX-License-Identifier: GPL-2.0-or-later
"""Why nobody is promoted, and an administrator's word that a node may be.

The word is a promotion like any other: it gets the next number, so that whatever was recorded before stops counting, on
nodes that are away too, and the node that it names may be promoted, if it holds at least what it holds now.
"""

from pgsql_ra.actions.apply import apply
from pgsql_ra.actions.context import Context
from pgsql_ra.actions.converge import take_snapshot
from pgsql_ra.ocf import NotSafe
from pgsql_ra.replication.candidates import Candidate, Heard, standbys
from pgsql_ra.replication.changes import SetDataStatus, SetPromotion, SetScore
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.reasons import line
from pgsql_ra.replication.record import Promotion, after
from pgsql_ra.replication.snapshot import NodeState, Snapshot, Stopped
from pgsql_ra.replication.status import LATEST, SCORE_PRIMARY


def look(context: Context) -> Snapshot:
    """The cluster as this node sees it; nothing is asked of the server."""
    return take_snapshot(context, Stopped("not looked at"))


def primaries(snapshot: Snapshot) -> tuple[str, ...]:
    """The nodes that run as a primary now."""
    return other_primaries(snapshot.cluster, "")


def explain(snapshot: Snapshot) -> list[tuple[str, str]]:
    """For each member of node_list: its name, and in one line its status, its position and why it is not promoted."""
    heard = _heard(snapshot)
    has_primary = bool(primaries(snapshot))

    def say(node: NodeState | None) -> str:
        if node is None:
            return "the cluster does not know it"
        if has_primary:
            unfit = f"; {node.unfit}" if node.unfit else ""
            return f"{node.data_status or 'no record'}, promotion score {node.score or 'not set'}{unfit}"
        return line(snapshot, node, heard)

    return [(name, say(snapshot.cluster.node(name))) for name in snapshot.policy.members]


def allow(context: Context, name: str) -> None:
    """This node may be promoted, whatever is recorded of it and of others. NotSafe if that would not be a repair."""
    snapshot = look(context)
    node = snapshot.cluster.node(name)
    if node is None or node.key not in snapshot.policy.members:
        raise NotSafe(f"{name} is not in node_list ({' '.join(snapshot.policy.members)})")
    if running := primaries(snapshot):
        raise NotSafe(f"{', '.join(running)} runs as the primary: move it, if another node is to be the primary")
    if not snapshot.cluster.may_decide:
        raise NotSafe("this partition has no quorum: what is said here may be lost, or meet another primary")
    newest = snapshot.newest
    number = snapshot.next_number
    promotion = Promotion(number, node.key, node.position, forced=number, after=after(newest))
    because = "an administrator has allowed it"
    apply(context, SetPromotion(node.name, promotion, because))
    apply(context, SetDataStatus(node.name, LATEST, because))
    if node.key in {one.key for one in standbys(snapshot)}:
        apply(context, SetScore(node.name, SCORE_PRIMARY, because))


def _heard(snapshot: Snapshot) -> Heard:
    """Everybody who has said where its WAL ends."""
    return {node.key: Candidate(node, node.position) for node in standbys(snapshot) if node.position is not None}

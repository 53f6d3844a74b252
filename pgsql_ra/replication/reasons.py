# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a node is not promoted, in sentences for a person who has to decide what to do about it."""

from pgsql_ra.replication.candidates import (
    Heard,
    best,
    counts,
    has_followed,
    holders,
    is_current,
    stranger_to,
    voters,
    went_back,
)
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.snapshot import Membership, NodeState, Role, Snapshot
from pgsql_ra.replication.status import LAGGING

ADVICE = "If no better copy is left: pgsql-ra allow NODE (README, 'When nothing is promoted')"
"""What an administrator can do."""
SEE = "see `pgsql-ra why`"
"""It says so of all nodes and gives the advice; it comes first, because Pacemaker shows the first 127 bytes."""


def why_nobody(snapshot: Snapshot, heard: Heard) -> str:
    """Why none of those that were heard is promoted."""
    if any(one.node.priority > 0 for one in holders(snapshot, heard)):
        ends = ", ".join(f"{one.node.name} ends at {one.position}" for one in heard.values())
        return f"{SEE}: the histories of the copies contradict each other, a person has to choose: {ends}. {ADVICE}"
    return f"{SEE}: {snapshot.own.name}: {why_not(snapshot, snapshot.own, heard)}. {ADVICE}"


def why_stranger(unmet: tuple[str, ...]) -> str:
    """Why a node that has booted alone is not promoted."""
    names = ", ".join(unmet)
    return (
        f"{SEE}: {names} was not seen since Pacemaker was started here, and may have gone on without this node."
        f" Start it, or if it is gone for ever: pgsql-ra allow NODE"
    )


def why_not(snapshot: Snapshot, node: NodeState, heard: Heard) -> str:
    """Why this node is not promoted; "" if nothing speaks against it."""
    if barred := _why_barred(snapshot, node):
        return barred
    candidate = heard.get(node.key)
    if candidate is None:
        return "where its WAL ends is not known yet"
    chosen = best(snapshot, heard, "")
    if chosen == node.key:
        return ""
    if chosen is not None and candidate.node.unfit and candidate.holds_all_of(heard[chosen]):
        return f"{chosen} can be promoted as it runs; {node.name}: {candidate.node.unfit}"
    if chosen is not None and candidate not in holders(snapshot, heard):
        return f"{chosen} holds what it may lack"
    if chosen is not None:
        return f"{chosen} holds newer data, or the same"
    return _what_its_record_says(snapshot, node, heard)


def _why_barred(snapshot: Snapshot, node: NodeState) -> str:
    """Why it is not to be promoted, whatever it holds."""
    is_own = node.key == snapshot.own.key
    if node.membership is not Membership.MEMBER:
        return f"the node is {node.membership.value}"
    if node.role is not Role.UNPROMOTED and not is_own:
        return "no standby runs there"
    if node.key not in snapshot.policy.members:
        return "it is not in node_list"
    if is_own and (unmet := stranger_to(snapshot)):
        return why_stranger(unmet).removeprefix(f"{SEE}: ")
    if node.priority == 0:
        return "its priority is 0, the administrator's word that it is never promoted"
    return ""


def _what_its_record_says(snapshot: Snapshot, node: NodeState, heard: Heard) -> str:
    promotion, quorum = snapshot.newest, voters(snapshot)
    if promotion is not None and counts(snapshot, node) and not promotion.is_held_by(heard[node.key].position):
        return f"its WAL ends before promotion {promotion.number} began: the directory was replaced by an older copy"
    if went_back(snapshot, heard[node.key]):
        return "its WAL had gone further already: the directory was replaced by an older copy"
    if counts(snapshot, node) and not heard[node.key].keeps_its_proof:
        return f"it holds less than it was recorded with ({node.proof}): the directory was replaced by an older copy"
    if quorum is not None and node.key in quorum.names:
        present = [name for name in quorum.names if name in heard]
        return f"{len(present)} of its voters are heard, {quorum.needed} of {' '.join(quorum.names)} are needed"
    recorded = node.data_status or "empty"
    if promotion is not None and has_followed(snapshot, node) and not is_current(snapshot, node):
        return (
            f"{promotion.node} went on without it after it was recorded as {recorded}: it may lack acknowledged commits"
        )
    if promotion is not None and not is_current(snapshot, node):
        return (
            f"its record ({recorded}) is older than promotion {promotion.number}, which {promotion.node} had: it may"
            " lack acknowledged commits"
        )
    if node.data_status == LAGGING and snapshot.policy.mode is Mode.ASYNC:
        return "it was still catching up, or further behind than max_lag allows"
    return f"it is recorded as {recorded}: it may lack acknowledged commits"


def line(snapshot: Snapshot, node: NodeState, heard: Heard) -> str:
    """Status, position and reason of a node in one line."""
    candidate = heard.get(node.key)
    where = f", WAL to {candidate.position.lsn} on timeline {candidate.position.timeline}" if candidate else ""
    unfit = f" ({candidate.node.unfit})" if candidate and candidate.node.unfit else ""
    return f"{node.data_status or 'no record'}{where}: {why_not(snapshot, node, heard) or f'may be promoted{unfit}'}"

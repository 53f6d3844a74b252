# SPDX-License-Identifier: GPL-2.0-or-later
"""Before the first promotion: two copies that both have a life of their own.

A new cluster has no record of a promotion, so the copy that goes furthest is promoted. A clone that was started as a
primary once may be that one, and what the original committed would be given up for it. Whether data ran as a primary is
no rule by itself: the original did, too, and a clone that was started again as a standby does not show it any more. So
every node says which record is the last of its WAL, by place and checksum, before it says where its WAL ends, and
whoever is to be promoted looks for those of the others in its own WAL: it has them all if it holds all that they have.
If it has other WAL there, nobody is promoted before a person has chosen.

It may not have that segment any more. Then the other one counts if it was a primary: two originals, and nobody can
compare them. One that was not is a copy that was left behind long ago, and stands in nobody's way.
"""

from collections.abc import Iterable, Iterator

from pgsql_ra.replication.changes import Change, Plan, SetLastRecord, SetScore
from pgsql_ra.replication.snapshot import NodeState, Snapshot
from pgsql_ra.replication.status import LATEST, SCORE_NEVER


def is_new(snapshot: Snapshot) -> bool:
    """Whether nothing says that the cluster ever had a primary."""
    return snapshot.newest is None and not any(node.data_status == LATEST for node in snapshot.cluster.nodes)


def say_last(snapshot: Snapshot) -> Iterator[Change]:
    """This node's last record, before its position: whoever sees that has seen the record."""
    if is_new(snapshot) and snapshot.last is not None and snapshot.own.last != snapshot.last:
        yield SetLastRecord(snapshot.own.name, snapshot.last, "the cluster never had a primary")


def compare_originals(snapshot: Snapshot, heard: Iterable[NodeState]) -> Plan | None:
    """What keeps everybody from being promoted in a new cluster in which these nodes were heard; None if nothing
    does.
    """
    if not is_new(snapshot) or snapshot.last is None:
        return None
    if unsaid := [node.name for node in heard if node.key != snapshot.own.key and node.last is None]:
        return Plan(waiting_for=f"the last record of {', '.join(unsaid)}")
    if snapshot.unlike:
        because = choose_one(snapshot.own.name, snapshot.unlike)
        lower = SetScore(snapshot.own.name, SCORE_NEVER, because)
        return Plan(() if snapshot.own.score == SCORE_NEVER else (lower,), refusal=because)
    return None


def choose_one(own: str, others: tuple[str, ...]) -> str:
    """The sentence for copies of which nobody knows which is the original."""
    return (
        f"choose one of {', '.join((own, *others))} with `pgsql-ra allow NODE`: they hold different WAL under the same"
        " numbers, so one of them was started as a primary of its own, and no promotion is recorded yet"
    )

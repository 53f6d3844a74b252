# SPDX-License-Identifier: GPL-2.0-or-later
"""A running primary in a case, and what it does."""

from pgsql_ra.replication.changes import Plan, SetSynchronousStandbys
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.snapshot import NodeState, Primary, Snapshot
from tests.unit.builders import a_cluster, a_snapshot, the_primary_node
from tests.unit.effects import visible

STEPS = 20
"""More than any plan of three nodes needs to come to rest."""


def plan_of(snapshot: Snapshot) -> Plan:
    """What the primary of this snapshot does."""
    assert isinstance(snapshot.server, Primary)
    return reconcile(snapshot, snapshot.server)


def changes_of(snapshot: Snapshot) -> list[tuple[object, ...]]:
    """What the primary changes that shows, without the reasons."""
    return visible(plan_of(snapshot).changes)


def lets_go(plan: Plan, name: str) -> bool:
    """Whether commits would no longer wait for this standby."""
    return any(
        isinstance(change, SetSynchronousStandbys) and name not in change.standbys.names for change in plan.changes
    )


def a_pair(server: Primary, peer: NodeState, quorum: bool = True, leaving: tuple[str, ...] = ()) -> Snapshot:
    """A primary on alpha and one peer, beta."""
    return a_snapshot(server, a_cluster(the_primary_node(), peer, quorum=quorum), leaving=leaving)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Standbys in a case without a primary, and what they do."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pgsql_ra.replication.changes import Plan
from pgsql_ra.replication.election import elect
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState, Role, Snapshot, Standby
from tests.unit.builders import a_cluster, a_node, a_snapshot, a_standby, at
from tests.unit.effects import visible

ELSEWHERE = Position(Lsn(0x180), History(2, ((1, Lsn(0x40)),)))
"""A promotion that left timeline 1 at another place than the builders' one."""

MODES = pytest.mark.parametrize("mode", Mode)


def waiting(
    name: str,
    lsn: int | None = 0x80,
    data_status: str = "",
    score: str = "",
    timeline: int = 1,
    membership: Membership = Membership.MEMBER,
) -> NodeState:
    """A node whose standby published where its WAL ends, as in an election; None if it has not yet."""
    position = None if lsn is None else at(lsn, timeline)
    shown = "" if position is None else position.lsn.padded()
    return replace(
        a_node(name, membership, data_status=data_status, status="HS:alone", score=score, position=position),
        location=shown,
    )


def absent(name: str, data_status: str = "", membership: Membership = Membership.CLEAN) -> NodeState:
    """A node that is down: only its permanent record is left."""
    return a_node(name, membership, role=Role.STOPPED, data_status=data_status)


def seen(
    *nodes: NodeState,
    lsn: int | None = 0x80,
    timeline: int = 1,
    mode: Mode = Mode.SYNC,
    quorum: bool = True,
    receiving: Iterable[str] = (),
) -> Snapshot:
    """What the first of these nodes sees, whose own WAL ends here."""
    cluster = a_cluster(*nodes, quorum=quorum)
    return a_snapshot(a_standby(lsn, timeline), cluster, mode=mode, own=nodes[0].key, receiving=receiving)


def server_of(snapshot: Snapshot) -> Standby:
    """This node's server."""
    assert isinstance(snapshot.server, Standby)
    return snapshot.server


def elected(snapshot: Snapshot) -> Plan:
    """What an election makes of it."""
    return elect(snapshot, server_of(snapshot))


def decided(snapshot: Snapshot) -> Plan:
    """What promote makes of it."""
    return decide_promotion(snapshot, server_of(snapshot))


def changes(plan: Plan) -> list[tuple[object, ...]]:
    """The changes that show, without their reasons."""
    return visible(plan.changes)


def recorded(plan: Plan) -> list[tuple[object, ...]]:
    """What a plan that promotes says of the nodes, after the promotion's own record; fails if it does not promote."""
    assert (plan.refusal, plan.waiting_for, plan.stalled) == ("", "", "")
    own = [change[0] for change in changes(plan) if change[0] in ("promotion", "remember")]
    assert [change[0] for change in changes(plan)[: len(own)]] == own, "the promotion's record comes first"
    return changes(plan)[len(own) :]


def replace_met(snapshot: Snapshot, met: Iterable[str]) -> Snapshot:
    """The same, where this node has seen only these since Pacemaker was started on it."""
    return replace(snapshot, cluster=replace_node(snapshot.cluster, replace(snapshot.own, met=frozenset(met))))


def replace_node(cluster: ClusterState, node: NodeState) -> ClusterState:
    """The cluster with this node in place of the one of the same name."""
    return replace(cluster, nodes=tuple(node if one.key == node.key else one for one in cluster.nodes))

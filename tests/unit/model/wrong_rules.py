# SPDX-License-Identifier: GPL-2.0-or-later
"""Variants of the decisions, each of which breaks one of SAFETY's rules: the model has to find every one out."""

from collections.abc import Callable
from dataclasses import replace

from pgsql_ra.replication.changes import Confirm, Plan, SetSynchronousStandbys
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Membership, NodeState, Primary, Snapshot, Standby
from pgsql_ra.replication.status import DISCONNECT, STREAMING_SYNC
from tests.unit.model.machine import Decisions


def with_nodes(snapshot: Snapshot, change: Callable[[NodeState], NodeState]) -> Snapshot:
    """The snapshot with every node of the cluster changed."""
    nodes = tuple(change(node) for node in snapshot.cluster.nodes)
    return replace(snapshot, cluster=replace(snapshot.cluster, nodes=nodes))


def takes_lost_for_down(node: NodeState) -> NodeState:
    """An unclean node, presented as a clean one."""
    is_lost = node.membership is Membership.UNCLEAN
    return replace(node, membership=Membership.CLEAN) if is_lost else node


def degrades_without_fencing(snapshot: Snapshot, server: Primary) -> Plan:
    return reconcile(with_nodes(snapshot, takes_lost_for_down), server)


def upgrades_before_it_is_in_force(snapshot: Snapshot, server: Primary) -> Plan:
    hasty = replace(server, settled=True)
    return reconcile(replace(snapshot, server=hasty, mark=server.position.lsn), hasty)


def upgrades_without_a_mark(snapshot: Snapshot, server: Primary) -> Plan:
    return reconcile(replace(snapshot, mark=Lsn(0)), server)


def records_after_the_names(snapshot: Snapshot, server: Primary) -> Plan:
    """What it would do once the records stood, and then the records."""
    streaming = {row.node for row in server.walsenders if row.state.value == "streaming"} - snapshot.leaving

    def as_if_recorded(node: NodeState) -> NodeState:
        stays = node.key in streaming or node.membership is Membership.UNCLEAN or node.key == snapshot.policy.node
        return node if stays else replace(node, data_status=DISCONNECT, score="-INFINITY")

    then = reconcile(with_nodes(snapshot, as_if_recorded), server)
    now = reconcile(snapshot, server)
    names = tuple(change for change in then.changes if isinstance(change, SetSynchronousStandbys))
    rest = tuple(change for change in now.changes if not isinstance(change, SetSynchronousStandbys))
    return replace(now, changes=names + rest)


def promotes_without_records(snapshot: Snapshot, server: Standby) -> Plan:
    return replace(decide_promotion(snapshot, server), changes=())


def promotes_whoever_is_asked(snapshot: Snapshot, server: Standby) -> Plan:
    def as_if_allowed(node: NodeState) -> NodeState:
        return replace(node, data_status=STREAMING_SYNC) if node.key == snapshot.policy.node else node

    return decide_promotion(with_nodes(snapshot, as_if_allowed), server)


def promotes_before_fencing(snapshot: Snapshot, server: Standby) -> Plan:
    return decide_promotion(with_nodes(snapshot, takes_lost_for_down), server)


def counts_records_of_any_promotion(snapshot: Snapshot, server: Standby) -> Plan:
    """What was said under an older promotion counts like what was said under the newest."""
    newest = snapshot.newest

    def as_if_current(node: NodeState) -> NodeState:
        return replace(node, promotion=Promotion(newest.number, newest.node) if newest else None)

    forgetful = with_nodes(snapshot, as_if_current)
    # And nobody is named by it.
    nameless = None if newest is None else replace(newest, node="nobody")
    forgetful = with_nodes(forgetful, lambda node: replace(node, promotion=nameless, known=None))
    return decide_promotion(replace(forgetful, remembered=None), server)


def promotes_with_one_voter(snapshot: Snapshot, server: Standby) -> Plan:
    def as_if_one_were_enough(node: NodeState) -> NodeState:
        return replace(node, voters=replace(node.voters, needed=1)) if node.voters else node

    return decide_promotion(with_nodes(snapshot, as_if_one_were_enough), server)


def counts_voters_at_once(snapshot: Snapshot, server: Primary) -> Plan:
    """A standby is a voter before it has what was acknowledged without it."""
    return reconcile(replace(snapshot, mark=Lsn(0)), replace(server, settled=True))


def with_positions(snapshot: Snapshot, change: Callable[[Position], Position]) -> Snapshot:
    """The snapshot with every position changed."""

    def changed(node: NodeState) -> NodeState:
        return replace(node, position=change(node.position)) if node.position else node

    def begun(promotion: Promotion | None) -> Promotion | None:
        return replace(promotion, begin=None) if promotion else None

    snapshot = with_nodes(snapshot, changed)
    snapshot = with_nodes(snapshot, lambda node: replace(node, promotion=begun(node.promotion)))
    return replace(snapshot, remembered=begun(snapshot.remembered))


def compares_without_timelines(snapshot: Snapshot, server: Standby) -> Plan:
    """The higher LSN wins, on whatever branch."""
    return _compares(snapshot, server, lambda position: Position(position.lsn, History(1)))


def compares_as_text(snapshot: Snapshot, server: Standby) -> Plan:
    """0/90 comes after 0/100."""

    def as_text(position: Position) -> Position:
        return Position(Lsn(int.from_bytes(str(position.lsn).encode().ljust(12, b" "), "big")), position.history)

    return _compares(snapshot, server, as_text)


def _compares(snapshot: Snapshot, server: Standby, change: Callable[[Position], Position]) -> Plan:
    if server.position is None:
        return decide_promotion(snapshot, server)
    otherwise = replace(server, position=change(server.position))
    return decide_promotion(replace(with_positions(snapshot, change), server=otherwise), otherwise)


def with_number(snapshot: Snapshot) -> Snapshot:
    """The snapshot with every position presented as one that cannot grow any more."""
    number = snapshot.next_number
    return with_nodes(snapshot, lambda node: replace(node, cut_for=number) if node.position else node)


def counts_positions_that_may_grow(snapshot: Snapshot, server: Standby) -> Plan:
    return decide_promotion(with_number(snapshot), server)


def compares_positions_of_any_promotion(snapshot: Snapshot, server: Standby) -> Plan:
    """The same timeline and a higher LSN pass for newer data, whatever promotion the two followed."""
    newest = snapshot.newest
    heard = {node.key for node in snapshot.cluster.nodes if node.position} | {snapshot.policy.node}

    def as_if_current(node: NodeState) -> NodeState:
        if newest is None or node.key not in heard or (node.promotion and node.promotion.number == newest.number):
            return node
        return replace(node, promotion=Promotion(newest.number, newest.node), data_status="STREAMING|ASYNC")

    return decide_promotion(with_nodes(snapshot, as_if_current), server)


def counts_what_was_lowered(snapshot: Snapshot, server: Standby) -> Plan:
    """How often a record was lowered does not matter."""

    def forgetful(promotion: Promotion | None) -> Promotion | None:
        return replace(promotion, lowered=()) if promotion else None

    unaware = with_nodes(snapshot, lambda node: replace(node, known=forgetful(node.known)))
    return decide_promotion(replace(unaware, remembered=forgetful(snapshot.remembered)), server)


def does_not_ask_whom_it_has_met(snapshot: Snapshot, server: Standby) -> Plan:
    return decide_promotion(
        with_nodes(snapshot, lambda node: replace(node, met=frozenset(snapshot.policy.peers))), server
    )


def takes_writes_for_known(snapshot: Snapshot, server: Primary) -> Plan:
    """What was written here, everybody is taken to have."""
    plan = reconcile(snapshot, server)
    return replace(plan, changes=tuple(change for change in plan.changes if not isinstance(change, Confirm)))


WRONG = {
    "positions of any promotion are compared": Decisions(decide=compares_positions_of_any_promotion),
    "records of any promotion count": Decisions(decide=counts_records_of_any_promotion),
    "one voter is enough": Decisions(decide=promotes_with_one_voter),
    "voters count at once": Decisions(reconcile=counts_voters_at_once),
    "the higher position wins, whatever the timeline": Decisions(decide=compares_without_timelines),
    "positions are compared as text": Decisions(decide=compares_as_text),
    "degrade although the node is unclean": Decisions(reconcile=degrades_without_fencing),
    "upgrade before the setting is in force": Decisions(reconcile=upgrades_before_it_is_in_force),
    "upgrade without a mark": Decisions(reconcile=upgrades_without_a_mark),
    "the record after the names": Decisions(reconcile=records_after_the_names),
    "promote without records": Decisions(decide=promotes_without_records),
    "promote whoever is asked": Decisions(decide=promotes_whoever_is_asked),
    "promote before the lost node is fenced": Decisions(decide=promotes_before_fencing),
}

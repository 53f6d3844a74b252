# SPDX-License-Identifier: GPL-2.0-or-later
"""Which replication slots a primary makes and drops, and whose it leaves alone."""

import pytest

from pgsql_ra.parameters import slot_name
from pgsql_ra.replication.changes import CreateSlot, DropSlot
from pgsql_ra.replication.policy import Mode, Policy
from pgsql_ra.replication.slots import WORRYING_BYTES, keep_slots, slot_of
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState, Primary, Slot, Snapshot
from tests.unit.builders import a_node, at

MEMBERS = ("alpha", "beta")


def kept(*slots: Slot, nodes: tuple[NodeState, ...] = ()) -> tuple[list[str], list[str], str]:
    """The names of the slots that are made and dropped by alpha, the primary of alpha and beta, and what it tells."""
    policy = Policy(
        "alpha", Mode.SYNC, MEMBERS, slots=tuple((name, slot_name("pg", name)) for name in MEMBERS), slot_prefix="pg"
    )
    server = Primary(1, at(0x80), slots=slots)
    cluster = ClusterState(True, True, (a_node("alpha"), a_node("beta"), *nodes))
    changes, told = keep_slots(Snapshot(server, cluster, policy), server)
    made = [change.name for change in changes if isinstance(change, CreateSlot)]
    return made, [change.name for change in changes if isinstance(change, DropSlot)], told


BETA = Slot("pg_beta", True, False, 0)


def unused(name: str, retained: int = 10) -> Slot:
    """A slot that nobody is connected to."""
    return Slot(name, False, False, retained)


def test_a_slot_is_made_for_a_node_that_is_there() -> None:
    assert kept() == (["pg_beta"], [], "")
    assert kept(BETA) == ([], [], "")


@pytest.mark.parametrize("name", ["pg_barman", "pg_", "pg_beta_backup", "pg_bet", "pg", "other_gamma", "pg_gamma2"])
def test_a_slot_of_somebody_else_stays(name: str) -> None:
    """Its name begins like those of the agent; what it keeps may be the only copy of what a backup has not got yet."""
    gone = a_node("gamma", Membership.CLEAN)
    assert kept(BETA, unused(name), nodes=(gone,)) == ([], [], "")
    assert name in kept(BETA, unused(name, WORRYING_BYTES), nodes=(gone,))[2]


@pytest.mark.parametrize("node", ["gamma", "Gamma-1.example"])
def test_the_slot_of_a_node_that_left_node_list_is_dropped(node: str) -> None:
    left = a_node(node, Membership.CLEAN)
    assert kept(BETA, unused(slot_name("pg", node)), nodes=(left,)) == ([], [slot_name("pg", node)], "")
    in_use = Slot(slot_name("pg", node), True, False, 0)
    assert kept(BETA, in_use, nodes=(left,)) == ([], [], "")


def test_a_primarys_own_slot_from_its_time_as_a_standby_is_dropped() -> None:
    assert kept(BETA, unused("pg_alpha")) == ([], ["pg_alpha"], "")


def test_a_slot_that_lost_its_wal_is_made_anew() -> None:
    assert kept(Slot("pg_beta", False, True, 0)) == (["pg_beta"], ["pg_beta"], "")


@pytest.mark.parametrize("node", ["a", "Node-1.example", "n_2", "x.y-z"])
def test_both_rooms_name_slots_alike(node: str) -> None:
    assert slot_of("pre", node.lower()) == slot_name("pre", node)

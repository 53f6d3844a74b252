# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication slots: one on the primary for each standby, none on a standby.

A slot makes the primary keep the WAL that its standby lacks. One that nobody uses keeps WAL until the disk is full, so:
  * a slot is made when its node is there, not before;
  * the slot of a node of the cluster is dropped when that is no longer in node_list, and on a server that is no
    primary any more: its next primary keeps the WAL now;
  * a slot that lost its WAL (max_slot_wal_keep_size) is dropped and made again: the server does not let it be used;
  * a slot in use is never dropped, nor one that belongs to no node of the cluster, whatever its name begins with: a
    backup program's slot keeps the only copy of what it has not fetched yet.
"""

from collections.abc import Iterator
from typing import Final

from pgsql_ra.replication.changes import Change, CreateSlot, DropSlot
from pgsql_ra.replication.snapshot import Membership, Primary, Snapshot, Standby

WORRYING_BYTES: Final = 1 << 30
"""An unused slot that holds back as much WAL as this is told in the log: 64 segments."""


def keep_slots(snapshot: Snapshot, server: Primary) -> tuple[tuple[Change, ...], str]:
    """What a primary does about slots, and a sentence about those that hold back much; ("" if there is none)."""
    if not snapshot.policy.slots:
        return (), ""
    return tuple(_wanted(snapshot, server)) + tuple(_stale(snapshot, server)), _worry(server)


def drop_own_slots(snapshot: Snapshot, server: Standby) -> tuple[Change, ...]:
    """What a standby does about the slots it made when it was the primary: they would hold WAL back for ever."""
    ours = {slot for _, slot in snapshot.policy.slots}
    return tuple(
        DropSlot(slot.name, "this server is a standby now, and nobody uses the slot")
        for slot in server.slots
        if slot.name in ours and not slot.active
    )


def _wanted(snapshot: Snapshot, server: Primary) -> Iterator[Change]:
    present = {slot.name: slot for slot in server.slots}
    for node, name in snapshot.policy.slots:
        state = snapshot.cluster.node(node)
        if node == snapshot.policy.node or state is None or state.membership is not Membership.MEMBER:
            continue
        slot = present.get(name)
        if slot is not None and slot.lost and not slot.active:
            yield DropSlot(name, f"it held back too much WAL, and what {node} lacks is gone")
            slot = None
        if slot is None:
            yield CreateSlot(name, f"WAL is kept for {node}")


def _stale(snapshot: Snapshot, server: Primary) -> Iterator[Change]:
    policy = snapshot.policy
    wanted = {slot for node, slot in policy.slots if node != policy.node}
    left = {slot_of(policy.slot_prefix, node.key) for node in snapshot.cluster.nodes} - wanted
    for slot in server.slots:
        if slot.name in left and not slot.active:
            yield DropSlot(slot.name, "its node is not in node_list, or it is this node")


def slot_of(prefix: str, node: str) -> str:
    """The slot that a node has, or had (the same as parameters.slot_name, which this room may not use)."""
    return f"{prefix}_{node.replace('.', '_').replace('-', '_')}"


def _worry(server: Primary) -> str:
    heavy = [slot for slot in server.slots if not slot.active and slot.retained >= WORRYING_BYTES]
    return "; ".join(f"the unused slot {slot.name} holds back {slot.retained >> 20} MiB of WAL" for slot in heavy)

# SPDX-License-Identifier: GPL-2.0-or-later
"""WAL as what it is: a list of records, each written on a timeline. What the agent knows of it is derived from that."""

from pgsql_ra.replication.lsn import History, Lsn, Position

Record = tuple[int, int]
"""The timeline it was written on, and a number of its own."""
Wal = tuple[Record, ...]

RECORD_BYTES = 0x60
"""So that texts of positions sort otherwise than the positions do, after two records already: 0/C0, 0/120."""


def end_of(wal: Wal) -> Lsn:
    """Where it ends."""
    return Lsn(len(wal) * RECORD_BYTES)


def position_of(wal: Wal) -> Position:
    """Where it ends and how it came there, as a server that holds it would say."""
    forks = tuple(
        (wal[index][0], end_of(wal[: index + 1])) for index in range(len(wal) - 1) if wal[index][0] != wal[index + 1][0]
    )
    return Position(end_of(wal), History(wal[-1][0] if wal else 1, forks))


def is_prefix(first: Wal, second: Wal) -> bool:
    """Whether the second holds all of the first."""
    return second[: len(first)] == first

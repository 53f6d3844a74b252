# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of promotions: which one was the newest, and whose statements it makes old.

The law (SAFETY: "What a durable write is worth"). Pacemaker's CIB can go back: when partitions meet, or a fenced node
boots with its own copy, the CIB with the highest epoch wins, even a minority's. What the majority had said of its nodes
has vanished then. So every promotion has a *number*, one more than the newest that is known, and
  * the new primary writes the number on its own node, acknowledged with quorum, before it is promoted: at that moment
    everything that was said of any node under an older number stops counting;
  * whatever makes a node promotable is said together with the number that it was said under;
  * every node keeps the newest number it has heard of in a file, and says so: of the nodes that make up a quorum, one
    at least knows the newest;
  * the node that the newest promotion names holds the newest data, whatever the attributes say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pgsql_ra.replication.lsn import Order, Position

PARTIAL_RECORD_BYTES: Final = 16 << 20
"""More than the beginning of a record that was received without its end: a whole segment."""


@dataclass(frozen=True)
class Promotion:
    """The `number`-th promotion of the cluster, of `node` (in lower case). Number 0 is before the first one.

    `begin` is where that node's WAL ended then; None in a peer's stamp, which only says that something was said while
    this promotion was the newest.
    """

    number: int
    node: str
    begin: Position | None = None

    @classmethod
    def parse(cls, text: str) -> "Promotion":
        """Read `7@node2` or `7@node2 0/5000110 3:1@0/3000060,2@0/5000000`. ValueError if it is something else.

        >>> str(Promotion.parse("7@node2 0/40 2:1@0/4"))
        '7@node2 0/40 2:1@0/4'
        """
        stamp, _, begin = text.strip().partition(" ")
        number, at, node = stamp.partition("@")
        if not at or not node or not number.isascii() or not number.isdigit():
            raise ValueError(f"not a promotion: {text!r}")
        return cls(int(number), node.lower(), Position.parse(begin) if begin else None)

    def __str__(self) -> str:
        return f"{self.stamp} {self.begin}" if self.begin else self.stamp

    @property
    def stamp(self) -> str:
        """The number and the node, without the position."""
        return f"{self.number}@{self.node}"

    def is_same(self, other: "Promotion | None") -> bool:
        """Whether both are the same promotion, whether or not each says where it began."""
        return other is not None and self.stamp == other.stamp

    def is_held_by(self, position: Position) -> bool:
        """Whether WAL that ends at `position` holds what this promotion's primary began with.

        Recovery ends with the last whole record, so the new timeline may begin a little before the end of what was
        received.
        """
        if self.begin is None or position.compare(self.begin) in (Order.NEWER, Order.EQUAL):
            return True
        fork = position.history.left(self.begin.timeline)
        return fork is not None and self.begin.lsn - fork < PARTIAL_RECORD_BYTES


class Published(NamedTuple):
    """What a standby says of where its WAL ends. `cut_for` is the number of the promotion for which it has stopped
    receiving before it said so; 0 if it has not, so that its WAL may have grown since.
    """

    position: Position
    cut_for: int = 0

    @classmethod
    def parse(cls, text: str) -> "Published":
        """Read `0/5000110 3:1@0/3000060` or `0/5000110 3:1@0/3000060 cut=8`. ValueError if it is something else.

        >>> str(Published.parse("0/40 2:1@0/4 cut=8"))
        '0/40 2:1@0/4 cut=8'
        """
        position, cut, number = text.strip().partition(" cut=")
        return cls(Position.parse(position), int(number) if cut else 0)

    def __str__(self) -> str:
        return f"{self.position} cut={self.cut_for}" if self.cut_for else str(self.position)


def newest(said: Iterable[Promotion | None]) -> Promotion | None:
    """The newest of these; None if there was none. Of equal accounts the one that says more."""
    known = [promotion for promotion in said if promotion is not None]
    return max(known, key=lambda one: (one.number, one.begin is not None), default=None)


def contradiction(said: Iterable[Promotion | None]) -> str:
    """A sentence if the newest number stands for two promotions of different nodes; "" if not.

    That takes two primaries that were both promoted with a quorum, which is what fencing rules out.
    """
    known = [promotion for promotion in said if promotion is not None]
    highest = max((promotion.number for promotion in known), default=0)
    nodes = sorted({promotion.node for promotion in known if promotion.number == highest})
    if len(nodes) <= 1:
        return ""
    return f"promotion {highest} is recorded for {' and for '.join(nodes)}: there were two primaries at a time"

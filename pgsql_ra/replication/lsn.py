# SPDX-License-Identifier: GPL-2.0-or-later
"""WAL positions: LSNs, timelines, and which of two positions holds the newer data.

A position is a place on a *tree* of timelines, not a number. A higher LSN on a timeline that was left before the other
one forked off is not newer: it is a branch that was given up (PostgreSQL: src/backend/access/transam/timeline.c).
"""

from dataclasses import dataclass
from enum import Enum

HALF_DIGITS = 8
"""An LSN is written as two 32-bit halves."""
NEW = "new"
"""What the attribute `<resource>-known` begins with while its node knows of no promotion."""


class Lsn(int):
    """A byte position in the WAL, written by PostgreSQL as two hexadecimal halves (`16/B374D848`)."""

    @classmethod
    def parse(cls, text: str) -> "Lsn":
        """Read `X/Y`; ValueError if it is something else.

        >>> Lsn.parse("16/B374D848") > Lsn.parse("9/FFFFFFFF")
        True
        """
        high, slash, low = text.strip().partition("/")
        if not slash or not 0 < len(high) <= HALF_DIGITS or not 0 < len(low) <= HALF_DIGITS:
            raise ValueError(f"not a WAL position: {text!r}")
        return cls((int(high, 16) << 32) + int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self})"

    def padded(self) -> str:
        """16 hexadecimal digits, the form in which the attribute `<resource>-xlog-loc` always was.

        >>> Lsn.parse("1/A0").padded()
        '00000001000000A0'
        """
        return f"{int(self):016X}"


class Order(Enum):
    """How the first of two positions stands to the second."""

    OLDER = "older"
    EQUAL = "equal"
    NEWER = "newer"
    DIVERGED = "diverged"
    """Each holds WAL that the other one lacks, or their histories say nothing about one another."""


@dataclass(frozen=True)
class History:
    """The timelines that lead to `timeline`, each with the LSN at which it was left (as in `*.history` files)."""

    timeline: int
    forks: tuple[tuple[int, Lsn], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "History":
        """Read the attribute's form `3:1@0/3000060,2@0/5000110`.

        >>> str(History.parse("3:1@0/3000060,2@0/5000110"))
        '3:1@0/3000060,2@0/5000110'
        """
        timeline, _, rest = text.strip().partition(":")
        forks = (entry.partition("@") for entry in rest.split(",") if entry)
        return cls(int(timeline), tuple((int(left), Lsn.parse(at)) for left, _, at in forks))

    @classmethod
    def parse_file(cls, timeline: int, text: str) -> "History":
        """Read a timeline history file: lines of `parent TLI, switch point, reason`; `#` starts a comment.

        ValueError (or IndexError) if it is something else.
        """
        forks: list[tuple[int, Lsn]] = []
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if words:
                forks.append((int(words[0]), Lsn.parse(words[1])))
        return cls(timeline, tuple(forks))

    def __str__(self) -> str:
        return f"{self.timeline}:{','.join(f'{timeline}@{fork}' for timeline, fork in self.forks)}"

    def left(self, timeline: int) -> Lsn | None:
        """The LSN at which this history left `timeline`; None if it never was on it or still is."""
        return next((fork for left, fork in self.forks if left == timeline), None)


@dataclass(frozen=True)
class Position:
    """The end of the WAL that a server holds: where, on which timeline, and how it came there."""

    lsn: Lsn
    history: History

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read the attribute's form `0/5000110 3:1@0/3000060`."""
        lsn, _, history = text.strip().partition(" ")
        return cls(Lsn.parse(lsn), History.parse(history))

    def __str__(self) -> str:
        return f"{self.lsn} {self.history}"

    @property
    def timeline(self) -> int:
        """The timeline on which the WAL ends."""
        return self.history.timeline

    def compare(self, other: "Position") -> Order:
        """Which of the two holds the newer data, timelines first."""
        if self.timeline == other.timeline:
            # The same number with two different pasts is two promotions that did not know of each other.
            if _contradict(self.history, other.history):
                return Order.DIVERGED
            return _by_lsn(self.lsn, other.lsn)
        if (fork := self.history.left(other.timeline)) is not None:
            return Order.NEWER if other.lsn <= fork else Order.DIVERGED
        if (fork := other.history.left(self.timeline)) is not None:
            return Order.OLDER if self.lsn <= fork else Order.DIVERGED
        return Order.DIVERGED

    def leads_to(self, history: History) -> bool:
        """Whether a server with `history` continues this position, so that following it throws nothing away."""
        if history.timeline == self.timeline:
            return not _contradict(history, self.history)
        fork = history.left(self.timeline)
        return fork is not None and self.lsn <= fork


def furthest(held: Position | None, now: Position) -> Position:
    """How far a copy's WAL has gone, when it was seen to go to `held` before. A copy that was rewound or replaced is on
    another branch, and begins anew; one that ends earlier on the same branch is an older one, which changes nothing.
    """
    return held if held is not None and now.compare(held) in (Order.OLDER, Order.EQUAL) else now


@dataclass(frozen=True)
class LastRecord:
    """The last record of a copy's WAL: where it starts, and its checksum; "" if it could not be found."""

    start: Lsn
    checksum: str
    was_primary: bool = False
    """Whether the data were a primary's before their server was started as a standby."""

    @classmethod
    def parse(cls, text: str) -> "LastRecord":
        """Read `new 0/3000028 5a1bc90e`, or `new 0/3000028 5a1bc90e primary`. ValueError if it is something else.

        >>> str(LastRecord.parse("new 0/3000028 5a1bc90e")), str(LastRecord.parse("new 0/0 - primary"))
        ('new 0/3000028 5a1bc90e', 'new 0/0 - primary')
        """
        word, start, checksum, *rest = text.split()
        if word != NEW:
            raise ValueError(f"not the last record of a copy: {text!r}")
        return cls(Lsn.parse(start), checksum.strip("-"), rest == ["primary"])

    def __str__(self) -> str:
        return f"{NEW} {self.start} {self.checksum or '-'}{' primary' if self.was_primary else ''}"


def _by_lsn(first: Lsn, second: Lsn) -> Order:
    if first == second:
        return Order.EQUAL
    return Order.NEWER if first > second else Order.OLDER


def _contradict(first: History, second: History) -> bool:
    """Whether two accounts of the same timeline exclude each other. An empty one is unknown, not a contradiction."""
    return bool(first.forks and second.forks) and first.forks[-1] != second.forks[-1]

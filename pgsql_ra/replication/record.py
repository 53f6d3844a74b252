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

Between two promotions a record can become old as well: the primary takes back what it said of a standby, and goes on
without it. So each node's record has a count of its own under each promotion: how often it was *lowered*. The count is
raised before the record is lowered, it is kept and said by every node like the number, and a record that was made under
a smaller count does not count any more.

A promotion by an administrator's word (`pgsql-ra allow`) is *forced*: what the copies that it passes over hold may have
been acknowledged. Later promotions carry the number of the last forced one along.

A promotion is *void* when its own node says that it did not come about: its server ended without having left recovery,
so nothing was committed under it. Then those who count are the ones who counted before it and hold what it would have
begun with.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from pgsql_ra.replication.lsn import Lsn, Order, Position

_VOID: Final = "void"
_FORCED: Final = "forced"
_AFTER: Final = "after"
_LOWERED: Final = "lowered"
Counts = tuple[tuple[str, int], ...]
"""How often the record of each node was lowered, by name in lower case and in its order; nodes without a count: 0."""


@dataclass(frozen=True)
class Promotion:
    """The `number`-th promotion of the cluster, of `node` (in lower case). Number 0 is before the first one.

    `begin` is where that node's WAL ended then; None in a peer's stamp, which only says that something was said while
    this promotion was the newest.
    """

    number: int
    node: str
    begin: Position | None = None
    forced: int = 0
    """The number of the last promotion, up to this one, that an administrator's word brought about; 0 if none did."""
    is_void: bool = False
    """Its own node says that it did not come about."""
    after: int = 0
    """The number of the promotion before it that did come about; 0: the number before its own."""
    lowered: Counts = ()
    """How often records were lowered while it was the newest, as far as whoever says this knows."""

    @classmethod
    def parse(cls, text: str) -> "Promotion":
        """Read `7@node2` or `7@node2 0/5000110 3:1@0/3000060,2@0/5000000`, with `forced=6`, `after=5`, `void` or
        `lowered=node1:2,node3:1` behind it. ValueError if it is something else.

        >>> str(Promotion.parse("7@node2 0/40 2:1@0/4"))
        '7@node2 0/40 2:1@0/4'
        >>> str(Promotion.parse("7@node2 forced=6 lowered=node1:2"))
        '7@node2 forced=6 lowered=node1:2'
        """
        stamp, *words = text.split() or [""]
        number, at, node = stamp.partition("@")
        if not at or not node or not _is_number(number):
            raise ValueError(f"not a promotion: {text!r}")
        said: dict[str, str] = {}
        while words and (words[-1] == _VOID or "=" in words[-1]):
            name, _, value = words.pop().partition("=")
            said[name] = value
        if not set(said) <= {_VOID, _FORCED, _AFTER, _LOWERED}:
            raise ValueError(f"not a promotion: {text!r}")
        return cls(
            int(number),
            node.lower(),
            Position.parse(" ".join(words)) if words else None,
            forced=int(said.get(_FORCED, "0")),
            is_void=_VOID in said,
            after=int(said.get(_AFTER, "0")),
            lowered=_counts(said.get(_LOWERED, "")),
        )

    def __str__(self) -> str:
        words = [self.stamp]
        if self.begin:
            words.append(str(self.begin))
        words += [f"{name}={number}" for name, number in ((_FORCED, self.forced), (_AFTER, self.after)) if number]
        if self.is_void:
            words.append(_VOID)
        if self.lowered:
            words.append(f"{_LOWERED}=" + ",".join(f"{node}:{count}" for node, count in self.lowered))
        return " ".join(words)

    @property
    def stamp(self) -> str:
        """The number and the node, without the rest."""
        return f"{self.number}@{self.node}"

    @property
    def previous(self) -> int:
        """The number of the promotion before it that came about."""
        return self.after or self.number - 1

    def is_same(self, other: "Promotion | None") -> bool:
        """Whether both are the same promotion, whether or not each says all of it."""
        return other is not None and self.stamp == other.stamp

    def times_lowered(self, node: str) -> int:
        """How often the record of this node was lowered under this promotion."""
        return dict(self.lowered).get(node, 0)

    def with_lowered(self, node: str) -> "Promotion":
        """The same promotion, under which the record of this node was lowered once more."""
        counts = dict(self.lowered) | {node: self.times_lowered(node) + 1}
        return replace(self, lowered=tuple(sorted(counts.items())))

    def is_known_by(self, other: "Promotion | None") -> bool:
        """Whether an account of the newest promotion leaves out nothing that this one says and that may not be lost."""
        if other is None or other.number < self.number:
            return False
        return other.number > self.number or newest((other, replace(self, begin=None))) == other

    def is_held_by(self, position: Position) -> bool:
        """Whether WAL that ends at `position` holds all that this promotion's primary began with: `begin` is the end of
        a whole record, so recovery got there before the new timeline began.
        """
        return self.begin is None or position.compare(self.begin) in (Order.NEWER, Order.EQUAL)


class Proof(NamedTuple):
    """What a standby's record rests on: it was made when the record had been lowered `lowered` times, and the standby
    had flushed up to `flushed` of the database `system` (PostgreSQL's system identifier; "" if it is not known).
    """

    lowered: int = 0
    flushed: Lsn = Lsn(0)
    system: str = ""

    @classmethod
    def parse(cls, text: str) -> "Proof":
        """Read `proof=2:0/5000110:6921041372`. ValueError if it is something else.

        >>> str(Proof.parse("proof=2:0/40:69"))
        'proof=2:0/40:69'
        """
        name, _, values = text.partition("=")
        lowered, flushed, system = values.split(":")
        if name != _PROOF or not _is_number(lowered):
            raise ValueError(f"not a proof: {text!r}")
        return cls(int(lowered), Lsn.parse(flushed), system)

    def __str__(self) -> str:
        return f"{_PROOF}={self.lowered}:{self.flushed}:{self.system}"


_PROOF: Final = "proof"


class Stamp(NamedTuple):
    """A promotion and, for a standby's record, its proof: the attribute `<resource>-promotion`."""

    promotion: Promotion
    proof: Proof | None = None

    @classmethod
    def parse(cls, text: str) -> "Stamp":
        """Read `7@node2` or `7@node2 proof=2:0/5000110:6921041372`. ValueError if it is something else.

        >>> str(Stamp.parse("7@node2 proof=2:0/40:69"))
        '7@node2 proof=2:0/40:69'
        """
        promotion, mark, proof = text.strip().partition(f" {_PROOF}=")
        return cls(Promotion.parse(promotion), Proof.parse(f"{_PROOF}={proof}") if mark else None)

    def __str__(self) -> str:
        return f"{self.promotion} {self.proof}" if self.proof else str(self.promotion)


class Published(NamedTuple):
    """What a standby says of where its WAL ends. `cut_for` is the number of the promotion for which it has stopped
    receiving before it said so; 0 if it has not, so that its WAL may have grown since. `system` is the identifier of
    the database whose WAL that is. It `went_back` if its WAL had gone further already: its data directory was replaced
    by an older copy.
    """

    position: Position
    cut_for: int = 0
    system: str = ""
    went_back: bool = False

    @classmethod
    def parse(cls, text: str) -> "Published":
        """Read `0/5000110 3:1@0/3000060`, with `cut=8`, `of=6921041372` or `back` behind it, in this order. ValueError
        if it is something else.

        >>> str(Published.parse("0/40 2:1@0/4 cut=8 of=69 back"))
        '0/40 2:1@0/4 cut=8 of=69 back'
        """
        rest = text.strip().removesuffix(f" {_BACK}")
        position, _, system = rest.partition(" of=")
        position, cut, number = position.partition(" cut=")
        return cls(Position.parse(position), int(number) if cut else 0, system, rest != text.strip())

    def __str__(self) -> str:
        cut = f" cut={self.cut_for}" if self.cut_for else ""
        system = f" of={self.system}" if self.system else ""
        return f"{self.position}{cut}{system}{f' {_BACK}' if self.went_back else ''}"


_BACK: Final = "back"


def newest(said: Iterable[Promotion | None]) -> Promotion | None:
    """The newest of these; None if there was none. Of equal accounts the one that says more; what one says of records
    that were lowered, and of a promotion that was forced, all of them say.
    """
    known = [promotion for promotion in said if promotion is not None]
    best = max(known, key=lambda one: (one.number, one.is_void, one.begin is not None), default=None)
    if best is None:
        return None
    same = [one for one in known if one.number == best.number]
    counts: dict[str, int] = {}
    for node, count in (pair for one in same for pair in one.lowered):
        counts[node] = max(count, counts.get(node, 0))
    return replace(best, forced=max(one.forced for one in same), lowered=tuple(sorted(counts.items())))


def after(promotion: Promotion | None) -> int:
    """What the promotion that follows this one says in `after`."""
    return promotion.previous if promotion is not None and promotion.is_void else 0


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


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _counts(text: str) -> Counts:
    pairs = (pair.rpartition(":") for pair in text.split(","))
    return tuple(sorted((node.lower(), int(count)) for node, _, count in pairs if node))

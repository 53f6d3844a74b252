# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on a run: a pure function of what is known when it is over.

The law (SAFETY: "The promise").
  * sync mode: every acknowledged row is on the primary. async mode: rows may be lost with the primary that had them,
    but never because a survivor that had more was passed over.
  * No row is there twice; all copies hold the same; every acknowledgement was given on a timeline that leads to the
    primary's.
  * At no time did two servers acknowledge, or take, writes. A server that acted on a request after another one had
    already answered was one of two; where the order of two events cannot be known, it counts as innocent.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tests.chaos.sampler import Sample, ServerSample

SURVIVOR_SECONDS = 10.0
"""A node that answered so shortly before and after a promotion lived through it."""
SHOWN = 5
"""Of many rows only the first are named."""


@dataclass(frozen=True)
class Ack:
    """A row that a client was told is committed. The server did that between `sent` and `known` (monotonic seconds)."""

    client: str
    seq: int
    sent: float
    known: float
    server: str
    timeline: int


@dataclass(frozen=True)
class Fork:
    """Where the primary's history left a timeline, in bytes, and the timeline that it went on with."""

    timeline: int
    position: int
    successor: int


@dataclass(frozen=True)
class Evidence:
    """What is known when a run is over."""

    rep_mode: str
    acks: Sequence[Ack]
    rows: Mapping[str, Sequence[int]] | None
    """Client -> its rows on the primary, as often as they are there; None if there is no primary to ask."""
    timeline: int = 0
    """The primary's, in the end."""
    forks: Sequence[Fork] = ()
    """The primary's history."""
    copies: Mapping[str, str] | None = None
    """Node -> a fingerprint of all rows; None if they could not be compared."""
    samples: Sequence[Sample] = ()
    unexpected: Sequence[str] = ()
    """What the agent itself calls a bug."""
    keeps_timeline: bool = False
    """Does a promotion go on with the timeline (`restart_on_promote`), so that one may have several primaries?"""
    unsettled: str = ""
    """Why the cluster did not become whole again; empty if it did."""


@dataclass(frozen=True)
class Verdict:
    """`violations` is empty if all is well; lost rows are listed in any case."""

    acknowledged: int
    lost: tuple[Ack, ...]
    violations: tuple[str, ...]


def judge(evidence: Evidence) -> Verdict:
    """The verdict."""
    lost = tuple(_lost(evidence))
    violations = [
        *([evidence.unsettled] if evidence.unsettled else []),
        *_losses(evidence, lost),
        *_duplicates(evidence),
        *_copies(evidence),
        *_histories(evidence),
        *(_two_in_one_look(evidence) if evidence.keeps_timeline else _two_writers_of(evidence)),
        *_passed_over(evidence),
        *(f"the agent met something it did not expect: {line}" for line in evidence.unexpected),
    ]
    return Verdict(len(evidence.acks), lost, tuple(violations))


def acks_of(client: str, history: Iterable[Mapping[str, Any]]) -> Iterator[Ack]:
    """The acknowledgements in a client's history, each with the server that gave it."""
    server, timeline = "", 0
    for line in history:
        if line["outcome"] == "connected":
            server, timeline = line["server"], line["timeline"]
        elif line["outcome"] == "ack":
            known = line["monotonic"]
            yield Ack(client, line["seq"], known - line["took"], known, server, timeline)


def _lost(evidence: Evidence) -> Iterator[Ack]:
    if evidence.rows is None:
        return
    present = {client: set(rows) for client, rows in evidence.rows.items()}
    yield from (ack for ack in evidence.acks if ack.seq not in present.get(ack.client, set()))


def _losses(evidence: Evidence, lost: Sequence[Ack]) -> Iterator[str]:
    if not lost or evidence.rep_mode == "async":
        return
    rows = [f"{ack.client}/{ack.seq} by {ack.server} on timeline {ack.timeline}" for ack in lost[:SHOWN]]
    yield f"{len(lost)} acknowledged rows are lost: {', '.join(rows)}{' ...' if len(lost) > SHOWN else ''}"


def _duplicates(evidence: Evidence) -> Iterator[str]:
    for client, rows in (evidence.rows or {}).items():
        twice = [seq for seq, count in Counter(rows).items() if count > 1]
        if twice:
            yield f"rows of {client} are there more than once: {twice[:SHOWN]}"


def _copies(evidence: Evidence) -> Iterator[str]:
    if evidence.copies and len(set(evidence.copies.values())) > 1:
        yield f"the copies differ: {dict(evidence.copies)}"


def _histories(evidence: Evidence) -> Iterator[str]:
    """In async mode a timeline may have been given up with its last commits; the rest of it is in the history."""
    known = {evidence.timeline, *(fork.timeline for fork in evidence.forks)}
    strangers = sorted({(ack.timeline, ack.server) for ack in evidence.acks if ack.timeline not in known})
    if evidence.timeline and strangers:
        yield f"commits were acknowledged on timelines that do not lead to {evidence.timeline}: {strangers}"


@dataclass(frozen=True)
class _Span:
    """Somewhere between two moments this server took a write on this timeline."""

    server: str
    timeline: int
    begin: float
    end: float


def _two_writers_of(evidence: Evidence) -> Iterator[str]:
    acks = [_Span(ack.server, ack.timeline, ack.sent, ack.known) for ack in evidence.acks]
    yield from _two_writers("acknowledged commits", acks)
    yield from _two_writers("took writes", [_span(server) for server in _servers(evidence) if server.writable])


def _two_in_one_look(evidence: Evidence) -> Iterator[str]:
    """Where a server may reign twice on one timeline, taking turns looks like two at once, except from outside."""
    for sample in evidence.samples:
        writable = [server.node for server in sample.servers if server.writable]
        if len(writable) > 1:
            yield f"two servers took writes at the same time: {' and '.join(writable)}"
            return


def _two_writers(did: str, spans: Iterable[_Span]) -> Iterator[str]:
    reigns: dict[tuple[str, int], list[_Span]] = {}
    for span in spans:
        reigns.setdefault((span.server, span.timeline), []).append(span)
    # When it certainly had begun, and when it certainly had not ended.
    certain = {owner: (min(s.end for s in own), max(s.begin for s in own)) for owner, own in reigns.items()}
    for one, other in combinations(sorted(certain, key=lambda owner: certain[owner][0]), 2):
        begun, last = certain[other][0], certain[one][1]
        names = f"{one[0]} on timeline {one[1]} and {other[0]} on timeline {other[1]}"
        if last > begun:
            yield f"two servers {did} at the same time: {names}, for {last - begun:.2f} s"
        elif one[1] == other[1] and one[0] != other[0]:
            yield f"two servers {did} on the same timeline: {names}"


def _servers(evidence: Evidence) -> Iterator[ServerSample]:
    return (server for sample in evidence.samples for server in sample.servers)


def _span(server: ServerSample) -> _Span:
    return _Span(server.node, server.timeline, server.asked, server.answered)


def _passed_over(evidence: Evidence) -> Iterator[str]:
    """Survivors that had received more than the node that was promoted; async mode only.

    In sync mode a crashed primary that comes back may hold more than anybody, none of it acknowledged.
    """
    if evidence.rep_mode != "async":
        return
    for fork in evidence.forks:
        reign = [server for server in _servers(evidence) if server.writable and server.timeline == fork.successor]
        if not reign:
            continue
        heir, promoted_at = reign[0].node, reign[0].asked
        for node, position in _survivors(evidence, fork, heir, promoted_at):
            if position > fork.position:
                more = position - fork.position
                end = f"timeline {fork.timeline} at {fork.position}"
                yield f"{heir} was promoted at the end of {end}, though {node} had {more} bytes more of it"


def _survivors(evidence: Evidence, fork: Fork, heir: str, promoted_at: float) -> Iterator[tuple[str, int]]:
    """Standbys on the old timeline, members of the cluster, that answered before and after: where their WAL ended."""
    before: dict[str, int] = {}
    after: set[str] = set()
    timelines: dict[str, int] = {}
    for sample in evidence.samples:
        online = sample.status.online if sample.status is not None and sample.status.quorum else None
        for server in sample.servers:
            timelines[server.node] = server.timeline or timelines.get(server.node, 0)
            if server.node == heir or server.writable or abs(server.asked - promoted_at) > SURVIVOR_SECONDS:
                continue
            if server.answered >= promoted_at:
                after.add(server.node)
            elif online is not None and server.node not in online:
                before.pop(server.node, None)
            elif timelines[server.node] == fork.timeline:
                before[server.node] = server.position
    yield from ((node, position) for node, position in before.items() if node in after)

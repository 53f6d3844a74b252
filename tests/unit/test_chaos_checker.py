# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker of the chaos runs finds what is planted, and is silent where nothing is wrong."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tests.chaos.checker import Ack, Evidence, Fork, acks_of, judge
from tests.chaos.sampler import Sample, ServerSample

PROMOTED_AT = 20.0
"""When node2 begins timeline 3 in these stories; node1 was the primary of timeline 2 until then."""
FORK = Fork(2, 5000, 3)


def ack(seq: int, server: str, timeline: int, at: float, took: float = 0.01, client: str = "vip") -> Ack:
    return Ack(client, seq, at - took, at, server, timeline)


def failover() -> list[Ack]:
    """Ten rows by node1 on timeline 2, then ten by node2 on timeline 3."""
    former = [ack(seq, "node1", 2, float(seq)) for seq in range(1, 11)]
    return former + [ack(seq, "node2", 3, PROMOTED_AT + seq) for seq in range(11, 21)]


def evidence(**changes: Any) -> Evidence:
    """A failover without a fault in it."""
    good = Evidence(
        rep_mode="sync",
        acks=failover(),
        rows={"vip": list(range(1, 21))},
        timeline=3,
        forks=[Fork(1, 1000, 2), FORK],
        copies={"node1": "20|7", "node2": "20|7"},
    )
    return replace(good, **changes)


def violations(**changes: Any) -> str:
    return "\n".join(judge(evidence(**changes)).violations)


def test_a_failover_without_a_fault() -> None:
    verdict = judge(evidence())
    assert verdict.violations == ()
    assert (verdict.acknowledged, verdict.lost) == (20, ())


def test_a_lost_row() -> None:
    rows = {"vip": [seq for seq in range(1, 21) if seq != 10]}
    assert "1 acknowledged rows are lost: vip/10 by node1 on timeline 2" in violations(rows=rows)
    assert "20 acknowledged rows are lost" in violations(rows={})


def test_rows_may_be_lost_in_async_mode_and_are_counted() -> None:
    verdict = judge(evidence(rep_mode="async", rows={"vip": list(range(1, 20))}))
    assert verdict.violations == ()
    assert [row.seq for row in verdict.lost] == [20]


def test_rows_that_nobody_was_told_of_do_no_harm() -> None:
    assert violations(rows={"vip": list(range(1, 30)), "node1_1": [1]}) == ""


def test_a_row_that_is_there_twice() -> None:
    assert "more than once: [7]" in violations(rows={"vip": [*range(1, 21), 7]})


def test_copies_that_differ() -> None:
    assert "the copies differ" in violations(copies={"node1": "20|7", "node2": "19|6"})


def test_two_servers_that_acknowledge_in_turns() -> None:
    late = ack(1, "node1", 2, PROMOTED_AT + 15, client="node1_1")
    found = violations(acks=[*failover(), late], rows={"vip": list(range(1, 21)), "node1_1": [1]})
    assert "two servers acknowledged commits at the same time: node1 on timeline 2 and node2 on timeline 3" in found


def test_an_answer_that_was_read_late_is_no_second_writer() -> None:
    """The client's node was frozen: the answer was given before the other server took over."""
    late = ack(1, "node1", 2, PROMOTED_AT + 15, took=30, client="node1_1")
    assert violations(acks=[*failover(), late], rows={"vip": list(range(1, 21)), "node1_1": [1]}) == ""


def test_a_primary_that_takes_turns_properly() -> None:
    back = [ack(seq, "node1", 4, 40.0 + seq) for seq in range(21, 31)]
    forks = [Fork(1, 1000, 2), FORK, Fork(3, 9000, 4)]
    assert violations(acks=[*failover(), *back], rows={"vip": list(range(1, 31))}, timeline=4, forks=forks) == ""


def test_one_timeline_on_two_servers() -> None:
    acks = [ack(1, "node1", 2, 1.0), ack(2, "node2", 2, 5.0)]
    assert "on the same timeline: node1 on timeline 2 and node2 on timeline 2" in violations(acks=acks)


def test_servers_that_take_turns_on_one_timeline_where_a_promotion_is_a_restart() -> None:
    acks = [ack(1, "node1", 2, 1.0), ack(2, "node2", 2, 5.0), ack(3, "node1", 2, 9.0)]
    rows = {"vip": [1, 2, 3]}
    assert violations(acks=acks, rows=rows, keeps_timeline=True, timeline=2, forks=[Fork(1, 1000, 2)]) == ""
    both = (Sample(1.0, 1.0, tuple(ServerSample(node, 1.0, 1.01, True, 2, 900) for node in ("node1", "node2")), None),)
    assert "node1 and node2" in violations(acks=acks, rows=rows, keeps_timeline=True, timeline=2, samples=both)


def test_a_timeline_that_does_not_lead_to_the_primary() -> None:
    found = violations(forks=[Fork(1, 5000, 3)])
    assert "acknowledged on timelines that do not lead to 3: [(2, 'node1')]" in found


def server(node: str, at: float, *, writable: bool, timeline: int, position: int = 0) -> ServerSample:
    return ServerSample(node, at, at + 0.01, writable, timeline, position)


def sample(at: float, *servers: ServerSample) -> Sample:
    return Sample(at, at, servers, None)


def test_two_servers_that_take_writes() -> None:
    samples = [
        sample(1, server("node1", 1, writable=True, timeline=2)),
        sample(2, server("node1", 2, writable=True, timeline=2), server("node2", 2.1, writable=True, timeline=3)),
        sample(3, server("node1", 3, writable=True, timeline=2), server("node2", 3.1, writable=True, timeline=3)),
    ]
    assert "two servers took writes at the same time" in violations(samples=samples)
    # Asked one after the other in a single look, both may have told the truth.
    assert violations(samples=samples[:2]) == ""


def promotion(third: Iterable[tuple[float, int]]) -> list[Sample]:
    """node2 is promoted at 5000; node3, a standby, is at these positions at these times."""
    samples = [sample(at, server("node3", at, writable=False, timeline=2, position=end)) for at, end in third]
    heir = sample(PROMOTED_AT, server("node2", PROMOTED_AT, writable=True, timeline=3))
    return sorted([*samples, heir], key=lambda one: one.monotonic)


def test_a_survivor_that_had_more_is_passed_over() -> None:
    third = [(PROMOTED_AT - 1, 5600), (PROMOTED_AT + 1, 5600)]
    found = violations(rep_mode="async", samples=promotion(third))
    assert "node2 was promoted at the end of timeline 2 at 5000, though node3 had 600 bytes more of it" in found
    assert violations(rep_mode="sync", samples=promotion(third)) == "", "in sync mode none of it was acknowledged"


def test_who_had_no_more_or_did_not_survive_was_not_passed_over() -> None:
    stories = ([(19.0, 5000), (21.0, 5000)], [(19.0, 5600)], [(1.0, 5600), (21.0, 5600)])
    for third in stories:
        assert violations(rep_mode="async", samples=promotion(third)) == ""


def test_what_the_cluster_and_the_agent_say_counts() -> None:
    found = violations(unsettled="not whole", unexpected=["node1: KeyError; please report it as a BUG"])
    assert "not whole" in found
    assert "KeyError" in found


def test_acknowledgements_are_told_by_server() -> None:
    history = [
        {"outcome": "begin", "monotonic": 0.0},
        {"outcome": "connected", "monotonic": 0.1, "server": "node1", "timeline": 2},
        {"outcome": "ack", "seq": 1, "monotonic": 0.2, "took": 0.05},
        {"outcome": "unknown", "seq": 2, "monotonic": 0.3, "took": 0.05},
        {"outcome": "connected", "monotonic": 9.0, "server": "node2", "timeline": 3},
        {"outcome": "ack", "seq": 2, "monotonic": 9.2, "took": 0.1},
    ]
    first, second = acks_of("vip", history)
    assert (first.server, first.timeline, round(first.sent, 2)) == ("node1", 2, 0.15)
    assert (second.server, second.timeline, second.seq) == ("node2", 3, 2)

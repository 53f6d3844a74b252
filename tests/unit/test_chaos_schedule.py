# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules of faults: the same seed gives the same one, and every kind of fault comes about."""

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.kinds import DESTRUCTIVE, FIRST, TRAITS, Kind, Target
from tests.chaos.schedule import CLUSTERS, MOST_FAULTS, alone, draw

SEEDS = range(500)


def test_the_same_seed_gives_the_same_schedule() -> None:
    for seed in SEEDS:
        assert draw(seed) == draw(seed)
    assert len({draw(seed).steps for seed in SEEDS}) > len(SEEDS) - 5


def test_a_known_seed_still_gives_the_schedule_it_gave() -> None:
    """Seeds stand in reports of failures: whoever changes this makes those worthless."""
    assert str(draw(4)) == (
        "seed 4: 2 nodes, sync, knet, fenced nodes boot again\n"
        "  +  2.0 s  freeze-postmaster on the synchronous standby, for 13.9 s (chance 0.77)\n"
        "  +  2.9 s  kill-postmaster on the synchronous standby, once (chance 0.83)"
    )


def test_every_kind_is_drawn_and_can_be_done() -> None:
    assert set(TRAITS) == set(FAULTS) == set(Kind)
    drawn = {kind for seed in SEEDS for kind in draw(seed).kinds}
    assert drawn == set(Kind)


def test_every_kind_of_cluster_is_drawn() -> None:
    drawn = [draw(seed) for seed in SEEDS]
    assert {(schedule.nodes, schedule.rep_mode) for schedule in drawn} == set(CLUSTERS)
    assert {schedule.transport for schedule in drawn} == {"udpu", "knet"}


def test_two_or_three_faults_in_order_of_time() -> None:
    for schedule in map(draw, SEEDS):
        assert 2 <= len(schedule.steps) <= MOST_FAULTS
        assert len(schedule.kinds) == len(schedule.steps)
        times = [step.at for step in schedule.steps]
        assert times == sorted(times)
        assert len(schedule.kinds & DESTRUCTIVE) <= 1, "one copy has to survive"
        first = [step.kind in FIRST for step in schedule.steps]
        assert first == sorted(first, reverse=True)


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_every_fault_by_itself(nodes: int) -> None:
    schedules = alone(nodes, "sync")
    assert [schedule.seed for schedule in schedules] == list(range(1, len(schedules) + 1))
    assert all(len(schedule.steps) == 1 for schedule in schedules)
    pairs = {(step.kind, step.target) for schedule in schedules for step in schedule.steps}
    assert {kind for kind, _ in pairs} == set(Kind) - FIRST
    assert (Kind.POWER_CUT, Target.ALL) in pairs
    assert ((Kind.POWER_CUT, Target.OTHER) in pairs) is (nodes > 2)


@pytest.mark.parametrize(("nodes", "mode"), list(CLUSTERS))
def test_what_is_given_is_not_drawn(nodes: int, mode: str) -> None:
    for seed in SEEDS:
        schedule = draw(seed, nodes, mode)
        assert (schedule.nodes, schedule.rep_mode) == (nodes, mode)
        assert [step.kind for step in schedule.steps] == [step.kind for step in draw(seed).steps]
        assert nodes > 2 or all(step.target is not Target.OTHER for step in schedule.steps)

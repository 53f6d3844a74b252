# SPDX-License-Identifier: GPL-2.0-or-later
"""A few schedules of faults on real clusters; `make chaos` draws any number of others.

They are spelled out, not drawn: what a seed draws changes with every kind of fault that is added.
"""

import os

import pytest

from tests.bench.agents import our_agent
from tests.chaos.kinds import Kind, Target
from tests.chaos.run import Result, run
from tests.chaos.schedule import Schedule, Step
from tests.promises import promise

pytestmark = pytest.mark.cluster

CRASH_AND_CUT = Schedule(
    1,
    nodes=2,
    rep_mode="sync",
    auto_boot=False,
    busy=False,
    steps=(
        Step(Kind.KILL_POSTMASTER, Target.PRIMARY, at=2.0, lasts=0.0, chance=0.67),
        Step(Kind.NETWORK_CUT, Target.STANDBY, at=5.7, lasts=None, chance=0.29),
    ),
)
ISOLATION_AND_POWER = Schedule(
    2,
    nodes=3,
    rep_mode="sync",
    auto_boot=True,
    busy=False,
    transport="knet",
    steps=(
        Step(Kind.ISOLATION, Target.PRIMARY, at=2.0, lasts=3.0, chance=0.0),
        Step(Kind.POWER_CUT, Target.OTHER, at=4.4, lasts=None, chance=0.03),
    ),
)
POWER_AND_CRASH = Schedule(
    3,
    nodes=3,
    rep_mode="async",
    auto_boot=True,
    busy=True,
    steps=(
        Step(Kind.POWER_CUT, Target.BOTH, at=2.0, lasts=None, chance=0.27),
        Step(Kind.KILL_POSTMASTER, Target.OTHER, at=2.9, lasts=0.0, chance=0.92),
    ),
)


@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(CRASH_AND_CUT, id="2 nodes, sync: the primary crashes, its heir is cut off"),
        pytest.param(ISOLATION_AND_POWER, id="3 nodes, sync: the primary is isolated, a standby loses power"),
        pytest.param(POWER_AND_CRASH, id="3 nodes, async: the primary and a standby lose power, the last one crashes"),
    ],
)
def test_no_acknowledged_commit_is_lost(schedule: Schedule) -> None:
    outcome = run(schedule, our_agent(), f"chaos{os.getpid()}_{schedule.seed}")
    problems = "\n".join(outcome.violations)
    told = f"{schedule}\n{problems}\n(see {outcome.artifacts})"
    promise(outcome.result is not Result.FAILED, told)
    assert outcome.result in (Result.PASSED, Result.NEEDED_A_PERSON), told
    assert outcome.faults, "not one of the faults could be done"
    assert outcome.acknowledged > 0

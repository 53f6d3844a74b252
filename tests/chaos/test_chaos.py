# SPDX-License-Identifier: GPL-2.0-or-later
"""A few schedules of faults on real clusters; `make chaos` plays any number of others."""

import os

import pytest

from tests.bench.agents import our_agent
from tests.chaos.run import Result, run
from tests.chaos.schedule import draw
from tests.promises import promise

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(127, id="2 nodes, sync: the primary crashes, its heir is cut off"),
        pytest.param(1294, id="3 nodes, sync: the primary is isolated, a standby loses power"),
        pytest.param(1419, id="3 nodes, async: the primary and a standby lose power, the last one crashes"),
    ],
)
def test_no_acknowledged_commit_is_lost(seed: int) -> None:
    schedule = draw(seed)
    outcome = run(schedule, our_agent(), f"chaos{os.getpid()}_{seed}")
    problems = "\n".join(outcome.violations)
    told = f"{schedule}\n{problems}\n(see {outcome.artifacts})"
    promise(outcome.result is not Result.FAILED, told)
    assert outcome.result in (Result.PASSED, Result.NEEDED_A_PERSON), told
    assert outcome.faults, "not one of the faults could be done"
    assert outcome.acknowledged > 0

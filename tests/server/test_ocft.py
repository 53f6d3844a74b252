# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases by which the shell agent is tested with ocft (tools/ocft/pgsql of resource-agents), told in a table."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.server.agent import Agent
from tests.server.database import Database

TIMEOUT = 15.0
"""What ocft's cases set."""


@dataclass(frozen=True)
class Case:
    """What was done before, the action with the parameters it is given, the exit code, and whether a server runs."""

    action: str
    code: int
    runs: bool
    before: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)


CASES = {
    "start": Case("start", 0, runs=True),
    "a pg_ctl that is not there": Case("start", 5, runs=False, given={"pgctl": "no_such"}),
    "stop": Case("stop", 0, runs=False, before=("start",)),
    "start twice": Case("start", 0, runs=True, before=("start",)),
    "stop twice": Case("stop", 0, runs=False, before=("start", "stop")),
    "monitor of what runs": Case("monitor", 0, runs=True, before=("start",)),
    "monitor of what does not run": Case("monitor", 7, runs=False),
    "an action that does not exist": Case("no_cmd", 3, runs=False),
    "a user that does not exist": Case("start", 5, runs=False, given={"pgdba": "no_user"}),
    "a user that does not own the data": Case("start", 4, runs=False, given={"pgdba": "nobody"}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("rep_mode", ["none", "sync"])
def test_cases_of_ocft(agent: Agent, database: Database, case: Case, rep_mode: str) -> None:
    agent.parameters["rep_mode"] = rep_mode
    if rep_mode == "none":
        agent.parameters |= {"node_list": "", "master_ip": ""}
    for action in case.before:
        done = agent.run(action, timeout=TIMEOUT)
        assert done.code == 0, done
    answer = agent.run(case.action, timeout=TIMEOUT, **case.given)
    assert answer.code == case.code, answer
    assert database.is_running() == case.runs

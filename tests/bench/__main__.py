# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`, or python -m tests.bench --help."""

import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import click

from tests.bench.actions import ActionCost, measure_actions
from tests.bench.agents import Agent, our_agent, shell_agent
from tests.bench.report import ACTION_TITLES, Results
from tests.bench.scenarios import SCENARIOS, Outcome, Scenario, run_round
from tests.lab.waiting import LabError, WaitError

NAMES = (*ACTION_TITLES, *(scenario.name for scenario in SCENARIOS))
BEGIN = time.monotonic()


def tell(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", file=sys.stderr, flush=True)


def _end(_number: int, _frame: FrameType | None) -> None:
    """End as after Ctrl+C: labs and temporary files go."""
    raise KeyboardInterrupt


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Rounds of each scenario.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Measure this only; may be repeated.")
@click.option("--skip-shell-agent", is_flag=True, help="Measure this project's agent alone.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every single figure to this file.")
def main(rounds: int, only: tuple[str, ...], skip_shell_agent: bool, json_file: Path | None) -> None:
    """Measure what actions cost and how long commits stop, beside the shell agent in the same kind of lab.

    The exit status is 1 if this project's agent failed a scenario or lost a row; figures do not matter for it.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    command = shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]])
    wanted = frozenset(only or NAMES)
    with tempfile.TemporaryDirectory(prefix="pgsql-ra-bench-") as scratch:
        agents = [our_agent()] if skip_shell_agent else [our_agent(), shell_agent(Path(scratch))]
        results = Results(command, agents, wanted=wanted)
        try:
            measure(results, rounds)
        finally:
            # What was measured before an interruption is worth as much as ever.
            click.echo(results.text())
            if json_file is not None:
                results.save(json_file)
    sys.exit(0 if results.ours_is_flawless else 1)


def measure(results: Results, rounds: int) -> None:
    """Run what is wanted. The agents take turns, so that a slow hour of the machine meets both."""
    lab_name = f"bench{os.getpid()}"
    if results.wanted & ACTION_TITLES.keys():
        for agent in results.agents:
            tell(f"{agent.label}: costs of actions")
            costs = _actions(agent, f"{lab_name}_actions_{agent.label[0]}")
            results.actions[agent.label] = {name: cost for name, cost in costs.items() if name in results.wanted}
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in results.wanted]
    if len(scenarios) > 1:
        # The others begin with a cold start, too.
        scenarios = [scenario for scenario in scenarios if scenario.fault]
    for number in range(rounds):
        for scenario in scenarios:
            for agent in results.agents:
                tell(f"{agent.label}: {scenario.name}, round {number + 1} of {rounds}")
                name = f"{lab_name}_{scenario.name.replace('-', '_')}_{agent.label[0]}{number + 1}"
                outcome = run_round(scenario, agent, name, (number + 0.5) / rounds)
                results.outcomes.append(outcome)
                tell(f"    {_describe(scenario, outcome)}")


def _actions(agent: Agent, lab_name: str) -> dict[str, ActionCost]:
    try:
        return measure_actions(agent, lab_name)
    except (LabError, WaitError) as error:
        return dict.fromkeys(ACTION_TITLES, ActionCost(error=str(error)))


def _describe(scenario: Scenario, outcome: Outcome) -> str:
    """One round in a line, and under it what the cluster did."""
    parts = [f"failed: {outcome.error}"] if outcome.error else []
    if outcome.cold_start is not None:
        parts.append(f"cold start {outcome.cold_start:.2f} s")
    if outcome.gap is not None:
        after = "" if outcome.after_fencing is None else f" ({outcome.after_fencing:.2f} s of it after the fencing)"
        parts.append(f"gap {outcome.gap:.2f} s{after}, lost {outcome.lost} of {outcome.acknowledged}")
    return "\n        ".join(["; ".join(parts) or scenario.title, *outcome.timeline])


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)

# SPDX-License-Identifier: GPL-2.0-or-later
"""`make chaos`, or python -m tests.chaos --help."""

import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType

import click

from tests.bench.agents import Agent, our_agent, shell_agent
from tests.chaos import summary
from tests.chaos.run import ARTIFACTS, Outcome, Result, run
from tests.chaos.schedule import TWO_NODES, Schedule, alone, draw
from tests.lab.waiting import LabError

BEGIN = time.monotonic()
_printing = threading.Lock()


def tell(text: str) -> None:
    """A line of progress."""
    with _printing:
        print(f"[{time.monotonic() - BEGIN:6.0f} s] {text}", file=sys.stderr, flush=True)


def _end(_number: int, _frame: FrameType | None) -> None:
    """End at once; the labs' power supplies see it and take the labs down."""
    os._exit(1)


@click.command()
@click.option("--runs", default=1, show_default=True, type=click.IntRange(min=1), help="How many schedules.")
@click.option("--seed", default=1, show_default=True, help="The first one's seed; the others follow.")
@click.option("--nodes", type=click.Choice(["2", "3", "5"]), help="Clusters of this size only; drawn otherwise.")
@click.option("--mode", type=click.Choice(["sync", "async"]), help="This rep_mode only; drawn otherwise.")
@click.option(
    "--agent",
    "peer",
    type=click.Choice(["ours", "shell"]),
    default="ours",
    show_default=True,
    help="`shell` plays each schedule with the shell agent, too.",
)
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1), help="Runs side by side.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    default=ARTIFACTS / "summary.json",
    help="Write every figure to this file.",
)
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of this project's agent, such as rejoin=copy; may be given several times.",
)
@click.option("--alone", "one_by_one", is_flag=True, help="Every fault by itself instead; RUNS of them from SEED on.")
@click.option("--keep", is_flag=True, help="Keep the logs of good runs, too.")
@click.option("--dry-run", is_flag=True, help="Print the schedules only.")
def main(
    runs: int,
    seed: int,
    nodes: str | None,
    mode: str | None,
    peer: str,
    jobs: int,
    json_file: Path,
    parameters: tuple[str, ...],
    one_by_one: bool,
    keep: bool,
    dry_run: bool,
) -> None:
    """Play RUNS schedules of faults and check that no acknowledged commit is lost.

    The exit status is 1 if a run with this project's agent failed, or if the lab broke in one.
    """
    command = shlex.join(["python", "-m", "tests.chaos", *sys.argv[1:]])
    if one_by_one:
        schedules = alone(int(nodes or TWO_NODES), mode or "sync")[seed - 1 : seed - 1 + runs]
    else:
        schedules = [draw(seed + number, int(nodes) if nodes else None, mode) for number in range(runs)]
    if dry_run:
        click.echo("\n".join(map(str, schedules)))
        return
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    with tempfile.TemporaryDirectory(prefix="pgsql-ra-chaos-") as scratch:
        agents = [our_agent(), *([shell_agent(Path(scratch))] if peer == "shell" else [])]
        outcomes: list[Outcome] = []
        for outcome in _play_all(schedules, agents, jobs, _parsed(parameters), keep):
            outcomes.append(outcome)
            # After each: an interrupted series is worth as much as ever.
            json_file.parent.mkdir(parents=True, exist_ok=True)
            summary.save(json_file, command, outcomes)
    click.echo(summary.text(command, sorted(outcomes, key=lambda outcome: (outcome.agent, outcome.seed))))
    ours = [outcome.result for outcome in outcomes if outcome.agent == "ours"]
    sys.exit(1 if Result.FAILED in ours or Result.BROKEN in ours else 0)


def _parsed(parameters: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE as a mapping."""
    pairs = [text.partition("=") for text in parameters]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _play_all(
    schedules: list[Schedule], agents: list[Agent], jobs: int, parameters: dict[str, str], keep: bool
) -> Iterator[Outcome]:
    def play(schedule: Schedule, agent: Agent) -> Outcome:
        tell(f"{agent.label}: {schedule}")
        name = f"chaos{os.getpid()}_{schedule.seed}_{agent.label[0]}"
        return run(schedule, agent, name, keep=keep, parameters=parameters if agent.label == "ours" else {})

    with ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(play, schedule, agent) for schedule in schedules for agent in agents]
        for done in as_completed(pending):
            outcome = done.result()
            tell(_describe(outcome))
            yield outcome


def _describe(outcome: Outcome) -> str:
    gap = "" if outcome.longest_gap is None else f", longest gap {outcome.longest_gap:.1f} s"
    figures = f"{outcome.acknowledged} acknowledged, {outcome.lost} lost{gap}, {outcome.seconds:.0f} s"
    reasons = [*outcome.violations, *outcome.by_hand]
    return "\n    ".join([f"{outcome.agent}: seed {outcome.seed} {outcome.result}: {figures}", *reasons])


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        click.echo(f"chaos: {error}", err=True)
        sys.exit(1)

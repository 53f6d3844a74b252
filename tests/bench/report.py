# SPDX-License-Identifier: GPL-2.0-or-later
"""The measured figures as a plain table for people and as JSON for programs."""

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.actions import ActionCost
from tests.bench.agents import Agent
from tests.bench.scenarios import CONNECT_SECONDS, SCENARIOS, Outcome
from tests.lab.database import newest_postgres_bin
from tests.lab.processes import run

ACTION_TITLES = {
    "meta-data": "meta-data",
    "monitor-primary": "monitor on the primary",
    "monitor-standby": "monitor on the synchronous standby",
}
HEADER = ("", "ours", "shell agent", "shell/ours", "runs", "lost")


@dataclass
class Results:
    """Everything that was measured."""

    command: str
    agents: Sequence[Agent]
    actions: dict[str, dict[str, ActionCost]] = field(default_factory=dict)
    """Label of the agent -> action -> cost."""
    outcomes: list[Outcome] = field(default_factory=list)
    wanted: frozenset[str] = frozenset()

    @property
    def problems(self) -> list[str]:
        """What failed, was lost or was doubled, each as a sentence."""
        found = [
            f"{label}, {name}: {cost.error}"
            for label, costs in self.actions.items()
            for name, cost in costs.items()
            if cost.error
        ]
        for outcome in self.outcomes:
            where = f"{outcome.agent}, {outcome.scenario}"
            if outcome.error:
                found.append(f"{where}: failed: {outcome.error}")
            if outcome.lost or outcome.duplicates:
                found.append(
                    f"{where}: {outcome.lost} of {outcome.acknowledged} acknowledged rows are lost,"
                    f" {outcome.duplicates} are there twice"
                )
        return found

    @property
    def ours_is_flawless(self) -> bool:
        """Did our agent pass every scenario without a loss?"""
        return not any(problem.startswith("ours,") for problem in self.problems)

    def text(self) -> str:
        """The table, and under it what it takes to understand and to repeat it."""
        rows = [HEADER, *self._action_rows(), *self._gap_rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        notes = [
            "",
            "Seconds, median (minimum-maximum). Gap: the longest time without a commit acknowledged to a client that"
            f" writes through the virtual IP (and tries to connect anew after {CONNECT_SECONDS:g} s).",
            "Cold start: from the configuration's loading to a primary with the VIP and a synchronous standby."
            " CPU: the agent and what it runs, without the server.",
            "Lost: acknowledged rows that are missing afterwards, ours / shell agent.",
            "Three nodes (two where the standby is the only one), rep_mode=sync, monitors every 3 s (primary) and 4 s;"
            " faults spread evenly over the primary's interval; a fresh cluster each round.",
            *(f"Note: {agent.note}." for agent in self.agents if agent.note),
            *(f"Problem: {problem}" for problem in self.problems),
            f"Machine: {os.cpu_count()} cores. {'; '.join(f'{name} {value}' for name, value in versions().items())}.",
            f"Command: {self.command}",
        ]
        return "\n".join(lines + notes)

    def save(self, path: Path) -> None:
        """Write every single figure."""
        values = {
            "command": self.command,
            "cores": os.cpu_count(),
            "versions": versions(),
            "notes": [agent.note for agent in self.agents if agent.note],
            "actions": {
                label: {name: asdict(cost) for name, cost in costs.items()} for label, costs in self.actions.items()
            },
            "rounds": [asdict(outcome) for outcome in self.outcomes],
            "problems": self.problems,
        }
        path.write_text(json.dumps(values, indent=2) + "\n")

    def _action_rows(self) -> Iterable[tuple[str, ...]]:
        measured = [name for name in ACTION_TITLES if any(name in costs for costs in self.actions.values())]
        for name in measured:
            ours, shell = (self.actions.get(label, {}).get(name) for label in ("ours", "shell agent"))
            for kind in ("wall", "CPU"):
                times = [() if cost is None else cost.wall if kind == "wall" else cost.cpu for cost in (ours, shell)]
                failed = [int(bool(cost and cost.error)) for cost in (ours, shell)]
                yield _row(f"{ACTION_TITLES[name]}, {kind}", times, failed, digits=3)

    def _gap_rows(self) -> Iterable[tuple[str, ...]]:
        for scenario in SCENARIOS:
            if scenario.name not in self.wanted:
                continue
            is_start = scenario.fault is None
            # Every round of every scenario begins with a cold start.
            relevant = [each for each in self.outcomes if is_start or each.scenario == scenario.name]
            times, after, failed, lost = [], [], [], []
            for label in ("ours", "shell agent"):
                mine = [each for each in relevant if each.agent == label]
                values = [each.cold_start if is_start else each.gap for each in mine]
                times.append(tuple(value for value in values if value is not None))
                after.append(tuple(each.after_fencing for each in mine if each.after_fencing is not None))
                failed.append(sum(value is None for value in values))
                lost.append(str(sum(each.lost for each in mine)) if times[-1] and not is_start else "-")
            yield _row(scenario.title, times, failed, digits=2, lost=" / ".join(lost))
            if any(after):
                yield _row("  of that, after the fencing", after, [0, 0], digits=2)


def _row(
    title: str, times: Sequence[Sequence[float]], failed: Sequence[int], digits: int, lost: str = ""
) -> tuple[str, ...]:
    """A line of the table; `times` and `failed` are ours and the shell agent's."""
    ours, shell = times
    ratio = f"{statistics.median(shell) / statistics.median(ours):.1f}" if ours and shell else "-"
    runs = str(len(ours)) if len(ours) == len(shell) or not shell else f"{len(ours)} / {len(shell)}"
    cells = (_figure(values, bad, digits) for values, bad in zip(times, failed, strict=True))
    return title, *cells, ratio, runs, lost


def _figure(times: Sequence[float], failed: int, digits: int) -> str:
    note = f"{failed} of {failed + len(times)} failed" if failed else ""
    if not times:
        return note or "-"
    figure = f"{statistics.median(times):.{digits}f} ({min(times):.{digits}f}-{max(times):.{digits}f})"
    return f"{figure}, {note}" if note else figure


def versions() -> dict[str, str]:
    """Versions of what took part besides the agent."""
    postgres = run([str(newest_postgres_bin() / "postgres"), "--version"]).stdout.split()
    packages = {}
    for name in ("pacemaker", "corosync", "resource-agents"):
        done = run(["dpkg-query", "--show", "--showformat=${Version}", name], check=False)
        packages[name] = done.stdout.strip() or "of unknown version"
    return {"PostgreSQL": postgres[2] if len(postgres) > 2 else "of unknown version", **packages}

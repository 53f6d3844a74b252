# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures of many runs: a table for people, and all of it as JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from tests.chaos.kinds import Kind
from tests.chaos.run import Outcome, Result


def text(command: str, outcomes: Sequence[Outcome]) -> str:
    """The tables: one line for each kind of cluster, one for each kind of fault, and every failure with its seed."""
    agents = list(dict.fromkeys(outcome.agent for outcome in outcomes))
    parts = [command, *(_clusters(agent, _of(outcomes, agent)) for agent in agents), _faults(outcomes, agents)]
    parts += [_failures(outcomes)] if any(outcome.result is not Result.PASSED for outcome in outcomes) else []
    return "\n\n".join(parts)


def save(file: Path, command: str, outcomes: Sequence[Outcome]) -> None:
    """Every run with all its figures."""
    values = {"command": command, "runs": [asdict(outcome) for outcome in outcomes]}
    file.write_text(json.dumps(values, indent=2) + "\n")


def _of(outcomes: Iterable[Outcome], agent: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.agent == agent]


def _clusters(agent: str, outcomes: Sequence[Outcome]) -> str:
    rows = [[agent, "schedules", *Result, "acknowledged", "lost", "faults"]]
    for nodes, mode in sorted({(outcome.nodes, outcome.rep_mode) for outcome in outcomes}):
        these = [outcome for outcome in outcomes if (outcome.nodes, outcome.rep_mode) == (nodes, mode)]
        rows.append([f"{nodes} nodes, {mode}", *_totals(these)])
    rows.append(["all", *_totals(outcomes)])
    return _table(rows)


def _totals(outcomes: Sequence[Outcome]) -> list[str]:
    results = Counter(outcome.result for outcome in outcomes)
    counts = [
        len(outcomes),
        *(results[result] for result in Result),
        sum(outcome.acknowledged for outcome in outcomes),
        sum(outcome.lost for outcome in outcomes),
        sum(len(outcome.faults) for outcome in outcomes),
    ]
    return [str(count) for count in counts]


def _faults(outcomes: Sequence[Outcome], agents: Sequence[str]) -> str:
    """Each kind of fault: how often, and the longest time without a commit in the runs that it was part of."""
    rows = [["fault", *(f"{agent}: {what}" for agent in agents for what in ("times", "median gap s", "longest gap s"))]]
    for kind in Kind:
        row = [str(kind)]
        for agent in agents:
            these = [outcome for outcome in _of(outcomes, agent) if kind in outcome.faults]
            gaps = [outcome.longest_gap for outcome in these if outcome.longest_gap is not None]
            row += [str(len(these)), f"{median(gaps):.1f}", f"{max(gaps):.1f}"] if gaps else [str(len(these)), "-", "-"]
        rows.append(row)
    return _table(rows)


def _failures(outcomes: Sequence[Outcome]) -> str:
    lines = []
    for outcome in outcomes:
        if outcome.result is Result.PASSED:
            continue
        reasons = outcome.violations or outcome.by_hand
        cluster = f"NODES={outcome.nodes} MODE={outcome.rep_mode}"
        lines.append(f"SEED={outcome.seed} {cluster} ({outcome.agent}) {outcome.result} {outcome.artifacts}".rstrip())
        lines += [f"    {reason.splitlines()[0][:300]}" for reason in reasons]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )

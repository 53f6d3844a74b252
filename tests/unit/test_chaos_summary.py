# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures of many chaos runs."""

import json
from pathlib import Path

from tests.chaos import summary
from tests.chaos.run import Outcome, Result

OUTCOMES = [
    Outcome(1, "ours", 2, "sync", ("move", "power-cut"), Result.PASSED, acknowledged=100, longest_gap=4.0),
    Outcome(
        2, "ours", 3, "async", ("move",), Result.FAILED, acknowledged=50, lost=3, longest_gap=8.0, violations=("no",)
    ),
    Outcome(1, "shell agent", 2, "sync", ("move",), Result.NEEDED_A_PERSON, longest_gap=60.0, by_hand=("a lock",)),
]


def cells(text: str, first: str) -> list[str]:
    """The line of a table that begins like this, without the first column."""
    line = next(line for line in text.splitlines() if line.startswith(first))
    return line.removeprefix(first).split()


def test_runs_are_counted_by_cluster_and_agent() -> None:
    ours, other = summary.text("command", OUTCOMES).split("shell agent  ", maxsplit=1)
    assert cells(ours, "2 nodes, sync") == ["1", "1", "0", "0", "0", "100", "0", "2"]
    assert cells(ours, "3 nodes, async") == ["1", "0", "0", "1", "0", "50", "3", "1"]
    assert cells(ours, "all") == ["2", "1", "0", "1", "0", "150", "3", "3"]
    assert cells(other, "all") == ["1", "0", "1", "0", "0", "0", "0", "1"]


def test_gaps_by_kind_of_fault_beside_each_other() -> None:
    text = summary.text("command", OUTCOMES)
    assert cells(text, "move") == ["2", "6.0", "8.0", "1", "60.0", "60.0"]
    assert cells(text, "delay") == ["0", "-", "-", "0", "-", "-"]


def test_everything_that_did_not_pass_is_named_with_its_seed() -> None:
    text = summary.text("command", OUTCOMES)
    assert "SEED=2 NODES=3 MODE=async (ours) failed\n    no" in text
    assert "SEED=1 NODES=2 MODE=sync (shell agent) needed a person\n    a lock" in text
    assert "(ours) passed" not in text


def test_every_figure_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    summary.save(file, "command", OUTCOMES)
    runs = json.loads(file.read_text())["runs"]
    assert [(run["seed"], run["result"], run["lost"]) for run in runs] == [
        (1, "passed", 0),
        (2, "failed", 3),
        (1, "needed a person", 0),
    ]

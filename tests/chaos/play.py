# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults of a schedule at their times, and what heals them at theirs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import Schedule, Step
from tests.chaos.stage import Stage
from tests.chaos.verbs import Verb
from tests.lab import LabError, Node
from tests.lab.waiting import pause


@dataclass
class _Entry:
    """Something to do at a time, in seconds after the load began."""

    at: float
    act: Callable[[], None]


@dataclass
class Played:
    """A step, whom it hit, and whether it could be done at all."""

    step: Step
    nodes: list[Node] = field(default_factory=list)
    done: bool = False


def play(stage: Stage, schedule: Schedule) -> list[Played]:
    """All faults have happened, and those that end at a time of their own were healed."""
    begin = time.monotonic()
    steps = [Played(step) for step in schedule.steps]
    agenda: list[_Entry] = []
    for played in steps:
        agenda.append(_Entry(played.step.at, lambda played=played: _inject(stage, played)))  # type: ignore[misc]
        if played.step.lasts:
            end = played.step.at + played.step.lasts
            agenda.append(_Entry(end, lambda played=played: _heal(stage, played)))  # type: ignore[misc]
    for entry in sorted(agenda, key=lambda entry: entry.at):
        pause(max(0.0, begin + entry.at - time.monotonic()))
        entry.act()
    return steps


def _inject(stage: Stage, played: Played) -> None:
    played.nodes = stage.nodes_of(played.step.target)
    played.done = _try(stage, "", FAULTS[played.step.kind].inject, played)


def _heal(stage: Stage, played: Played) -> None:
    if played.done:
        _try(stage, "end of ", FAULTS[played.step.kind].heal, played)


def _try(stage: Stage, prefix: str, verb: Verb, played: Played) -> bool:
    names = ", ".join(node.name for node in played.nodes) or played.step.target
    what = f"{prefix}{played.step.kind} on {names}"
    stage.note(what)
    try:
        verb(stage, played.nodes, played.step.chance)
    except LabError as error:
        stage.note(f"{what} could not be done: {str(error)[:300]}")
        return False
    return True

# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens when: a schedule of faults, drawn from a seed. The same seed always gives the same schedule.

Nothing here knows a cluster. "The primary" is whoever is the primary when the fault's time has come.
"""

from dataclasses import dataclass, replace
from random import Random

from tests.chaos.kinds import DESTRUCTIVE, FIRST, TRAITS, Kind, Target

CLUSTERS = {(2, "sync"): 4, (3, "sync"): 4, (3, "async"): 4, (5, "sync"): 1, (5, "async"): 1}
"""Nodes and rep_mode -> how often they are drawn beside the others."""
KNET_SHARE = 0.3
TWO_NODES = 2
LEAD_SECONDS = 2.0
MOST_FAULTS = 3
TOGETHER_SECONDS = 4.0
"""Overlapping faults begin within so many seconds of each other."""
APART_SECONDS = (0.5, 5.0)
"""Other faults begin so long after the one before has ended, or, if it lasts, after it has begun."""


@dataclass(frozen=True)
class Step:
    """One fault. Times in seconds after the load began."""

    kind: Kind
    target: Target
    at: float
    lasts: float | None
    """None: until everything is healed; 0: it ends by itself."""
    chance: float
    """Between 0 and 1, for whatever else the fault leaves open (a direction, a moment)."""

    def __str__(self) -> str:
        end = "until the end" if self.lasts is None else f"for {self.lasts:.1f} s" if self.lasts else "once"
        return f"+{self.at:5.1f} s  {self.kind} on {self.target}, {end} (chance {self.chance:.2f})"


@dataclass(frozen=True)
class Schedule:
    """A cluster and its faults, in order of time."""

    seed: int
    nodes: int
    rep_mode: str
    auto_boot: bool
    """Does a fenced node boot again at once?"""
    busy: bool
    """Does Pacemaker find the machine busy? It then runs one action at a time, notifications of a clone, too."""
    steps: tuple[Step, ...]
    transport: str = "udpu"
    """Corosync's."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What happens in it."""
        return frozenset(step.kind for step in self.steps)

    @property
    def end(self) -> float:
        """When the last of its faults has begun or has ended, in seconds after the load began."""
        return max(step.at + (step.lasts or 0) for step in self.steps)

    def __str__(self) -> str:
        boots = "boot again" if self.auto_boot else "stay off"
        busy = ", one action at a time" if self.busy else ""
        head = f"seed {self.seed}: {self.nodes} nodes, {self.rep_mode}, {self.transport}, fenced nodes {boots}{busy}"
        return "\n".join([head, *(f"  {step}" for step in self.steps)])


def draw(seed: int, nodes: int | None = None, rep_mode: str | None = None) -> Schedule:
    """The schedule of a seed; what is given is not drawn (and the faults stay those of the seed)."""
    random = Random(seed)  # noqa: S311 the same numbers again are the point
    drawn_nodes, drawn_mode = random.choices(list(CLUSTERS), list(CLUSTERS.values()))[0]
    nodes, rep_mode = nodes or drawn_nodes, rep_mode or drawn_mode
    auto_boot = random.random() < 0.6
    overlapping = random.random() < 0.7
    kinds = _draw_kinds(random)
    steps: list[Step] = []
    at = LEAD_SECONDS
    for kind in kinds:
        step = _draw_step(random, kind, at, nodes)
        steps.append(step)
        if kind in FIRST:
            at += random.uniform(0, 1)
        elif overlapping:
            at += random.uniform(0, TOGETHER_SECONDS)
        else:
            at += (step.lasts or 0) + random.uniform(*APART_SECONDS)
    busy = random.random() < 0.25
    transport = "knet" if random.random() < KNET_SHARE else "udpu"
    return Schedule(seed, nodes, rep_mode, auto_boot, busy, tuple(steps), transport)


def alone(nodes: int, rep_mode: str) -> list[Schedule]:
    """Every fault by itself, on each of its targets; their seeds are their numbers, from 1 on."""
    faults = [
        (kind, target)
        for kind, traits in TRAITS.items()
        for target in traits.targets
        if kind not in FIRST and (target is not Target.OTHER or nodes > TWO_NODES)
    ]
    schedules = []
    for number, (kind, target) in enumerate(faults, 1):
        drawn = _draw_step(Random(number), kind, LEAD_SECONDS, nodes)  # noqa: S311 as in `draw`
        step = replace(drawn, target=target)
        schedules.append(Schedule(number, nodes, rep_mode, auto_boot=True, busy=False, steps=(step,)))
    return schedules


def _draw_kinds(random: Random) -> list[Kind]:
    """Two or three different kinds, at most one of which destroys a copy; those that come first are first."""
    kinds: list[Kind] = []
    wanted = random.randint(2, MOST_FAULTS)
    while len(kinds) < wanted:
        kind = random.choices(list(TRAITS), [traits.weight for traits in TRAITS.values()])[0]
        if kind not in kinds and not (kind in DESTRUCTIVE and DESTRUCTIVE & set(kinds)):
            kinds.append(kind)
    return sorted(kinds, key=lambda kind: kind not in FIRST)


def _draw_step(random: Random, kind: Kind, at: float, nodes: int) -> Step:
    traits = TRAITS[kind]
    target = random.choice(traits.targets)
    if target is Target.OTHER and nodes == TWO_NODES:
        target = Target.STANDBY
    seconds = round(random.uniform(*traits.seconds), 1)
    stays = random.random() < 0.3
    lasts = None if traits.may_stay and (stays or not seconds) else seconds
    return Step(kind, target, round(at, 2), lasts, round(random.random(), 3))

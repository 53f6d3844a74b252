# SPDX-License-Identifier: GPL-2.0-or-later
"""What faults are made of: verbs that act on the nodes that a fault hits."""

from collections.abc import Callable, Sequence

from tests.chaos.stage import Stage
from tests.lab import LabError, Node

Verb = Callable[[Stage, Sequence[Node], float], None]
"""What is done to some nodes; the number is the step's chance."""


def each(verb: Callable[[Node], object]) -> Verb:
    """The verb for every node."""

    def act(_stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
        for node in nodes:
            verb(node)

    return act


def chancy(verb: Callable[[Node, float], object]) -> Verb:
    """The verb for every node, with the chance."""

    def act(_stage: Stage, nodes: Sequence[Node], chance: float) -> None:
        for node in nodes:
            verb(node, chance)

    return act


def cluster(verb: Callable[[Stage], object]) -> Verb:
    """The verb for the cluster as a whole."""

    def act(stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
        verb(stage)

    return act


def nothing(_stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
    """It ends by itself."""


def boot(node: Node) -> None:
    """The node has power; fencing may have booted it already."""
    if node.is_on:
        return
    try:
        node.boot()
    except LabError:
        if not node.is_on:
            raise

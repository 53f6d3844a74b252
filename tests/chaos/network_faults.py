# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the network that leave something through."""

from collections.abc import Sequence

from tests.chaos.stage import Stage
from tests.lab import Node
from tests.lab.layout import PORT
from tests.lab.waiting import pause

SHORTEST_DELAY, LONGEST_DELAY = 200, 500
"""Milliseconds."""
ON_SECONDS, OFF_SECONDS = 2.0, 1.5


def lose_one_way(node: Node, chance: float) -> None:
    """Everything in one direction is lost, by chance that which comes in or that which goes out."""
    node.one_way_loss("in" if chance < 0.5 else "out")


def lose_some(node: Node, chance: float) -> None:
    """20 to 50 percent of the frames are lost, in both directions."""
    for direction in ("in", "out"):
        node.one_way_loss(direction, 20 + int(30 * chance))


def cut_database_port(_stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The servers of these nodes and those of the others do not reach each other; Corosync and the clients go on."""
    for node in nodes:
        for other in node.settings.nodes:
            if other != node.name:
                node.network.close_port(node.name, other, PORT)


def open_database_port(_stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The servers reach each other."""
    for node in nodes:
        for other in node.settings.nodes:
            if other != node.name:
                node.network.open_port(node.name, other, PORT)


def cut_ring(stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
    """No node hears the one before it: no two see the same cluster, and nobody is cut off."""
    names = stage.lab.settings.nodes
    for sender, receiver in zip(names, [*names[1:], names[0]], strict=True):
        stage.lab.network.lose(sender, receiver, 100)


def heal_all_losses(stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
    """Nothing gets lost."""
    stage.lab.network.heal()


def flap_delay(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """What comes in to the nodes is late, and then it is not, again and again."""
    milliseconds = SHORTEST_DELAY + int((LONGEST_DELAY - SHORTEST_DELAY) * chance)

    def flap() -> None:
        for late, seconds in ((milliseconds, ON_SECONDS), (0, OFF_SECONDS)):
            for node in nodes:
                node.delay(late)
            pause(seconds)

    stage.repeat(f"delay of {milliseconds} ms on and off", flap)


def end_flapping(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """Nothing is late."""
    stage.end_repetition()
    for node in nodes:
        node.delay(0)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What may happen to the cluster in memory, and two ways to draw from it: hypothesis, which shows the shortest way to a
fault, and random walks, which find those that take many steps.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pgsql_ra.replication.policy import Method
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from tests.unit.model.cluster import Cluster
from tests.unit.model.state import Decide, Reconcile, Unkind, Violation

NEVER_KILLED = 99
CALM_ROUNDS = 6

STEPS = 40
NUMBERS = (0, 1, 2)
EITHER = (False, True)
DEAF = ("", "", "", "n2", "n3")
"""Whom the notification before a promotion does not reach."""
STARTS: dict[str, Sequence[Any]] = {
    "size": (2, 3, 3),
    "synchronous": (1, 1, 2),
    "method": (Method.FIRST, Method.FIRST, Method.QUORUM),
    "calm": EITHER,
    "restarts": (False, False, True),
    "ignores_quorum": (False, False, True),
}

HAPPENINGS: dict[str, tuple[int, dict[str, Sequence[Any]]]] = {
    "commit": (6, {}),
    "stream": (8, {"number": NUMBERS, "records": (0, 1, 2, 3)}),
    "disconnect": (3, {"number": NUMBERS, "leaves_a_row": EITHER}),
    "act": (8, {"steps": (1, 2, 3, 4, 6, 10, 20), "killed": (False, False, False, True)}),
    "take_setting": (6, {"walsenders": EITHER, "checkpointer": EITHER}),
    "calm": (1, {}),
    "fault": (
        2,
        {
            "what": ("crash", "isolate", "cut unnoticed", "notice", "power cut", "heal", "attrd"),
            "number": NUMBERS,
            "odd": EITHER,
        },
    ),
    "recover": (
        3,
        {"what": ("fence", "boot", "start", "start", "watch"), "number": NUMBERS, "by": NUMBERS, "odd": EITHER},
    ),
    "odd_fault": (1, {"what": ("boot alone", "roll back"), "number": NUMBERS, "records": (0, 1, 2)}),
    "planned_stop": (1, {"number": NUMBERS, "steps": tuple(range(1, 13)), "stops": EITHER}),
    "failover": (2, {"number": NUMBERS, "how": ("crash", "power cut", "crash and return"), "deaf": DEAF}),
    "come_back": (1, {"odd": (False, False, True)}),
    "move": (
        1,
        {"number": NUMBERS, "demotes": EITHER, "killed_after": (0, 1, 2, 3, *[NEVER_KILLED] * 4), "deaf": DEAF},
    ),
}
"""What may happen, how often in a random walk, and with what. Few things wreck: what matters takes several steps."""


def drawn(arguments: dict[str, Sequence[Any]]) -> dict[str, Any]:
    """The same arguments as strategies."""
    return {argument: st.sampled_from(values) for argument, values in arguments.items()}


@dataclass(frozen=True)
class Decisions:
    """The decisions that a machine runs with."""

    reconcile: Reconcile = reconcile
    decide: Decide = decide_promotion
    unkind: Unkind = field(default_factory=Unkind)


class Machine(RuleBasedStateMachine):
    """Draws what happens next. Rules that fit the moment are drawn by the role that a node has just then."""

    decisions = Decisions()

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(2)

    @initialize(**drawn(STARTS))
    def begin(
        self, size: int, synchronous: int, method: Method, calm: bool, restarts: bool, ignores_quorum: bool
    ) -> None:
        self.cluster = Cluster(
            size, synchronous, self.decisions.reconcile, self.decisions.decide, self.decisions.unkind, method
        )
        self.cluster.restarts = restarts
        self.cluster.ignores_quorum = ignores_quorum
        self.cluster.promote("n1", NEVER_KILLED)
        if calm:
            calm_down(self.cluster, "n1")

    def name(self, number: int) -> str:
        return self.cluster.names[number % len(self.cluster.names)]

    def primary(self) -> str:
        return next((node.name for node in self.cluster.primaries()), "n1")

    def standby(self, number: int) -> str:
        found = [node.name for node in self.cluster.nodes.values() if node.server.role == "standby"]
        return found[number % len(found)] if found else "n1"

    @rule(**drawn(HAPPENINGS["commit"][1]))
    def commit(self) -> None:
        self.cluster.commit(self.primary())

    @rule(**drawn(HAPPENINGS["stream"][1]))
    def stream(self, number: int, records: int) -> None:
        self.cluster.watch(self.standby(number))
        self.cluster.connect(self.standby(number))
        self.cluster.receive(self.standby(number), records)

    @rule(**drawn(HAPPENINGS["disconnect"][1]))
    def disconnect(self, number: int, leaves_a_row: bool) -> None:
        self.cluster.disconnect(self.standby(number), leaves_a_row)

    @rule(**drawn(HAPPENINGS["act"][1]))
    def act(self, steps: int, killed: bool) -> None:
        self.cluster.act(self.primary(), steps)
        if killed:
            self.cluster.kill_action(self.primary())

    @rule(**drawn(HAPPENINGS["take_setting"][1]))
    def take_setting(self, walsenders: bool, checkpointer: bool) -> None:
        self.cluster.take_setting(self.primary(), walsenders, checkpointer)

    @rule(**drawn(HAPPENINGS["calm"][1]))
    def calm(self) -> None:
        """Nothing happens for a while: standbys stream and monitors do their work."""
        calm_down(self.cluster, self.primary())

    @rule(**drawn(HAPPENINGS["fault"][1]))
    def fault(self, what: str, number: int, odd: bool) -> None:
        """`odd`: a CIB wins that should not."""
        match what:
            case "crash":
                self.cluster.crash_server(self.name(number))
            case "isolate":
                self.cluster.isolate(self.name(number))
            case "cut unnoticed":
                self.cluster.isolate(self.name(number), unnoticed=True)
            case "notice":
                self.cluster.notice(self.name(number))
            case "power cut":
                self.cluster.power_cut(self.name(number))
            case "attrd":
                self.cluster.lose_attributes(self.name(number))
            case _:
                self.cluster.heal(minority_wins=odd)

    @rule(**drawn(HAPPENINGS["odd_fault"][1]))
    def odd_fault(self, what: str, number: int, records: int) -> None:
        if what == "boot alone":
            self.cluster.boot_alone(self.name(number))
            self.cluster.start(self.name(number))
        else:
            self.cluster.roll_back(self.name(number), records)

    @rule(**drawn(HAPPENINGS["recover"][1]))
    def recover(self, what: str, number: int, by: int, odd: bool) -> None:
        match what:
            case "fence":
                self.cluster.fence(self.name(number), self.name(by))
            case "boot":
                self.cluster.boot(self.name(number), its_cib_wins=odd)
            case "start":
                self.cluster.start(self.name(number))
            case _:
                self.cluster.watch(self.standby(number))

    @rule(**drawn(HAPPENINGS["planned_stop"][1]))
    def planned_stop(self, number: int, steps: int, stops: bool) -> None:
        name = self.standby(number)
        self.cluster.kill_action(self.primary())
        self.cluster.act(self.primary(), steps, frozenset({name}))
        if stops:
            self.cluster.stop(name)

    @rule(**drawn(HAPPENINGS["failover"][1]))
    def failover(self, number: int, how: str, deaf: str) -> None:
        """The primary dies, and Pacemaker does what it does then."""
        name = self.primary()
        if how == "power cut":
            self.cluster.power_cut(name)
            self.cluster.fence(name, by=self.standby(number))
        else:
            self.cluster.crash_server(name)
            if how == "crash and return":
                self.cluster.start(name)
            else:
                self.cluster.stop(name)
        self.cluster.promote(self.standby(number), NEVER_KILLED, deaf)

    @rule(**drawn(HAPPENINGS["come_back"][1]))
    def come_back(self, odd: bool) -> None:
        """Whoever is down comes back."""
        for name in self.cluster.names:
            self.cluster.boot(name, its_cib_wins=odd)
            self.cluster.start(name)

    @rule(**drawn(HAPPENINGS["move"][1]))
    def move(self, number: int, demotes: bool, killed_after: int, deaf: str) -> None:
        name = self.primary()
        if demotes:
            self.cluster.stop(name)
            self.cluster.start(name)
        self.cluster.promote(self.standby(number), killed_after, deaf)

    @invariant()
    def the_promise_holds(self) -> None:
        self.cluster.check()


def machine_with(decisions: Decisions) -> type[Machine]:
    """The machine with these decisions."""
    return type("MachineWithDecisions", (Machine,), {"decisions": decisions})


Event = tuple[str, dict[str, Any]]


def walk(seed: int) -> tuple[dict[str, Any], list[Event]]:
    """A start and what happens then, by chance: that finds faults that take many steps sooner than hypothesis."""
    chance = random.Random(seed)  # noqa: S311
    start = {argument: chance.choice(values) for argument, values in STARTS.items()}
    weights = [weight for weight, _ in HAPPENINGS.values()]
    names = chance.choices(list(HAPPENINGS), weights, k=STEPS)
    return start, [
        (name, {argument: chance.choice(values) for argument, values in HAPPENINGS[name][1].items()}) for name in names
    ]


def play(decisions: Decisions, start: dict[str, Any], events: list[Event]) -> Violation | None:
    """What breaks when these things happen; None if nothing does."""
    machine = machine_with(decisions)()
    try:
        machine.begin(**start)
        for name, arguments in events:
            getattr(machine, name)(**arguments)
            machine.the_promise_holds()
    except Violation as violation:
        return violation
    return None


def without_the_irrelevant(decisions: Decisions, start: dict[str, Any], events: list[Event]) -> list[Event]:
    """The events that it takes to break the promise."""
    for index in reversed(range(len(events))):
        fewer = events[:index] + events[index + 1 :]
        if play(decisions, start, fewer) is not None:
            return without_the_irrelevant(decisions, start, fewer)
    return events


def calm_down(cluster: Cluster, primary: str) -> None:
    """Standbys stream and monitors do their work, until nothing changes any more."""
    for _ in range(CALM_ROUNDS):
        for name in cluster.names:
            cluster.watch(name)
            cluster.connect(name)
            cluster.receive(name, 99)
        cluster.act(primary, 12)
        cluster.take_setting(primary, walsenders=True, checkpointer=True)

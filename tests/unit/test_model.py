# SPDX-License-Identifier: GPL-2.0-or-later
"""SAFETY's promise, tried on a cluster in memory with everything that may happen, in any order.

Two drivers draw from one list: hypothesis, which shows the shortest way to a fault, and random walks, which find those
that take many steps. The same machine runs wrong variants of the decisions, each of which breaks one rule, and has to
find out: a model that catches nothing proves nothing.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pgsql_ra.replication.changes import Plan, SetSynchronousStandbys
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.primary import reconcile
from pgsql_ra.replication.promotion import decide_promotion
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Membership, Method, NodeState, Primary, Snapshot, Standby
from pgsql_ra.replication.status import DISCONNECT, STREAMING_SYNC
from tests.unit.model import Cluster, Decide, Reconcile, Unkind, Violation

NEVER_KILLED = 99
CALM_ROUNDS = 6

STEPS = 40
WALKS = 1000
"""Random walks for the right decisions. The wrong ones are found out within a few hundred."""
MOST_WALKS = 4000

NUMBERS = (0, 1, 2)
EITHER = (False, True)
STARTS: dict[str, Sequence[Any]] = {
    "size": (2, 3, 3),
    "synchronous": (1, 1, 2),
    "method": (Method.FIRST, Method.FIRST, Method.QUORUM),
    "calm": EITHER,
}

HAPPENINGS: dict[str, tuple[int, dict[str, Sequence[Any]]]] = {
    "commit": (6, {}),
    "stream": (8, {"number": NUMBERS, "records": (0, 1, 2, 3)}),
    "disconnect": (3, {"number": NUMBERS, "leaves_a_row": EITHER}),
    "act": (8, {"steps": (1, 2, 3, 4, 6, 10, 20), "killed": (False, False, False, True)}),
    "take_setting": (6, {"walsenders": EITHER, "checkpointer": EITHER}),
    "calm": (1, {}),
    "fault": (2, {"what": ("crash", "isolate", "power cut", "heal", "attrd"), "number": NUMBERS, "odd": EITHER}),
    "recover": (
        3,
        {"what": ("fence", "boot", "start", "start", "watch"), "number": NUMBERS, "by": NUMBERS, "odd": EITHER},
    ),
    "planned_stop": (1, {"number": NUMBERS, "steps": tuple(range(1, 13)), "stops": EITHER}),
    "failover": (2, {"number": NUMBERS, "how": ("crash", "power cut", "crash and return")}),
    "come_back": (1, {"odd": (False, False, True)}),
    "move": (1, {"number": NUMBERS, "demotes": EITHER, "killed_after": (0, 1, 2, 3, *[NEVER_KILLED] * 4)}),
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
    def begin(self, size: int, synchronous: int, method: Method, calm: bool) -> None:
        self.cluster = Cluster(
            size, synchronous, self.decisions.reconcile, self.decisions.decide, self.decisions.unkind, method
        )
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
            case "power cut":
                self.cluster.power_cut(self.name(number))
            case "attrd":
                self.cluster.lose_attributes(self.name(number))
            case _:
                self.cluster.heal(minority_wins=odd)

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
    def failover(self, number: int, how: str) -> None:
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
        self.cluster.promote(self.standby(number), NEVER_KILLED)

    @rule(**drawn(HAPPENINGS["come_back"][1]))
    def come_back(self, odd: bool) -> None:
        """Whoever is down comes back."""
        for name in self.cluster.names:
            self.cluster.boot(name, its_cib_wins=odd)
            self.cluster.start(name)

    @rule(**drawn(HAPPENINGS["move"][1]))
    def move(self, number: int, demotes: bool, killed_after: int) -> None:
        name = self.primary()
        if demotes:
            self.cluster.stop(name)
            self.cluster.start(name)
        self.cluster.promote(self.standby(number), killed_after)

    @invariant()
    def the_promise_holds(self) -> None:
        self.cluster.check()


def with_nodes(snapshot: Snapshot, change: Callable[[NodeState], NodeState]) -> Snapshot:
    """The snapshot with every node of the cluster changed."""
    nodes = tuple(change(node) for node in snapshot.cluster.nodes)
    return replace(snapshot, cluster=replace(snapshot.cluster, nodes=nodes))


def takes_lost_for_down(node: NodeState) -> NodeState:
    """An unclean node, presented as a clean one."""
    is_lost = node.membership is Membership.UNCLEAN
    return replace(node, membership=Membership.CLEAN) if is_lost else node


def degrades_without_fencing(snapshot: Snapshot, server: Primary) -> Plan:
    return reconcile(with_nodes(snapshot, takes_lost_for_down), server)


def upgrades_before_it_is_in_force(snapshot: Snapshot, server: Primary) -> Plan:
    hasty = replace(server, settled=True)
    return reconcile(replace(snapshot, server=hasty, mark=server.position.lsn), hasty)


def upgrades_without_a_mark(snapshot: Snapshot, server: Primary) -> Plan:
    return reconcile(replace(snapshot, mark=Lsn(0)), server)


def records_after_the_names(snapshot: Snapshot, server: Primary) -> Plan:
    """What it would do once the records stood, and then the records."""
    streaming = {row.node for row in server.walsenders if row.state.value == "streaming"} - snapshot.leaving

    def as_if_recorded(node: NodeState) -> NodeState:
        stays = node.key in streaming or node.membership is Membership.UNCLEAN or node.key == snapshot.policy.node
        return node if stays else replace(node, data_status=DISCONNECT, score="-INFINITY")

    then = reconcile(with_nodes(snapshot, as_if_recorded), server)
    now = reconcile(snapshot, server)
    names = tuple(change for change in then.changes if isinstance(change, SetSynchronousStandbys))
    rest = tuple(change for change in now.changes if not isinstance(change, SetSynchronousStandbys))
    return replace(now, changes=names + rest)


def promotes_without_records(snapshot: Snapshot, server: Standby) -> Plan:
    return replace(decide_promotion(snapshot, server), changes=())


def promotes_whoever_is_asked(snapshot: Snapshot, server: Standby) -> Plan:
    def as_if_allowed(node: NodeState) -> NodeState:
        return replace(node, data_status=STREAMING_SYNC) if node.key == snapshot.policy.node else node

    return decide_promotion(with_nodes(snapshot, as_if_allowed), server)


def promotes_before_fencing(snapshot: Snapshot, server: Standby) -> Plan:
    return decide_promotion(with_nodes(snapshot, takes_lost_for_down), server)


def counts_records_of_any_promotion(snapshot: Snapshot, server: Standby) -> Plan:
    """What was said under an older promotion counts like what was said under the newest."""
    newest = snapshot.newest

    def as_if_current(node: NodeState) -> NodeState:
        return replace(node, promotion=Promotion(newest.number, newest.node) if newest else None)

    forgetful = with_nodes(snapshot, as_if_current)
    # And nobody is named by it.
    nameless = None if newest is None else replace(newest, node="nobody")
    forgetful = with_nodes(forgetful, lambda node: replace(node, promotion=nameless, known=None))
    return decide_promotion(replace(forgetful, remembered=None), server)


def promotes_with_one_voter(snapshot: Snapshot, server: Standby) -> Plan:
    def as_if_one_were_enough(node: NodeState) -> NodeState:
        return replace(node, voters=replace(node.voters, needed=1)) if node.voters else node

    return decide_promotion(with_nodes(snapshot, as_if_one_were_enough), server)


def counts_voters_at_once(snapshot: Snapshot, server: Primary) -> Plan:
    """A standby is a voter before it has what was acknowledged without it."""
    return reconcile(replace(snapshot, mark=Lsn(0)), replace(server, settled=True))


def with_positions(snapshot: Snapshot, change: Callable[[Position], Position]) -> Snapshot:
    """The snapshot with every position changed."""

    def changed(node: NodeState) -> NodeState:
        return replace(node, position=change(node.position)) if node.position else node

    def begun(promotion: Promotion | None) -> Promotion | None:
        return replace(promotion, begin=None) if promotion else None

    snapshot = with_nodes(snapshot, changed)
    snapshot = with_nodes(snapshot, lambda node: replace(node, promotion=begun(node.promotion)))
    return replace(snapshot, remembered=begun(snapshot.remembered))


def compares_without_timelines(snapshot: Snapshot, server: Standby) -> Plan:
    """The higher LSN wins, on whatever branch."""
    return _compares(snapshot, server, lambda position: Position(position.lsn, History(1)))


def compares_as_text(snapshot: Snapshot, server: Standby) -> Plan:
    """0/90 comes after 0/100."""

    def as_text(position: Position) -> Position:
        return Position(Lsn(int.from_bytes(str(position.lsn).encode().ljust(12, b" "), "big")), position.history)

    return _compares(snapshot, server, as_text)


def _compares(snapshot: Snapshot, server: Standby, change: Callable[[Position], Position]) -> Plan:
    if server.position is None:
        return decide_promotion(snapshot, server)
    otherwise = replace(server, position=change(server.position))
    return decide_promotion(replace(with_positions(snapshot, change), server=otherwise), otherwise)


WRONG = {
    "records of any promotion count": Decisions(decide=counts_records_of_any_promotion),
    "one voter is enough": Decisions(decide=promotes_with_one_voter),
    "voters count at once": Decisions(reconcile=counts_voters_at_once),
    "the higher position wins, whatever the timeline": Decisions(decide=compares_without_timelines),
    "positions are compared as text": Decisions(decide=compares_as_text),
    "degrade although the node is unclean": Decisions(reconcile=degrades_without_fencing),
    "upgrade before the setting is in force": Decisions(reconcile=upgrades_before_it_is_in_force),
    "upgrade without a mark": Decisions(reconcile=upgrades_without_a_mark),
    "the record after the names": Decisions(reconcile=records_after_the_names),
    "promote without records": Decisions(decide=promotes_without_records),
    "promote whoever is asked": Decisions(decide=promotes_whoever_is_asked),
    "promote before the lost node is fenced": Decisions(decide=promotes_before_fencing),
}


def cut_off_the_standby(cluster: Cluster) -> None:
    """The primary acts and commits while the standby's side could still promote it."""
    calm_down(cluster, "n1")
    cluster.isolate("n2")
    cluster.disconnect("n2", leaves_a_row=False)
    cluster.act("n1", 20)
    cluster.take_setting("n1", walsenders=True, checkpointer=True)
    cluster.commit("n1")


def commit_before_the_checkpointer_knows(cluster: Cluster) -> None:
    """A standby becomes a synchronous one, and the checkpointer is slow."""
    cluster.connect("n2")
    cluster.receive("n2", 99)
    cluster.act("n1", 20)
    cluster.take_setting("n1", walsenders=True, checkpointer=False)
    cluster.act("n1", 20)
    cluster.commit("n1")


def name_a_standby_that_is_behind(cluster: Cluster) -> None:
    """Commits from before are still on their way to the standby when the setting is in force."""
    cluster.connect("n2")
    cluster.receive("n2", 99)
    for _ in range(3):
        cluster.commit("n1")
    cluster.act("n1", 20)
    cluster.take_setting("n1", walsenders=True, checkpointer=True)
    cluster.act("n1", 20)


def lose_the_standby_and_be_killed(cluster: Cluster) -> None:
    """The primary's action is killed after every possible number of steps, one after the other."""
    for steps in range(1, 12):
        calm_down(cluster, "n1")
        cluster.disconnect("n2", leaves_a_row=False)
        cluster.act("n1", steps)
        cluster.kill_action("n1")
        cluster.take_setting("n1", walsenders=True, checkpointer=True)
        cluster.commit("n1")
        cluster.check()


SCHEDULES = {
    "degrade although the node is unclean": (cut_off_the_standby, Decisions(degrades_without_fencing)),
    "upgrade before the setting is in force": (
        commit_before_the_checkpointer_knows,
        Decisions(upgrades_before_it_is_in_force),
    ),
    "upgrade without a mark": (name_a_standby_that_is_behind, Decisions(upgrades_without_a_mark)),
    "the record after the names": (lose_the_standby_and_be_killed, Decisions(records_after_the_names)),
}


@pytest.mark.parametrize(("schedule", "wrong"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_breaks_the_wrong_rule_and_not_the_right_one(
    schedule: Callable[[Cluster], None], wrong: Decisions
) -> None:
    def run(decisions: Decisions) -> None:
        cluster = Cluster(2, 1, decisions.reconcile, decisions.decide)
        cluster.promote("n1", NEVER_KILLED)
        schedule(cluster)
        cluster.check()

    run(Decisions())
    with pytest.raises(Violation):
        run(wrong)


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


def test_the_promise_holds_whatever_happens() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=60, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck)),
    )


def test_the_promise_holds_on_random_walks() -> None:
    for seed in range(WALKS):
        start, events = walk(seed)
        if (violation := play(Decisions(), start, events)) is not None:
            steps = without_the_irrelevant(Decisions(), start, events)
            pytest.fail(f"{violation} (walk {seed})\n{start}\n" + "\n".join(str(step) for step in steps))


@pytest.mark.parametrize("decisions", WRONG.values(), ids=WRONG.keys())
def test_a_broken_rule_is_found_out(decisions: Decisions) -> None:
    assert any(play(decisions, *walk(seed)) for seed in range(MOST_WALKS))


class TestTheModelItself:
    """That it does what it says, so that the promise is not kept because nothing happens."""

    @staticmethod
    def running(size: int) -> Cluster:
        cluster = Cluster(size)
        cluster.promote("n1", NEVER_KILLED)
        calm_down(cluster, "n1")
        return cluster

    @pytest.mark.parametrize("size", [2, 3])
    def test_a_calm_cluster_becomes_synchronous(self, size: int) -> None:
        cluster = self.running(size)
        assert cluster.nodes["n1"].server.in_checkpointer.names == ("n2",)
        assert cluster.nodes["n1"].cib["n2"].data_status == STREAMING_SYNC
        assert cluster.nodes["n1"].cib["n2"].score == "100"

    def test_a_commit_is_answered_when_the_synchronous_standby_has_it(self) -> None:
        cluster = self.running(2)
        before = len(cluster.acked)
        cluster.commit("n1")
        assert len(cluster.acked) == before
        cluster.receive("n2", 1)
        assert len(cluster.acked) == before + 1

    def test_a_lost_standby_holds_up_commits_until_it_is_fenced(self) -> None:
        cluster = self.running(2)
        cluster.power_cut("n2")
        cluster.commit("n1")
        calm_down(cluster, "n1")
        assert cluster.nodes["n1"].server.waiting
        cluster.fence("n2", by="n1")
        calm_down(cluster, "n1")
        assert not cluster.nodes["n1"].server.waiting
        cluster.check()

    def test_after_a_failover_the_old_primary_comes_back_as_a_synchronous_standby(self) -> None:
        cluster = self.running(2)
        cluster.commit("n1")
        calm_down(cluster, "n1")
        cluster.power_cut("n1")
        cluster.promote("n2", NEVER_KILLED)
        assert cluster.primaries() == []
        cluster.fence("n1", by="n2")
        cluster.promote("n2", NEVER_KILLED)
        assert [node.name for node in cluster.primaries()] == ["n2"]
        cluster.boot("n1")
        cluster.start("n1")
        calm_down(cluster, "n2")
        assert cluster.nodes["n2"].server.in_checkpointer.names == ("n1",)
        assert cluster.nodes["n2"].cib["n1"].data_status == STREAMING_SYNC
        cluster.check()


def calm_down(cluster: Cluster, primary: str) -> None:
    """Standbys stream and monitors do their work, until nothing changes any more."""
    for _ in range(CALM_ROUNDS):
        for name in cluster.names:
            cluster.connect(name)
            cluster.receive(name, 99)
        cluster.act(primary, 12)
        cluster.take_setting(primary, walsenders=True, checkpointer=True)

# SPDX-License-Identifier: GPL-2.0-or-later
"""After the faults: everything is healed, and the cluster is given time to become whole, helped as README says.

An administrator's means, in this order: power, network and disks as they were; `crm_resource --cleanup` when an action
failed; a reset for a node whose daemons do not come up; a rewind or a new copy for a node whose copy was destroyed, or
whose WAL went another way. The last two are written down: they took a person.
"""

import time
from collections.abc import Set
from dataclasses import dataclass, field

from tests.chaos.faults import FAULTS
from tests.chaos.kinds import ADMINISTRATIVE, Kind
from tests.chaos.schedule import Schedule
from tests.chaos.stage import Stage
from tests.chaos.verbs import boot
from tests.cluster.support import data_status
from tests.lab import LabError, Node, Status
from tests.lab.cib_view import NodeView
from tests.lab.crm import CLONE
from tests.lab.layout import DATABASE_USER, PGDATA, PORT, TMPDIR, VIP
from tests.lab.processes import name_of
from tests.lab.waiting import TIME_FACTOR, pause

HEAL_SECONDS = 60.0
WHOLE_SECONDS = 180.0
PATIENCE_SECONDS = 15.0
"""So long the cluster is left alone before, and between, an administrator's commands."""
RESET_SECONDS = 45.0
"""A node whose daemons are not there after so long gets a reset."""
COPY_SECONDS = 60.0
LOOK_SECONDS = 1.0
STABLE_SECONDS = 8.0
"""It has to be whole for so long: longer than the standbys' monitor interval, so that the cluster has noticed all."""
DIVERGED = ("not in the cluster", "PGSQL.lock", "My data", "is one on the same timeline", "never was", "was a primary")
"""What the agents say when a former primary's data does not fit (ours, the shell agent)."""
NO_PRIMARY = "there is no primary to copy"
"""What it says of a destroyed copy when there was nothing to replace it with."""


@dataclass
class Settled:
    """How it went. `problem` is empty if the cluster became whole."""

    problem: str = ""
    by_hand: list[str] = field(default_factory=list)
    """What took a person."""
    cleanups: int = 0
    seconds: float = 0.0


def heal_everything(stage: Stage, schedule: Schedule) -> None:
    """Nothing of what the schedule did is left; LabError if something cannot be healed."""
    lab = stage.lab
    lab.fencing_delay = 0
    lab.fencing_fails(0)
    for node in lab.nodes:
        node.thaw("node")
        node.restore_network()
    for kind in sorted(schedule.kinds):
        deadline = time.monotonic() + HEAL_SECONDS * TIME_FACTOR
        while True:
            try:
                for node in lab.nodes:
                    boot(node)
                FAULTS[kind].heal(stage, lab.nodes, 0.0)
                break
            except LabError as error:
                # A node that boots takes no commands yet.
                if time.monotonic() > deadline:
                    raise LabError(f"{kind} could not be healed: {error}") from error
                pause(LOOK_SECONDS)
    stage.end_background()
    stage.note("everything is healed")


def settle(stage: Stage, schedule: Schedule) -> Settled:
    """The cluster is whole, or `problem` says what it was when the time was up."""
    administrator = Administrator(stage, schedule.kinds & ADMINISTRATIVE)
    begin = time.monotonic()
    deadline = begin + WHOLE_SECONDS * TIME_FACTOR
    settled = administrator.settled
    whole_since: float | None = None
    while True:
        try:
            seen = stage.lab.status()
            problem = str(seen)
            if not is_whole(seen, stage.lab.settings.rep_mode):
                whole_since = None
                administrator.look(seen)
            elif whole_since is None:
                whole_since = time.monotonic()
            elif time.monotonic() - whole_since > STABLE_SECONDS:
                settled.seconds = whole_since - begin
                return settled
        except LabError as error:
            problem = str(error)
            administrator.say(problem)
        administrator.power()
        if time.monotonic() > deadline:
            settled.problem = f"not whole after {WHOLE_SECONDS * TIME_FACTOR:g} s: {problem}"
            settled.seconds = time.monotonic() - begin
            return settled
        pause(LOOK_SECONDS)


def is_whole(seen: Status, rep_mode: str) -> bool:
    """One primary that has the VIP, and everybody else streams; in sync mode one of them at least may take over."""
    standbys = [node for node in seen.nodes if node.name != seen.promoted]
    streaming = all(data_status(node).startswith("STREAMING") for node in standbys)
    complete = len(seen.unpromoted) == len(standbys) and seen.location() == seen.promoted is not None
    heirs = [node for node in standbys if (node.promotion_score or "-").isdigit()]
    return complete and streaming and (rep_mode != "sync" or bool(heirs))


def helps_itself(node: NodeView, reasons: str) -> bool:
    """The agent repairs the node's data just now (`rejoin`), or looks again after a cleanup, there being a primary."""
    repair = node.transient.get("pgsql-rejoin", "")
    return NO_PRIMARY in reasons or (repair != "" and not repair.startswith(("failed", "refused")))


def has_attribute_daemon(node: Node) -> bool:
    """pacemakerd 2.1.5 does not start it again if it ends because pacemaker-based was killed, and corosync lives."""
    return any(name_of(pid) == "pacemaker-attrd" for pid in node.processes())


class Administrator:
    """Looks now and then, and does one thing at a time."""

    def __init__(self, stage: Stage, orders: Set[Kind]) -> None:
        """`orders` were given to the cluster in this run, and withdrawn: it may not have kept the latter."""
        self.settled = Settled()
        self._stage = stage
        self._orders = orders
        self._since: dict[str, float] = {}
        self._said = ""
        self._next = time.monotonic() + PATIENCE_SECONDS

    def say(self, problem: str) -> None:
        """Write down what went wrong, once."""
        if problem != self._said:
            self._said = problem
            self._stage.note(problem[:400])

    def power(self) -> None:
        """Every node has power; one whose daemons do not come up gets a reset."""
        for node in self._stage.lab.nodes:
            if not node.is_on:
                self._stage.note(f"{node.name} is booted")
                boot(node)
                self._since[node.name] = time.monotonic()

    def look(self, seen: Status) -> None:
        """Help, if the cluster had its time."""
        now = time.monotonic()
        for node in seen.nodes:
            if node.online and not node.pending and has_attribute_daemon(self._stage.lab.node(node.name)):
                self._since.pop(node.name, None)
            elif now - self._since.setdefault(node.name, now) > RESET_SECONDS:
                self._reset(self._stage.lab.node(node.name))
        if now < self._next:
            return
        self._next = now + PATIENCE_SECONDS
        for node in seen.nodes:
            reasons = " ".join(bad.reason for bad in seen.failures if bad.node == node.name)
            is_down = node.role not in ("Promoted", "Unpromoted") or node.failed
            diverged = any(word in reasons for word in DIVERGED)
            if seen.promoted in (None, node.name) or helps_itself(node, reasons):
                continue
            if node.name in self._stage.destroyed or (diverged and is_down):
                self._copy(self._stage.lab.node(node.name), reasons)
        for order in sorted(self._orders):
            FAULTS[order].heal(self._stage, self._stage.lab.nodes, 0.0)
        if seen.failures:
            self._cleanup()

    def _cleanup(self) -> None:
        self.settled.cleanups += 1
        self._stage.note("cleanup")
        self._stage.administer("crm_resource", "--cleanup", f"--resource={CLONE}")

    def _reset(self, node: Node) -> None:
        self._by_hand(f"reset of {node.name}: its daemons did not come up")
        self._since.pop(node.name, None)
        node.power_cut()
        boot(node)

    def _copy(self, node: Node, reasons: str) -> None:
        """The node's copy is rewound if that is possible, or made anew from the primary."""
        if node.postgres_processes():
            return
        destroyed = node.name in self._stage.destroyed
        source = f"host={VIP} port={PORT} user={DATABASE_USER} dbname=postgres"
        binaries = node.settings.postgres_bin
        done = None
        if not destroyed:
            rewind = f"{binaries}/pg_rewind --target-pgdata={PGDATA} --source-server='{source}'"
            done = node.run(["su", DATABASE_USER, "-c", rewind], check=False, timeout=COPY_SECONDS)
        if done is None or done.returncode:
            clone = f"{binaries}/pg_basebackup -D {PGDATA} -h {VIP} -p {PORT} -U {DATABASE_USER} --checkpoint=fast"
            node.run(["sh", "-c", f"rm -rf {PGDATA} {PGDATA}.lost"])
            node.run(["su", DATABASE_USER, "-c", clone], timeout=COPY_SECONDS)
            self._by_hand(f"new copy on {node.name}: {'destroyed by a fault' if destroyed else reasons}")
        else:
            self._by_hand(f"rewind of {node.name}: {reasons}")
        node.run(["rm", "-f", f"{TMPDIR}/PGSQL.lock"])
        self._stage.destroyed.discard(node.name)
        self._cleanup()

    def _by_hand(self, what: str) -> None:
        self._stage.note(f"by hand: {what}")
        self.settled.by_hand.append(what)

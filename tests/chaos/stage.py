# SPDX-License-Identifier: GPL-2.0-or-later
"""Where faults play: the lab, who is who in it at this moment, an administrator's commands, and what was done."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.kinds import Target
from tests.chaos.sampler import Sampler
from tests.cluster.support import SYNC, data_status
from tests.lab import Lab, LabError, Node
from tests.lab.processes import Identity, title_of
from tests.lab.session import Session
from tests.lab.waiting import POLL_SECONDS, pause

COMMAND_SECONDS = 10.0
HUNT_SECONDS = 30.0
HUNT_POLL_SECONDS = 0.01
LONGEST_ACTION_SECONDS = 0.4
"""An action is killed at a random moment of its first so many seconds; most monitors take half of that."""


class Stage:
    """One run's lab and what is known about it."""

    def __init__(self, lab: Lab, sampler: Sampler, diary: Path, add_client: Callable[..., object]) -> None:
        self.lab = lab
        self.sampler = sampler
        self.destroyed: set[str] = set()
        """Nodes whose copy was destroyed: they need a new one."""
        self.backups: dict[str, list[Path]] = {}
        """Node -> its disks that were copied, to be put back later."""
        self.held: list[Session] = []
        """Connections that take away the place of others."""
        self.strangers: list[tuple[str, subprocess.Popen[bytes]]] = []
        """Programs that call themselves like a node."""
        self.add_client = add_client
        self._hung: list[Identity] = []
        self._repetition = threading.Event()
        self._begin = time.monotonic()
        self._diary = diary
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    def note(self, text: str) -> None:
        """Write down what happened, with its time."""
        line = {"after": round(time.monotonic() - self._begin, 2), "monotonic": time.monotonic(), "text": text}
        with self._lock, self._diary.open("a") as diary:
            diary.write(json.dumps(line) + "\n")

    def nodes_of(self, target: Target) -> list[Node]:
        """Whom a target stands for now."""
        names = [node.name for node in self.lab.nodes]
        primary = self.sampler.primary() or names[0]
        seen = self.sampler.status()
        synchronous = [node.name for node in seen.nodes if data_status(node) == SYNC] if seen else []
        others = sorted(
            (name for name in names if name != primary), key=lambda name: (name not in synchronous, names.index(name))
        )
        chosen = {
            Target.PRIMARY: [primary],
            Target.STANDBY: others[:1],
            Target.OTHER: others[-1:],
            Target.BOTH: [primary, *others[:1]],
            Target.ALL: names,
            Target.CLUSTER: [],
        }
        return [self.lab.node(name) for name in chosen[target]]

    def administer(self, *command: str) -> None:
        """An administrator's command, on a node with quorum if one is known."""
        seen = self.sampler.status()
        preferred = seen.seen_by if seen else ""
        awake = [node for node in self.lab.nodes if node.is_on and not node.is_frozen]
        problem = LabError("no node runs")
        for node in sorted(awake, key=lambda node: node.name != preferred):
            try:
                node.run(command, timeout=COMMAND_SECONDS)
            except LabError as error:
                problem = error
            else:
                return
        raise problem

    def claim_destruction(self, node: Node) -> None:
        """The copy on this node may be destroyed: it is a standby's, and another server takes writes at this moment.

        Refused otherwise, because it could be the last copy of something.
        """
        self.may_be_destroyed(node)
        self.destroyed.add(node.name)

    def may_be_destroyed(self, node: Node) -> None:
        """LabError unless the copy on this node is a standby's, and another server takes writes at this moment."""
        if not node.is_in_recovery() or not any(other.is_writable() for other in self.lab.nodes if other != node):
            raise LabError(f"the copy on {node.name} may be the last one of something")

    def in_background(self, what: str, work: Callable[[], object]) -> None:
        """Do something that takes long beside the rest; how it ended is written down."""

        def attend() -> None:
            try:
                work()
            except LabError as error:
                self.note(f"{what}: {str(error)[:200]}")
            else:
                self.note(f"{what}: done")

        thread = threading.Thread(target=attend, name=f"{self.lab.name} {what}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def end_background(self) -> None:
        """Nothing goes on beside any more."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def until(self, what: str, holds: Callable[[], object], *, within: float) -> None:
        """Wait for a fact; LabError if it does not come true in time, or the run ends before."""
        deadline = time.monotonic() + within
        while not holds():
            if time.monotonic() > deadline or self._ended.wait(POLL_SECONDS):
                raise LabError(f"not in time: {what}")

    def repeat(self, what: str, work: Callable[[], object]) -> None:
        """Do something again and again, beside the rest, until `end_repetition`."""
        self._repetition.clear()

        def again() -> None:
            while not self._ended.is_set() and not self._repetition.is_set():
                work()

        self.in_background(what, again)

    def end_repetition(self) -> None:
        """What is repeated has ended, or ends with what it does just now."""
        self._repetition.set()

    def hunt(self, action: str, chance: float, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill or stop the next such action of the agent on any node, after a part of its time that `chance` says."""
        self.in_background(
            f"{number.name} to a {action}", lambda: self._hunt(action, chance * LONGEST_ACTION_SECONDS, number)
        )

    def let_go_on(self) -> None:
        """The actions that were stopped go on."""
        while self._hung:
            leader = self._hung.pop()
            if leader.alive:
                os.killpg(leader.pid, signal.SIGCONT)

    def _hunt(self, action: str, seconds: float, number: signal.Signals) -> None:
        # What runs already has used up an unknown part of its time.
        old = {pid for node in self.lab.nodes for pid in _running(node, action)}
        deadline = time.monotonic() + HUNT_SECONDS
        while time.monotonic() < deadline and not self._ended.is_set():
            for node in self.lab.nodes:
                for pid in set(_running(node, action)) - old:
                    old.add(pid)
                    if (leader := _signal_group(pid, seconds, number)) is not None:
                        self.note(f"{number.name} to {action} on {node.name} after {seconds:.2f} s")
                        self._hung += [leader] if number is signal.SIGSTOP else []
                        return
            pause(HUNT_POLL_SECONDS)
        raise LabError(f"no {action} ran long enough")


def _running(node: Node, action: str) -> Sequence[int]:
    """The processes of the agent's runs of an action: the leaders of their groups."""
    return [
        pid
        for pid in node.processes()
        if (words := title_of(pid).split())
        and words[-1] == action
        and any(word.endswith("/pgsql") and "resource.d" in word for word in words)
    ]


def _signal_group(pid: int, seconds: float, number: signal.Signals) -> Identity | None:
    """Signal a process and all that it started in its group, after so many seconds; None if it ended before."""
    try:
        identity = Identity.of(pid)
    except LabError:
        return None
    pause(seconds)
    try:
        if not identity.alive:
            return None
        if os.getpgid(pid) != pid:
            raise LabError(f"process {pid} leads no group of its own: others would get the signal, too")
        os.killpg(pid, number)
    except ProcessLookupError:
        return None
    return identity

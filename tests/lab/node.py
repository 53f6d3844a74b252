# SPDX-License-Identifier: GPL-2.0-or-later
"""A node of a running lab: what one can do on it and to it."""

import json
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab import power
from tests.lab.clock import clock_text
from tests.lab.disks import PACEMAKER
from tests.lab.layout import DATABASE_USER, PGHOME, PORT, SOCKETDIR, Layout, Settings
from tests.lab.network import Network
from tests.lab.processes import (
    CLEAN_ENVIRONMENT,
    Completed,
    Identity,
    name_of,
    parent_of,
    pids_in_namespace,
    run,
    signal_all,
    title_of,
)
from tests.lab.waiting import LabError, eventually

DATABASE_PROCESSES = frozenset({"postgres", "postmaster"})
FILLER = PGHOME / "filler"
What = Literal["postmaster", "postgres", "node"]


@dataclass(frozen=True)
class Node:
    """One node. Facts are asked for anew each time: the object holds no state."""

    name: str
    layout: Layout
    settings: Settings

    @property
    def network(self) -> Network:
        """The lab's network."""
        return Network(self.layout, self.settings)

    @property
    def address(self) -> str:
        """The node's fixed address."""
        return self.settings.address(self.name)

    @property
    def init(self) -> Identity | None:
        """The init process while the node is on."""
        identity = Identity.load(self.layout.init_file(self.name))
        return identity if identity is not None and identity.alive else None

    @property
    def is_on(self) -> bool:
        """Does the node have power?"""
        return self.init is not None

    @property
    def is_frozen(self) -> bool:
        """Does `freeze("node")` keep all of it from running?"""
        return (init := self.init) is not None and init.stopped

    # --- on the node

    def enter(self) -> list[str]:
        """The command prefix that runs something on the node."""
        if (init := self.init) is None:
            raise LabError(f"{self.name} is off")
        # --wd: the caller's directory may be another one inside.
        return ["nsenter", "-t", str(init.pid), "-m", "-u", "-i", "-n", "-p", "--wd=/", "--"]

    def run(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 60, text: str | None = None
    ) -> Completed:
        """Run a command on the node as root, within `timeout` seconds, with `text` on stdin."""
        environment = {**CLEAN_ENVIRONMENT, **self.settings.environment}
        return run([*self.enter(), *argv], check=check, timeout=timeout, text=text, environment=environment)

    def sql(self, query: str, *, database: str = "postgres", timeout: float = 10) -> str:
        """The answer of the local server: rows on lines, columns separated by |, without the last newline."""
        command = shlex.join(
            [
                f"{self.settings.postgres_bin}/psql",
                "-XAtq",
                "-h",
                str(SOCKETDIR),
                "-p",
                str(PORT),
                "-U",
                DATABASE_USER,
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                query,
                database,
            ]
        )
        return self.run(["su", DATABASE_USER, "-c", command], timeout=timeout).stdout.rstrip("\n")

    def is_in_recovery(self) -> bool:
        """Is the local server a standby? Raises if it does not answer."""
        return self.sql("SELECT pg_is_in_recovery()", timeout=5) == "t"

    def is_writable(self) -> bool:
        """Would the local server take a write? False if it does not answer."""
        try:
            return self.is_on and not self.is_in_recovery()
        except LabError:
            return False

    def addresses(self) -> set[str]:
        """The IPv4 addresses on the node's interface, virtual ones included."""
        return self.network.addresses(self.name)

    def processes(self) -> list[int]:
        """Everything that runs on the node, by the host's numbers."""
        init = self.init
        return [] if init is None else pids_in_namespace("pid", Path(f"/proc/{init.pid}/ns/pid"))

    def postgres_processes(self) -> list[int]:
        """Everything of PostgreSQL that runs on the node, by the host's numbers."""
        return [pid for pid in self.processes() if name_of(pid) in DATABASE_PROCESSES]

    def postmasters(self) -> list[int]:
        """The PostgreSQL processes that are no children of another one."""
        found = set(self.postgres_processes())
        return [pid for pid in found if parent_of(pid) not in found]

    # --- faults of processes

    def signal(self, number: signal.Signals, *names: str) -> None:
        """Send a signal to every process of the node with one of these names, such as "pacemaker-attrd".

        The kernel keeps only the first 15 characters of a name.
        """
        signal_all((pid for pid in self.processes() if name_of(pid) in names), number)

    def kill(self, *names: str) -> None:
        """kill -9 every process of the node with one of these names."""
        self.signal(signal.SIGKILL, *names)

    def restart_pacemaker(self) -> None:
        """All of Pacemaker on the node has ended in order, runs again and answers, as by a restart of its service.

        It stops the resources of the node first, unless they are in maintenance mode. Corosync goes on.
        """
        old = set(self._pacemakers())
        signal_all(old, signal.SIGTERM)
        eventually(
            f"Pacemaker on {self.name} was restarted",
            self._pacemakers,
            lambda now: bool(now) and not old & set(now),
            within=60,
        )
        # Another node's view may be complete before this one's commands work.
        eventually(f"the CIB on {self.name} answers", lambda: self.run(["cibadmin", "--query"]).stdout, within=60)

    def _pacemakers(self) -> list[int]:
        return [pid for pid in self.processes() if name_of(pid) == "pacemakerd"]

    def crash_postgres(self) -> None:
        """kill -9 every postgres of the node, the postmaster first: it would begin to recover from its child's end."""
        signal_all(self.postmasters(), signal.SIGKILL)
        signal_all(self.postgres_processes(), signal.SIGKILL)

    def postgres_children(self, title: str) -> list[int]:
        """The server processes whose title holds this text, such as "walreceiver"; by the host's numbers."""
        return [pid for pid in self.postgres_processes() if title in title_of(pid).removeprefix("postgres: ")]

    def freeze(self, what: What = "postmaster") -> None:
        """Stop the postmaster, all of PostgreSQL or the whole node from running; they do not notice."""
        signal_all(self._parts(what), signal.SIGSTOP)

    def thaw(self, what: What = "postmaster") -> None:
        """Let them run again."""
        signal_all(self._parts(what), signal.SIGCONT)

    def _parts(self, what: What) -> list[int]:
        return {"postmaster": self.postmasters, "postgres": self.postgres_processes, "node": self._own_processes}[
            what
        ]()

    def _own_processes(self) -> list[int]:
        """Without what entered the node from outside: its nsenter would stop with it, and then reap it no more, and a
        node ends only when all of its processes were reaped.
        """
        found = set(self.processes())
        init = self.init
        return [pid for pid in found if parent_of(pid) in found or (init is not None and pid == init.pid)]

    # --- the clock

    def shift_clock(self, seconds: int) -> None:
        """The clock of the node's server is so far from the host's. Needs a lab with `own_clocks`."""
        file = self.layout.clock(self.name)
        if not file.exists():
            raise LabError("the nodes of this lab have the host's clock")
        fresh = file.with_name("clock.new")
        fresh.write_text(clock_text(seconds))
        fresh.replace(file)

    # --- the disk

    def fill_disk(self) -> None:
        """Not a byte is free on the node's database disk. Only in a lab whose disks have a size."""
        if not self.settings.disk_megabytes:
            raise LabError("the disks of this lab have no size: they cannot be filled")
        free, block = map(int, self.run(["stat", "--file-system", "--format=%a %S", str(PGHOME)]).stdout.split())
        self.run(["fallocate", "--length", str(max(1, free) * block), str(FILLER)], check=False)
        self.run(["dd", "if=/dev/zero", f"of={FILLER}.rest", "bs=4096", "status=none"], check=False)

    def free_disk(self) -> None:
        """What `fill_disk` took is free again. LabError while the node boots and has not mounted it yet."""
        self.run(["mountpoint", "--quiet", str(PGHOME)])
        self.run(["rm", "-f", str(FILLER), f"{FILLER}.rest"])

    def freeze_disk(self) -> None:
        """Whoever writes to the node's database disk waits, and cannot even be killed, until `thaw_disk`."""
        if not self.settings.has_images:
            raise LabError("the nodes of this lab have no disks of their own: they cannot be frozen")
        self.run(["mountpoint", "--quiet", str(PGHOME)])
        self.run(["fsfreeze", "--freeze", str(PGHOME)])

    def thaw_disk(self) -> None:
        """What waited goes on. Nothing happens if the disk is not frozen; LabError while the node boots."""
        self.run(["mountpoint", "--quiet", str(PGHOME)])
        self.run(["fsfreeze", "--unfreeze", str(PGHOME)], check=False)

    # --- power

    def boot(self) -> None:
        """The node is booting: it gets its power back and starts the cluster's daemons."""
        power.ask(self.layout, {"do": "on", "node": self.name})

    def power_cut(self) -> None:
        """All of the node died at once; it stays off until `boot`."""
        power.ask(self.layout, {"do": "off", "node": self.name})

    def stop_cluster(self, timeout: float = 180) -> None:
        """The node left the cluster cleanly (resources, Pacemaker, Corosync) within `timeout` seconds and is off."""
        power.ask(self.layout, {"do": "shut_down", "node": self.name, "timeout": timeout}, timeout=timeout + 60)

    # --- network

    def cut_network(self, *, fencing: bool = True) -> None:
        """The switch's port to the node is dead; with `fencing` false the node cannot reach the power supply either."""
        self.network.set_port(self.name, up=False)
        if not fencing:
            self._reach_power_supply(False)

    def restore_network(self) -> None:
        """The node's network is as it was at first: port up, no losses, no delay."""
        self.network.heal([self.name])
        self.network.delay(self.name, 0)
        self.reconnect()

    def reconnect(self) -> None:
        """What `cut_network` did is undone, and nothing else."""
        self.network.set_port(self.name, up=True)
        self._reach_power_supply(True)

    def cut_from(self, *others: str) -> None:
        """Nothing passes between the node and these others (nodes, or "client"), in both directions."""
        for other in others:
            self.network.lose(self.name, other, 100)
            self.network.lose(other, self.name, 100)

    def one_way_loss(self, direction: Literal["in", "out"], percent: int = 100, peer: str = "*") -> None:
        """What comes in to the node, or goes out of it, is lost to this share; from or to one peer, or anybody."""
        sender, receiver = (peer, self.name) if direction == "in" else (self.name, peer)
        self.network.lose(sender, receiver, percent)

    def delay(self, milliseconds: int) -> None:
        """What comes in to the node is late by so much."""
        self.network.delay(self.name, milliseconds)

    def _reach_power_supply(self, reach: bool) -> None:
        now = set(power.ask(self.layout, {"do": "set"})["unreachable"])
        wanted = now - {self.name} if reach else now | {self.name}
        if wanted != now:
            power.ask(self.layout, {"do": "set", "unreachable": sorted(wanted)})

    # --- the cluster's commands

    def standby(self) -> None:
        """The cluster was told to run nothing on the node."""
        self.run(["crm_standby", f"--node={self.name}", "--update=on"])

    def unstandby(self) -> None:
        """The cluster was told that it may run things on the node."""
        self.run(["crm_standby", f"--node={self.name}", "--delete"])

    # --- logs

    def logs(self) -> dict[str, Path]:
        """The node's log files, readable on the host: name below /var/log -> file."""
        root = self.layout.log(self.name)
        files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
        return {**files, "console.log": self.layout.node(self.name) / "console.log"}

    @property
    def cib_file(self) -> Path:
        """The node's copy of the CIB, readable on the host; with true power cuts only while the node is on."""
        if self.settings.true_power_cuts:
            root = f"/proc/{self.init.pid if self.init else 0}/root"
            return Path(f"{root}{PACEMAKER}/cib/cib.xml")
        return self.layout.node(self.name) / "pacemaker/cib/cib.xml"

    def log_text(self, name: str = "pacemaker/pacemaker.log") -> str:
        """The text of one log, empty if there is none yet."""
        path = self.logs().get(name)
        return "" if path is None or not path.exists() else path.read_text(errors="replace")

    def __str__(self) -> str:
        return json.dumps({"name": self.name, "address": self.address, "on": self.is_on})

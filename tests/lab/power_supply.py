# SPDX-License-Identifier: GPL-2.0-or-later
"""The power supply of a lab: a process of its own that switches nodes on and off, for tests and for fencing alike.

It is the parent of all nodes, outlives the driver of a kept lab, and takes the lab down when the driver of any other
lab is gone, however that came. One JSON object a line on a Unix socket; every answer has "ok" and, if that is false,
"error".
"""

import json
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.lab.layout import Layout
from tests.lab.machine import Machine
from tests.lab.power import Message
from tests.lab.processes import Identity
from tests.lab.teardown import take_down
from tests.lab.waiting import LabError, WaitError, pause

OWNER_POLL_SECONDS = 0.3


class PowerSupply:
    """Serves requests. `lock` of a node is held while it is switched."""

    def __init__(self, layout: Layout) -> None:
        settings = layout.load()
        self.layout = layout
        self.auto_boot = settings.auto_boot
        self.machines = {name: Machine(layout, settings, name) for name in settings.nodes}
        self.locks = {name: threading.Lock() for name in settings.nodes}
        self.delay = 0.0
        self.failures = 0
        self.unreachable: set[str] = set()
        self.log_lock = threading.Lock()

    def answer(self, request: Message) -> Message:
        """Do what is asked."""
        try:
            match request["do"]:
                case "fence":
                    self.fence(request["node"], request["action"], request["by"])
                case "on" | "off" | "shut_down" as what:
                    self.switch(request["node"], what, float(request.get("timeout", 0)))
                case "status":
                    self.check_reach(request["by"])
                    return {"ok": True, "on": self.machine(request["node"]).init is not None}
                case "list":
                    self.check_reach(request["by"])
                    return {"ok": True, "nodes": list(self.machines)}
                case "set":
                    self.delay = float(request.get("delay", self.delay))
                    self.failures = int(request.get("failures", self.failures))
                    self.unreachable = set(request.get("unreachable", self.unreachable))
                    return {
                        "ok": True,
                        "delay": self.delay,
                        "failures": self.failures,
                        "unreachable": sorted(self.unreachable),
                    }
                case other:
                    raise LabError(f"unknown request {other!r}")
        except (LabError, WaitError, subprocess.TimeoutExpired) as error:
            self.event("failed", request=request, error=str(error))
            return {"ok": False, "error": str(error)}
        return {"ok": True}

    def machine(self, node: str) -> Machine:
        """The machine with this name."""
        if node not in self.machines:
            raise LabError(f"there is no node {node!r}")
        return self.machines[node]

    def switch(self, node: str, what: str, timeout: float) -> None:
        """A test switches a node."""
        machine = self.machine(node)
        with self.locks[node]:
            self.event(what, node=node)
            match what:
                case "on":
                    machine.power_on()
                case "off":
                    machine.power_off()
                case _:
                    machine.shut_down(timeout)
            self.event(f"{what} done", node=node)

    def fence(self, node: str, action: str, by: str) -> None:
        """The cluster switches a node off; "reboot" boots it again only in a lab with auto_boot."""
        machine = self.machine(node)
        self.check_reach(by)
        asking = self.machine(by).init
        self.event("fencing", node=node, by=by, action=action)
        pause(self.delay)
        if self.failures > 0:
            self.failures -= 1
            raise LabError("this fencing was told to fail")
        if action == "on":
            return
        with self.locks[node]:
            # Two halves of a cluster may shoot at each other: what a node asked for dies with it, so that one survives.
            if asking is None or not asking.alive:
                raise LabError(f"{by} itself is off by now, or was")
            machine.power_off()
            self.event("fenced", node=node, by=by, action=action)
            if action == "reboot" and self.auto_boot:
                machine.power_on()

    def check_reach(self, by: str) -> None:
        """Fail if the asking node is cut off from the power supply."""
        if by in self.unreachable:
            raise LabError(f"{by} does not reach the power supply")

    def event(self, what: str, **details: object) -> None:
        """Write down what happens."""
        line = json.dumps({"event": what, "wall": time.time(), "monotonic": time.monotonic(), **details})
        with self.log_lock, self.layout.events_file.open("a") as log:
            log.write(line + "\n")

    def watch_owner(self) -> None:
        """Return once the process that owns the lab is gone. A kept lab has no owner."""
        while True:
            owner = Identity.load(self.layout.owner_file)
            if owner is not None and not owner.alive:
                return
            if not self.layout.root.exists():
                return
            pause(OWNER_POLL_SECONDS)


def serve(folder: Path) -> None:
    """Be the power supply of the lab in this folder until its owner is gone."""
    supply = PowerSupply(Layout(folder))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                try:
                    self.wfile.write(json.dumps(supply.answer(json.loads(line))).encode() + b"\n")
                except BrokenPipeError:
                    return

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(str(supply.layout.power_socket), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        supply.watch_owner()
        supply.event("the owner is gone: taking the lab down")
        take_down(folder.name, folder, spare_power_supply=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))

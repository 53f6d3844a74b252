# SPDX-License-Identifier: GPL-2.0-or-later
"""The load: a client that writes through the virtual address, and one on every node that talks to its own server.

The latter is what a cut-off primary is asked by. On a standby it is told "read-only" and tries on; one that dies with
its node is followed by another one when the node is back.
"""

import threading
from typing import Any

from tests.lab import Client, Lab, LabError, Node

VIP_PAUSE_MS = 25
INSIDE_PAUSE_MS = 60
INSIDE_RETRY_MS = 800
LOOK_SECONDS = 1.0
FIRST_COMMITS_SECONDS = 60.0


class Load:
    """All clients of a run."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._inside: dict[str, Client] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"load {lab.name}", daemon=True)
        self.clients: list[Client] = []
        self.outside: Client

    def start(self) -> None:
        """Commits are acknowledged."""
        self.outside = self._lab.client("vip", pause_ms=VIP_PAUSE_MS)
        self.clients.append(self.outside)
        self._thread.start()
        self.outside.wait_for(10, within=FIRST_COMMITS_SECONDS)

    def add(self, name: str, **options: Any) -> None:
        """One more client that writes through the virtual address, until the end."""
        number = sum(client.name.startswith(name) for client in self.clients) + 1
        self.clients.append(self._lab.client(f"{name}_{number}", pause_ms=VIP_PAUSE_MS, **options))

    def stop(self) -> None:
        """No client runs any more, and each has finished its last attempt, except for those that died."""
        self._ended.set()
        self._thread.join()
        for client in self.clients:
            try:
                client.stop()
            except LabError:
                client.abandon()

    def _work(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for node in self._lab.nodes:
                running = self._inside.get(node.name)
                if node.is_on and not node.is_frozen and (running is None or running.process.poll() is not None):
                    self._start_inside(node)

    def _start_inside(self, node: Node) -> None:
        number = sum(client.name.startswith(f"{node.name}_") for client in self.clients) + 1
        try:
            client = self._lab.client(
                f"{node.name}_{number}",
                host="127.0.0.1",
                inside=node,
                pause_ms=INSIDE_PAUSE_MS,
                retry_ms=INSIDE_RETRY_MS,
            )
        except LabError:
            # The node lost its power at this moment.
            return
        self._inside[node.name] = client
        self.clients.append(client)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The hardware of a node: what power on and power off do. Used by the power supply only."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.lab import disks, node_init
from tests.lab.layout import PGHOME, Layout, Settings
from tests.lab.network import NETNS_DIRECTORY, Network
from tests.lab.processes import CLEAN_ENVIRONMENT, Identity, pid_inside, pids_in_namespace
from tests.lab.waiting import LabError, eventually

RESOURCE_AGENTS = Path("/usr/lib/ocf/resource.d")


@dataclass
class Machine:
    """One node, as seen from outside."""

    layout: Layout
    settings: Settings
    name: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def network(self) -> Network:
        """The lab's network."""
        return Network(self.layout, self.settings)

    @property
    def init(self) -> Identity | None:
        """The node's init process while it runs."""
        identity = Identity.load(self.layout.init_file(self.name))
        return identity if identity is not None and identity.alive else None

    @property
    def disks(self) -> list[tuple[Path, Path]]:
        """The node's own file systems, and where it mounts them."""
        return disks.images(self.layout, self.settings, self.name)

    def plan(self) -> dict[str, object]:
        """What the node's init has to prepare."""
        disk = self.layout.node(self.name)
        environment = {
            **CLEAN_ENVIRONMENT,
            "PCMK_logfile": "/var/log/pacemaker/pacemaker.log",
            "PCMK_logfacility": "none",
            **self.settings.environment,
        }
        return {
            "hostname": self.name,
            "environment": environment,
            # An overlay without an upper layer is read-only and lets a new name appear without creating it on the host.
            "overlays": [
                [str(self.layout.sbin), "/usr/sbin"],
                [str(self.layout.ocf), str(RESOURCE_AGENTS)],
                *([[str(self.layout.clocked_bin), self.settings.postgres_bin]] if self.settings.own_clocks else []),
            ],
            "binds": [
                [str(self.layout.corosync), "/etc/corosync"],
                [str(self.layout.hosts), "/etc/hosts"],
                *([] if self.settings.true_power_cuts else [[str(disk / "pacemaker"), str(disks.PACEMAKER)]]),
                [str(disk / "corosync"), "/var/lib/corosync"],
                [str(disk / "log"), "/var/log"],
                *([] if self.settings.has_images else [[str(disk / "pgsql"), str(PGHOME)]]),
                *([path, str(RESOURCE_AGENTS / name)] for name, path in self.settings.providers.items()),
            ],
            "images": [[str(image), str(target)] for image, target in self.disks],
            # Last: what is gone with the power. /run hides the host's pid files and sockets.
            "tmpfs": ["/dev/shm", "/run"],
        }

    def power_on(self) -> None:
        """The node is booting."""
        if self.init is not None:
            raise LabError(f"{self.name} is on already")
        self.network.plug_in(self.name)
        with (self.layout.node(self.name) / "console.log").open("ab") as console:
            self.process = subprocess.Popen(
                [
                    *self.network.enter(self.name),
                    *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"),
                    *(sys.executable, "-I", node_init.__file__, json.dumps(self.plan())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=dict(CLEAN_ENVIRONMENT),
                cwd="/",
                start_new_session=True,
            )
        pid = eventually(f"{self.name} has an init process", self._find_init, within=10, poll=0.01)
        Identity.of(pid).save(self.layout.init_file(self.name))

    def power_off(self) -> None:
        """Nothing of the node runs any more, and nobody reaches it."""
        self.network.plug_out(self.name)
        if (init := self.init) is not None:
            if self.settings.true_power_cuts:
                disks.lose_power(init.pid, self.disks)
            disks.thaw(init.pid, self.disks)
            # The kernel lets init go only after every other process of its pid namespace has ended.
            init.kill()
        self.reap()
        disks.await_release(image for image, _ in self.disks)
        # The namespace outlives the node, and with it any virtual address: a dead machine must not keep it.
        self.network.clear_addresses(self.name)

    def shut_down(self, timeout: float) -> None:
        """The cluster was left cleanly and the node is off, within `timeout` seconds."""
        if (init := self.init) is None:
            return
        init.signal(signal.SIGTERM)
        eventually(f"{self.name} has shut down", lambda: not init.alive, within=timeout)
        self.power_off()

    def reap(self) -> None:
        """No zombie is left of the node."""
        if self.process is not None:
            self.process.wait(timeout=10)
            self.process = None

    def _find_init(self) -> int:
        if self.process is not None and self.process.poll() is not None:
            raise LabError(f"{self.name} did not boot, see {self.layout.node(self.name) / 'console.log'}")
        namespace = NETNS_DIRECTORY / self.network.namespace(self.name)
        return next((pid for pid in pids_in_namespace("net", namespace) if pid_inside(pid) == 1), 0)

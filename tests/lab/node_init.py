# SPDX-License-Identifier: GPL-2.0-or-later
"""The init process of a node: number 1 of its pid namespace, with mounts, host name and network of its own.

A stand-alone program for the standard library only, started as `python -I node_init.py PLAN`; PLAN is a JSON object
with hostname, environment and mounts: binds [[source, target]...], overlays [[upper layer, target]...], images of file
systems [[file, target]...], tmpfs [...].

It mounts, starts corosync, waits until it answers, starts pacemakerd and then reaps whatever ends: PostgreSQL's
postmaster and every other orphan of the node. SIGTERM is the clean shut-down: pacemakerd first, then corosync, then the
node is off. A pacemakerd that fails is started again, as the usual service manager does; one that says "stay down"
(100) is not, and the node then idles until it is fenced.
"""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

COROSYNC_SECONDS = 30.0
STAY_DOWN = 100
RESTART_SECONDS = 1.0
DEVICE_MODE = 0o755


def say(text: str) -> None:
    """Write a line to the node's console."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} init: {text}\n")
    sys.stderr.flush()


def mount(*arguments: str) -> None:
    """Mount something, or the node does not boot."""
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def directory(path: str, mode: int, user: str = "root") -> None:
    """A directory on the node's fresh /run exists and belongs to a user."""
    os.makedirs(path, exist_ok=True)
    owner = pwd.getpwnam(user)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    os.chmod(path, mode)


class Node:
    """The node's daemons."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.pacemakerd = 0
        self.corosync = 0
        self.stopping = False

    def start(self, *argv: str) -> int:
        """Start a daemon as a child; its number."""
        say(f"starting {' '.join(argv)}")
        # Not kept as a Popen object: the loop below reaps everything, and no one else may.
        child = subprocess.Popen(argv, env=self.environment, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True)
        child.returncode = 0
        return child.pid

    def start_corosync(self) -> None:
        """Corosync answers."""
        self.corosync = self.start("corosync", "-f")
        deadline = time.monotonic() + COROSYNC_SECONDS
        while True:
            asked = subprocess.run(
                ["corosync-cfgtool", "-s"], env=self.environment, check=False, capture_output=True, text=True
            )
            if not asked.returncode:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"corosync does not answer after {COROSYNC_SECONDS:g} s: {asked.stdout}{asked.stderr}")
            time.sleep(0.05)

    def start_pacemaker(self) -> None:
        """Pacemaker is starting."""
        self.pacemakerd = self.start("pacemakerd")

    def on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        """Begin the clean shut-down."""
        say("shutting down")
        self.stopping = True
        if self.pacemakerd:
            os.kill(self.pacemakerd, signal.SIGTERM)
        elif self.corosync:
            os.kill(self.corosync, signal.SIGTERM)

    def reap(self) -> None:
        """Reap until the node was shut down cleanly."""
        while True:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                if self.stopping:
                    return
                signal.pause()
                continue
            code = os.waitstatus_to_exitcode(status)
            if pid == self.corosync:
                say(f"corosync ended: {code}")
                self.corosync = 0
                if self.stopping and not self.pacemakerd:
                    return
            elif pid == self.pacemakerd:
                say(f"pacemakerd ended: {code}")
                self.pacemakerd = 0
                if self.stopping and self.corosync:
                    os.kill(self.corosync, signal.SIGTERM)
                elif self.stopping:
                    return
                elif code != STAY_DOWN and self.corosync:
                    time.sleep(RESTART_SECONDS)
                    self.start_pacemaker()


def main() -> None:
    """Boot the node and be its init until it is off."""
    plan = json.loads(sys.argv[1])
    socket.sethostname(plan["hostname"])
    for upper, target in plan["overlays"]:
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={upper}:{target}", target)
    for source, target in plan["binds"]:
        mount("--bind", source, target)
    for image, target in plan["images"]:
        # The loop device and the mount are this mount namespace's, and gone with it.
        mount("-o", "loop", image, target)
    for target in plan["tmpfs"]:
        mount("-t", "tmpfs", "-o", "mode=1777" if target == "/dev/shm" else "mode=755", "tmpfs", target)
    for path in ("/run/lock", "/run/resource-agents", "/run/fence-agents"):
        directory(path, 0o1777)
    directory("/run/crm", 0o750, "hacluster")
    directory("/run/postgresql", 0o2775, "postgres")
    node = Node(plan["environment"])
    signal.signal(signal.SIGTERM, node.on_terminate)
    node.start_corosync()
    node.start_pacemaker()
    node.reap()


if __name__ == "__main__":
    main()

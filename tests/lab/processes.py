# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes: run a command, know a process again, kill exactly the lab's own."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.layout import STATEDIR
from tests.lab.waiting import LabError, eventually

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN_ENVIRONMENT: Mapping[str, str] = {
    "PATH": SYSTEM_PATH,
    "LANG": "C.UTF-8",
    "HOME": "/root",
    # What the agent remembers lies on the node's own disk: /var/lib is the host's.
    "PGSQL_RA_STATE_DIR": str(STATEDIR),
}
"""What every process of the lab starts with: a virtual environment or shims of the caller must not leak into a node."""

COMMAND_SECONDS = 60.0
KILL_SECONDS = 20.0

Completed = subprocess.CompletedProcess[str]


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = COMMAND_SECONDS,
    text: str | None = None,
    environment: Mapping[str, str] = CLEAN_ENVIRONMENT,
) -> Completed:
    """Run a command to its end within `timeout` seconds; with `check`, a failure raises with its whole stderr."""
    try:
        done = subprocess.run(
            list(argv),
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=dict(environment),
            cwd="/",
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end after {timeout:g} s") from error
    except OSError as error:
        raise LabError(f"{argv[0]}: {error}") from error
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}")
    return done


@dataclass(frozen=True)
class Identity:
    """A process that can be told from a later one with the same number, even after a boot of the host."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """The identity of a living process."""
        fields = _stat(pid)
        if fields is None:
            raise LabError(f"process {pid} has ended already")
        return cls(pid, _boot_id() + ":" + fields[19])

    @classmethod
    def load(cls, path: Path) -> "Identity | None":
        """The identity written by `save`, None if there is none."""
        try:
            pid, started = path.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return cls(int(pid), started)

    def save(self, path: Path) -> None:
        """Write it so that a reader sees all or nothing."""
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(f"{self.pid} {self.started}\n")
        fresh.replace(path)

    @property
    def alive(self) -> bool:
        """Does it still run? A zombie does not."""
        fields = _stat(self.pid)
        return fields is not None and fields[0] not in "ZX" and self.started == _boot_id() + ":" + fields[19]

    @property
    def stopped(self) -> bool:
        """Does a SIGSTOP keep it from running?"""
        fields = _stat(self.pid)
        return fields is not None and fields[0] in "Tt"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process is gone."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self, within: float = KILL_SECONDS) -> None:
        """The process is dead afterwards."""
        self.signal(signal.SIGKILL)
        eventually(f"process {self.pid} is dead", lambda: not self.alive, within=within, poll=0.01)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those of these processes that are still there."""
    for pid in pids:
        try:
            Identity.of(pid).signal(number)
        except LabError:
            continue


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on, None without such a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def all_pids() -> Iterator[int]:
    """Every process that this one can see."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def pids_in_namespace(kind: str, reference: Path) -> list[int]:
    """The processes whose namespace of this kind ("net", "pid") is the one that `reference` names."""
    try:
        wanted = reference.stat()
    except FileNotFoundError:
        return []
    found = []
    for pid in all_pids():
        try:
            seen = os.stat(f"/proc/{pid}/ns/{kind}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if (seen.st_ino, seen.st_dev) == (wanted.st_ino, wanted.st_dev):
            found.append(pid)
    return found


def name_of(pid: int) -> str:
    """The command name of a process, empty if it is gone or a zombie."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = _stat(pid)
    return "" if fields is None or fields[0] in "ZX" else name


def title_of(pid: int) -> str:
    """The command line of a process, as one text; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parent_of(pid: int) -> int:
    """The parent of a process, 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def pid_inside(pid: int) -> int:
    """The number that a process has in its own, innermost pid namespace; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[-1]) for line in status.splitlines() if line.startswith("NSpid:")), 0)


def children_of(pid: int) -> list[int]:
    """The processes that this one started and did not reap yet."""
    return [child for child in all_pids() if parent_of(child) == pid]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's processes: is one there, which, in what state; and ending it.

Whether a server runs is asked of the kernel, not of a file: every process of a PostgreSQL server has the data directory
as its working directory (ChangeToDataDir in src/backend/utils/init/miscinit.c), so /proc tells which belong to this
one. A postmaster.pid may be stale, and its number may belong to another process by now.

Loads nothing that `stop` could miss: it must work whatever else is broken.
"""

import os
import signal
from enum import Enum

from pgsql_ra.ocf import Deadline, Log

_POSTMASTER_PID = "postmaster.pid"


class PostmasterStatus(Enum):
    """Line 8 of postmaster.pid (src/include/utils/pidfile.h)."""

    STARTING = "starting"
    STOPPING = "stopping"
    READY = "ready"
    STANDBY = "standby"
    UNKNOWN = ""


class PidFile:
    """What postmaster.pid says: `pid`, `socket_directory` ("" if none), `listen_address` ("" if none), `port`,
    `status`.
    """

    def __init__(self, text: str) -> None:
        lines = [*text.splitlines(), *[""] * 8]
        self.pid = int(lines[0])
        self.port = int(lines[3] or 0)
        self.socket_directory = lines[4].strip()
        self.listen_address = lines[5].strip()
        try:
            self.status = PostmasterStatus(lines[7].strip())
        except ValueError:
            self.status = PostmasterStatus.UNKNOWN

    @classmethod
    def read(cls, pgdata: str) -> "PidFile | None":
        """The file's content; None if there is none or if it is being written."""
        try:
            with open(os.path.join(pgdata, _POSTMASTER_PID), encoding="utf-8", errors="replace") as file:
                return cls(file.read())
        except (FileNotFoundError, NotADirectoryError, ValueError, PermissionError):
            return None


def server_processes(pgdata: str) -> list[int]:
    """Every process of the server on this data directory, the oldest first.

    If somebody has moved or removed the directory under its server, that is still the one that was told to serve it.
    """
    directory = os.path.realpath(pgdata)
    processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if found := sorted(pid for pid in processes if _serves(pid, directory)):
        return found
    elsewhere = {place for pid in processes if (place := _place_of_server_for(pid, pgdata, directory))}
    return sorted(pid for pid in processes if any(_serves(pid, place) for place in elsewhere))


def _place_of_server_for(pid: int, pgdata: str, directory: str) -> str:
    """Where a postmaster works that was told to serve `pgdata`, if that is another place by now; else ""."""
    try:
        place = os.readlink(f"/proc/{pid}/cwd")
        # A program that was just started works in "/", or where Pacemaker does; it tells soon by its place.
        if place in ("/", directory) or not _serves(pid, place):
            return ""
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        told = words[words.index(b"-D") + 1] if b"-D" in words[:-1] else b""
        # A path means another directory in a container.
        here = all(
            os.readlink(f"/proc/{pid}/{what}") == os.readlink(f"/proc/self/{what}") for what in ("ns/mnt", "root")
        )
    except OSError:
        return ""
    return place if here and os.fsdecode(told) in (pgdata, directory) else ""


def postmaster(pgdata: str) -> int | None:
    """The postmaster's process id, None if there is none. Backends that outlive their postmaster are not one.

    Cheap: postmaster.pid says where to look, the kernel says whether it is true.
    """
    directory = os.path.realpath(pgdata)
    file = PidFile.read(pgdata)
    if file is not None and file.pid > 0 and _serves(file.pid, directory):
        return file.pid
    # No file, or a wrong one: the server may run all the same (a file deleted by hand). Its parent is not one of its
    # own.
    processes = server_processes(pgdata)
    return next((pid for pid in processes if _parent(pid) not in processes and _has_children(pid, processes)), None)


def _serves(pid: int, directory: str) -> bool:
    """Whether `pid` is a live PostgreSQL process that works in `directory`."""
    try:
        if os.readlink(f"/proc/{pid}/cwd") != directory:
            return False
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return False  # gone meanwhile, or a kernel thread
    return name.startswith(("postgres", "postmaster")) and rest.split()[0] not in ("Z", "X")


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _has_children(pid: int, processes: list[int]) -> bool:
    return any(_parent(other) == pid for other in processes)


def remove_stale_pid_file(pgdata: str, log: Log) -> None:
    """Remove a postmaster.pid that would keep the server from starting although nothing serves this directory.

    PostgreSQL takes the file for valid if a process with that number lives, be it another server of the same user on a
    machine that shares the storage, or after a reboot. One whose number is free it replaces by itself.
    """
    file = PidFile.read(pgdata)
    if file is None or server_processes(pgdata) or not os.path.exists(f"/proc/{file.pid}"):
        return
    log.warning(f"postmaster.pid in {pgdata} names process {file.pid}, which does not serve it: the file is removed")
    os.remove(os.path.join(pgdata, _POSTMASTER_PID))


def is_sleeping_without(pid: int, number: signal.Signals) -> bool:
    """Whether a process sleeps and has taken every signal `number` that was sent to it before this call.

    The two looks are in this order: not pending any more, then asleep. Raises nothing: a process that is gone is
    neither.
    """
    bit = 1 << (number - 1)
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
        if any(mask & bit for mask in pending):
            return False
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"
    except OSError:
        return False


def stop(pgdata: str, fast_seconds: float, deadline: Deadline, log: Log) -> None:
    """End the server: a fast shutdown, an immediate one after `fast_seconds`, then SIGKILL for whatever is left.

    Returns when no process of this data directory lives. DeadlineExceeded if one cannot be ended (it hangs in the
    kernel).
    """
    fast = deadline.within(fast_seconds)
    if (pid := postmaster(pgdata)) is not None and fast_seconds > 0:
        send(pid, signal.SIGINT)
        while fast.remaining() > 0 and server_processes(pgdata):
            deadline.pause("the fast shutdown", 0.02)
    if server_processes(pgdata):
        _stop_at_once(pgdata, deadline, log)


def _stop_at_once(pgdata: str, deadline: Deadline, log: Log) -> None:
    """Immediate shutdown. A postmaster that is stopped (SIGSTOP) or backends without one take no such request:
    SIGKILL.
    """
    if (pid := postmaster(pgdata)) is not None:
        log.warning(
            "the server did not end by a fast shutdown in time: immediate shutdown, it will recover when it starts"
        )
        send(pid, signal.SIGQUIT)
        # The postmaster itself kills children that ignore SIGQUIT after 5 seconds (SIGKILL_CHILDREN_AFTER_SECS).
        patience = deadline.within(min(7.0, deadline.remaining() / 2))
        while patience.remaining() > 0 and server_processes(pgdata):
            deadline.pause("the immediate shutdown", 0.02)
    while left := server_processes(pgdata):
        log.warning(f"server processes {left} are left: SIGKILL")
        for pid in left:
            send(pid, signal.SIGKILL)
        deadline.pause(f"server processes {left} to end after SIGKILL", 0.1)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal. A process that has ended by itself meanwhile needs none."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return

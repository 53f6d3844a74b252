# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's processes: is one there, which, in what state; and ending it.

Whether a server runs is asked of the kernel, not of a file: every process of a PostgreSQL server has the data directory
as its working directory (ChangeToDataDir in src/backend/utils/init/miscinit.c), so /proc tells which belong to this
one. A postmaster.pid may be stale, and its number may belong to another process by now.

Loads nothing that `stop` could miss: it must work whatever else is broken.
"""

import os
import pwd
import signal
from collections.abc import Iterator
from enum import Enum

from pgsql_ra.ocf import Deadline, Log
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.postgres.user_files import UserFiles

_POSTMASTER_PID = "postmaster.pid"
_KEY_BITS = 0xFFFFFFFF
PROGRAMS = ("postgres", "postmaster")
"""The names of the server's program; the second one is a link to it up to PostgreSQL 15."""


class PostmasterStatus(Enum):
    """Line 8 of postmaster.pid (src/include/utils/pidfile.h)."""

    STARTING = "starting"
    STOPPING = "stopping"
    READY = "ready"
    STANDBY = "standby"
    UNKNOWN = ""


class PidFile:
    """What postmaster.pid says: `pid`, `started` (seconds since 1970), `socket_directory` ("" if none),
    `listen_address` ("" if none), `port`, `memory` (key and identifier of its shared memory), `status`.
    """

    def __init__(self, text: str) -> None:
        lines = [*text.splitlines(), *[""] * 8]
        self.pid = int(lines[0])
        self.started = int(lines[2] or 0)
        self.port = int(lines[3] or 0)
        self.socket_directory = lines[4].strip()
        self.listen_address = lines[5].strip()
        key, identifier, *_ = [*map(int, lines[6].split()), -1, -1]
        # The key is an inode's number cut to 32 bits, here extended by its sign.
        self.memory = (key & _KEY_BITS, identifier)
        try:
            self.status = PostmasterStatus(lines[7].strip())
        except ValueError:
            self.status = PostmasterStatus.UNKNOWN

    @classmethod
    def read(cls, pgdata: str) -> "PidFile | None":
        """The file's content; None if there is none or if it is being written."""
        try:
            return cls(files_in(pgdata).text(os.path.join(pgdata, _POSTMASTER_PID)))
        except (OSError, ValueError):
            return None


def server_processes(pgdata: str, user: str = "") -> list[int]:
    """Every process of the server on this data directory, the oldest first.

    A process is one of a server if its program is PostgreSQL's and it runs as whom the data directory belongs to (a
    server insists on that, checkDataDir in src/backend/utils/init/miscinit.c): what other users call their processes,
    and where they let them work, is nothing to us.

    If somebody has moved or removed the directory under its server, that is still the one that was told to serve it.
    Then, and if the directory was given to somebody else, only `user` (the parameter pgdba) says whose it would be.
    """
    directory = os.path.realpath(pgdata)
    owner = owner_of(directory)
    processes = _processes_of(owner)
    if found := _serving(processes, directory, owner):
        return found
    # Not asked before it is needed: the name may have to be looked up over a network.
    owners = owner | _user_id(user)
    if owners != owner:
        processes = _processes_of(owners)
        if found := _serving(processes, directory, owners - owner):
            return found
    elsewhere = {place for pid in processes if (place := _place_of_server_for(pid, pgdata, directory, owners))}
    return sorted({pid for place in elsewhere for pid in _serving(processes, place, owners)})


def owner_of(directory: str) -> frozenset[int]:
    """Whose processes may serve the directory. No server runs as root: it is a place where nothing is mounted now."""
    try:
        return frozenset({os.stat(directory).st_uid} - {0})
    except OSError:
        return frozenset()


def _processes_of(users: frozenset[int]) -> list[int]:
    """The processes that may be theirs. One whose program may not be read looks like root's."""

    def may_be(pid: int) -> bool:
        try:
            user = os.stat(f"/proc/{pid}").st_uid
            return user in users or (user == 0 and _comm(pid) in PROGRAMS)
        except OSError:
            return False  # gone meanwhile

    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if users and may_be(pid)]


def _user_id(user: str) -> frozenset[int]:
    """The number of a user; nothing if this node does not know it."""
    try:
        return frozenset({pwd.getpwnam(user).pw_uid} if user else ())
    except KeyError:
        return frozenset()


def _serving(processes: list[int], directory: str, owners: frozenset[int]) -> list[int]:
    return sorted(pid for pid in processes if _serves(pid, directory, owners))


def _place_of_server_for(pid: int, pgdata: str, directory: str, owners: frozenset[int]) -> str:
    """Where a postmaster works that was told to serve `pgdata`, if that is another place by now; else ""."""
    try:
        # A path means another directory in a container.
        if not _shares(pid, "ns/mnt") or not _shares(pid, "root"):
            return ""
        place = os.readlink(f"/proc/{pid}/cwd")
        # A program that was just started works in "/", or where Pacemaker does; it tells soon by its place.
        if place in ("/", directory) or not _serves(pid, place, owners):
            return ""
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return ""
    told = words[words.index(b"-D") + 1] if b"-D" in words[:-1] else b""
    return place if os.fsdecode(told) in (pgdata, directory) else ""


def _shares(pid: int, what: str) -> bool:
    """Whether a process and this one have the same of this. OSError if that process is gone."""
    return os.readlink(f"/proc/{pid}/{what}") == os.readlink(f"/proc/self/{what}")


def postmaster(pgdata: str, user: str = "") -> int | None:
    """The postmaster's process id, None if there is none. Backends that outlive their postmaster are not one.

    Cheap: postmaster.pid says where to look, the kernel says whether it is true. `user`: see server_processes.
    """
    directory = os.path.realpath(pgdata)
    file = PidFile.read(pgdata)
    if file is not None and file.pid > 0 and _serves(file.pid, directory, owner_of(directory)):
        return file.pid
    # No file, or a wrong one: the server may run all the same (a file deleted by hand). Its parent is not one of its
    # own.
    processes = server_processes(pgdata, user)
    return next((pid for pid in processes if _parent(pid) not in processes and _has_children(pid, processes)), None)


def _serves(pid: int, directory: str, owners: frozenset[int]) -> bool:
    """Whether `pid` is a live PostgreSQL process of one of `owners` that works in `directory`."""
    try:
        is_here = _shares(pid, "ns/mnt")
        if is_here and os.readlink(f"/proc/{pid}/cwd") != directory:
            return False
        if not runs_as(pid, owners) or not _is_postgres(pid):
            return False
        # In another container the path says nothing, and the directory may be this one by another name. (Not asked of
        # all processes: one that works on a filesystem that hangs would keep this one waiting.)
        return is_here or os.path.samestat(os.stat(f"/proc/{pid}/cwd"), os.stat(directory))
    except OSError:
        return False  # gone meanwhile, or a kernel thread


def runs_as(pid: int, users: frozenset[int]) -> bool:
    """Whether a process lives and runs as one of these users. Both the real and the effective one have to be: it may
    have begun as another's set-user-ID program. OSError if it is gone.
    """
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        facts = dict(line.split(":", 1) for line in file if line.startswith(("State:", "Uid:")))
    real, effective, *_ = map(int, facts["Uid"].split())
    return facts["State"].split()[0] not in ("Z", "X") and real == effective and real in users


def _is_postgres(pid: int) -> bool:
    """Whether its program is PostgreSQL's server, by the file that it is or, if that was renamed or the process has
    given up its memory and is ending, was when it was started (the kernel keeps that name; titles do not change it).
    """
    if _comm(pid) in PROGRAMS:
        return True
    program = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    return program in PROGRAMS


def _comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _has_children(pid: int, processes: list[int]) -> bool:
    return any(_parent(other) == pid for other in processes)


def remove_stale_pid_file(pgdata: str, user: str, files: UserFiles, log: Log) -> None:
    """Remove a postmaster.pid that would keep the server from starting although nothing serves this directory.

    PostgreSQL takes the file for valid if a process of its user has that number (CreateLockFile in miscinit.c), be it
    another server's, after a reboot or a crash. Any other file it replaces by itself.

    The file stays if its server may be one that cannot be seen from here, in another container with numbers of its own:
    a server that misses its file ends itself (RecheckDataDirLockFile).
    """
    file = PidFile.read(pgdata)
    if file is None or server_processes(pgdata, user):
        return
    try:
        if not runs_as(file.pid, owner_of(pgdata)):
            return
    except OSError:
        return  # no process has the number
    path = os.path.join(pgdata, _POSTMASTER_PID)
    if not _has_ended(file):
        log.warning(
            f"remove {path} if no server runs on this directory in another container: it names process {file.pid},"
            " which is another one here, and nothing shows that its server has ended"
        )
        return
    log.warning(f"postmaster.pid in {pgdata} names process {file.pid}, which does not serve it: the file is removed")
    files.remove(path)


def _has_ended(file: PidFile) -> bool:
    """Whether the server that wrote the file has ended for certain, seen or not: this kernel was started after it, or
    its shared memory is still there and nobody uses it (a server that is killed leaves it behind).
    """
    for memory, users, changed in _shared_memory():
        # One that was made before the server is not its own: numbers begin anew in each container.
        if memory == file.memory and changed >= file.started:
            return users == 0
    return 0 < file.started < _boot_time()


def _shared_memory() -> Iterator[tuple[tuple[int, int], int, int]]:
    """The System V shared memory that can be seen from here: key and identifier, the number of its users, and when it
    was made.
    """
    try:
        with open("/proc/sysvipc/shm", encoding="utf-8") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return  # a kernel without it
    for line in lines:
        words = [int(word) for word in line.split()]
        yield (words[0] & _KEY_BITS, words[1]), words[6], words[13]


def _boot_time() -> int:
    """When this kernel was started, in seconds since 1970, by the present clock."""
    with open("/proc/stat", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("btime"))


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


def stop(pgdata: str, fast_seconds: float, deadline: Deadline, log: Log, user: str = "") -> None:
    """End the server: a fast shutdown, an immediate one after `fast_seconds`, then SIGKILL for whatever is left.

    Returns when no process of this data directory lives. DeadlineExceeded if one cannot be ended (it hangs in the
    kernel). `user`: see server_processes.
    """
    fast = deadline.within(fast_seconds)
    if (pid := postmaster(pgdata, user)) is not None and fast_seconds > 0:
        send(pid, signal.SIGINT)
        while fast.remaining() > 0 and server_processes(pgdata, user):
            deadline.pause("the fast shutdown", 0.02)
    if server_processes(pgdata, user):
        _stop_at_once(pgdata, user, deadline, log)


def _stop_at_once(pgdata: str, user: str, deadline: Deadline, log: Log) -> None:
    """Immediate shutdown. A postmaster that is stopped (SIGSTOP) or backends without one take no such request:
    SIGKILL.
    """
    if (pid := postmaster(pgdata, user)) is not None:
        log.warning(
            "the server did not end by a fast shutdown in time: immediate shutdown, it will recover when it starts"
        )
        send(pid, signal.SIGQUIT)
        # The postmaster itself kills children that ignore SIGQUIT after 5 seconds (SIGKILL_CHILDREN_AFTER_SECS).
        patience = deadline.within(min(7.0, deadline.remaining() / 2))
        while patience.remaining() > 0 and server_processes(pgdata, user):
            deadline.pause("the immediate shutdown", 0.02)
    while left := server_processes(pgdata, user):
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

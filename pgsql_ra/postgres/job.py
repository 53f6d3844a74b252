# SPDX-License-Identifier: GPL-2.0-or-later
"""Work on a data directory that outlives the action that began it: a process in a session of its own.

Pacemaker kills the process group of an action that takes too long; a copy of a large database takes hours. There is one
job at a time for each data directory: it holds a lock, which the kernel releases with its last process, so whether one
runs is never guessed. What it does, and what is to be done at its end, is in a file in the state directory, where only
root writes: what it says is carried out by root.

`stop` uses this module, so it loads nothing that could be missing.
"""

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from pgsql_ra.ocf import AgentError, Deadline
from pgsql_ra.postgres.broken_off import BrokenOffMark
from pgsql_ra.postgres.process import send
from pgsql_ra.state import StateDirectory

LOCK_FILE = "rejoin.lock"
STATE_FILE = "rejoin.state"
HIGHEST_INHERITED = 256
CANCEL_SECONDS = 10.0
"""How long a job may take to end properly before it is killed."""


class Cancelled(AgentError):
    """The job was told to end."""


class JobState(NamedTuple):
    """What a job says of itself, and what it leaves behind.

    `pid` and `begun` (clock ticks after boot, as in /proc) name its process, `waiter` and `waiter_begun` the action
    that waits for its end (0 if none does any more).
    """

    pid: int = 0
    begun: int = 0
    phase: str = ""
    """For people."""
    percent: int | None = None
    """How far the phase is; None if nobody knows."""
    holds_server: bool = False
    """The server is down because of the job, which starts it again."""
    downtimes: int = 0
    """How often the job has stopped the server."""
    waiter: int = 0
    waiter_begun: int = 0
    spared: bool = False
    """The next `stop` is the one by which Pacemaker cleans up after a failed start, and leaves the job alone."""
    broken_off: str = ""
    """What is done to the data directory just now; if no job runs, it was not ended, and no server may start."""
    in_place: bool = False
    """The data directory is being changed just now, and is worthless if that is not brought to its end."""
    swaps: tuple[tuple[str, str, str], ...] = ()
    """Renamings that are under way (postgres.base_copy.Swap); whoever finds them carries them out."""
    result: str = ""
    """Why the last job failed; "" if it did not."""
    may_try_again: bool = False
    """Whether the reason of the failure may go away by itself."""
    failed_at: float = 0.0
    """When the last job ended, in seconds since 1970."""
    unproven: bool = False
    """The data were a primary's when the server was started, and were not compared with another one's since."""
    shown: str = ""
    """The value of the node attribute that says how it stands."""

    def __str__(self) -> str:
        return self.phase if self.percent is None else f"{self.phase} {self.percent} %"


class JobFile:
    """The state of the job of one data directory, in the state directory, and the mark that lies with the data.

    `take_over` brings what an earlier version has left into the state directory.
    """

    def __init__(
        self, state: StateDirectory, mark: BrokenOffMark, take_over: Callable[[], object] = lambda: None
    ) -> None:
        self._state = state
        self._mark = mark
        self._take_over = take_over

    def read(self) -> JobState:
        """What it says; an empty state if there is none. One that cannot be read may have said that the data are
        worthless.
        """
        try:
            self._take_over()
            text = self._state.read(STATE_FILE)
            job = JobState() if text is None else _parse(text)
        except (AgentError, OSError, ValueError, TypeError, AttributeError):
            path = self._state.path(STATE_FILE)
            job = JobState(
                broken_off=f"{path} cannot be read, so pg_rewind may have been broken off: `pgsql-ra rejoin` makes a"
                f" new copy; if you know that the data are whole, remove {path}"
            )
        if not job.broken_off and self._mark.is_there():
            return job._replace(
                broken_off=f"pg_rewind was broken off here, says {self._mark.path}: `pgsql-ra rejoin` makes a new copy;"
                " if other data were put there since, remove that file"
            )
        return job

    def write(self, state: JobState) -> None:
        """Replace it in one step that survives a crash. The mark is there before it says so, and goes after that."""
        if state.broken_off:
            self._mark.make()
        self._state.write(STATE_FILE, json.dumps(state._asdict()))
        if not state.broken_off:
            self._mark.remove()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Within this context nobody else reads and then writes the state (job and actions both do)."""
        with self._state.locked(f"{STATE_FILE}.lock"):
            yield

    def update(self, **changes: object) -> JobState:
        """Change some fields."""
        with self.changing():
            state = self.read()._replace(**changes)  # type: ignore[arg-type]
            self.write(state)
        return state

    def last_downtime(self) -> str:
        """Names the last time that a job stopped the server, for comparison."""
        state = self.read()
        return f"{state.pid} {state.begun} {state.downtimes}"

    def is_awaited(self) -> bool:
        """Whether the action that waits for the job's end still lives."""
        state = self.read()
        return bool(state.waiter) and started_at(state.waiter) == state.waiter_begun

    def running(self) -> JobState | None:
        """The job that runs now; None if there is none. Costs two system calls."""
        try:
            descriptor = self._state.open_lock(LOCK_FILE, create=False)
        except (OSError, AgentError):
            return None  # no job was ever begun, or nobody can have begun one there
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self.read()
        finally:
            os.close(descriptor)
        return None

    def acquire(self) -> int | None:
        """Become the one job: a descriptor that holds the lock while it, or a child that inherits it, is open."""
        descriptor = self._state.open_lock(LOCK_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def end(self, deadline: Deadline) -> None:
        """No job works on the data directory afterwards. DeadlineExceeded if one cannot be ended."""
        state = self.running()
        if state is None:
            return
        # Work in place cannot be given up without making the directory worthless, so it gets what time there is.
        seconds = deadline.remaining()
        proper = deadline.within(seconds * 0.9 if state.broken_off else min(CANCEL_SECONDS, seconds / 2))
        asked = False
        while (state := self.running()) is not None and proper.remaining() > 0:
            # A job that has just begun has not said yet which process it is.
            if not asked and state.pid and started_at(state.pid) == state.begun:
                send(state.pid, signal.SIGTERM)
                asked = True
            deadline.pause("the repair of the data directory to end", 0.02)
        while (state := self.running()) is not None:
            # A server that the job started is in another session (pg_ctl makes one for it).
            for pid in session_members(state.pid):
                send(pid, signal.SIGKILL)
            deadline.pause("the processes that repair the data directory to end", 0.05)


def _parse(text: str) -> JobState:
    """ValueError, TypeError or AttributeError if it is not what a job has written."""
    known = json.loads(text)
    known["swaps"] = tuple((current, new, old) for current, new, old in known.get("swaps", ()))
    return JobState(**{name: known[name] for name in JobState._fields if name in known})


def detach(work: Callable[[], None], lock: int | None = None) -> None:
    """Run `work` in a process of its own session, of which Pacemaker knows nothing; return at once.

    Nothing is inherited but the memory and the descriptor `lock`: output left open would keep Pacemaker waiting.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        # The grandchild is nobody's to wait for; its session has its number.
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            for descriptor in range(3, HIGHEST_INHERITED):
                if descriptor != lock:
                    _close(descriptor)
            os.chdir("/")
            work()
    finally:
        os._exit(0)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        return  # it was not open


def raise_cancelled(_number: int, _frame: object) -> NoReturn:
    """A signal handler: the job ends at the next step of Python, its children by whoever waits for them."""
    raise Cancelled("the repair was cancelled")


def started_at(pid: int) -> int:
    """When a process was started, in clock ticks after boot; 0 if it is gone. With its number it names it for good."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in ("Z", "X") else int(words[19])


def session_members(session: int) -> list[int]:
    """All processes of the session whose leader has, or had, this number: it is not given away while one is left."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if session and _session(pid) == session]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def besides(job: JobState | None, processes: list[int]) -> list[int]:
    """Those of the server processes that are not the job's own: it recovers a crashed server in single-user mode."""
    if job is None or not job.pid or not processes:
        return processes
    own = session_members(job.pid)
    return [pid for pid in processes if pid not in own]


def own_identity() -> tuple[int, int]:
    """This process, for the state file."""
    return os.getpid(), started_at(os.getpid())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The OCF side of an action: exit codes, errors that carry one, the log, the exit reason and the deadline.

Everything here is loaded by every action, `stop` and `meta-data` too, so it imports only what is cheap and always
there. Facts: OCF resource agent API 1.1; Pacemaker passes the action's timeout as OCF_RESKEY_CRM_meta_timeout
(milliseconds).
"""

import os
import sys
import syslog
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Final, TextIO


class Exit(IntEnum):
    """Exit codes of the OCF resource agent API 1.1 that this agent uses."""

    SUCCESS = 0
    GENERIC = 1
    ARGS = 2
    UNIMPLEMENTED = 3
    PERM = 4
    INSTALLED = 5
    CONFIGURED = 6
    NOT_RUNNING = 7
    PROMOTED = 8
    FAILED_PROMOTED = 9


class AgentError(Exception):
    """What is wrong, where, and what to do about it, in one line; the class says the exit code.

    What matters most comes first: Pacemaker keeps the first 127 bytes as the exit reason (EXIT_REASON_MAX_LEN), the log
    has the whole line.

    Pacemaker's reaction to the codes (lib/pengine/unpack.c): GENERIC is soft (recover here or elsewhere), ARGS, PERM
    and INSTALLED are hard (not on this node again), CONFIGURED is fatal: it stops every instance on every node.
    """

    exit_code: ClassVar[Exit] = Exit.GENERIC


class InvalidParameter(AgentError):
    """A parameter's value is wrong on every node. The only error that may stop the whole clone."""

    exit_code = Exit.CONFIGURED


class NotPermitted(AgentError):
    """A file or directory on this node does not belong to the database user, or cannot be written."""

    exit_code = Exit.PERM


class NotInstalled(AgentError):
    """A program, the database user or the data directory is missing on this node."""

    exit_code = Exit.INSTALLED


class ServerFailure(AgentError):
    """PostgreSQL did not do what was asked."""


class ClusterFailure(AgentError):
    """A Pacemaker command failed, or Pacemaker does not answer."""


class NotSafe(AgentError):
    """Doing it could lose acknowledged commits, so it is not done."""


class DeadlineExceeded(AgentError):
    """The action's time is nearly over, and what it waited for has not come."""


FAILURES: Final = (AgentError, OSError)
"""What may come of any work that touches processes, files or the cluster. A process that ends by itself between two
looks, or a full disk, is an OSError: whoever goes on after an AgentError goes on after that as well.
"""


def reason_of(error: AgentError | OSError) -> str:
    """What went wrong, in one line for people."""
    return of_system(error) if isinstance(error, OSError) else str(error)


def of_system(error: OSError) -> str:
    """What the system says, and of which file: `No space left on device: /var/lib/postgresql/tmp/rejoin.job`."""
    words = error.strerror or str(error)
    return f"{words}: {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else words


class Deadline:
    """The moment at which an action must have its answer.

    It lies a little before Pacemaker's own timeout, so that the agent can still say what it waited for; Pacemaker kills
    the whole process group without a word.
    """

    DEFAULT_SECONDS: ClassVar[float] = 60.0

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Deadline":
        """Take the deadline from the action's timeout, less a margin of a tenth (at most 5 seconds)."""
        try:
            seconds = int(environ.get("OCF_RESKEY_CRM_meta_timeout", "")) / 1000
        except ValueError:
            seconds = cls.DEFAULT_SECONDS
        if seconds <= 0:
            seconds = cls.DEFAULT_SECONDS
        return cls(seconds - min(5.0, seconds / 10))

    def remaining(self) -> float:
        """Seconds left; 0.0 when it has passed."""
        return max(0.0, self._end - time.monotonic())

    def within(self, seconds: float) -> "Deadline":
        """A deadline at most `seconds` from now and never after this one."""
        return Deadline(min(seconds, self.remaining()))

    def pause(self, waiting_for: str, seconds: float = 0.05) -> None:
        """Sleep `seconds` before the caller looks again; raise DeadlineExceeded when the time is over."""
        left = self.remaining()
        if left <= 0:
            raise DeadlineExceeded(f"the time of this action is over; it was still waiting for {waiting_for}")
        time.sleep(min(seconds, left))


class Log:
    """Writes where Pacemaker tells agents to write: syslog (HA_LOGFACILITY), a file (HA_LOGFILE), or stderr by hand.

    A log that cannot be written never changes an action's result.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._tag = f"{environ.get('OCF_RESOURCE_TYPE') or 'pgsql'}({environ.get('OCF_RESOURCE_INSTANCE') or '-'})"
        self._facility = environ.get("HA_LOGFACILITY", "none") or "none"
        self._file = environ.get("HA_LOGFILE", "")
        self._debug = environ.get("HA_debug", "0") not in ("", "0")
        self._trace: TextIO | None = None
        self._stderr = _is_terminal() or (self._facility == "none" and not self._file)

    def debug(self, text: str) -> None:
        """Details for whoever looks for a fault; written only when Pacemaker's debug is on, and into a trace."""
        if self._debug:
            self._write("DEBUG", syslog.LOG_DEBUG, text)
        else:
            self._write_trace("DEBUG", text)

    def info(self, text: str) -> None:
        """Something was changed."""
        self._write("INFO", syslog.LOG_INFO, text)

    def warning(self, text: str) -> None:
        """Something is not as it should be, and goes on all the same."""
        self._write("WARNING", syslog.LOG_WARNING, text)

    def error(self, text: str) -> None:
        """The action fails because of this."""
        self._write("ERROR", syslog.LOG_ERR, text)

    def trace_to(self, trace: TextIO) -> None:
        """Write everything into this file as well."""
        self._trace = trace

    def _write_trace(self, level: str, text: str) -> None:
        if self._trace is not None:
            self._trace.write(f"{time.strftime('%T')} {level}: {text}\n")
            self._trace.flush()

    def _write(self, level: str, priority: int, text: str) -> None:
        self._write_trace(level, text)
        line = " ".join(text.split())
        if self._stderr:
            print(f"{level}: {line}", file=sys.stderr)
            return
        if self._facility != "none":
            facility = getattr(syslog, f"LOG_{self._facility.upper()}", syslog.LOG_DAEMON)
            syslog.openlog(self._tag, syslog.LOG_PID, facility)
            syslog.syslog(priority, f"{level}: {line}")
        if self._file:
            stamp = time.strftime("%b %d %T")
            try:
                with open(self._file, "a", encoding="utf-8") as file:
                    file.write(f"{stamp}  {self._tag}[{os.getpid()}]:    {level}: {line}\n")
            except OSError:
                # Nowhere is left to say it: Pacemaker gave this file, and stderr would be taken for the exit reason.
                return


def _is_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def say_exit_reason(environ: Mapping[str, str], reason: str) -> None:
    """Print the line that Pacemaker shows beside a failed action (the last such line on stderr wins)."""
    prefix = environ.get("OCF_EXIT_REASON_PREFIX", "ocf-exit-reason:")
    print(f"{prefix}{' '.join(reason.split())}", file=sys.stderr)


def is_probe(action: str, environ: Mapping[str, str]) -> bool:
    """Whether this monitor asks what is there before anything was started.

    Pacemaker leaves the interval out for probes (2.1.5), other callers set it to 0.
    """
    return action in ("monitor", "status") and environ.get("OCF_RESKEY_CRM_meta_interval", "") in ("", "0")


def resource_name(environ: Mapping[str, str]) -> str:
    """The resource's name without the instance number that globally unique clones carry (`pgsql:0`)."""
    return environ.get("OCF_RESOURCE_INSTANCE", "pgsql").partition(":")[0] or "pgsql"

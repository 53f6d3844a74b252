# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting and promoting the server, and hearing why it does not start."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from pgsql_ra.ocf import Deadline, DeadlineExceeded, Log, ServerFailure
from pgsql_ra.postgres.process import PidFile, PostmasterStatus, owner_of, postmaster, runs_as, server_processes
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.recovery import as_options
from pgsql_ra.postgres.user_files import UserFiles

_DIAGNOSIS_SECONDS = 5.0
"""How long a server that was started only to hear what it says may take to say it."""

_LOOKS = 10
"""How often no process of the server has to be seen before it is taken for ended."""


@dataclass(frozen=True)
class ServerOptions:
    """How the server is to be started: the parameters of these names."""

    pgdata: str
    config: str
    logfile: str
    port: int
    host: str = ""
    start_opt: str = ""
    ctl_opt: str = ""
    service_file: str = ""
    """Where the secrets of the connection to the primary are (see postgres.conninfo)."""

    def server_words(self, settings: Mapping[str, str]) -> str:
        """The server's own options, as a shell reads them (pg_ctl gives them to one). `settings` come last, so that
        nothing overrides them.
        """
        words = ["-c", shlex.quote(f"config_file={self.config}")]
        if self.host:
            words += ["-h", shlex.quote(self.host)]
        return " ".join(filter(None, [*words, self.start_opt, shlex.join(as_options(settings))]))


class Server:
    """The server of one data directory."""

    def __init__(self, options: ServerOptions, programs: Programs, log: Log) -> None:
        self._options = options
        self._programs = programs
        self._log = log

    def start(self, deadline: Deadline, settings: Mapping[str, str]) -> None:
        """Start it with these settings, whatever its files say, and return when it takes connections.

        ServerFailure as soon as it has ended, with the last thing that it said.
        """
        options = self._options
        said_before = _size(options.logfile)
        arguments = [*shlex.split(options.ctl_opt), "-D", options.pgdata, "-l", options.logfile]
        arguments += ["-o", options.server_words(settings), "-W", "start"]
        # PGPORT is the port unless the configuration or start_opt name another one.
        done = self._programs.run("pg_ctl", arguments, deadline, self._environment())
        if done.returncode != 0:
            raise ServerFailure(f"pg_ctl could not start the server: {last_words(done.stderr or done.stdout)}")
        while not self._is_ready():
            if not self._is_alive() and self._is_gone_for_good(deadline):
                raise ServerFailure(f"the server ended at once: {self._last_words(said_before, settings, deadline)}")
            deadline.pause("the server to take connections (it replays WAL)", 0.02)

    def _environment(self) -> dict[str, str]:
        """What the server's environment holds besides: where its WAL receiver finds secrets, if there are any."""
        environment = {"PGPORT": str(self._options.port)}
        if _size(self._options.service_file) > 0:
            environment["PGSERVICEFILE"] = self._options.service_file
        return environment

    def promote(self, deadline: Deadline) -> None:
        """Ask the server to leave recovery; it does so in the background."""
        done = self._programs.run("pg_ctl", ["-D", self._options.pgdata, "-W", "promote"], deadline)
        if done.returncode != 0:
            raise ServerFailure(f"pg_ctl could not promote the server: {last_words(done.stderr or done.stdout)}")

    def reload(self) -> None:
        """Make the server read its configuration again; it does so in the background."""
        pid = postmaster(self._options.pgdata)
        gone = ServerFailure("the server is gone, its configuration cannot be reloaded")
        if pid is None:
            raise gone
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            raise gone from None

    def _is_ready(self) -> bool:
        file = PidFile.read(self._options.pgdata)
        return (
            file is not None
            and file.status is PostmasterStatus.READY
            and file.pid > 0
            and postmaster(self._options.pgdata) == file.pid
        )

    def _is_gone_for_good(self, deadline: Deadline) -> bool:
        """A process that is just becoming another program (exec) has no command line for a moment, which a busy machine
        makes a long one: look for a while.
        """
        for _ in range(_LOOKS):
            deadline.pause("the server to show itself", 0.05)
            if self._is_alive() or self._is_ready():
                return False
        return True

    def _is_alive(self) -> bool:
        return bool(server_processes(self._options.pgdata)) or _is_launching(self._options.pgdata)

    def _last_words(self, said_before: int, settings: Mapping[str, str], deadline: Deadline) -> str:
        """Why it ended, from its log if that says so, else by starting it once more and listening."""
        if said := last_words(_tail(UserFiles(self._programs.user), self._options.logfile, said_before)):
            return said
        return self._diagnose(settings, deadline.within(_DIAGNOSIS_SECONDS))

    def _diagnose(self, settings: Mapping[str, str], deadline: Deadline) -> str:
        """Start the server in the foreground with its log on a pipe. One that comes up after all is stopped again."""
        options = self._options
        listen = "-c logging_collector=off -c log_destination=stderr -c log_min_messages=warning"
        command = f"exec {shlex.quote(self._programs.path('postgres'))} -D {shlex.quote(options.pgdata)}"
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"{command} {options.server_words(settings)} {listen}"],
            env=self._programs.environment() | self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd="/",
            umask=0o077,
            user=self._programs.child_user,
            group=self._programs.child_group,
            extra_groups=self._programs.child_groups,
        )
        try:
            while process.poll() is None and not self._is_ready():
                deadline.pause("the server to say why it ends", 0.02)
        except DeadlineExceeded:
            self._log.debug("the server neither ended nor came up while it was listened to")
        came_up = process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            _, said = process.communicate()
        if came_up:
            return "nothing was logged, and when it was tried again it did not end; start it once more"
        return last_words(said) or f"it said nothing; see its log (log_directory) and logfile {options.logfile}"


def _is_launching(pgdata: str) -> bool:
    """Whether a process that was told to serve `pgdata` is there: between fork and taking the directory as its own.

    pg_ctl has a shell run `"postgres" -D "pgdata" ...`, which becomes the server with the words separated by zero
    bytes. Only what runs as the directory's owner can become its server.
    """
    owner = owner_of(pgdata)
    told = re.compile(rb'-D[\0 ]"?' + re.escape(os.fsencode(pgdata)) + rb'"?(?:[\0 ]|$)')
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read()
            if (
                b"postgres" in command
                and told.search(command)
                and int(name) != os.getpid()
                and runs_as(int(name), owner)
            ):
                return True
        except (OSError, ValueError):
            continue  # gone meanwhile, or no process
    return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if os.path.isfile(path) else 0
    except OSError:
        return 0


_SAID_BY_SERVER = re.compile(r"\b(?:FATAL|PANIC|ERROR|WARNING|LOG|DETAIL|HINT):\s")
_MOST_OF_LOG = 256 * 1024


def _tail(files: UserFiles, path: str, start: int) -> str:
    """What the server has added to its log since that was `start` bytes long; "" if it is no file (/dev/null).

    The one file of whose content something is shown to people. So it is read as the database user, and of what that
    user may read only the lines that look like the server's: whatever he has put in the log's place, no line of a
    file of passwords or keys is shown.
    """
    try:
        text = files.read(path, _MOST_OF_LOG, start if start <= files.size(path) else 0).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line for line in text.splitlines() if _SAID_BY_SERVER.search(line))


def last_words(text: str) -> str:
    """The line that says why, from its severity on: the last FATAL or PANIC, else the last ERROR, else the last
    line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    bind = [line for line in lines if "could not bind" in line][-1:]  # its FATAL does not say which address was taken
    for word in ("FATAL:", "PANIC:", "ERROR:"):
        if found := [line for line in lines if word in line]:
            if "contains errors" in found[-1] and (causes := _configuration_errors(lines)):
                return " ".join(causes)  # the FATAL says only that there are some
            after = lines[lines.index(found[-1]) + 1 :][:2]
            details = [line for line in after if "DETAIL:" in line or "HINT:" in line]
            return " ".join(_from_severity(line) for line in [*bind, found[-1], *details])
    return _from_severity(lines[-1]) if lines else ""


def _configuration_errors(lines: list[str]) -> list[str]:
    errors = [line for line in lines if "LOG:" in line and ("in file" in line or "parameter" in line or "near" in line)]
    return [_from_severity(line).removeprefix("LOG:").strip() for line in errors]


def _from_severity(line: str) -> str:
    """A log line without its prefix (time, process), which is the administrator's choice and says nothing here."""
    words = r"(?:FATAL|PANIC|ERROR|LOG|DETAIL|HINT):\s+.*"
    found = re.search(words, line)
    return " ".join((found[0] if found else line).split())

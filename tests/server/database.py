# SPDX-License-Identifier: GPL-2.0-or-later
"""One real PostgreSQL server, and the verbs for what happens to it. It is looked at without the agent's own code."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.lab.waiting import eventually

BINARIES = Path(os.environ.get("PGSQL_RA_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
"""Of the PostgreSQL that the tests run on; the database user must be able to reach it."""
USER = "postgres"
TESTER = "tester"
"""A superuser for the tests, who is let in without a question; the agent comes as the database user (peer)."""

SETTINGS = """
listen_addresses = ''
fsync = off
max_connections = 20
shared_buffers = 2MB
min_wal_size = 2MB
autovacuum = off
# Segments of shared memory that a killed server leaves behind go with its directory.
dynamic_shared_memory_type = mmap
"""


def as_postgres(*command: str | Path, text: str = "") -> str:
    """Run a program of PostgreSQL as the database user; its standard output."""
    done = subprocess.run(
        [str(BINARIES / command[0]), *map(str, command[1:])],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        user=USER,
        group=USER,
        extra_groups=[],
    )
    assert done.returncode == 0, f"{command} failed: {done.stdout}{done.stderr}"
    return done.stdout


def make_template(directory: Path) -> Path:
    """A data directory to copy from: initdb costs more than all other preparations of a test."""
    assert (BINARIES / "postgres").exists(), (
        f"the tests of tests/server need PostgreSQL 15 in {BINARIES}: make packages"
    )
    assert os.geteuid() == 0, "the tests of tests/server need root: the agent runs as root, the server as postgres"
    data = directory / "template"
    shutil.chown(directory, USER)
    as_postgres("initdb", "-D", data, "--no-sync", "--no-locale", "-E", "UTF8", "-A", "peer", "--wal-segsize=1")
    with (data / "postgresql.conf").open("a") as config:
        config.write(SETTINGS)
    as_postgres("postgres", "--single", "-D", data, "template1", text=f"CREATE ROLE {TESTER} SUPERUSER LOGIN\n")
    hba = data / "pg_hba.conf"
    hba.write_text(f"local all,replication {TESTER} trust\n" + hba.read_text())
    return data


def free_port() -> int:
    """A TCP port of 127.0.0.1 at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Database:
    """A server and its directories, all below `root`."""

    def __init__(self, root: Path, template: Path, name: str = "data") -> None:
        self.root = root
        self.data = root / name
        self.socket = root / f"{name}.socket"
        self.tmpdir = root / f"{name}.agent"
        self.log = root / f"{name}.log"
        self.port = free_port()
        subprocess.run(["cp", "-a", template, self.data], check=True)
        self.socket.mkdir()
        shutil.chown(self.socket, USER, USER)
        self.configure(f"unix_socket_directories = '{self.socket}'")

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return int((self.data / "PG_VERSION").read_text())

    @property
    def config(self) -> Path:
        """The main configuration file."""
        return self.data / "postgresql.conf"

    def configure(self, text: str) -> None:
        """Add lines to the configuration."""
        with self.config.open("a") as file:
            file.write(text.strip() + "\n")

    # Looking

    def processes(self) -> list[int]:
        """The live processes that work in the data directory."""
        return [pid for pid in _pids() if _cwd(pid) == self.data and state_of(pid) not in ("Z", "X", "")]

    @property
    def postmaster(self) -> int:
        """The process id in postmaster.pid."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def is_running(self) -> bool:
        """Whether any process is there."""
        return bool(self.processes())

    @contextmanager
    def connect(self, name: str = "postgres") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A session of the tests, with the database of this name."""
        with psycopg.connect(
            host=str(self.socket), port=self.port, dbname=name, user=TESTER, autocommit=True, connect_timeout=10
        ) as session:
            yield session

    def sql(self, query: str, *values: object) -> Any:
        """The first column of the first row; None if there is none."""
        with self.connect() as session:
            cursor = session.execute(query.encode(), values or None)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def is_standby(self) -> bool:
        """Whether the server says that it is one."""
        return bool(self.sql("SELECT pg_is_in_recovery()"))

    def process(self, backend_type: str) -> int:
        """The process of this type ("checkpointer", "startup" ...)."""
        return int(self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = %s", backend_type))

    # Doing

    def start(self) -> None:
        """Start it as a person would, without the agent."""
        as_postgres("pg_ctl", "-D", self.data, "-l", self.log, "-o", f"-p {self.port}", "-w", "start")

    def stop(self) -> None:
        """Stop it cleanly, without the agent."""
        as_postgres("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")

    def crash(self) -> None:
        """All processes end at once."""
        pids = {self.postmaster}
        # First of all: it would take the death of one of its children for a crash and begin to recover from it.
        self.kill_postmaster()

        def kill_all() -> list[int]:
            # Again and again: it may have been in the middle of a fork.
            pids.update(self.processes())
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # Not only dead but gone: a server that starts takes the number of a zombie for another one's.
            return [*filter(state_of, pids)]

        eventually("the server is gone", kill_all, lambda left: not left, within=10, poll=0.02)

    def kill_postmaster(self) -> None:
        """The postmaster ends at once; its children are left to themselves."""
        os.kill(self.postmaster, signal.SIGKILL)

    def await_end(self, within: float = 10) -> None:
        """Wait until no process is left."""
        eventually("the server has ended", self.processes, lambda pids: not pids, within=within, poll=0.02)

    @contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """Within this context the process does not run."""
        os.kill(pid, signal.SIGSTOP)
        eventually(f"process {pid} is stopped", lambda: state_of(pid), lambda seen: seen == "T", within=5, poll=0.01)
        try:
            yield
        finally:
            if _cwd(pid) == self.data:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def frozen_backend(self) -> Iterator[int]:
        """A client's backend that does not run: nothing but SIGKILL ends it."""
        session = psycopg.connect(host=str(self.socket), port=self.port, dbname="postgres", user=TESTER)
        pid = session.info.backend_pid
        try:
            with self.frozen(pid):
                yield pid
        finally:
            session.close()

    def clear(self) -> None:
        """End what is left, and remove what killed servers leave in the kernel."""

        def kill_all() -> list[int]:
            # Again and again: a postmaster forks until it dies, and its child may then wait for a dead one's lock.
            found = self.processes()
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return found

        eventually("nothing of the server is left", kill_all, lambda left: not left, within=10, poll=0.02)
        if not self.data.exists():
            return
        # The server's key is its directory's inode (PGSharedMemoryCreate in src/backend/port/sysv_shmem.c).
        key = self.data.stat().st_ino & 0xFFFFFFFF
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            found, identifier, _, _, creator, _, attached = map(int, line.split()[:7])
            if found & 0xFFFFFFFF == key and attached == 0 and not state_of(creator).strip("ZX"):
                subprocess.run(["ipcrm", "-m", str(identifier)], check=True)


def base_backup(origin: Database, target: Database) -> None:
    """`target` is a copy of the running `origin`, with a socket of its own."""
    shutil.rmtree(target.data)
    as_postgres(
        "pg_basebackup", "-h", origin.socket, "-p", str(origin.port), "-U", TESTER, "-D", target.data,
        "--checkpoint=fast", "--no-sync", "--wal-method=stream",
    )  # fmt: skip
    target.configure(f"unix_socket_directories = '{target.socket}'")


def file_copy(origin: Database, target: Database) -> None:
    """`target` is a copy of the stopped `origin`, with a socket of its own."""
    shutil.rmtree(target.data)
    subprocess.run(["cp", "-a", origin.data, target.data], check=True)
    target.configure(f"unix_socket_directories = '{target.socket}'")


class Commit:
    """A client's commit under way, on a thread of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session = psycopg.connect(
            host=str(database.socket), port=database.port, dbname="postgres", user=TESTER, autocommit=True
        )
        self.pid = self._session.info.backend_pid
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._session:
            # A transaction that has written WAL, without a table that each would have to make.
            self._session.execute("SELECT pg_current_xact_id(), pg_logical_emit_message(true, 'test', '')")

    def await_return(self, within: float = 10) -> None:
        """The client was told that it is done."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"the commit did not return in {within} s"

    def await_wait(self, within: float = 10) -> None:
        """The client is kept waiting for a synchronous standby; then let it go."""
        eventually(
            "the commit waits for a standby",
            lambda: self._database.sql("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", self.pid),
            lambda seen: seen == "SyncRep",
            within=within,
        )
        assert self._thread.is_alive()
        self._database.sql("SELECT pg_cancel_backend(%s)", self.pid)
        self.await_return(within)


def user_id() -> int:
    """The database user's number."""
    return pwd.getpwnam(USER).pw_uid


def state_of(pid: int) -> str:
    """The letter that the kernel gives a process's state; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _cwd(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None

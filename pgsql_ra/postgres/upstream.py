# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running primary says of itself over the replication protocol, and how pg_rewind and pg_basebackup reach it.

Imports psycopg: only what compares this node with the primary loads this module.
"""

import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq

from pgsql_ra.ocf import Deadline, NotPermitted, ServerFailure
from pgsql_ra.postgres.conninfo import parse_options
from pgsql_ra.postgres.session import APPLICATION_NAME, alarm, clean_environment
from pgsql_ra.postgres.session_settings import CLIENT_ENCODING, own_settings, startup_options
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.upstream import Upstream

SERVICE = "pgsql-ra"
SERVICE_FILE = "rejoin.service"
CONNECT_SECONDS = 5.0
LISTEN_SECONDS = 0.5
"""How long a listener may take to accept: its kernel does it, however busy the server is."""
WAL_HEADER_BYTES = 25
SEGMENT_GONE = "58P01"
"""ERRCODE_UNDEFINED_FILE: "requested WAL segment ... has already been removed"."""


class PrimaryServer:
    """The primary at `host`. Connections are made as the database's system user, with that user's .pgpass."""

    def __init__(self, host: str, port: int, role: str, options: str, user: DatabaseUser, major: int = 0) -> None:
        """`options` is the administrator's primary_conninfo_opt: TLS, passwords, keepalives hold here too.

        `major` is this node's version of PostgreSQL, which the primary has as well.
        """
        given = parse_options(options)
        self._user = user
        self._major = major
        self.options: dict[str, str] = {
            **given,
            "host": host,
            "port": str(port),
            "user": role,
            # Never a node's name: the primary would take this session for that standby.
            "application_name": APPLICATION_NAME,
        }

    def listens(self) -> bool:
        """Whether somebody takes connections there.

        After a promotion the virtual IP is nowhere for a moment, and a connection attempt hangs. Pacemaker starts the
        address when all nodes were notified, and notifies none whose monitor is under way (one operation of a resource
        at a time: is_op_blocked in lib/services/services.c), so a monitor that waited for the address would wait for
        itself. Where no address, or more than one, is given, somebody is taken to listen.
        """
        host, port = self.options.get("hostaddr") or self.options["host"], self.options["port"]
        if host.startswith(("/", "@")) or "," in host:
            return True
        try:
            socket.create_connection((host, int(port)), timeout=LISTEN_SECONDS).close()
        except OSError:
            return False
        return True

    @contextmanager
    def _connect(self, deadline: Deadline, **options: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
        limit = deadline.within(CONNECT_SECONDS)
        seconds = max(2, int(limit.remaining()))
        where = f"the primary at {self.options['host']}"
        # What the administrator gives comes first, so that ours counts.
        own = startup_options(own_settings(self._major), max(1.0, deadline.remaining()))
        merged: Mapping[str, str] = {
            **self.options,
            "connect_timeout": str(seconds),
            "client_encoding": CLIENT_ENCODING,
            "options": f"{self.options.get('options', '')} {own}".strip(),
            **options,
        }
        with alarm(max(1.0, deadline.remaining()), f"{where} to answer"), clean_environment(self._user):
            try:
                with self._user.acting():
                    connection = psycopg.connect(autocommit=True, **merged)  # type: ignore[arg-type]
            except psycopg.OperationalError as error:
                raise ServerFailure(f"{where} cannot be asked: {' '.join(str(error).split())}") from error
            try:
                yield connection
            except psycopg.Error as error:
                raise ServerFailure(f"{where}: {' '.join(str(error).split())}") from error
            finally:
                connection.close()

    def identify(self, deadline: Deadline, position: Position | None = None) -> Upstream:
        """Its system identifier and its history, and whether it still has the WAL that follows `position`.

        ServerFailure with the reason if it cannot be asked.
        """
        # The server ignores the database's name here, .pgpass does not.
        with self._connect(deadline, replication="true", dbname="replication") as connection:
            # A walsender without a database names no encoding, so what it says comes as bytes.
            system, timeline = _first(connection, "IDENTIFY_SYSTEM", 0), int(_first(connection, "IDENTIFY_SYSTEM", 1))
            flushed = Lsn.parse(_first(connection, "IDENTIFY_SYSTEM", 2))
            history = History(timeline)
            if timeline > 1:
                history = History.parse_file(timeline, _first(connection, f"TIMELINE_HISTORY {timeline}", 1))
            lacks = _missing_wal(connection.pgconn, position, deadline) if position else ""
        return Upstream(system, history, lacks, flushed, self.options["host"])

    def read_wal(self, start: Position, end: Lsn, deadline: Deadline) -> bytes | None:
        """Its WAL from `start` to `end`, which must be flushed there; None if it has been removed.

        ServerFailure with the reason if it cannot be asked, or sends something else.
        """
        with self._connect(deadline, replication="true", dbname="replication") as connection:
            return _stream(connection.pgconn, start, end, deadline)

    def checkpoint(self, database: str, deadline: Deadline) -> None:
        """Its control file names its present timeline; pg_rewind looks there, and finds nothing to do before that.

        The first checkpoint after a promotion may take minutes, so one is asked for. A user who may not waits for it.
        """
        with self._connect(deadline, dbname=database) as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
            timeline = int(str(row[0])[:8], 16) if row else 0
            while True:
                row = connection.execute("SELECT timeline_id FROM pg_control_checkpoint()").fetchone()
                if row and row[0] == timeline:
                    return
                try:
                    connection.execute("CHECKPOINT")
                except psycopg.errors.InsufficientPrivilege:
                    deadline.pause("the primary's first checkpoint after its promotion", 0.5)

    def write_service(self, tmpdir: str, database: str) -> dict[str, str]:
        """A file with the connection's options, which may hold a password, so that no command line does.

        Returns the environment that makes libpq read it; the programs are told `service=pgsql-ra`.
        """
        path = os.path.join(tmpdir, SERVICE_FILE)
        options = {**self.options, "dbname": database, "connect_timeout": "10"}
        text = f"[{SERVICE}]\n" + "".join(f"{name}={value}\n" for name, value in options.items())
        try:
            UserFiles(self._user).write(path, text)
        except OSError as error:
            raise NotPermitted(f"cannot write {path}: {error.strerror}") from error
        return {"PGSERVICEFILE": path}


def _first(connection: "psycopg.Connection[tuple[Any, ...]]", command: str, column: int) -> str:
    """A column of the row that a walsender answers."""
    answer = connection.execute(command.encode()).pgresult
    if answer is None or answer.ntuples != 1:
        raise ServerFailure(f"the primary does not answer {command}")
    return (answer.get_value(0, column) or b"").decode(errors="replace")


def _missing_wal(connection: pq.abc.PGconn, position: Position, deadline: Deadline) -> str:
    """The primary's words if it does not have the segment in which `position` lies; "" if it has.

    It is asked as a standby asks. A walsender first agrees to anything and says so when it opens the file.
    """
    segment_start = int(position.lsn) // SEGMENT_BYTES * SEGMENT_BYTES
    start = type(position.lsn)(segment_start)
    result = connection.exec_(f"START_REPLICATION PHYSICAL {start} TIMELINE {position.timeline}".encode())
    if result.status != pq.ExecStatus.COPY_BOTH:
        return _gone(result)
    limit = deadline.within(CONNECT_SECONDS)
    while limit.remaining() > 0:
        size, _ = connection.get_copy_data(1)
        if size > 0:
            return ""  # WAL, or the word that there is none yet
        if size < 0:
            return _gone(connection.get_result())
        select.select([connection.socket], [], [], limit.remaining())
        connection.consume_input()
    return ""


def _stream(connection: pq.abc.PGconn, start: Position, end: Lsn, deadline: Deadline) -> bytes | None:
    """The WAL between the two, received as a standby does: a letter, three numbers of eight bytes, and the data
    ("XLogData", protocol-replication). An old timeline is sent from the files in which it lies, up to its end.
    """
    size, found = end - start.lsn, b""
    result: pq.abc.PGresult | None = connection.exec_(
        f"START_REPLICATION PHYSICAL {start.lsn} TIMELINE {start.timeline}".encode()
    )
    limit = deadline.within(CONNECT_SECONDS)
    while result is not None and result.status == pq.ExecStatus.COPY_BOTH:
        length, message = connection.get_copy_data(1)
        if length > 0:
            if bytes(message[:1]) == b"w":
                found += bytes(message[WAL_HEADER_BYTES:])
            if len(found) >= size:
                return found[:size]
        elif length < 0:
            result = connection.get_result()
        else:
            if limit.remaining() <= 0:
                raise ServerFailure(f"the primary sends no WAL from {start.lsn} on")
            select.select([connection.socket], [], [], limit.remaining())
            connection.consume_input()
    if _gone(result):
        return None
    said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) if result else None
    words = (said or b"it has no more").decode(errors="replace")
    raise ServerFailure(f"the primary does not send its WAL from {start.lsn} on: {words}")


def _gone(result: pq.abc.PGresult | None) -> str:
    if result is None or (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode() != SEGMENT_GONE:
        return ""
    return (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")


SEGMENT_BYTES = 1 << 20
"""The smallest segment there is: the start of one of these lies in the segment in which the position does."""

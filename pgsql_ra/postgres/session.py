# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at the running server through SQL: a connection, what it is, and its standbys.

Imports psycopg, which costs more than the rest of an action; only what needs SQL imports this module.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import psycopg

from pgsql_ra.ocf import Deadline, DeadlineExceeded, ServerFailure
from pgsql_ra.postgres.configuration import parse_synchronous
from pgsql_ra.postgres.endpoint import endpoint
from pgsql_ra.postgres.process import PidFile, is_sleeping_without
from pgsql_ra.postgres.recovery import SIZES, TARGETS
from pgsql_ra.postgres.session_settings import CLIENT_ENCODING, own_settings, startup_options
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.wal import read_history, read_major, timeline_at
from pgsql_ra.replication.lsn import Lsn, Position
from pgsql_ra.replication.recovery import Recovery, Replay
from pgsql_ra.replication.snapshot import (
    Link,
    Primary,
    ReplicationState,
    Slot,
    Standby,
    SyncState,
    Unread,
    Walsender,
)

Session = psycopg.Connection[tuple[Any, ...]]
"""A connection to the local server."""

APPLICATION_NAME = "pgsql-ra"

_ROLE = """
SELECT pg_is_in_recovery(),
       current_setting('synchronous_standby_names'),
       pg_size_bytes(current_setting('wal_segment_size')),
       (SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer')
"""

# A user without pg_monitor would see NULL in every column of a walsender but the pid (see sees_replication).
_PRIMARY = """
SELECT pg_walfile_name(pg_current_wal_lsn()), pg_current_wal_flush_lsn()::text,
       (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'),
       ARRAY(SELECT json_build_object('node', lower(application_name), 'pid', pid, 'state', state,
                                      'sync_state', sync_state, 'flush', flush_lsn::text,
                                      'address', host(client_addr), 'port', client_port,
                                      'slot', (SELECT slot_name FROM pg_replication_slots
                                                WHERE active_pid = pid LIMIT 1))
               FROM pg_stat_replication ORDER BY backend_start DESC NULLS LAST)
"""

_STANDBY = """
SELECT pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text,
       (SELECT json_build_object('status', status, 'timeline', received_tli) FROM pg_stat_wal_receiver),
       (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'),
       (SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'),
       (SELECT setting <> '' FROM pg_settings WHERE name = 'primary_conninfo'),
       pg_is_wal_replay_paused(),
       extract(epoch FROM current_setting('recovery_min_apply_delay')::interval)::float8,
       (SELECT json_object_agg(name, current_setting(name)) FROM unnest(%s::text[]) AS name)
"""

_SLOTS = """
SELECT slot_name, active, wal_status, pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
  restart_lsn)::bigint FROM pg_replication_slots WHERE slot_type = 'physical'
"""
_SLOTS_BEFORE_13 = _SLOTS.replace("wal_status", "NULL")

_CHECKPOINTER_AT_REST = ("CheckpointerMain", "CheckpointWriteDelay")
"""Where the checkpointer sleeps only after it has taken a reload that was signalled before (see _is_settled)."""

_STARTUP_HAS_READ_ALL = ("RecoveryWalStream", "RecoveryRetrieveRetryInterval", "RecoveryWalAll")
"""Where the startup process waits when no more WAL is to be found: for more of it, or before it looks again."""

WAL_STATUS_VERSION = 130000
"""pg_replication_slots has wal_status from PostgreSQL 13 on."""

RELOADABLE_CONNINFO_VERSION = 130000
"""A reload changes primary_conninfo from PostgreSQL 13 on; before, a restart does."""

PROMOTION_ENDS_PAUSE_VERSION = 130000
"""A promotion ends a pause from PostgreSQL 13 on (SetPromoteIsTriggered in src/backend/access/transam/xlog.c)."""

FINAL_WORDS = ("authentication failed", "no password supplied", "pg_hba.conf", "does not exist")
"""Words of refusals that no waiting changes."""


class Refused(ServerFailure):
    """No connection for now: the server starts, stops, recovers from a backend's crash, or is full."""


@contextmanager
def connect(
    pgdata: str,
    user: DatabaseUser,
    database: str,
    role: str,
    password: str,
    deadline: Deadline,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Session]:
    """A session with the local server, by the socket and port that its postmaster.pid names.

    The session has the agent's own settings unless others are given (see session_settings).

    Neither the connection nor a statement outlives the deadline, even if the server is stopped in mid-air: an alarm
    ends the wait. Refused if the server takes no connection now, ServerFailure if it will not take this one later
    either, DeadlineExceeded if it does not answer.
    """
    file = PidFile.read(pgdata)
    if file is None:
        raise ServerFailure(f"the server in {pgdata} has no readable postmaster.pid")
    seconds = max(1.0, deadline.remaining())
    with alarm(seconds, f"the server in {pgdata} (process {file.pid}) to answer"), clean_environment(user):
        try:
            with user.acting():
                connection = psycopg.connect(
                    host=file.socket_directory or file.listen_address.replace("*", "localhost"),
                    port=file.port,
                    dbname=database,
                    user=role or user.name,
                    password=password or None,
                    application_name=APPLICATION_NAME,
                    client_encoding=CLIENT_ENCODING,
                    options=startup_options(own_settings(_major(pgdata)) if settings is None else settings, seconds),
                    # The alarm comes before it, and says which process does not answer.
                    connect_timeout=int(seconds) + 2,
                    autocommit=True,
                )
        except psycopg.OperationalError as error:
            if any(words in str(error) for words in FINAL_WORDS):
                raise ServerFailure(f"the server in {pgdata} does not let the agent in: {_one_line(error)}") from error
            raise Refused(f"no connection to the server in {pgdata}: {_one_line(error)}") from error
        try:
            with connection:
                yield connection
        except psycopg.OperationalError as error:
            raise Refused(f"the connection to the server in {pgdata} broke: {_one_line(error)}") from error
        except psycopg.Error as error:
            raise ServerFailure(f"the server in {pgdata} does not answer as it should: {_one_line(error)}") from error


def _major(pgdata: str) -> int:
    """The server's major version; 0 if its file does not say it (its directory was moved, say)."""
    try:
        return read_major(pgdata)
    except (OSError, ValueError):
        return 0


def sees_replication(connection: Session) -> bool:
    """Whether this session's user sees other users' rows of pg_stat_replication, pg_stat_wal_receiver and
    pg_stat_activity in full (HAS_PGSTAT_PERMISSIONS in src/include/utils/acl.h).
    """
    return bool(_row(connection, "SELECT pg_has_role('pg_read_all_stats', 'USAGE')")[0])


def look(connection: Session, pgdata: str, pid: int) -> Primary | Standby:
    """The server's role, its position and its standbys. Costs two round trips."""
    recovery, names, segment_bytes, checkpointer = _row(connection, _ROLE)
    if recovery:
        # Promoted between the two questions, it does not answer the second one.
        with suppress(psycopg.errors.ObjectNotInPrerequisiteState):
            return _look_at_standby(connection, pgdata, pid, segment_bytes)
    taken = checkpointer is not None and is_sleeping_without(checkpointer, signal.SIGHUP)
    file_name, flush, wait_event, rows = _row(connection, _PRIMARY)
    return Primary(
        pid=pid,
        position=Position(Lsn.parse(flush), read_history(pgdata, int(file_name[:8], 16))),
        synchronous=parse_synchronous(names),
        settled=_is_settled(taken, wait_event),
        walsenders=tuple(_walsender(row) for row in rows),
        slots=_slots(connection),
    )


def _is_settled(slept_without_hangup: bool, wait_event: str | None) -> bool:
    """Whether the synchronous_standby_names of this session are in force for every commit from now on.

    Commits wait if `sync_standbys_defined` in shared memory says so, and only the checkpointer sets it, when it takes
    the reload (SyncRepUpdateSyncStandbysDefined, src/backend/replication/syncrep.c). This session is younger than the
    setting, so it was forked by a postmaster that had read it and had then signalled its children, all before it took
    another connection (process_pm_reload_request). So the signal was sent. The checkpointer had it no longer pending,
    then slept, and is seen afterwards where it sleeps between two rounds of its loop: it has been through the loop's
    start, where it takes reloads. Any sleep within taking one (a lock, a file) would show another wait event.
    """
    return slept_without_hangup and wait_event in _CHECKPOINTER_AT_REST


def _look_at_standby(connection: Session, pgdata: str, pid: int, segment_bytes: int) -> Standby:
    settings = [*TARGETS, *SIZES]
    replay, receive, receiver, wait_event, receiver_pid, has_primary, paused, delay, values = _row(
        connection, _STANDBY, settings
    )
    standby = Standby(
        pid,
        None,
        streaming=receiver is not None and receiver["status"] == "streaming",
        slots=_slots(connection),
        link=_link(connection, has_primary),
        receiver=receiver_pid or 0,
        recovery=Recovery(
            targets=tuple((name, values[name]) for name in TARGETS if values[name]),
            replay=_replay(paused, connection.info.server_version),
            delay=delay,
            sizes=tuple((name, int(values[name])) for name in SIZES),
        ),
    )
    if replay is None:
        return standby
    end, received = Lsn.parse(replay), Lsn.parse(receive) if receive else None
    if wait_event not in _STARTUP_HAS_READ_ALL:
        if not standby.streaming:
            # Replay still runs through what was received, or through what was there when the server was started: a
            # receiver is asked for only after that (WaitForWALToBecomeAvailable, xlogrecovery.c).
            return replace(standby, unread=Unread(end, received))
        # Not replayed yet, and this server's own all the same. Once replay waits for more, what lies beyond it is the
        # beginning of a record whose end never came: nobody owns that, and the next timeline begins before it.
        standby = replace(standby, unread=Unread(end, received))
        end = max(end, received or end)
    timeline = max(timeline_at(pgdata, end, segment_bytes), (receiver or {}).get("timeline") or 0)
    return replace(standby, position=Position(end, read_history(pgdata, timeline)))


def _link(connection: Session, has_primary: bool | None) -> Link:
    """Whether the server has a primary to receive from; only pg_read_all_settings shows that."""
    if connection.info.server_version < RELOADABLE_CONNINFO_VERSION:
        return Link.FIXED
    if has_primary is None:
        return Link.UNSEEN
    return Link.OPEN if has_primary else Link.CUT


def _replay(paused: bool, version: int) -> Replay:
    if not paused:
        return Replay.RUNS
    return Replay.PAUSED if version >= PROMOTION_ENDS_PAUSE_VERSION else Replay.PAUSED_FOR_GOOD


def _slots(connection: Session) -> tuple[Slot, ...]:
    query = _SLOTS if connection.info.server_version >= WAL_STATUS_VERSION else _SLOTS_BEFORE_13
    rows = connection.execute(query.encode()).fetchall()
    return tuple(Slot(name, active, status == "lost", retained or 0) for name, active, status, retained in rows)


def _row(connection: Session, query: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), values or None).fetchone()
    if row is None:
        raise ServerFailure("the server answered a question about itself with nothing")
    return row


def _walsender(row: dict[str, Any]) -> Walsender:
    states = {state.value: state for state in ReplicationState}
    syncs = {state.value: state for state in SyncState}
    return Walsender(
        node=row["node"] or "",
        pid=row["pid"],
        state=states.get(row["state"] or "", ReplicationState.UNKNOWN),
        sync_state=syncs.get(row["sync_state"] or "", SyncState.ASYNC),
        flush=Lsn.parse(row["flush"]) if row["flush"] else None,
        client=endpoint(row["address"], row["port"]),
        slot=row["slot"] or "",
    )


@contextmanager
def alarm(seconds: float, waiting_for: str) -> Iterator[None]:
    """Raise DeadlineExceeded in this thread after `seconds`; libpq alone would wait for ever on a stopped server."""
    if threading.current_thread() is not threading.main_thread():
        yield  # tests only: an action is a process with one thread
        return

    def ring(_number: int, _frame: FrameType | None) -> NoReturn:
        raise DeadlineExceeded(f"the time of this action is over; it was still waiting for {waiting_for}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def clean_environment(user: DatabaseUser) -> Iterator[None]:
    """libpq takes PG* variables and the home directory (.pgpass) from the environment: the user's, not Pacemaker's."""
    saved = {name: value for name, value in os.environ.items() if name.startswith("PG") or name == "HOME"}
    for name in saved:
        del os.environ[name]
    os.environ["HOME"] = user.home
    try:
        yield
    finally:
        del os.environ["HOME"]
        os.environ.update(saved)


def _one_line(error: Exception) -> str:
    """What the server said; where it could not be reached at all, what libpq says of that."""
    return " ".join(str(error).rpartition("FATAL:")[2].split())

# SPDX-License-Identifier: GPL-2.0-or-later
"""A database session in which every step has a deadline on the client's side.

libpq through psycopg's lowest layer: a hung server or a dead host must cost a known time, and no more.
"""

import select
import time
from dataclasses import dataclass, field

from psycopg import pq
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PollingStatus
from psycopg.pq.abc import PGconn, PGresult


class NotConnected(Exception):
    """No session came about, so nothing can have been written."""


class Refused(Exception):
    """The server answered with an error: the statement was not executed."""


class OutcomeUnknown(Exception):
    """The session broke, or the deadline passed, after the statement was sent: it may have been committed or not."""


@dataclass
class Session:
    """One connection. After any exception but Refused it is closed."""

    connection: PGconn
    cancel_at: float | None = None
    notices: list[str] = field(default_factory=list)
    """Warnings of the server since the last statement."""

    @classmethod
    def connect(cls, conninfo: str, seconds: float) -> "Session":
        """A session, within `seconds`."""
        deadline = time.monotonic() + seconds
        connection: PGconn = pq.PGconn.connect_start(conninfo.encode())
        state = PollingStatus.WRITING
        while state is not PollingStatus.OK:
            if connection.status == ConnStatus.BAD or state is PollingStatus.FAILED:
                raise NotConnected(_failure(connection))
            if not _ready(connection, writing=state is PollingStatus.WRITING, deadline=deadline):
                connection.finish()
                raise NotConnected(f"no connection within {seconds:g} s")
            state = PollingStatus(connection.connect_poll())
        connection.nonblocking = 1
        session = cls(connection)
        connection.notice_handler = lambda result: session.notices.append(_text(result.error_message))
        return session

    def execute(self, statement: str, parameters: list[str], seconds: float, *, cancel_after: float = 0) -> list[str]:
        """The first row of the answer (empty if there is none), within `seconds`; the statement is committed.

        After `cancel_after` seconds without an answer it is cancelled (0: never). A commit that waits for its standby
        then succeeds with a warning among the `notices`.
        """
        deadline = time.monotonic() + seconds
        self.cancel_at = time.monotonic() + cancel_after if cancel_after else None
        self.notices.clear()
        try:
            self.connection.send_query_params(statement.encode(), [parameter.encode() for parameter in parameters])
            while self.connection.flush():
                self._await(writing=True, deadline=deadline)
            row: list[str] = []
            refusal = ""
            while True:
                while self.connection.is_busy():
                    self._await(writing=False, deadline=deadline)
                    self.connection.consume_input()
                result = self.connection.get_result()
                if result is None:
                    break
                if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                    row = _first_row(result)
                else:
                    refusal = _error(result)
        except OutcomeUnknown:
            raise
        except Exception as error:
            raise OutcomeUnknown(self._broken(str(error))) from error
        if self.connection.status == ConnStatus.BAD:
            # Also if an error came before the end: "terminating connection" says nothing about a commit on its way.
            raise OutcomeUnknown(self._broken(refusal))
        if refusal:
            raise Refused(refusal)
        return row

    def close(self) -> None:
        """The connection is closed."""
        self.connection.finish()

    def _await(self, *, writing: bool, deadline: float) -> None:
        if self.cancel_at is not None and self.cancel_at < deadline:
            if _ready(self.connection, writing=writing, deadline=self.cancel_at):
                return
            self.cancel_at = None
            self.connection.get_cancel().cancel()
        if not _ready(self.connection, writing=writing, deadline=deadline):
            raise OutcomeUnknown(self._broken("no answer before the deadline"))

    def _broken(self, message: str) -> str:
        text = message.strip() or _text(self.connection.error_message)
        self.connection.finish()
        return text


def _ready(connection: PGconn, *, writing: bool, deadline: float) -> bool:
    """Wait for the socket. While writing, input counts too, or both sides may wait for each other."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        return False
    readable, writable, _ = select.select([connection.socket], [connection.socket] if writing else [], [], remaining)
    return bool(readable or writable)


def _first_row(result: PGresult) -> list[str]:
    if not result.ntuples:
        return []
    return [_text(result.get_value(0, column) or b"") for column in range(result.nfields)]


def _error(result: PGresult) -> str:
    state = _text(result.error_field(DiagnosticField.SQLSTATE) or b"")
    return f"{state} {_text(result.error_message)}".strip()


def _failure(connection: PGconn) -> str:
    text = _text(connection.error_message)
    connection.finish()
    return text


def _text(value: bytes) -> str:
    return value.decode(errors="replace").strip().replace("\n", " ")

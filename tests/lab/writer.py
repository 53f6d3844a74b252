# SPDX-License-Identifier: GPL-2.0-or-later
"""The writing client's program: one commit after the other, and a history of what was acknowledged.

Started by tests.lab.client. Each line of the history is a JSON object with `outcome`, `seq`, `wall` and `monotonic`
(both in seconds, when the outcome was known) and `took` (seconds):
- `ack`: the server said that the row is committed.
- `unknown`: the session broke or a deadline passed after the row was sent. The same seq is sent again.
- `refused`: the server said no. `unconnected`: no session came about.
- `doubtful`: acknowledged, but with the server's warning that a standby may lack it. The same seq is sent again.
- `begin`, `connected` (with the `server`, the name of its node, and its `timeline`), `end`: the client itself.
"""

import json
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO

import click

from tests.lab.session import NotConnected, OutcomeUnknown, Refused, Session
from tests.lab.waiting import pause

REPLICATION_WARNING = "might not have been replicated"

# A retry updates the row instead of doing nothing: only a transaction that writes waits for the synchronous standby, so
# only then does its acknowledgement cover the row that an earlier attempt left behind.
INSERT = """
INSERT INTO lab_commits (client, seq, attempt) VALUES ($1, $2, $3)
ON CONFLICT (client, seq) DO UPDATE SET attempt = excluded.attempt
RETURNING xmax <> 0
"""
HELLO = """
SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END,
    pg_read_file('/proc/sys/kernel/hostname', 0, 100)
"""


@dataclass
class Options:
    """What a client is told."""

    client: str
    conninfo: str
    history: TextIO
    pause_ms: float
    connect_seconds: float
    statement_seconds: float
    retry_ms: float
    cancel_ms: float


class Writer:
    """The client. A stop request is noticed between two attempts."""

    def __init__(self, options: Options) -> None:
        self.client = options.client
        self.conninfo = options.conninfo
        self.history = options.history
        self.connect_seconds = options.connect_seconds
        self.statement_seconds = options.statement_seconds
        self.retry_seconds = options.retry_ms / 1000
        self.cancel_seconds = options.cancel_ms / 1000
        self.session: Session | None = None
        self.stopping = False

    def note(self, outcome: str, seq: int, **details: object) -> None:
        """Write a line of the history; it is in the file afterwards."""
        line = {"outcome": outcome, "seq": seq, "wall": time.time(), "monotonic": time.monotonic(), **details}
        self.history.write(json.dumps(line) + "\n")
        self.history.flush()

    def connect(self, seq: int) -> Session:
        """A session with a primary."""
        session = Session.connect(self.conninfo, self.connect_seconds)
        try:
            in_recovery, wal_file, server = session.execute(HELLO, [], self.connect_seconds)
        except (OutcomeUnknown, Refused) as error:
            session.close()
            raise NotConnected(str(error)) from error
        if in_recovery == "t":
            session.close()
            raise NotConnected("the server is a standby")
        self.note("connected", seq, timeline=int(wal_file[:8], 16), server=server)
        return session

    def write(self, seq: int, attempt: int) -> bool:
        """One attempt at one row; is it acknowledged?"""
        started = time.monotonic()
        try:
            if self.session is None:
                self.session = self.connect(seq)
            row = self.session.execute(
                INSERT, [self.client, str(seq), str(attempt)], self.statement_seconds, cancel_after=self.cancel_seconds
            )
        except (NotConnected, OutcomeUnknown, Refused) as error:
            outcome = {NotConnected: "unconnected", OutcomeUnknown: "unknown", Refused: "refused"}[type(error)]
            if self.session is not None:
                self.session.close()
                self.session = None
            self.note(outcome, seq, took=time.monotonic() - started, error=str(error))
            return False
        took = time.monotonic() - started
        if any(REPLICATION_WARNING in notice for notice in self.session.notices):
            self.note("doubtful", seq, took=took, error="; ".join(self.session.notices))
            return False
        existed = {"existed": True} if row == ["t"] else {}
        self.note("ack", seq, took=took, attempt=attempt, **existed)
        return True

    def work(self, pause_seconds: float) -> None:
        """Write until told to stop."""
        self.note("begin", 0)
        seq, attempt = 1, 1
        while not self.stopping:
            if self.write(seq, attempt):
                seq, attempt = seq + 1, 1
                pause(pause_seconds)
            else:
                attempt += 1
                pause(self.retry_seconds)
        self.note("end", seq)

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """Stop after the attempt that is on its way."""
        self.stopping = True


@click.command()
@click.option("--client", required=True)
@click.option("--conninfo", required=True)
@click.option("--history", required=True, type=click.File("a"))
@click.option("--pause-ms", default=5.0)
@click.option("--connect-seconds", default=1.0)
@click.option("--statement-seconds", default=3.0)
@click.option("--retry-ms", default=50.0)
@click.option("--cancel-ms", default=0.0)
def main(**values: Any) -> None:
    """Write rows through CONNINFO until SIGTERM."""
    options = Options(**values)
    writer = Writer(options)
    signal.signal(signal.SIGTERM, writer.stop)
    writer.work(options.pause_ms / 1000)


if __name__ == "__main__":
    main()
    sys.exit(0)

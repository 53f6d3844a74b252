# SPDX-License-Identifier: GPL-2.0-or-later
"""How far this node's WAL went, and under which promotion: kept in the state directory, where a data directory that is
replaced by an older copy does not take it along.

Noted by monitors when something worth it has changed, not each time: who replaces a directory does not do so within a
minute, and a healthy monitor writes nothing.
"""

import time
from typing import NamedTuple

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, NotPermitted, reason_of
from pgsql_ra.replication.lsn import Position, furthest
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Primary, ServerState, Standby

FILE = "gone-to"
SECONDS = 60.0
"""How old a note may be before one that says a little more takes its place."""
BYTES = 16 << 20
"""How much more WAL is worth another note at once."""


class Note(NamedTuple):
    """When it was made (seconds since 1970), of which database (system identifier), under which promotion, and where
    the WAL ended. Number 0: it has followed no promotion yet.
    """

    at: float
    system: str
    number: int
    position: Position

    @classmethod
    def parse(cls, text: str) -> "Note":
        """Read what `str` makes. ValueError if it is something else."""
        at, system, number, position = text.strip().split(" ", 3)
        return cls(float(at), system, int(number), Position.parse(position))

    def __str__(self) -> str:
        return f"{self.at:.0f} {self.system} {self.number} {self.position}\n"


def read_note(context: Context, system: str) -> Note | None:
    """What was noted of this database; None if nothing was. NotPermitted if that cannot be read."""
    text = context.state.read(FILE)
    if text is None:
        return None
    try:
        note = Note.parse(text)
    except ValueError:
        raise NotPermitted(
            f"remove {context.state.path(FILE)}, which is damaged, unless the data were replaced by an older copy"
        ) from None
    return note if note.system == system else None


def note_how_far(context: Context, server: ServerState, newest: Promotion | None) -> None:
    """As a monitor that has looked at the server: note where its WAL ends, if that is news. A note that cannot be made
    fails nothing.
    """
    if not isinstance(server, Primary | Standby) or server.position is None or not server.system:
        return
    try:
        before = read_note(context, server.system)
        follows = isinstance(server, Primary) or server.streaming
        number = newest.number if newest and follows else before.number if before else 0
        now = Note(time.time(), server.system, number, furthest(before.position if before else None, server.position))
        if before is None or _is_news(before, now):
            context.state.write(FILE, str(now))
    except FAILURES as error:
        context.log.info(f"how far the WAL of this node went could not be noted: {reason_of(error)}")


def _is_news(before: Note, now: Note) -> bool:
    if now.number != before.number or now.position.history != before.position.history:
        return True
    more = now.position.lsn - before.position.lsn
    return more >= BYTES or (more > 0 and abs(now.at - before.at) >= SECONDS)


def forget_how_far(context: Context) -> None:
    """The data were replaced by what the primary has: what this node's WAL was says nothing of them."""
    context.state.remove(FILE)

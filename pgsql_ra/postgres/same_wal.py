# SPDX-License-Identifier: GPL-2.0-or-later
"""Which WAL a copy holds, by its bytes: records of its own that can be looked for in the primary's WAL.

Two copies with the same system identifier and timeline may have different WAL under the same positions, and PostgreSQL
finds that by accident only: it looks at the link of the next record to the one before, and a link that fits by length
is followed. Two places say whose WAL it is. Its end: the last record, and what lies before it in the same segment,
since two checkpoints of the same second may be equal to the byte. And the checkpoint in pg_control, which nothing
overwrites, while a WAL receiver writes again over the segment in which a standby's own WAL ended (it starts at the
segment's beginning: RequestXLogStreaming, walreceiverfuncs.c).

The headers of pages are no part of a record, and are left out.
"""

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pgsql_ra.ocf import Deadline
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.reading import Reader
from pgsql_ra.postgres.upstream import PrimaryServer
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.wal import page_bytes, segment_bytes, segment_name
from pgsql_ra.postgres.wal_end import last_record_before
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.upstream import Content, Upstream

HEADER_BYTES = 24
"""SizeOfXLogRecord: total length, transaction, link to the record before, info, resource manager, checksum."""
MOST_BYTES = 64 << 10
"""So much of a long record is enough: the header's checksum is made of all of it."""
_LEAD_BYTES = 256 << 10
"""So much of what lies before a record is compared along with it."""
_LENGTH = struct.Struct("=I")
_CHECKSUM = slice(20, 24)
_LONGEST = 1 << 30
_SHORT_PAGE_HEADER, _LONG_PAGE_HEADER = 24, 40

_CONTROL_CHECKPOINT = struct.Struct("=Q")
_CHECKPOINT_AT = 32
"""ControlFileData.checkPoint, after the system identifier, two versions, the state and a time (catalog/pg_control.h);
what follows, checkPointCopy, is what the record says (PostgreSQL 11 and later)."""
_CHECKPOINT_BYTES = 72
"""The part of struct CheckPoint that ends with its time, in all versions."""
_NEXT_TRANSACTION = (24, 32)
"""CheckPoint.nextXid: a standby that replays a later checkpoint keeps that one's beside the record it restarts from
(xlog_redo in src/backend/access/transam/xlog.c: "ControlFile->checkPointCopy always tracks the latest ckpt XID").
"""
_DATA_AT = HEADER_BYTES + 2
"""A short record's own data come after its header and two bytes (XLogRecordDataHeaderShort)."""


@dataclass(frozen=True)
class Trace:
    """What this copy has, after `skip` bytes of the WAL at `start` on `timeline`; a record ends after `size` bytes."""

    start: Lsn
    size: int
    timeline: int
    content: bytes
    skip: int = 0
    varies: tuple[int, int] = (0, 0)
    """The part of the content that may be another one in the record."""

    def is_in(self, found: bytes) -> bool:
        """Whether this is what was found, from the same place on."""
        (first, last), whole = self.varies, len(self.content)
        return found[:first] == self.content[:first] and found[last:whole] == self.content[last:]

    @property
    def checksum(self) -> str:
        """The record's own checksum in hexadecimal digits, which together with its place says which one it is."""
        return self.content[_CHECKSUM].hex()


class LocalWal:
    """The WAL in a data directory, read as the user who owns it."""

    def __init__(self, pgdata: str, user: DatabaseUser) -> None:
        self._pgdata, self._files = pgdata, Reader(user)
        self.segment, self.page = segment_bytes(pgdata), page_bytes(pgdata)

    def last(self, end: Position, programs: Programs, deadline: Deadline) -> Trace | None:
        """The record that ends at `end`; None if it cannot be found."""
        for timeline in _timelines_at(end.history, Lsn(end.lsn - 1)):
            if not self._files.exists(self._path(timeline, Lsn(end.lsn - 1))):
                continue
            start = last_record_before(self._pgdata, timeline, end.lsn, programs, deadline)
            return None if start is None else self.at(start, end.history)
        return None

    def at(self, start: Lsn, history: History) -> Trace | None:
        """The record at `start`; None if there is none."""
        header = self._read(start, HEADER_BYTES, history)
        if len(header) < HEADER_BYTES:
            return None
        (size,) = _LENGTH.unpack(header[: _LENGTH.size])
        if not HEADER_BYTES <= size <= _LONGEST:
            return None
        content = self._read(start, min(size, MOST_BYTES), history)
        if len(content) < min(size, MOST_BYTES):
            return None
        return Trace(start, size, next(_timelines_at(history, start)), content)

    def with_lead(self, record: Trace, history: History) -> Trace:
        """The record with what lies before it, in the same segment and on the same timeline."""
        first = max(record.start - _LEAD_BYTES, int(record.start) // self.segment * self.segment)
        page = max(first, *(fork for timeline, fork in history.forks if timeline < record.timeline), 0)
        page = -(-page // self.page) * self.page
        begin = Lsn(page + _page_header(page, self.segment))
        if begin >= record.start:
            return record
        end = raw_end(record.start, len(record.content), self.page, self.segment)
        wal = without_headers(begin, self._read_raw(begin, end, history), self.page, self.segment)
        if not wal.endswith(record.content):
            return record
        return Trace(begin, len(wal) + record.size - len(record.content), record.timeline, wal)

    def holds(self, start: Lsn, checksum: str, history: History) -> Content:
        """Whether the record at `start`, before the end of this WAL, has this checksum."""
        header = self._read(start, HEADER_BYTES, history)
        if not header:
            return Content.GONE
        return Content.SAME if header[_CHECKSUM].hex() == checksum else Content.DIFFERENT

    def checkpoint(self, history: History) -> Trace | None:
        """The checkpoint in pg_control, whose record may be gone from pg_wal; None if it is not found there."""
        size = _CHECKPOINT_AT + _CONTROL_CHECKPOINT.size + _CHECKPOINT_BYTES
        control = self._files.read(os.path.join(self._pgdata, "global", "pg_control"), size)
        begin = _CHECKPOINT_AT + _CONTROL_CHECKPOINT.size
        content = control[begin:]
        if sys.maxsize < 1 << 32 or len(content) < _CHECKPOINT_BYTES:
            return None
        start = Lsn(_CONTROL_CHECKPOINT.unpack(control[_CHECKPOINT_AT:begin])[0])
        timeline = next(_timelines_at(history, start))
        return Trace(start, _DATA_AT + len(content), timeline, content, _DATA_AT, _NEXT_TRANSACTION)

    def _read(self, start: Lsn, size: int, history: History) -> bytes:
        """So many bytes of a record from `start` on, or fewer if there are no more."""
        end = raw_end(start, size, self.page, self.segment)
        return without_headers(start, self._read_raw(start, end, history), self.page, self.segment)

    def _read_raw(self, start: Lsn, end: Lsn, history: History) -> bytes:
        found, position = b"", int(start)
        while position < end:
            rest = self.segment - position % self.segment
            part = self._read_segment(Lsn(position), min(rest, end - position), history)
            found += part
            if len(part) < min(rest, end - position):
                break
            position += len(part)
        return found

    def _read_segment(self, position: Lsn, size: int, history: History) -> bytes:
        for timeline in _timelines_at(history, position):
            try:
                return self._files.read(self._path(timeline, position), size, position % self.segment)
            except FileNotFoundError:
                continue
        return b""

    def _path(self, timeline: int, position: Lsn) -> str:
        return os.path.join(self._pgdata, "pg_wal", segment_name(timeline, position, self.segment))


def compare(primary: PrimaryServer, upstream: Upstream, trace: Trace, local: LocalWal, deadline: Deadline) -> Content:
    """Whether the primary, which has just said `upstream`, has this record. ServerFailure if it cannot be asked."""
    history = upstream.history
    upto = upstream.flushed if trace.timeline == history.timeline else history.left(trace.timeline)
    if upto is None:
        return Content.UNKNOWN if trace.timeline == history.timeline else Content.DIFFERENT
    if raw_end(trace.start, trace.size, local.page, local.segment) > upto:
        return Content.DIFFERENT  # this copy goes on where the primary does not
    end = raw_end(trace.start, trace.skip + len(trace.content), local.page, local.segment)
    wal = primary.read_wal(Position(trace.start, History(trace.timeline)), end, deadline)
    if wal is None:
        return Content.GONE
    found = without_headers(trace.start, wal, local.page, local.segment)[trace.skip :]
    return Content.SAME if trace.is_in(found) else Content.DIFFERENT


def _timelines_at(history: History, position: Lsn) -> Iterator[int]:
    """The timeline on which the byte at this position was written, and the later ones, which may have a copy of its
    segment: a promotion begins its own with one.
    """
    yield from (timeline for timeline, left in history.forks if position < left)
    yield history.timeline


def raw_end(start: Lsn, size: int, page: int, segment: int) -> Lsn:
    """Where so many bytes of a record end that starts at `start`: the headers of the pages that it runs into count."""
    position, left = int(start), size
    while left > (room := page - position % page):
        left -= room
        position += room
        position += _page_header(position, segment)
    return Lsn(position + left)


def without_headers(start: Lsn, wal: bytes, page: int, segment: int) -> bytes:
    """The bytes of a record that starts at `start`, without the headers of the pages that it runs into."""
    found, position = [], int(start)
    rest = memoryview(wal)
    while rest:
        if position % page == 0 and position != start:
            header = _page_header(position, segment)
            position, rest = position + header, rest[header:]
        room = page - position % page
        found.append(bytes(rest[:room]))
        position, rest = position + room, rest[room:]
    return b"".join(found)


def _page_header(start: int, segment: int) -> int:
    return _LONG_PAGE_HEADER if start % segment == 0 else _SHORT_PAGE_HEADER

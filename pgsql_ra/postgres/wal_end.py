# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the valid WAL in the files of pg_wal ends, read with pg_waldump."""

import os
import re
from typing import TYPE_CHECKING

from pgsql_ra.ocf import Deadline, DeadlineExceeded
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.postgres.wal import (
    before_header,
    end_of_record,
    end_of_segments,
    has_segment,
    newest_timeline,
    page_bytes,
    read_history,
    read_major,
    segment_bytes,
    segment_name,
    timeline_at,
)
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.snapshot import Unread

if TYPE_CHECKING:
    from subprocess import CompletedProcess

QUIET_VERSION = 13
PARTIAL_RECORD_BYTES = 16 << 20
"""More than the beginning of a record that was received without its end: a whole segment."""
LONGEST_SEARCH_BYTES = 1 << 30
"""No record is longer (XLogRecordMaxSize)."""
_PLACE = re.compile(r"\bat ([0-9A-F]{1,8}/[0-9A-F]{1,8})\b")
_RECORD = re.compile(r"len \(rec/tot\): *\d+/ *(\d+), .*\blsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8}), .*\bdesc: (\w+)")
_NO_RECORD = "could not find a valid record after"
"""What pg_waldump says if nothing valid comes (XLogFindNextRecord)."""
_ERROR = "error in WAL record"
"""What its last words begin with; the start of the last whole record follows."""
_SWITCH = "SWITCH"


def valid_until(pgdata: str, history: History, begin: Lsn, programs: Programs, deadline: Deadline) -> Position | None:
    """Where the WAL of this history's last timeline ends, read from the first record at or after `begin`; `begin`
    itself if there is none. None if that cannot be found.

    pg_waldump reads until a record is not valid: recovery would end at the same place.
    """
    files = _Files(pgdata, history.timeline, begin, programs, deadline)
    if files.begins_in_new_segment:
        return Position(begin, history)
    try:
        end = files.find_end()
    except DeadlineExceeded:
        return None
    return None if end is None else Position(end, history)


class _Files:
    """The segments of a timeline that follow without a gap from the one with `begin`."""

    def __init__(self, pgdata: str, timeline: int, begin: Lsn, programs: Programs, deadline: Deadline) -> None:
        self.pgdata, self.timeline, self.begin = pgdata, timeline, begin
        self.programs, self.deadline = programs, deadline
        self.segment, self.page = segment_bytes(pgdata), page_bytes(pgdata)
        self.end = end_of_segments(pgdata, timeline, begin, self.segment)
        # Nothing but its last words is wanted: --quiet came with version 13, the statistics are short.
        self.terse = "-q" if read_major(pgdata) >= QUIET_VERSION else "-z"

    @property
    def begins_in_new_segment(self) -> bool:
        """Whether the WAL before `begin` fills a segment, and nothing has been written into the next one yet."""
        if int(self.begin) % self.segment:
            return False
        name = segment_name(self.timeline, self.begin, self.segment)
        try:
            return not any(files_in(self.pgdata).read(os.path.join(self.pgdata, "pg_wal", name), self.page))
        except FileNotFoundError:
            return True

    def find_end(self) -> Lsn | None:
        """Where the last whole record ends; `begin` if there is none."""
        done = self.read(self.begin, self.terse)
        if done.returncode == 0:
            return self.last_end()  # no message: the last segment is full
        if _NO_RECORD in done.stderr:
            return self.begin
        last, *ends = _PLACE.findall(done.stderr.partition(_ERROR)[2]) or [""]
        if ends:
            # "error in WAL record at 0/30000D8: invalid record length at 0/3000110: ..."
            return before_header(Lsn.parse(ends[-1]), self.page, self.segment)
        # "error in WAL record at 0/30000D8: unexpected pageaddr 0/... in log segment ..., offset ...": the next record
        # goes on in a page that was never written. The one that is named was the last whole one.
        return self.end_of_last(self.read(Lsn.parse(last), "-n", "1").stdout) if last else None

    def last_end(self) -> Lsn | None:
        """Where the last whole record of the last segment ends: another one may have begun behind it."""
        span = self.page
        while True:
            first = max(self.begin, Lsn(self.end - span))
            found = self.end_of_last(self.read(first).stdout)
            if found is not None or first == self.begin:
                return found
            span *= 4  # the last page holds a part of a long record only

    def last_start(self, end: Lsn) -> Lsn | None:
        """Where the record starts that ends at `end`; None if none does."""
        self.end, span = end, self.page
        while True:
            first = max(self.begin, Lsn(end - span))
            records = _RECORD.findall(self.read(first).stdout)
            if records and before_header(self.end_of(records[-1]), self.page, self.segment) == end:
                return Lsn.parse(records[-1][1])
            if records or first == self.begin:
                return None
            span *= 4

    def end_of_last(self, listed: str) -> Lsn | None:
        """Where the last record ends of those that pg_waldump has listed; None if it has listed none."""
        records = _RECORD.findall(listed)
        return self.end_of(records[-1]) if records else None

    def end_of(self, record: tuple[str, str, str]) -> Lsn:
        """Where a record ends."""
        length, start, what = record
        if what == _SWITCH:
            # The rest of its segment belongs to it (XLogReadRecord).
            return Lsn((Lsn.parse(start) // self.segment + 1) * self.segment)
        return end_of_record(Lsn.parse(start), int(length), self.page, self.segment)

    def read(self, first: Lsn, *options: str) -> "CompletedProcess[str]":
        # The segments are named, because the header of the first one given says how large they are, and one that was
        # just made is all zeros. (Without "-e" pg_waldump would wait 5 seconds for the next segment to appear.)
        segments = [segment_name(self.timeline, place, self.segment) for place in (first, Lsn(self.end - 1))]
        where = ["-p", os.path.join(self.pgdata, "pg_wal"), "-s", str(first), "-e", str(self.end)]
        return self.programs.run("pg_waldump", [*where, *options, *segments], self.deadline)


def last_record_before(pgdata: str, timeline: int, end: Lsn, programs: Programs, deadline: Deadline) -> Lsn | None:
    """Where the record starts that ends at `end`, in the files of this timeline; None if that cannot be found."""
    files = _Files(pgdata, timeline, end, programs, deadline)
    while files.begin and has_segment(pgdata, timeline, Lsn(files.begin - 1), files.segment):
        files.begin = Lsn((files.begin - 1) // files.segment * files.segment)
        if end - files.begin > LONGEST_SEARCH_BYTES:
            break
    try:
        return files.last_start(before_header(end, files.page, files.segment))
    except DeadlineExceeded:
        return None


def end_of_unread(pgdata: str, unread: Unread, programs: Programs, deadline: Deadline) -> Position | None:
    """Where the WAL of a running standby ends that it has not replayed yet; None if that cannot be found.

    What it has received since it was started is read from a little before its end only: it may end with the beginning
    of a record. What was there before has to be read as a whole.
    """
    replayed, received = unread.replayed, unread.received
    size = segment_bytes(pgdata)
    if received is not None and received > replayed:
        history = read_history(pgdata, timeline_at(pgdata, received, size))
        near = max(replayed, Lsn(received - PARTIAL_RECORD_BYTES))
    else:
        history = read_history(pgdata, newest_timeline(pgdata, timeline_at(pgdata, replayed, size)))
        near = replayed
    # Where the timeline begins, if that is later: what lies before it is in the files of another one.
    first = max((fork for _, fork in history.forks), default=Lsn(0))
    known = max(replayed, first)
    for begin in dict.fromkeys((max(near, first), known)):
        found = valid_until(pgdata, history, begin, programs, deadline)
        # From within a record, nothing found says nothing.
        if found is not None and (found.lsn > begin or begin == known):
            return found
    return None

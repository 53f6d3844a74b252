# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the valid WAL in the files of pg_wal ends, read with pg_waldump."""

import os
import re
from typing import TYPE_CHECKING

from pgsql_ra.ocf import Deadline, DeadlineExceeded
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.wal import (
    before_header,
    end_of_record,
    end_of_segments,
    newest_timeline,
    page_bytes,
    read_history,
    read_major,
    segment_bytes,
    segment_name,
    timeline_at,
)
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.record import PARTIAL_RECORD_BYTES
from pgsql_ra.replication.snapshot import Unread

if TYPE_CHECKING:
    from subprocess import CompletedProcess

QUIET_VERSION = 13
_PLACE = re.compile(r"\bat ([0-9A-F]{1,8}/[0-9A-F]{1,8})\b")
_RECORD = re.compile(r"len \(rec/tot\): *\d+/ *(\d+), .*\blsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8})\b")
_NO_RECORD = "could not find a valid record after"
"""What pg_waldump says if nothing valid comes (XLogFindNextRecord)."""


def valid_until(pgdata: str, history: History, begin: Lsn, programs: Programs, deadline: Deadline) -> Position | None:
    """Where the WAL of this history's last timeline ends, read from the first record at or after `begin`; `begin`
    itself if there is none. None if that cannot be found.

    pg_waldump reads until a record is not valid: recovery would end at the same place.
    """
    size = segment_bytes(pgdata)
    end = end_of_segments(pgdata, history.timeline, begin, size)
    # Nothing but its last words is wanted: --quiet came with version 13, the statistics are short.
    terse = "-q" if read_major(pgdata) >= QUIET_VERSION else "-z"

    def read(first: Lsn, *options: str) -> "CompletedProcess[str]":
        # The segments are named, because the header of the first one given says how large they are, and one that was
        # just made is all zeros. (Without "-e" pg_waldump would wait 5 seconds for the next segment to appear.)
        segments = [segment_name(history.timeline, place, size) for place in (first, Lsn(end - 1))]
        where = ["-p", os.path.join(pgdata, "pg_wal"), "-s", str(first), "-e", str(end)]
        return programs.run("pg_waldump", [*where, *options, *segments], deadline)

    try:
        done = read(begin, terse)
        if done.returncode == 0:
            return Position(end, history)  # no message: the WAL is valid up to the end of its last segment
        if _NO_RECORD in done.stderr:
            return Position(begin, history)
        last, *ends = _PLACE.findall(done.stderr) or [""]
        if not last:
            return None
        page = page_bytes(pgdata)
        if ends:
            # "error in WAL record at 0/30000D8: invalid record length at 0/3000110: ..."
            return Position(before_header(Lsn.parse(ends[-1]), page, size), history)
        # "error in WAL record at 0/30000D8: unexpected pageaddr 0/... in log segment ..., offset ...": the next record
        # goes on in a page that was never written. The one that is named was the last whole one.
        listed = read(Lsn.parse(last), "-n", "1")
    except DeadlineExceeded:
        return None
    record = _RECORD.search(listed.stdout)
    if record is None or Lsn.parse(record[2]) != Lsn.parse(last):
        return None
    return Position(end_of_record(Lsn.parse(last), int(record[1]), page, size), history)


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

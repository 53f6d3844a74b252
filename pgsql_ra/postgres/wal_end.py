# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the valid WAL in the files of pg_wal ends, read with pg_waldump."""

import os
import re

from pgsql_ra.ocf import Deadline, DeadlineExceeded
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.wal import end_of_segments, newest_timeline, read_history, segment_bytes, timeline_at
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.record import PARTIAL_RECORD_BYTES
from pgsql_ra.replication.snapshot import Unread

_END = re.compile(r"\bat ([0-9A-F]{1,8}/[0-9A-F]{1,8})\b")


def valid_until(pgdata: str, history: History, begin: Lsn, programs: Programs, deadline: Deadline) -> Position | None:
    """Where the WAL of this history's last timeline ends, read from the first record at or after `begin`; None if that
    cannot be found.

    pg_waldump reads until a record is not valid, and says where: recovery would end at the same place.
    """
    end = end_of_segments(pgdata, history.timeline, begin, segment_bytes(pgdata))
    where = ["-p", os.path.join(pgdata, "pg_wal"), "-t", str(history.timeline), "-s", str(begin), "-e", str(end), "-q"]
    try:
        done = programs.run("pg_waldump", where, deadline)
    except DeadlineExceeded:
        return None
    # "error in WAL record at 0/30000D8: invalid record length at 0/3000110: ..." : the last one is the end. Without
    # any message the WAL is valid up to the end of its last segment. (Without "-e" pg_waldump would wait 5 seconds for
    # the next segment to appear.)
    places = _END.findall(done.stderr)
    if done.returncode != 0 and not places:
        return None
    return Position(Lsn.parse(places[-1]) if places else end, history)


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
    for begin in dict.fromkeys((max(near, first), max(replayed, first))):
        found = valid_until(pgdata, history, begin, programs, deadline)
        if found is not None and found.lsn >= replayed:
            return found
    return None

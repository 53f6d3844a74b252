# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of pg_wal: on which timeline a position lies, and how that timeline came about."""

import os
import re
import sys

from pgsql_ra.ocf import NotInstalled
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.replication.lsn import History, Lsn

DEFAULT_SEGMENT_BYTES = 16 << 20
DEFAULT_PAGE_BYTES = 8192
_PAGE_BYTES = tuple(1024 << power for power in range(7))
"""XLOG_BLCKSZ is chosen when PostgreSQL is built (--with-wal-blocksize)."""
_SHORT_HEADER, _LONG_HEADER = 24, 40
"""SizeOfXLogShortPHD, and SizeOfXLogLongPHD in the first page of a segment."""
_HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")
_SEGMENT = re.compile(r"^([0-9A-F]{8})([0-9A-F]{16})(\.partial)?$")


def read_history(pgdata: str, timeline: int) -> History:
    """The history of a timeline by its file in pg_wal; one without a past if there is no file (timeline 1 has none)."""
    try:
        text = files_in(pgdata).text(os.path.join(pgdata, "pg_wal", f"{timeline:08X}.history"))
        return History.parse_file(timeline, text)
    except FileNotFoundError:
        return History(timeline)


def newest_timeline(pgdata: str, timeline: int) -> int:
    """The highest timeline with a segment in pg_wal that descends from `timeline`; itself if there is none."""
    found = (_SEGMENT.match(entry) for entry in files_in(pgdata).names(os.path.join(pgdata, "pg_wal")))
    later = {int(match[1], 16) for match in found if match} - {timeline}
    descendants = (one for one in later if read_history(pgdata, one).left(timeline) is not None)
    return max(descendants, default=timeline)


def segment_bytes(pgdata: str) -> int:
    """The size of a WAL segment: every one of them is whole."""
    directory = os.path.join(pgdata, "pg_wal")
    files = files_in(pgdata)
    sizes = (files.size(os.path.join(directory, entry)) for entry in files.names(directory) if _SEGMENT.match(entry))
    return max(sizes, default=DEFAULT_SEGMENT_BYTES) or DEFAULT_SEGMENT_BYTES


def segment_name(timeline: int, position: Lsn, size: int) -> str:
    """The file with the byte at `position`, where segments have `size` bytes."""
    number, per_id = int(position) // size, 0x1_0000_0000 // size
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def has_segment(pgdata: str, timeline: int, position: Lsn, size: int) -> bool:
    """Whether the file with the byte at `position` is in pg_wal."""
    return files_in(pgdata).exists(os.path.join(pgdata, "pg_wal", segment_name(timeline, position, size)))


def end_of_segments(pgdata: str, timeline: int, begin: Lsn, size: int) -> Lsn:
    """The end of the last segment of `timeline` that follows without a gap from the one with `begin`."""
    per_id = 0x1_0000_0000 // size
    number = int(begin) // size
    names = set(files_in(pgdata).names(os.path.join(pgdata, "pg_wal")))
    while f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}" in names:
        number += 1
    return Lsn(number * size)


def timeline_at(pgdata: str, end: Lsn, segment_bytes: int) -> int:
    """The highest timeline that has a segment with the last byte before `end`; 0 if there is none.

    A standby that follows a promotion gets the new timeline's copy of the segment in which the switch happened, while
    pg_control still names the timeline of the last restartpoint.

    A timeline without a history file does not count (only the first one has none): a promotion makes the segment
    first, and one that was broken off between the two has not begun the timeline (StartupXLOG, findNewestTimeLine).
    """
    number = max(0, int(end) - 1) // segment_bytes
    per_id = 0x1_0000_0000 // segment_bytes
    name = f"{number // per_id:08X}{number % per_id:08X}"
    found = (_SEGMENT.match(entry) for entry in files_in(pgdata).names(os.path.join(pgdata, "pg_wal")))
    timelines = {int(match[1], 16) for match in found if match and match[2] == name}
    return max((one for one in timelines if one == 1 or has_history(pgdata, one)), default=0)


def has_history(pgdata: str, timeline: int) -> bool:
    """Whether the history file of this timeline is in pg_wal."""
    return files_in(pgdata).exists(os.path.join(pgdata, "pg_wal", f"{timeline:08X}.history"))


def highest_timeline(pgdata: str) -> int:
    """The highest timeline of which pg_wal holds a history file; 1 if it holds none."""
    found = (_HISTORY.match(entry) for entry in files_in(pgdata).names(os.path.join(pgdata, "pg_wal")))
    return max((int(match[1], 16) for match in found if match), default=1)


def page_bytes(pgdata: str) -> int:
    """The size of a WAL page, as the header of the segments says (XLogLongPageHeaderData, access/xlog_internal.h)."""
    directory = os.path.join(pgdata, "pg_wal")
    files = files_in(pgdata)
    for entry in files.names(directory):
        if _SEGMENT.match(entry):
            header = files.read(os.path.join(directory, entry), _LONG_HEADER)
            found = int.from_bytes(header[36:40], sys.byteorder)
            # A segment that was just made is all zeros.
            if found in _PAGE_BYTES:
                return found
    return DEFAULT_PAGE_BYTES


def end_of_record(start: Lsn, length: int, page: int, segment: int) -> Lsn:
    """Where a WAL record ends that starts at `start` and has `length` bytes: every page begins with a header, and the
    next record at a multiple of 8 (MAXALIGN).

    >>> str(end_of_record(Lsn.parse("0/616808"), 34, 8192, 1 << 20))
    '0/616830'
    >>> str(end_of_record(Lsn.parse("0/1FF8"), 34, 8192, 1 << 20))  # 8 bytes, a header of 24, 26 bytes
    '0/2038'
    """
    position, left = int(start), length
    while left > (room := page - position % page):
        left -= room
        position += room
        position += _header(position, segment)
    return Lsn((position + left + 7) // 8 * 8)


def before_header(position: Lsn, page: int, segment: int) -> Lsn:
    """The same position, if it is the first byte after a page's header, as the server says it of an end of WAL: the
    beginning of the page.

    >>> str(before_header(Lsn.parse("0/2018"), 8192, 1 << 20)), str(before_header(Lsn.parse("0/2020"), 8192, 1 << 20))
    ('0/2000', '0/2020')
    """
    start = int(position) // page * page
    return Lsn(start) if int(position) - start == _header(start, segment) else position


def _header(start: int, segment: int) -> int:
    """The size of the header of the page that starts there."""
    return _LONG_HEADER if start % segment == 0 else _SHORT_HEADER


def read_major(pgdata: str) -> int:
    """PostgreSQL's major version of a data directory that was checked."""
    version = files_in(pgdata).text(os.path.join(pgdata, "PG_VERSION"))
    try:
        return int(version.partition(".")[0])
    except ValueError:
        raise NotInstalled(f"{pgdata} is not a data directory: PG_VERSION names no version") from None

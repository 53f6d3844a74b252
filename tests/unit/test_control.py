# SPDX-License-Identifier: GPL-2.0-or-later
"""What pg_controldata says of a server that is not running."""

from dataclasses import replace

import pytest

from pgsql_ra.ocf import ServerFailure
from pgsql_ra.postgres.control import ClusterPhase, ControlData, parse_control
from pgsql_ra.replication.lsn import Lsn
from pgsql_ra.replication.rejoin import ChangedBlocks

TEXT = """\
pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7711444395985399001
Database cluster state:               shut down
pg_control last modified:             Mon Nov 23 19:02:42 2026
Latest checkpoint location:           0/1511A88
Latest checkpoint's REDO location:    0/1511A50
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       3
Latest checkpoint's PrevTimeLineID:   2
Latest checkpoint's full_page_writes: on
Time of latest checkpoint:            Mon Nov 23 19:02:42 2026
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
Backup start location:                0/0
wal_log_hints setting:                off
Data page checksum version:           0
"""
"""PostgreSQL 15, shortened."""

CLEAN = ControlData(
    ClusterPhase.SHUT_DOWN,
    3,
    Lsn(0x1511A88),
    Lsn(0x1511A50),
    Lsn(0),
    0,
    "7711444395985399001",
    ChangedBlocks.NOT_LOGGED,
)


def test_it_is_read() -> None:
    assert parse_control(TEXT) == CLEAN


@pytest.mark.parametrize(
    ("text", "changed_blocks"),
    [
        pytest.param(
            TEXT.replace("hints setting:                off", "hints setting: on"), ChangedBlocks.LOGGED, id="hints"
        ),
        pytest.param(TEXT.replace("version:           0", "version: 1"), ChangedBlocks.LOGGED, id="checksums"),
        pytest.param(TEXT.replace("wal_log_hints", "new_name"), ChangedBlocks.UNKNOWN, id="not said"),
    ],
)
def test_whether_the_wal_names_every_changed_block(text: str, changed_blocks: ChangedBlocks) -> None:
    assert parse_control(text).changed_blocks is changed_blocks


@pytest.mark.parametrize("phase", ClusterPhase)
def test_every_state_is_known(phase: ClusterPhase) -> None:
    assert parse_control(TEXT.replace("shut down", phase.value)).phase is phase


def test_the_end_of_recovery() -> None:
    text = TEXT.replace("location:     0/0", "location:     16/B374D848").replace("timeline:   0", "timeline:   2")
    control = parse_control(text)
    assert control.minimum_recovery_end == Lsn.parse("16/B374D848")
    assert control.minimum_recovery_timeline == 2


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(TEXT.replace("shut down", "heruntergefahren"), id="another language"),
        pytest.param(TEXT.replace("0/1511A88", "junk"), id="no position"),
        pytest.param(TEXT.replace("TimeLineID:       3", "TimeLineID:       x"), id="no timeline"),
        pytest.param(TEXT.replace("Database cluster state", "State"), id="a line is missing"),
    ],
)
def test_something_else_is_a_failure(text: str) -> None:
    with pytest.raises(ServerFailure, match="unexpected"):
        parse_control(text)


@pytest.mark.parametrize(
    ("phase", "minimum", "expected"),
    [
        pytest.param(ClusterPhase.SHUT_DOWN, 0, True, id="a primary that was stopped"),
        pytest.param(ClusterPhase.PRODUCTION, 0, True, id="a primary that crashed"),
        pytest.param(ClusterPhase.SHUTTING_DOWN, 0, True, id="a primary that crashed in its shutdown"),
        pytest.param(ClusterPhase.PRODUCTION, 0x80, True, id="promoted, and crashed before its first checkpoint"),
        pytest.param(ClusterPhase.CRASH_RECOVERY, 0, True, id="a primary that crashed in its crash recovery"),
        pytest.param(ClusterPhase.STARTING_UP, 0, True, id="a primary that was killed as it started"),
        pytest.param(ClusterPhase.SHUT_DOWN_IN_RECOVERY, 0x80, False, id="a standby that was stopped"),
        pytest.param(ClusterPhase.SHUT_DOWN_IN_RECOVERY, 0, False, id="a standby that was stopped at once"),
        pytest.param(ClusterPhase.ARCHIVE_RECOVERY, 0x80, False, id="a standby that crashed"),
        pytest.param(ClusterPhase.ARCHIVE_RECOVERY, 0, False, id="a standby that crashed at once"),
        pytest.param(ClusterPhase.CRASH_RECOVERY, 0x80, False, id="a standby that crashed in its crash recovery"),
    ],
)
def test_who_was_a_primary(phase: ClusterPhase, minimum: int, expected: bool) -> None:
    assert replace(CLEAN, phase=phase, minimum_recovery_end=Lsn(minimum)).was_primary is expected


def test_a_copy_that_was_never_started_was_nothing() -> None:
    assert not replace(CLEAN, phase=ClusterPhase.PRODUCTION, is_backup=True).was_primary

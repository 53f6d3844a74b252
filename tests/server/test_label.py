# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup_label in the data directory of a single server: a restored backup's stays, a crashed server's that is in the
way is set aside.

Exclusive backups ended with PostgreSQL 14; the servers of these tests are younger, so their labels are made by hand.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pgsql_ra.ocf import Deadline
from pgsql_ra.postgres.control import read_control
from pgsql_ra.postgres.label import stale_label
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.user import DatabaseUser
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import BINARIES, USER, Database, base_backup
from tests.server.test_single import single

__all__ = ["single"]

GONE = "0/100028"
"""Where the exclusive backup began: in a segment that was recycled long ago."""


def write_label(database: Database, start: str = GONE, method: str = "pg_start_backup") -> Path:
    """A label as pg_start_backup writes it, for a backup that began at `start`."""
    label = database.data / "backup_label"
    number = int(start.partition("/")[2], 16) >> 20
    label.write_text(
        f"START WAL LOCATION: {start} (file 00000001{number:016X})\nCHECKPOINT LOCATION: {start}\n"
        f"BACKUP METHOD: {method}\nBACKUP FROM: primary\nSTART TIME: 2020-01-01 00:00:00 UTC\nLABEL: nightly\n"
        "START TIMELINE: 1\n"
    )
    shutil.chown(label, USER, USER)
    return label


def verdict(database: Database, major: int = 14) -> str:
    """What is found out about the label by a server of this major version."""
    programs = Programs(str(BINARIES / "pg_ctl"), "", DatabaseUser(USER))
    control = read_control(str(database.data), programs, Deadline(10))
    return stale_label(str(database.data), major, control)


@pytest.fixture
def crashed(single: Agent, database: Database) -> Database:
    """A single server that crashed during an exclusive backup whose WAL is gone."""
    assert single.start().code == 0
    database.sql("CREATE TABLE kept AS SELECT 1 AS n")
    database.crash()
    write_label(database)
    return database


def test_a_label_of_a_crashed_server_that_cannot_use_it_is_found(crashed: Database) -> None:
    assert f"WAL from {GONE} on" in verdict(crashed)


def nothing_started_here(database: Database) -> None:
    (database.data / "postmaster.opts").unlink()


def no_crash_here(database: Database) -> None:
    (database.data / "postmaster.pid").unlink()


def restored(database: Database) -> None:
    (database.data / "recovery.signal").touch()


def streamed(database: Database) -> None:
    write_label(database, method="streamed")


def segments(database: Database) -> list[Path]:
    """The files of pg_wal, oldest first."""
    return sorted(path for path in (database.data / "pg_wal").iterdir() if re.fullmatch("[0-9A-F]{24}", path.name))


def its_wal_is_there(database: Database) -> None:
    number = int(segments(database)[0].name[-8:], 16)
    write_label(database, start=f"0/{number << 20 | 0x28:X}")


def own_wal_is_gone(database: Database) -> None:
    for path in segments(database):
        path.rename(database.root / path.name)
    (database.data / "pg_wal" / "0000000100000000000000FF").write_bytes(bytes(1 << 20))


def unreadable(database: Database) -> None:
    (database.data / "backup_label").write_text("BACKUP METHOD: pg_start_backup\n")


@pytest.mark.parametrize(
    "doubt", [nothing_started_here, no_crash_here, restored, streamed, its_wal_is_there, own_wal_is_gone, unreadable]
)
def test_with_any_doubt_it_stays(crashed: Database, doubt: Callable[[Database], None]) -> None:
    assert verdict(crashed)
    doubt(crashed)
    assert verdict(crashed) == ""


def test_a_server_that_was_stopped_did_not_crash(single: Agent, database: Database) -> None:
    assert single.start().code == 0
    pid_file = (database.data / "postmaster.pid").read_text()
    assert single.stop().code == 0
    (database.data / "postmaster.pid").write_text(pid_file)
    write_label(database)
    assert verdict(database) == ""


def test_it_is_set_aside_and_the_server_starts(single: Agent, crashed: Database) -> None:
    """The version that the data directory names decides; this server takes its own only, so it is told in between."""
    version = crashed.data / "PG_VERSION"
    own = version.read_text()
    version.write_text("14\n")
    answer = single.start()
    assert answer.code == 1, "the server refuses a data directory of another version"
    assert not (crashed.data / "backup_label").exists()
    assert "nightly" in (crashed.data / "backup_label.old").read_text()
    assert "backup_label.old" in single.logged()
    version.write_text(own)
    assert single.start().code == 0
    assert crashed.sql("SELECT n FROM kept") == 1


def test_the_label_of_a_younger_server_stays_and_the_server_says_what_to_do(single: Agent, crashed: Database) -> None:
    answer = single.start()
    assert answer.code == 1, answer
    assert "could not locate required checkpoint record" in answer.reason
    assert (crashed.data / "backup_label").exists()


def test_a_restored_base_backup_starts_by_its_label(
    single: Agent, database: Database, make_database: MakeDatabase
) -> None:
    """Without the label the pages that changed during the backup would be torn."""
    origin = make_database("origin")
    origin.start()
    origin.sql("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    base_backup(origin, database)
    label = (database.data / "backup_label").read_text()
    assert verdict(database) == ""
    assert single.start().code == 0
    assert database.sql("SELECT count(*) FROM kept") == 1000
    assert (database.data / "backup_label.old").read_text() == label, "the server itself put it aside"

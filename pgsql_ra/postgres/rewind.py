# SPDX-License-Identifier: GPL-2.0-or-later
"""pg_rewind: a server that holds WAL that the primary never had goes back to where the two parted.

pg_rewind overwrites the data directory in place. Broken off half way it leaves a directory with an old control file
that a server would start from, so the caller notes durably what it is about to do, and nothing starts before that note
is gone.
"""

import os
import re

from pgsql_ra.ocf import Deadline, ServerFailure
from pgsql_ra.postgres.process import server_processes
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.recovery import RECOVERY_SIGNAL, as_options, settings_of_standby
from pgsql_ra.postgres.running import Progress, run_watched
from pgsql_ra.postgres.server import last_words
from pgsql_ra.postgres.upstream import SERVICE
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.postgres.wal import segment_bytes
from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.rejoin import LostWal

CONFIG_FILE_VERSION = 15
"""pg_rewind has --config-file from PostgreSQL 15 on (src/bin/pg_rewind/pg_rewind.c)."""
RESTORE_VERSION = 13
KEEP_SIZE_VERSION = 13
_LAST_COMMON = re.compile(r"last common checkpoint at ([0-9A-F]+/[0-9A-F]+) on timeline (\d+)")
_REDO = re.compile(r"\bredo ([0-9A-F]+/[0-9A-F]+)")
_COMMIT = re.compile(r"\bdesc: COMMIT")


class CannotRewind(ServerFailure):
    """pg_rewind found before it changed anything that it cannot help."""


def keep_all_wal(major: int) -> str:
    """The setting with which a server removes no WAL at its shutdown: pg_rewind has to read from the last checkpoint
    before the fork on, and recovery ends with a checkpoint that needs nothing before itself.
    """
    return "wal_keep_size = 2147483647" if major >= KEEP_SIZE_VERSION else "wal_keep_segments = 2147483647"


def recover(
    pgdata: str, config: str, major: int, programs: Programs, files: UserFiles, lock: int, deadline: Deadline
) -> None:
    """The server that crashed has replayed its WAL, has kept all of it and is shut down cleanly, which pg_rewind
    insists on.

    pg_rewind could do this itself (PostgreSQL 13 and later), but before 15 not with a configuration file elsewhere, and
    never so that the WAL is kept.
    """
    for name in ("standby.signal", RECOVERY_SIGNAL):
        # Single-user mode refuses to be a standby, and would recover from an archive onto a timeline of its own.
        signal_file = os.path.join(pgdata, name)
        if files.exists(signal_file):
            files.remove(signal_file)
    arguments = ["--single", "-D", pgdata, "-c", f"config_file={config}", "-c", "archive_mode=off"]
    arguments += as_options(settings_of_standby(major))
    arguments += ["-c", keep_all_wal(major).replace(" ", ""), "template1"]
    status, said = run_watched(programs, "postgres", arguments, lock, deadline)
    if status != 0:
        raise ServerFailure(f"the crashed server cannot be recovered before pg_rewind: {last_words(said)}")


def rewind(
    pgdata: str,
    config: str,
    restores: bool,
    major: int,
    programs: Programs,
    service: dict[str, str],
    lock: int,
    progress: Progress,
    deadline: Deadline,
    dry_run: bool,
) -> str:
    """pg_rewind has done its work, or with `dry_run` has found that it can. Returns what it said.

    CannotRewind if the dry run fails; ServerFailure if the work does, and then the directory is good for nothing.
    """
    arguments = [f"--target-pgdata={pgdata}", f"--source-server=service={SERVICE}", "--progress"]
    if major >= CONFIG_FILE_VERSION:
        arguments.append(f"--config-file={config}")
    if restores and (major >= CONFIG_FILE_VERSION or (major >= RESTORE_VERSION and os.path.dirname(config) == pgdata)):
        arguments.append("--restore-target-wal")
    if dry_run:
        arguments.append("--dry-run")
    if server_processes(pgdata):
        raise ServerFailure("the server runs, so its data cannot be rewound")
    status, said = run_watched(programs, "pg_rewind", arguments, lock, deadline, service, progress)
    if status != 0:
        kind = CannotRewind if dry_run else ServerFailure
        raise kind(f"pg_rewind: {_reason(said)}")
    if "no rewind required" in said:
        raise CannotRewind("pg_rewind sees no difference to the primary, although there is one")
    return said


def first_needed(pgdata: str, said: str, programs: Programs, deadline: Deadline) -> Position | None:
    """Where a rewound server will begin to read WAL: at the redo position of the last checkpoint that both have, as
    pg_rewind's dry run named it; None if that cannot be told.
    """
    found = _LAST_COMMON.search(said)
    if found is None:
        return None
    where = ["-p", os.path.join(pgdata, "pg_wal"), "-t", found[2], "-s", found[1], "-n", "1"]
    redo = _REDO.search(programs.run("pg_waldump", where, deadline).stdout)
    return Position(Lsn.parse(redo[1] if redo else found[1]), History(int(found[2])))


def last_common(said: str) -> Position | None:
    """The last checkpoint that both have, as pg_rewind's dry run named it; None if it named none."""
    found = _LAST_COMMON.search(said)
    return Position(Lsn.parse(found[1]), History(int(found[2]))) if found else None


def _reason(said: str) -> str:
    """The lines that say why: errors with their details."""
    lines = [line.removeprefix("pg_rewind: ").strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error:", "fatal:", "detail:", "hint:"))]
    return " ".join((errors or lines)[-2:])


def count_commits(pgdata: str, lost: LostWal, programs: Programs, deadline: Deadline) -> int | None:
    """How many transactions were committed in the WAL that is lost; None if pg_waldump cannot read it."""
    arguments = ["-p", os.path.join(pgdata, "pg_wal"), "-t", str(lost.timeline), "-s", str(lost.begin)]
    done = programs.run("pg_waldump", [*arguments, "-e", str(lost.end), "--rmgr=Transaction"], deadline)
    commits = len(_COMMIT.findall(done.stdout))
    return commits if commits or done.returncode == 0 or "invalid record length" in done.stderr else None


def keep_segments(files: UserFiles, pgdata: str, lost: LostWal, place: str) -> None:
    """The segments with the lost WAL are in the directory `place`, which is made, with their timelines' histories."""
    source = os.path.join(pgdata, "pg_wal")
    size = segment_bytes(pgdata)
    first, last = int(lost.begin) // size, max(0, int(lost.end) - 1) // size
    per_id = 0x1_0000_0000 // size
    wanted = {f"{number // per_id:08X}{number % per_id:08X}" for number in range(first, last + 1)}
    files.make_directories(place)
    for name in files.names(source):
        if files.exists(os.path.join(place, name)):
            continue  # an earlier attempt has kept it
        if name.endswith(".history") or (name[:8] >= f"{lost.timeline:08X}" and name[8:24] in wanted):
            files.copy(os.path.join(source, name), os.path.join(place, name))

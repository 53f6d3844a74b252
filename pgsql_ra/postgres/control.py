# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control file and the WAL say about a server that is not running."""

import os
import re
from dataclasses import dataclass, replace
from enum import Enum

from pgsql_ra.ocf import Deadline, NotInstalled, ServerFailure
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.postgres.recovery import SIZES
from pgsql_ra.postgres.wal import newest_timeline, read_history, read_major
from pgsql_ra.postgres.wal_end import valid_until
from pgsql_ra.replication.lsn import Lsn, Position
from pgsql_ra.replication.rejoin import ChangedBlocks


class ClusterPhase(Enum):
    """ "Database cluster state" of pg_controldata (src/bin/pg_controldata/pg_controldata.c, dbState)."""

    STARTING_UP = "starting up"
    SHUT_DOWN = "shut down"
    SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
    SHUTTING_DOWN = "shutting down"
    CRASH_RECOVERY = "in crash recovery"
    ARCHIVE_RECOVERY = "in archive recovery"
    PRODUCTION = "in production"


@dataclass(frozen=True)
class ControlData:
    """The part of pg_control that decisions need."""

    phase: ClusterPhase
    timeline: int
    checkpoint: Lsn
    redo: Lsn
    minimum_recovery_end: Lsn
    minimum_recovery_timeline: int
    system: str = ""
    """The system identifier, equal on all copies of one database."""
    changed_blocks: ChangedBlocks = ChangedBlocks.UNKNOWN
    demands: tuple[tuple[str, int], ...] = ()
    """The settings that may not be lower on a standby than on its primary, with what the WAL replayed so far wants."""
    is_backup: bool = False
    """A copy that was never started: pg_control and backup_label came along with a base backup."""

    @property
    def was_primary(self) -> bool:
        """Whether the server was last a primary: stopped as one, or crashed as one.

        A new primary is one from the moment of its promotion, although pg_control names the old timeline and how far
        recovery had to go until its first checkpoint is done. A crash in the middle of recovering from a crash counts
        too, unless the server had come to follow somebody before.
        """
        if self.is_backup:
            return False
        if self.phase in (ClusterPhase.PRODUCTION, ClusterPhase.SHUTTING_DOWN, ClusterPhase.SHUT_DOWN):
            return True
        if self.minimum_recovery_end:
            return False
        return self.phase not in (ClusterPhase.SHUT_DOWN_IN_RECOVERY, ClusterPhase.ARCHIVE_RECOVERY)


def parse_control(text: str) -> ControlData:
    """Read what pg_controldata prints in the C locale. ServerFailure if something is missing."""
    lines = (line.partition(":") for line in text.splitlines())
    values = {name.strip(): value.strip() for name, _, value in lines}
    try:
        return ControlData(
            phase=ClusterPhase(values["Database cluster state"]),
            timeline=int(values["Latest checkpoint's TimeLineID"]),
            checkpoint=Lsn.parse(values["Latest checkpoint location"]),
            redo=Lsn.parse(values["Latest checkpoint's REDO location"]),
            minimum_recovery_end=Lsn.parse(values["Minimum recovery ending location"]),
            minimum_recovery_timeline=int(values["Min recovery ending loc's timeline"]),
            system=values.get("Database system identifier", ""),
            changed_blocks=_changed_blocks(values),
            demands=tuple((name, int(values[_in_control(name)])) for name in SIZES if _in_control(name) in values),
        )
    except (KeyError, ValueError) as error:
        raise ServerFailure(f"pg_controldata printed something unexpected: {error}") from error


def _in_control(setting: str) -> str:
    """What pg_controldata calls a setting."""
    return f"{setting.replace('_transaction', '_xact')} setting"


def _changed_blocks(values: dict[str, str]) -> ChangedBlocks:
    """As pg_rewind looks at it: checksums, or wal_log_hints when the server ran last (src/bin/pg_rewind)."""
    hints, checksums = values.get("wal_log_hints setting"), values.get("Data page checksum version")
    if hints is None or checksums is None:
        return ChangedBlocks.UNKNOWN
    return ChangedBlocks.LOGGED if hints == "on" or checksums != "0" else ChangedBlocks.NOT_LOGGED


def _exists(pgdata: str, name: str) -> bool:
    return files_in(pgdata).exists(os.path.join(pgdata, name))


class DamagedControl(ServerFailure):
    """The control file is not what the server wrote: no server starts from it."""


_UNREADABLE = re.compile(r'open file ".*pg_control" for reading: No such file|read file ".*pg_control": read \d+ of')
"""It is gone, or shorter than it should be (src/common/controldata_utils.c)."""
_DAMAGED = re.compile("CRC checksum does not match", re.IGNORECASE)
"""A warning: on stdout in PostgreSQL 15 and 16, on stderr in 18 (src/bin/pg_controldata/pg_controldata.c)."""


def read_control(pgdata: str, programs: Programs, deadline: Deadline) -> ControlData:
    """The control data of `pgdata`. DamagedControl if nobody could read them, ServerFailure with the reason if they
    cannot be read otherwise.
    """
    done = programs.run("pg_controldata", ["-D", pgdata], deadline)
    if done.returncode != 0:
        words = " ".join(done.stderr.split())
        if _UNREADABLE.search(words):
            raise DamagedControl(f"the control file of {pgdata} is damaged ({words})")
        raise ServerFailure(f"the control file of {pgdata} cannot be read: {words}")
    if _DAMAGED.search(done.stdout + done.stderr):
        # It prints what it found all the same, and ends with success.
        _check_programs(pgdata, programs, deadline)
        raise DamagedControl(f"the control file of {pgdata} is damaged (its checksum is wrong)")
    # A primary that crashed during an exclusive backup (before PostgreSQL 15) has a label too, but it was started here.
    is_backup = _exists(pgdata, "backup_label") and not _exists(pgdata, "postmaster.opts")
    return replace(parse_control(done.stdout), is_backup=is_backup)


def _check_programs(pgdata: str, programs: Programs, deadline: Deadline) -> None:
    """To programs of another major version every control file looks damaged. NotInstalled if these are."""
    data, installed = read_major(pgdata), programs.major(deadline)
    if data != installed:
        raise NotInstalled(
            f"{pgdata} belongs to PostgreSQL {data}, and the programs beside {programs.pg_ctl} are of {installed}"
        )


def least_end_of_wal(pgdata: str, control: ControlData) -> Position | None:
    """Where the WAL of a stopped standby ends at least; None if the control file does not say."""
    if not control.minimum_recovery_end:
        return None
    return Position(control.minimum_recovery_end, read_history(pgdata, control.minimum_recovery_timeline))


def end_of_wal(pgdata: str, control: ControlData, programs: Programs, deadline: Deadline) -> Position | None:
    """Where the valid WAL of a stopped former primary really ends; None if that cannot be found.

    It is read from the last checkpoint on, as crash recovery would. After a clean stop that is the end of the shutdown
    checkpoint.
    """
    history = read_history(pgdata, newest_timeline(pgdata, control.timeline))
    # Before the first checkpoint after a promotion, or several, the WAL goes on where the newest timeline begins.
    begin = max([control.redo, *(fork for _, fork in history.forks)])
    found = valid_until(pgdata, history, begin, programs, deadline)
    # The checkpoint itself has to be there.
    return found if found and found.lsn > control.redo else None

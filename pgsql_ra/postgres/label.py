# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup_label in the way of a single server: whose it is, and setting it aside if it is nobody's any more.

What the server does (StartupXLOG in src/backend/access/transam/xlog.c; from PostgreSQL 15 on xlogrecovery.c): if there
is a backup_label, it recovers from the checkpoint that the label names instead of the one in pg_control, and renames
the label to backup_label.old when it has begun. For a restored base backup that is the only right thing: recovering
from pg_control's checkpoint would leave torn and missing pages behind, without a word. So a label is never removed on
suspicion.

Up to PostgreSQL 14 an exclusive backup (pg_start_backup) writes its label into the running server's own directory, and
one that crashes then keeps it. That label is of no use, but mostly of no harm either: recovery begins a little earlier.
It does harm in one case only: the WAL from there on was removed meanwhile, and the server says "could not locate
required checkpoint record" and does not start. That case, and no other, is what `stale_label` finds.
"""

import os
import re

from pgsql_ra.ocf import Log, NotPermitted
from pgsql_ra.postgres.control import ClusterPhase, ControlData
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.postgres.wal import has_segment, segment_bytes
from pgsql_ra.replication.lsn import Lsn

LABEL = "backup_label"
ASIDE = "backup_label.old"
LAST_WITH_EXCLUSIVE_BACKUPS = 14

_CRASHED_HERE = ("postmaster.opts", "postmaster.pid")
_RESTORED_HERE = ("recovery.signal", "standby.signal")
_START = re.compile(r"^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) \(file ([0-9A-F]{24})\)$", re.MULTILINE)
_METHOD = re.compile(r"^BACKUP METHOD: pg_start_backup$", re.MULTILINE)


def has_label(pgdata: str) -> bool:
    """Whether there is one."""
    return files_in(pgdata).exists(os.path.join(pgdata, LABEL))


def stale_label(pgdata: str, major: int, control: ControlData) -> str:
    """Why the backup_label in `pgdata` is one of a server that crashed here and cannot use it; "" if it is not, or if
    there is any doubt.

    Each fact rules out a restored backup. Copies by pg_basebackup and by the documented procedure lack postmaster.opts
    and postmaster.pid; all but exclusive backups are called "streamed"; whoever restores leaves a signal file; and a
    backup that holds the WAL it was begun with starts with its label.
    """
    try:
        text = files_in(pgdata).text(os.path.join(pgdata, LABEL))
    except OSError:
        return ""  # what it is, the server will say
    start = _START.search(text)
    if major > LAST_WITH_EXCLUSIVE_BACKUPS or not _METHOD.search(text) or start is None:
        return ""
    if control.phase is not ClusterPhase.PRODUCTION or not _all_there(pgdata, _CRASHED_HERE):
        return ""
    if any(_all_there(pgdata, (name,)) for name in _RESTORED_HERE):
        return ""
    size = segment_bytes(pgdata)
    timeline = int(start[2][:8], 16)
    if has_segment(pgdata, timeline, Lsn.parse(start[1]), size):
        return ""
    if not has_segment(pgdata, control.timeline, control.redo, size):
        return ""
    return (
        f"it belongs to an exclusive backup during which this server crashed, and the WAL from {start[1]} on, which it"
        " asks for, is not there any more"
    )


def set_label_aside(pgdata: str, because: str, files: UserFiles, log: Log) -> None:
    """Rename it, as the server would. NotPermitted if that cannot be done."""
    label = os.path.join(pgdata, LABEL)
    log.warning(f"{LABEL} in {pgdata} is renamed to {ASIDE}: {because}")
    try:
        files.rename(label, os.path.join(pgdata, ASIDE))
    except OSError as error:
        raise NotPermitted(f"cannot rename {label}, which {because}: {error.strerror}") from error


def _all_there(pgdata: str, names: tuple[str, ...]) -> bool:
    files = files_in(pgdata)
    return all(files.exists(os.path.join(pgdata, name)) for name in names)

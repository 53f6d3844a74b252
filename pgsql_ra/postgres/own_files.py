# SPDX-License-Identifier: GPL-2.0-or-later
"""What belongs to this node although it lies in the data directory: configuration, certificates.

pg_rewind and pg_basebackup bring the primary's files of the same names along.
"""

import os
import stat

from pgsql_ra.postgres.user_files import UserFiles

POSTGRESQLS_OWN = frozenset(
    {
        "PG_VERSION",
        "backup_label",
        "backup_label.old",
        "backup_manifest",
        "current_logfiles",
        "postmaster.opts",
        "postmaster.pid",
        "recovery.signal",
        "standby.signal",
        "tablespace_map",
        "tablespace_map.old",
    }
)
LARGEST_BYTES = 16 << 20
"""What is larger is no configuration."""


def save_own_files(files: UserFiles, pgdata: str, place: str) -> None:
    """A copy of this node's own files is in `place`, on disk; a copy that is there already is left as it is: it was
    made before the files were touched.
    """
    if files.is_directory(place):
        return
    beside = f"{place}.new"
    if files.exists(beside):
        files.remove_tree(beside)
    files.make_directory(beside)
    for name in own_files(files, pgdata):
        files.copy(os.path.join(pgdata, name), os.path.join(beside, name))
    files.rename(beside, place)


def put_own_files(files: UserFiles, place: str, pgdata: str) -> None:
    """The files in `place` are in `pgdata` again, on disk; the primary's of the same kind are gone."""
    for name in own_files(files, pgdata):
        files.remove_tree(os.path.join(pgdata, name))
    for name in files.names(place):
        files.copy(os.path.join(place, name), os.path.join(pgdata, name))
    files.sync(pgdata)


def own_files(files: UserFiles, pgdata: str) -> list[str]:
    """Files at the top of a data directory that are not PostgreSQL's own, and directories of included files (*.d)."""

    def is_own(name: str) -> bool:
        if name in POSTGRESQLS_OWN or name.startswith("pg_wal"):
            return False
        details = files.status(os.path.join(pgdata, name))
        if stat.S_ISREG(details.st_mode):
            return details.st_size <= LARGEST_BYTES
        return stat.S_ISLNK(details.st_mode) or (stat.S_ISDIR(details.st_mode) and name.endswith(".d"))

    return [name for name in files.names(pgdata) if is_own(name)]

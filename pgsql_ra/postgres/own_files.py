# SPDX-License-Identifier: GPL-2.0-or-later
"""What belongs to this node although it lies in the data directory: configuration, certificates.

pg_rewind and pg_basebackup bring the primary's files of the same names along.
"""

import os
import shutil

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


def save_own_files(pgdata: str, place: str) -> None:
    """A copy of this node's own files is in `place`, on disk; a copy that is there already is left as it is: it was
    made before the files were touched.
    """
    if os.path.isdir(place):
        return
    beside = f"{place}.new"
    shutil.rmtree(beside, ignore_errors=True)
    os.mkdir(beside, 0o700)
    for name in own_files(pgdata):
        _copy(os.path.join(pgdata, name), os.path.join(beside, name))
    os.rename(beside, place)
    sync(os.path.dirname(place))


def put_own_files(place: str, pgdata: str) -> None:
    """The files in `place` are in `pgdata` again, on disk; the primary's of the same kind are gone."""
    for name in own_files(pgdata):
        _remove(os.path.join(pgdata, name))
    for name in sorted(os.listdir(place)):
        _copy(os.path.join(place, name), os.path.join(pgdata, name))
    sync(pgdata)


def own_files(pgdata: str) -> list[str]:
    """Files at the top of a data directory that are not PostgreSQL's own, and directories of included files (*.d)."""
    found = []
    with os.scandir(pgdata) as entries:
        for entry in entries:
            is_file = entry.is_symlink() or (entry.is_file() and entry.stat().st_size <= LARGEST_BYTES)
            is_snippets = entry.name.endswith(".d") and entry.is_dir(follow_symlinks=False)
            if entry.name not in POSTGRESQLS_OWN and not entry.name.startswith("pg_wal") and (is_file or is_snippets):
                found.append(entry.name)
    return sorted(found)


def _copy(source: str, target: str) -> None:
    if os.path.isdir(source) and not os.path.islink(source):
        os.mkdir(target)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name))
    else:
        shutil.copy2(source, target, follow_symlinks=False)
    details = os.lstat(source)
    os.chown(target, details.st_uid, details.st_gid, follow_symlinks=False)
    if not os.path.islink(source):
        os.chmod(target, details.st_mode & 0o7777)
        sync(target)


def sync(path: str) -> None:
    """A file, or the names in a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)

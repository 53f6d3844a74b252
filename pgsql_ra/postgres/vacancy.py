# SPDX-License-Identifier: GPL-2.0-or-later
"""A place without data: there is no data directory, or nothing is in it.

A filesystem that is not mounted looks just the same, so what /etc/fstab names is compared with what the kernel has
mounted before anything is put there. Whether a copy of the primary may be is decided in replication.rejoin.
"""

import os
import re
from collections.abc import Iterator

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.reading import files_in

FSTAB = "/etc/fstab"
MOUNTINFO = "/proc/self/mountinfo"
LOST_AND_FOUND = "lost+found"
_MOUNT_POINT_IN_FSTAB = 1
_MOUNT_POINT_IN_MOUNTINFO = 4
_ESCAPE = re.compile(r"\\([0-7]{3})")


def is_vacant(pgdata: str) -> bool:
    """Whether there is no such directory, or nothing but a lost+found in it."""
    try:
        return not set(files_in(pgdata).names(pgdata)) - {LOST_AND_FOUND}
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    except OSError as error:
        raise NotPermitted(f"cannot read the data directory {pgdata}: {error.strerror}") from error


def hindrance(pgdata: str, fstab: str = FSTAB, mountinfo: str = MOUNTINFO) -> str:
    """Why nothing can be put in the place of this data directory, and what to do about it; "" if nothing is in the
    way.
    """
    real = os.path.realpath(pgdata)
    mounted = set(_mount_points(mountinfo, _MOUNT_POINT_IN_MOUNTINFO))
    for place in _mount_points(fstab, _MOUNT_POINT_IN_FSTAB):
        where = os.path.realpath(place)
        if where != "/" and where not in mounted and f"{real}/".startswith(f"{where}/"):
            return f"the filesystem of {place} (/etc/fstab) is not mounted: mount it"
    if real in mounted:
        return cannot_swap(real)
    parent = os.path.dirname(real)
    return "" if os.path.isdir(parent) else f"there is no directory {parent} to make it in"


def cannot_swap(path: str) -> str:
    """The sentence for a mount point, which cannot change places with a copy."""
    return (
        f"{path} is a mount point, so a copy cannot be made beside it: rebuild this node by hand with pg_basebackup, or"
        " keep the data in a directory below the mount point"
    )


def _mount_points(table: str, column: int) -> Iterator[str]:
    """The directories in one column of a table of filesystems, in which blanks are written as \\040 (fstab(5))."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file if not line.lstrip().startswith("#")]
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotPermitted(f"cannot read {table}: {error.strerror}") from error
    for row in rows:
        # Swap space has "none" there.
        if len(row) > column and row[column].startswith("/"):
            yield _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), row[column])

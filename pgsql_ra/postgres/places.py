# SPDX-License-Identifier: GPL-2.0-or-later
"""The places outside of the data directory that a server needs to start: its log file, its socket directory, and the
directory for temporary statistics of PostgreSQL 14 and older.

/run is emptied at every boot, so what lies there has to be made again by whoever starts the server.
"""

import os
import stat

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.user import DatabaseUser

SOCKET_DIRECTORY_MODE = 0o2775
STATISTICS_MODE = 0o700


def prepare_log(path: str, user: DatabaseUser) -> None:
    """The log file is there and the database user may write it; what is no plain file (/dev/null) is left alone."""
    try:
        if not os.path.exists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            user.own(path)
    except OSError as error:
        raise NotPermitted(f"cannot make the log file {path} (parameter logfile): {error.strerror}") from error
    with user.acting():
        if not os.access(path, os.W_OK, effective_ids=True):
            raise NotPermitted(f"{user.name} cannot write the log file {path} (parameter logfile)")


def prepare_directory(path: str, mode: int, user: DatabaseUser, parameter: str) -> None:
    """The directory is there and the database user may write it. One that exists keeps its owner and mode."""
    try:
        if not os.path.isdir(path):
            os.makedirs(path)
            user.own(path)
            os.chmod(path, mode)
    except OSError as error:
        raise NotPermitted(f"cannot make the directory {path} ({parameter}): {error.strerror}") from error
    with user.acting():
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            details = os.stat(path)
            raise NotPermitted(
                f"{user.name} cannot write the directory {path} ({parameter}): it belongs to user {details.st_uid}"
                f" and has mode {stat.S_IMODE(details.st_mode):04o}"
            )

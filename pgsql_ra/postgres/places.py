# SPDX-License-Identifier: GPL-2.0-or-later
"""The places outside of the data directory that a server needs to start: its log file, its socket directory, and the
directory for temporary statistics of PostgreSQL 14 and older.

/run is emptied at every boot, so what lies there has to be made again by whoever starts the server.
"""

import os
import stat

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.user_files import UserFiles

SOCKET_DIRECTORY_MODE = 0o2775
STATISTICS_MODE = 0o700


def prepare_log(path: str, files: UserFiles) -> None:
    """The log file is there and the database user may write it; what is no plain file (/dev/null) is left alone."""
    try:
        files.provide_file(path)
    except OSError as error:
        raise NotPermitted(f"cannot make the log file {path} (parameter logfile): {error.strerror}") from error
    if not files.may(path, os.W_OK):
        raise NotPermitted(f"{files.user.name} cannot write the log file {path} (parameter logfile)")


def prepare_socket_directory(path: str, files: UserFiles) -> None:
    """The directory is there and the database user may write it. One that exists keeps its owner and mode."""
    try:
        files.provide_directory(path, SOCKET_DIRECTORY_MODE)
    except OSError as error:
        raise _cannot_make(path, "parameter socketdir", error) from error
    _require_writable(path, files, "parameter socketdir")


def prepare_statistics_directory(path: str, files: UserFiles) -> None:
    """The same for a directory that the server's configuration names. It is made by the user alone: any superuser of
    the database says there what he likes.
    """
    try:
        files.make_directories(path, STATISTICS_MODE)
    except OSError as error:
        raise _cannot_make(path, "stats_temp_directory", error) from error
    _require_writable(path, files, "stats_temp_directory")


def _cannot_make(path: str, parameter: str, error: OSError) -> NotPermitted:
    return NotPermitted(f"cannot make the directory {path} ({parameter}): {error.strerror}")


def _require_writable(path: str, files: UserFiles, parameter: str) -> None:
    if not files.may(path, os.W_OK | os.X_OK):
        details = files.status(path)
        raise NotPermitted(
            f"{files.user.name} cannot write the directory {path} ({parameter}): it belongs to user {details.st_uid}"
            f" and has mode {stat.S_IMODE(details.st_mode):04o}"
        )

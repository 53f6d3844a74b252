# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing a file in one step that survives a crash, whoever else replaces it at the same time."""

import fcntl
import os
from secrets import token_hex

_UNFINISHED = ".unfinished-"


def replace_file(directory: int, name: str, text: str) -> None:
    """The file of this name in an open directory has this text, on disk. Whoever reads it sees the old text or the new
    one.

    Each writer has a temporary file of its own. What killed writers have left is removed.
    """
    beside = f"{name}{_UNFINISHED}{token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(
            os.open(beside, flags, 0o600, dir_fd=directory), "w", encoding="utf-8", errors="surrogateescape"
        ) as file:
            # Held as long as this process works on it: whoever finds it unlocked may clean up after a killed one.
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except BaseException:
        _unlink_if_there(directory, beside)
        raise
    for left in os.listdir(directory):
        if left.startswith(f"{name}{_UNFINISHED}"):
            _clean_up(directory, left)


def _clean_up(directory: int, name: str) -> None:
    """Remove what a killed writer has left; what another one is writing just now is locked, or empty still. What cannot
    be removed is no reason to fail.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size:
            _unlink_if_there(directory, name)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _unlink_if_there(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return

# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what belongs to the server's user, as that user (see postgres.user_files).

What is read is a plain file of a bounded size, and no link: a pipe named postmaster.pid would keep `stop` waiting for
ever. What an error says never holds what a file holds.

`stop` uses this module, so it loads nothing that could be missing.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from pgsql_ra.postgres.user import acting_as

LARGEST_BYTES = 1 << 20
"""Of the small files that the agent reads: larger ones are not what they should be."""
PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Actor(Protocol):
    """Somebody whom the agent can act as."""

    def acting(self) -> AbstractContextManager[None]:
        """Within this context the process acts as this user."""
        ...


class Owner:
    """Whoever a directory belongs to: for reading there when nobody may be asked who that is.

    A directory of root's is read as root: the contents of what is read are never shown.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within this context the process acts as the owner. OSError if there is no such directory."""
        details = os.stat(self._directory)
        with acting_as(details.st_uid, details.st_gid, []):
            yield


class Reader:
    """Reading as somebody. Each method raises OSError; that a file is not plain, or a link, is one too (EINVAL)."""

    def __init__(self, actor: Actor) -> None:
        self._acting = actor.acting

    def read(self, path: str, most: int = LARGEST_BYTES, offset: int = 0) -> bytes:
        """The content of a plain file from `offset` on, and no more than `most` bytes of it."""
        with self._open(path, os.O_RDONLY) as descriptor:
            parts, left = [], most
            os.lseek(descriptor, offset, os.SEEK_SET)
            while left > 0 and (part := os.read(descriptor, left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)

    def text(self, path: str, most: int = LARGEST_BYTES) -> str:
        """The same as text; bytes that are none are replaced."""
        return self.read(path, most).decode(errors="replace")

    def read_linked(self, path: str, most: int = LARGEST_BYTES) -> bytes:
        """The same of a file that links may lead to."""
        with self._acting():
            return self.read(os.path.realpath(path), most)

    def size(self, path: str) -> int:
        """How large a plain file is."""
        with self._open(path, os.O_RDONLY) as descriptor:
            return os.fstat(descriptor).st_size

    def exists(self, path: str) -> bool:
        """Whether there is anything of this name, a link that leads nowhere included."""
        with self._acting():
            return os.path.lexists(path)

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory, by a link too."""
        with self._acting():
            return os.path.isdir(path)

    def is_link(self, path: str) -> bool:
        """Whether there is a link."""
        with self._acting():
            return os.path.islink(path)

    def may(self, path: str, what: int) -> bool:
        """Whether this may be done to a file (os.R_OK, os.W_OK, os.X_OK)."""
        with self._acting():
            return os.access(path, what, effective_ids=True)

    def names(self, directory: str) -> list[str]:
        """What is in a directory, sorted."""
        with self._acting():
            return sorted(os.listdir(directory))

    def target(self, link: str) -> str:
        """What a link says."""
        with self._acting():
            return os.readlink(link)

    def status(self, path: str) -> os.stat_result:
        """What the system says of a file, of the link if it is one."""
        with self._acting():
            return os.lstat(path)

    @contextmanager
    def _open(self, path: str, flags: int, mode: int = 0o600) -> Iterator[int]:
        with self._acting():
            try:
                descriptor = os.open(path, flags | PLAIN, mode)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise OSError(errno.EINVAL, "it is a link", path) from error
                raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a plain file", path)
            yield descriptor
        finally:
            os.close(descriptor)


def files_in(directory: str) -> Reader:
    """To read what lies in a directory as whoever it belongs to."""
    return Reader(Owner(directory))

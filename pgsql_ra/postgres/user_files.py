# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way to touch a file that belongs to the server's user: as that user.

The agent is root, but the data directory, what lies beside it, tmpdir, and the directories of the log, the socket and
the statistics are not: every superuser of the database can act as the server's user (COPY ... TO PROGRAM), and puts a
link, a pipe or another directory there at any moment, between two steps of this agent too. So each step is made with
the user's own rights (effective ids), and the kernel refuses what that user may not do. (postgres.reading reads.)

Root itself makes a file or directory for the user only where only root writes (pgsql_ra.trusted), such as in /run.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgsql_ra.ocf import Deadline, NotPermitted
from pgsql_ra.postgres.reading import PLAIN, Reader
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.replacing import replace_file
from pgsql_ra.trusted import NotTrusted, is_roots_way, roots_path, trusted_directory

LOCK_SECONDS = 10.0


class UserFiles(Reader):
    """Reading and changing as the server's user. Each method raises OSError if it cannot be done."""

    def __init__(self, user: DatabaseUser) -> None:
        super().__init__(user)
        self.user = user

    def write(self, path: str, text: str) -> None:
        """Replace a file, or a link, in one step that survives a crash."""
        with self._acting(), _opened(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY, follow=True) as directory:
            replace_file(directory, os.path.basename(path), text)

    def append(self, path: str, text: str) -> None:
        """Add to a plain file, which a link may lead to: it is the user's to say where."""
        with self._acting():
            self._append(os.path.realpath(path), text)

    def _append(self, path: str, text: str) -> None:
        with self._open(path, os.O_WRONLY | os.O_APPEND) as descriptor:
            _write_all(descriptor, text.encode(errors="surrogateescape"))
            os.fsync(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file or link."""
        with self._acting():
            os.unlink(path)

    def remove_tree(self, path: str) -> None:
        """Remove a file, a link, or a directory with all that is in it (by descriptors: see shutil.rmtree)."""
        with self._acting():
            if not os.path.isdir(path) or os.path.islink(path):
                os.unlink(path)
                return
            for name in os.listdir(path):
                each = os.path.join(path, name)
                if os.path.isdir(each) and not os.path.islink(each):
                    shutil.rmtree(each)
                else:
                    os.unlink(each)
        self.remove_directory(path)

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory, of the user's if it lies in one of root's."""

        def as_root(parent: int, name: str) -> None:
            self._require_own(parent, name)
            os.rmdir(name, dir_fd=parent)

        try:
            with self._acting():
                os.rmdir(path)
        except PermissionError:
            self._in_roots_directory(path, as_root)

    def rename(self, old: str, new: str) -> None:
        """Rename, and have it on disk. A directory of the user's that lies in one of root's is renamed there only."""

        def as_root(parent: int, name: str) -> None:
            self._require_own(parent, name)
            os.rename(name, os.path.basename(new), src_dir_fd=parent, dst_dir_fd=parent)

        directories = {os.path.dirname(old), os.path.dirname(new)}
        try:
            with self._acting():
                os.rename(old, new)
        except PermissionError:
            if len(directories) > 1:
                raise
            self._in_roots_directory(old, as_root)
            return
        for directory in directories:
            self.sync(directory)

    def _require_own(self, parent: int, name: str) -> None:
        """What root touches here belongs to the user."""
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid != self.user.uid:
            raise PermissionError(errno.EPERM, f"it does not belong to {self.user.name}", name)

    def make_directories(self, path: str, mode: int = 0o700) -> None:
        """A directory with all that is missing above it; one that is there is left as it is."""
        with self._acting():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                os.mkdir(path, mode)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        """A new directory."""
        with self._acting():
            os.mkdir(path, mode)

    def make_private(self, path: str) -> int:
        """Whose the directory is; if it is the user's, it is nobody else's to enter."""
        with self._acting(), _opened(path, os.O_RDONLY | os.O_DIRECTORY, follow=True) as descriptor:
            owner = os.fstat(descriptor).st_uid
            if owner == self.user.uid:
                os.fchmod(descriptor, 0o700)
            return owner

    def link(self, target: str, path: str) -> None:
        """A link of this name, in the place of what is there."""
        with self._acting():
            beside = f"{path}.pgsql-ra"
            if os.path.lexists(beside):
                os.unlink(beside)
            os.symlink(target, beside)
            os.rename(beside, path)

    def copy(self, source: str, target: str) -> None:
        """Copy a file, a link as a link, or a directory with what is in it, on disk. What the user may not read, or is
        neither, is left out: the server cannot need it.
        """
        with self._acting():
            _copy(source, target)

    def sync(self, path: str) -> None:
        """A file, or the names in a directory, are on disk."""
        with self._acting():
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextmanager
    def locked(self, directory: str, deadline: Deadline | None = None) -> Iterator[None]:
        """Within this context no other agent is in one for the same directory. DeadlineExceeded after a while."""
        limit = deadline or Deadline(LOCK_SECONDS)
        with self._acting():
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    limit.pause(f"the lock of {directory}", 0.02)
            yield
        finally:
            os.close(descriptor)

    # What may lie in a directory of root's

    def provide_directory(self, path: str, mode: int) -> None:
        """A directory of the user's. One that exists is left as it is."""
        if self.is_directory(path):
            return

        def as_root(parent: int, name: str) -> None:
            os.mkdir(name, 0o700, dir_fd=parent)
            with _opened(name, os.O_RDONLY | os.O_DIRECTORY, parent) as descriptor:
                if os.fstat(descriptor).st_uid != 0 or os.listdir(descriptor):
                    raise NotPermitted(f"somebody has put another directory in the place of {path}")
                os.fchown(descriptor, self.user.uid, self.user.gid)
                os.fchmod(descriptor, mode)

        try:
            self.make_directories(path, 0o700)
            with self._acting(), _opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
                os.fchmod(descriptor, mode)
        except PermissionError:
            self._in_roots_directory(path, as_root)

    def provide_file(self, path: str) -> None:
        """A file of the user's. One that exists is left as it is."""

        def as_root(parent: int, name: str) -> None:
            with _opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, parent) as descriptor:
                os.fchown(descriptor, self.user.uid, self.user.gid)

        try:
            with self._acting(), _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                os.fsync(descriptor)
            self.sync(os.path.dirname(path))
        except FileExistsError:
            return
        except PermissionError:
            self._in_roots_directory(path, as_root)

    def remove_provided(self, path: str) -> None:
        """There is no such file; it may have been made in a directory of root's."""

        def as_root(parent: int, name: str) -> None:
            os.unlink(name, dir_fd=parent)

        try:
            self.remove(path)
            self.sync(os.path.dirname(path))
        except FileNotFoundError:
            return
        except PermissionError:
            self._in_roots_directory(path, as_root)

    def append_provided(self, path: str, text: str) -> None:
        """Add to a file that is the user's, or root's in a directory of root's."""
        try:
            self.append(path, text)
        except PermissionError as error:
            # A link that root made may lead there, and none that the user has made.
            if not is_roots_way(path):
                raise PermissionError(errno.EACCES, error.strerror, path) from error
            self._in_roots_directory(roots_path(path), lambda parent, name: _append_as_root(parent, name, text))

    @staticmethod
    def _in_roots_directory(path: str, act: Callable[[int, str], None]) -> None:
        """Do it as root, if only root changes the way there; else the user's own error stands."""
        if os.geteuid() != 0:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        try:
            with trusted_directory(os.path.dirname(path), 0o755, shared=True) as parent:
                act(parent, os.path.basename(path))
                os.fsync(parent)
        except NotTrusted as error:
            # What the user may not do, and root must not.
            raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)}; {error}", path) from error


@contextmanager
def _opened(path: str, flags: int, parent: int | None = None, follow: bool = False) -> Iterator[int]:
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, 0o600, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _append_as_root(parent: int, name: str, text: str) -> None:
    with _opened(name, os.O_WRONLY | os.O_APPEND, parent) as descriptor:
        details = os.fstat(descriptor)
        directory = os.fstat(parent)
        shared = (details.st_mode | directory.st_mode) & 0o022 or details.st_nlink != 1
        if details.st_uid != 0 or not stat.S_ISREG(details.st_mode) or shared:
            raise PermissionError(errno.EACCES, "neither the database user may write it nor root alone", name)
        _write_all(descriptor, text.encode(errors="surrogateescape"))
        os.fsync(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _copy(source: str, target: str) -> None:
    details = os.lstat(source)
    if stat.S_ISLNK(details.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(details.st_mode):
        os.mkdir(target, 0o700)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name))
        os.chmod(target, stat.S_IMODE(details.st_mode))
    elif stat.S_ISREG(details.st_mode):
        _copy_file(source, target)


def _copy_file(source: str, target: str) -> None:
    try:
        origin = os.open(source, os.O_RDONLY | PLAIN)
    except PermissionError:
        return
    with os.fdopen(origin, "rb") as reading:
        details = os.fstat(origin)
        with _opened(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            while block := reading.read(1 << 20):
                _write_all(descriptor, block)
            os.fchmod(descriptor, stat.S_IMODE(details.st_mode))
            os.utime(descriptor, ns=(details.st_atime_ns, details.st_mtime_ns))
            os.fsync(descriptor)

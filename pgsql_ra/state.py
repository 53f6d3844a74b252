# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent believes and acts upon as root: files in a directory that only root can write, one for each resource.

What lies in tmpdir or in the data directory may have been put there by anybody who is a superuser of the database. So
the job that repairs the data, the newest promotion, and whatever else makes root do something, lie here, in
/var/lib/pgsql-ra/RESOURCE (PGSQL_RA_STATE_DIR names another place than /var/lib/pgsql-ra).

`stop` uses this module, so it loads nothing that could be missing.
"""

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pgsql_ra.ocf import Deadline, NotPermitted
from pgsql_ra.replacing import replace_file
from pgsql_ra.trusted import NotTrusted, trusted_directory

DEFAULT_PLACE = "/var/lib/pgsql-ra"
PLACE_VARIABLE = "PGSQL_RA_STATE_DIR"
LARGEST_BYTES = 1 << 20
"""What is larger the agent did not write."""
LOCK_SECONDS = 10.0


class StateDirectory:
    """The state of one resource on this node.

    Names are those of files directly in it. NotPermitted, with what to do, if the directory is not root's alone.
    """

    def __init__(self, resource: str, environ: Mapping[str, str]) -> None:
        self.resource = resource
        self._place = environ.get(PLACE_VARIABLE) or DEFAULT_PLACE
        # Pacemaker's names hold no slash (they are XML identifiers); by hand anything may be said.
        name = resource.replace("/", "_")
        self._directory = os.path.join(self._place, f"_{name}" if name in ("", ".", "..") else name)

    def path(self, name: str) -> str:
        """Where the file of this name lies, to be told to people."""
        return os.path.join(self._directory, name)

    def read(self, name: str) -> str | None:
        """What the file says; None if there is none. NotPermitted if it cannot be read: that is not the same."""
        try:
            with self._open(create=False) as directory:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
                with os.fdopen(descriptor, "rb") as file:
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        raise NotPermitted(f"{self.path(name)} is not a file: remove it")
                    data = file.read(LARGEST_BYTES + 1)
            if len(data) > LARGEST_BYTES:
                raise NotPermitted(f"{self.path(name)} is too large to be the agent's")
            return data.decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise NotPermitted(f"{self.path(name)} is damaged: it is no text") from error
        except OSError as error:
            raise NotPermitted(f"cannot read {self.path(name)}: {error.strerror}") from error

    def write(self, name: str, text: str) -> None:
        """The file says this, on disk. Whoever reads it sees the old text or the new one."""
        try:
            with self._open(create=True) as directory:
                replace_file(directory, name, text)
        except OSError as error:
            raise NotPermitted(f"cannot write {self.path(name)}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """There is no such file."""
        try:
            with self._open(create=False) as directory:
                os.unlink(name, dir_fd=directory)
                os.fsync(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise NotPermitted(f"cannot remove {self.path(name)}: {error.strerror}") from error

    def open_lock(self, name: str, create: bool = True) -> int:
        """A descriptor of this file, to be locked (flock) and closed. FileNotFoundError without `create`."""
        try:
            with self._open(create) as directory:
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
                return os.open(name, flags, 0o600, dir_fd=directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise NotPermitted(f"cannot open {self.path(name)}: {error.strerror}") from error

    @contextmanager
    def locked(self, name: str, deadline: Deadline | None = None) -> Iterator[None]:
        """Within this context nobody else is in one of the same name. DeadlineExceeded if that is so for too long."""
        descriptor = self.open_lock(name)
        limit = deadline or Deadline(LOCK_SECONDS)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    limit.pause(f"the lock {self.path(name)}", 0.02)
            yield
        finally:
            os.close(descriptor)

    def others(self) -> "list[StateDirectory]":
        """The state of all other resources that this node has or had."""
        try:
            with self._trusted(self._place) as place:
                names = sorted(os.listdir(place))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise NotPermitted(f"cannot read {self._place}: {error.strerror}") from error
        own = os.path.basename(self._directory)
        return [StateDirectory(name, {PLACE_VARIABLE: self._place}) for name in names if name != own]

    @contextmanager
    def alone(self, deadline: Deadline) -> Iterator[None]:
        """Within this context no other resource is in one like it. DeadlineExceeded if that is so for too long."""
        try:
            with self._trusted(self._place, 0o755) as place:
                while True:
                    try:
                        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        deadline.pause(f"the lock of {self._place}", 0.02)
                yield
        except OSError as error:
            raise NotPermitted(f"cannot use {self._place}: {error.strerror}") from error

    @staticmethod
    @contextmanager
    def _trusted(path: str, create: int = 0) -> Iterator[int]:
        try:
            with trusted_directory(path, create) as directory:
                yield directory
        except NotTrusted as error:
            raise NotPermitted(f"{error}, so what root believes cannot lie in {path}: give it back to root") from error

    @contextmanager
    def _open(self, create: bool) -> Iterator[int]:
        """The directory, by a way that only root can change. It is made if that is wanted."""
        with self._trusted(self._directory, 0o700 if create else 0) as directory:
            details = os.fstat(directory)
            if details.st_uid != os.geteuid() or details.st_mode & 0o077:
                raise NotPermitted(
                    f"{self._directory} has to be root's alone, and belongs to user {details.st_uid} with mode"
                    f" {stat.S_IMODE(details.st_mode):04o}: look who has changed it, then chown root and chmod 0700"
                )
            yield directory

# SPDX-License-Identifier: GPL-2.0-or-later
"""Going down to a directory that only root changes, so that root may act there by name.

Whoever may write a directory may put anything in it under any name: a link to /etc, another directory. So root goes
down from / one step at a time, holds on to each directory that it has reached, and goes on only while nobody else may
write what it has come through. (An agent that runs as the database user takes that user's own directories as well.)
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from pgsql_ra.ocf import NotPermitted

_MOST_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotTrusted(NotPermitted):
    """Somebody else than root may change what is found at this path."""


@contextmanager
def trusted_directory(path: str, create: int = 0, shared: bool = False) -> Iterator[int]:
    """The directory, open. If `create` is a mode, what is missing is made: the directory with this mode, those above it
    for everybody to enter.

    With `shared` others may write this last directory (not those above it): then it is what it seems to be, but names
    in it are anybody's. NotTrusted if others may change the way there. FileNotFoundError, NotADirectoryError.
    """
    descriptor = _descend(path, create, shared)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def roots_path(path: str) -> str:
    """Where this path leads if only root says so: nobody else can change what is above it, or has made it a link.
    NotTrusted otherwise.
    """
    for _ in range(_MOST_LINKS):
        path = os.path.abspath(path)
        with trusted_directory(os.path.dirname(path)) as parent:
            try:
                details = os.stat(os.path.basename(path), dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return path
            if not stat.S_ISLNK(details.st_mode):
                return path
            if details.st_uid not in _owners():
                raise NotTrusted(f"{path} is a link that does not belong to root")
            path = os.path.join(os.path.dirname(path), os.readlink(os.path.basename(path), dir_fd=parent))
    raise NotTrusted(f"{path}: too many links")


def is_roots_way(path: str) -> bool:
    """Whether only root says where this path leads."""
    try:
        roots_path(path)
    except (OSError, NotTrusted):
        return False
    return True


def _descend(path: str, create: int, shared: bool) -> int:
    walk = _Walk()
    ahead = [part for part in os.path.abspath(path).split("/") if part]
    links = 0
    try:
        while ahead:
            _require_trust(walk.here, walk.path)
            name = ahead.pop(0)
            if name == "..":
                walk.up()
                continue
            if create:
                _make(walk.here, name, 0o755 if ahead else create)
            if (target := walk.link(name)) is None:
                walk.down(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise NotTrusted(f"{path}: too many links")
            ahead = [part for part in target.split("/") if part not in ("", ".")] + ahead
            if target.startswith("/"):
                walk.restart()
        if not shared:
            _require_trust(walk.here, walk.path)
        elif os.fstat(walk.here).st_uid not in _owners():
            raise NotTrusted(f"{walk.path} does not belong to root")
        return os.dup(walk.here)
    finally:
        walk.close()


class _Walk:
    """Where one is, and the directories above, which links may lead back to."""

    def __init__(self) -> None:
        self._stack = [("", os.open("/", _DIRECTORY))]

    @property
    def here(self) -> int:
        return self._stack[-1][1]

    @property
    def path(self) -> str:
        return "/".join(name for name, _ in self._stack) or "/"

    def down(self, name: str) -> None:
        self._stack.append((name, os.open(name, _DIRECTORY, dir_fd=self.here)))

    def up(self) -> None:
        if len(self._stack) > 1:
            os.close(self._stack.pop()[1])

    def restart(self) -> None:
        while len(self._stack) > 1:
            self.up()

    def link(self, name: str) -> str | None:
        """What a link of this name says; None if it is no link."""
        details = os.stat(name, dir_fd=self.here, follow_symlinks=False)
        if not stat.S_ISLNK(details.st_mode):
            return None
        if details.st_uid not in _owners():
            raise NotTrusted(f"{self.path.rstrip('/')}/{name} is a link that does not belong to root: remove it")
        return os.readlink(name, dir_fd=self.here)

    def close(self) -> None:
        for _, descriptor in self._stack:
            os.close(descriptor)


def _make(here: int, name: str, mode: int) -> None:
    """A directory that is there already is left as it is."""
    try:
        os.mkdir(name, mode, dir_fd=here)
    except FileExistsError:
        return
    # Whatever the umask is. In a directory with the sticky bit nobody else can have put another one in its place.
    below = os.open(name, _DIRECTORY, dir_fd=here)
    try:
        os.fchmod(below, mode)
    finally:
        os.close(below)


def _require_trust(descriptor: int, path: str) -> None:
    """Only root makes, renames and removes what is root's in this directory."""
    details = os.fstat(descriptor)
    if details.st_uid not in _owners():
        raise NotTrusted(f"{path} belongs to user {details.st_uid}, and not to root")
    by_group = details.st_mode & stat.S_IWGRP and details.st_gid != 0
    if (by_group or details.st_mode & stat.S_IWOTH) and not details.st_mode & stat.S_ISVTX:
        raise NotTrusted(f"{path} may be written by others than root (mode {stat.S_IMODE(details.st_mode):04o})")


def _owners() -> tuple[int, int]:
    return 0, os.geteuid()

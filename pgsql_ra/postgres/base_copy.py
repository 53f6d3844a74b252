# SPDX-License-Identifier: GPL-2.0-or-later
"""A new copy of the primary in the place of a data directory.

The copy is made beside what is there, so that a copy that fails changes nothing. Then the two change places: a list of
renamings is noted durably first and carried out to its end by whoever comes next, should this process die half way.
What was replaced is set aside, tablespaces and a pg_wal elsewhere included.
"""

import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass

from pgsql_ra.ocf import Deadline, NotInstalled, NotPermitted, ServerFailure
from pgsql_ra.postgres.own_files import own_files, put_own_files, save_own_files
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.reading import Reader, files_in
from pgsql_ra.postgres.running import Progress, run_watched
from pgsql_ra.postgres.upstream import SERVICE
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.postgres.vacancy import cannot_swap, is_vacant
from pgsql_ra.trusted import is_roots_way

NEW = ".pgsql-ra.new"
OLD = ".old-"
STAMP = "%Y%m%dT%H%M%S"
_OLD_NAME = re.compile(r"\.old-(\d{8}T\d{6})$")
_NO_SLOT = re.compile(r'replication slot ".*" (?:does not exist|is active)|cannot use .*slot|can no longer get changes')


@dataclass(frozen=True)
class Swap:
    """`new` takes the place of `current`, which becomes `old`."""

    current: str
    new: str
    old: str


class CannotCopy(ServerFailure):
    """A copy cannot be put in the place of this data directory."""


def plan_swaps(pgdata: str, files: UserFiles) -> tuple[Swap, ...]:
    """Everything that has to change places, the data directory last. CannotCopy if that is impossible here."""
    stamp = _stamp(pgdata)
    real = os.path.realpath(pgdata)
    swaps = [_beside(files, link.path, stamp, inside=True) for link in _tablespaces(files, real)]
    wal = os.path.join(real, "pg_wal")
    if files.is_link(wal):
        swaps.append(_beside(files, os.path.realpath(wal), stamp, inside=False))
    swaps.append(_beside(files, real, stamp, inside=False))
    for swap in swaps:
        if os.path.ismount(swap.current) and os.path.dirname(swap.new) != swap.current:
            raise CannotCopy(cannot_swap(swap.current))
        parent = os.path.dirname(swap.current)
        # Root does what the user may not only where the administrator has put the data, not where a link leads.
        if not files.may(parent, os.W_OK | os.X_OK) and not (swap.current == real and is_roots_way(pgdata)):
            raise CannotCopy(
                f"{files.user.name} cannot write {parent}, so a copy cannot be put in the place of {swap.current}:"
                f" give {parent} to {files.user.name}"
            )
    return tuple(swaps)


def _stamp(pgdata: str) -> str:
    """The time, or if the clock went back the second after the newest stamp: the order of the names is always the one
    in which directories were set aside.
    """
    stamp = time.strftime(STAMP)
    newest = max((_stamp_of(directory) for directory in set_aside(pgdata)), default="")
    if stamp > newest:
        return stamp
    try:
        return time.strftime(STAMP, time.localtime(time.mktime(time.strptime(newest, STAMP)) + 1))
    except (ValueError, OverflowError):
        raise CannotCopy(f"the name of {pgdata}{OLD}{newest} holds no time: rename or remove it") from None


def _stamp_of(directory: str) -> str:
    return directory[-len("YYYYmmddTHHMMSS") :]


def _beside(files: UserFiles, path: str, stamp: str, inside: bool) -> Swap:
    """A tablespace's location may be a mount point, and its parent another's: the new one lies inside of it."""
    base = path + "/" if inside else path
    if not inside:
        return Swap(path, f"{base}{NEW}", f"{base}{OLD}{stamp}")
    names = files.names(path) if files.is_directory(path) else []
    version = next((name for name in names if name.startswith("PG_")), "")
    if not version:
        raise CannotCopy(f"the tablespace in {path} has no directory PG_*")
    return Swap(f"{base}{version}", f"{base}{NEW[1:]}/{version}", f"{base}{OLD[1:]}{stamp}/{version}")


@dataclass(frozen=True)
class _Tablespace:
    link: str
    path: str


def _tablespaces(files: Reader, pgdata: str) -> list[_Tablespace]:
    directory = os.path.join(pgdata, "pg_tblspc")
    if not files.is_directory(directory):
        return []
    # A tablespace's link is its OID; a link that was being replaced when its process was killed has another name.
    links = [os.path.join(directory, name) for name in files.names(directory) if name.isdigit()]
    return [_Tablespace(link, files.target(link)) for link in links if files.is_link(link)]


def make_copy(
    pgdata: str,
    swaps: tuple[Swap, ...],
    slot: str,
    programs: Programs,
    files: UserFiles,
    service: dict[str, str],
    lock: int,
    progress: Progress,
    deadline: Deadline,
) -> None:
    """A complete base backup lies in the new places, on disk, with this node's own files in it: the primary's, if this
    node has none.

    ServerFailure if it could not be made; then nothing of it is left.
    """
    discard(files, swaps)
    try:
        _back_up(pgdata, swaps, slot, programs, files, service, lock, progress, deadline)
        data = swaps[-1]
        place = f"{data.new}/{NEW[1:]}"
        if files.is_directory(data.current) and own_files(files, data.current):
            save_own_files(files, data.current, place)
            put_own_files(files, place, data.new)
            files.remove_tree(place)
        _point_links(files, data.new, swaps, lambda swap: swap.current)
        files.sync(data.new)
    except BaseException:
        discard(files, swaps)
        raise


def _back_up(
    pgdata: str,
    swaps: tuple[Swap, ...],
    slot: str,
    programs: Programs,
    files: UserFiles,
    service: dict[str, str],
    lock: int,
    progress: Progress,
    deadline: Deadline,
) -> None:
    data = swaps[-1]
    arguments = [f"--pgdata={data.new}", f"--dbname=service={SERVICE}", "--wal-method=stream", "--checkpoint=fast"]
    arguments += ["--progress", "--no-password"]
    vacant = is_vacant(data.current)
    _prepare(files, data.new, 0o700 if vacant else stat.S_IMODE(files.status(data.current).st_mode) & 0o777)
    if files.is_link(os.path.join(data.current, "pg_wal")):
        _prepare(files, swaps[-2].new, 0o700)
        arguments.append(f"--waldir={swaps[-2].new}")
    for tablespace in _tablespaces(files, os.path.realpath(pgdata)):
        new = os.path.join(tablespace.path, NEW[1:])
        _prepare(files, new, 0o700)
        arguments.append(f"--tablespace-mapping={_escape(tablespace.path)}={_escape(new)}")
    status, said = run_watched(
        programs,
        "pg_basebackup",
        [*arguments, *([f"--slot={slot}"] if slot else [])],
        lock,
        deadline,
        service,
        progress,
    )
    if status != 0 and slot and _NO_SLOT.search(said):
        # The primary makes the slot when it sees this node; until then a temporary one has to do.
        discard(files, swaps)
        _back_up(pgdata, swaps, "", programs, files, service, lock, progress, deadline)
    elif status != 0:
        raise ServerFailure(f"pg_basebackup: {why_it_failed(said, data.new)}")


def _prepare(files: UserFiles, path: str, mode: int) -> None:
    try:
        files.provide_directory(path, mode)
    except OSError as error:
        raise NotInstalled(f"cannot make {path} for a new copy: {error.strerror}") from error


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace("=", "\\=")


def why_it_failed(said: str, directory: str) -> str:
    """The first error of pg_basebackup into `directory`, short enough for Pacemaker, which cuts reasons at 127 bytes.

    Its second process, which receives WAL, may speak into a line of the first.
    """
    words = [part.strip() for part in re.split(r"pg_basebackup: ?|[\r\n]+", said)]
    lines = [line.replace(f"{directory}/", "") for line in words if line]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error:")]
    return (errors or lines or ["it did not say why it failed"])[0]


def _point_links(files: UserFiles, directory: str, swaps: tuple[Swap, ...], place: Callable[[Swap], str]) -> None:
    """The links of a data directory lead to where its parts are by `place`: a tablespace's path is its parent's."""
    inside = [swap for swap in swaps if os.path.basename(os.path.dirname(swap.new)) == NEW[1:]]
    parts = {os.path.dirname(path): os.path.dirname(place(swap)) for swap in inside for path in _all(swap)}
    parts |= {path: place(swap) for swap in swaps for path in _all(swap)}
    links = [tablespace.link for tablespace in _tablespaces(files, directory)]
    wal = os.path.join(directory, "pg_wal")
    for link in [*links, *([wal] if files.is_link(wal) else [])]:
        now = files.target(link)
        target = parts.get(now) or parts.get(os.path.realpath(link))
        if target and target != now:
            files.link(target, link)


def _all(swap: Swap) -> tuple[str, str, str]:
    return swap.current, swap.new, swap.old


def carry_out(files: UserFiles, swaps: tuple[Swap, ...]) -> None:
    """The new ones are in place, the old ones set aside, on disk. May be called again after it was broken off."""
    for swap in swaps:
        if not files.exists(swap.new):
            continue  # done before
        if files.exists(swap.current):
            _set_aside(files, swap)
        files.rename(swap.new, swap.current)
    if files.is_directory(swaps[-1].old):
        _point_links(files, swaps[-1].old, swaps, lambda swap: swap.old)


def _set_aside(files: UserFiles, swap: Swap) -> None:
    """An empty directory is not worth keeping."""
    try:
        files.remove_directory(swap.current)
    except OSError:
        files.make_directories(os.path.dirname(swap.old))
        files.rename(swap.current, swap.old)


def discard(files: UserFiles, swaps: tuple[Swap, ...]) -> None:
    """Nothing is left of a copy that was not put in place."""
    for swap in swaps:
        place = swap.new if swap.new.endswith(NEW) else os.path.dirname(swap.new)
        if files.is_directory(place):
            files.remove_tree(place)


def set_aside(pgdata: str) -> list[str]:
    """The data directories that were replaced here, the oldest first."""
    real = os.path.realpath(pgdata)
    parent, name = os.path.split(real)
    found = (
        entry
        for entry in files_in(parent).names(parent)
        if entry.startswith(f"{name}{OLD}") and _OLD_NAME.search(entry)
    )
    return [os.path.join(parent, entry) for entry in sorted(found)]


@dataclass(frozen=True)
class Pruned:
    """What was deleted of what had been set aside, and what could not be, with the reason."""

    deleted: tuple[str, ...]
    left: tuple[str, ...]


def prune(files: UserFiles, pgdata: str, keep: int, just_now: str = "") -> Pruned:
    """Delete what was set aside, but for the newest `keep`. What was set aside `just_now` is the newest, whatever the
    time in its name says (earlier versions believed the clock).
    """
    found = sorted(set_aside(pgdata), key=lambda directory: (directory == just_now, directory))
    deleted, left = [], []
    for directory in found[: max(0, len(found) - keep)]:
        try:
            _delete(files, directory)
            deleted.append(directory)
        except (OSError, NotPermitted) as error:
            left.append(f"{directory} cannot be deleted: {error}")
    return Pruned(tuple(deleted), tuple(left))


def _delete(files: UserFiles, directory: str) -> None:
    stamp = _stamp_of(directory)
    parts = [tablespace.path for tablespace in _tablespaces(files, directory)]
    wal = os.path.join(directory, "pg_wal")
    if files.is_link(wal):
        parts.append(files.target(wal))
    for part in parts:
        # What is not named for this directory is in use.
        if part.endswith(f"{OLD[1:]}{stamp}") and files.is_directory(part):
            files.remove_tree(part)
    files.remove_tree(directory)

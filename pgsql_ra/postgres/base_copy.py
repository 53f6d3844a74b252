# SPDX-License-Identifier: GPL-2.0-or-later
"""A new copy of the primary in the place of a data directory.

The copy is made beside what is there, so that a copy that fails changes nothing. Then the two change places: a list of
renamings is noted durably first and carried out to its end by whoever comes next, should this process die half way.
What was replaced is set aside, tablespaces and a pg_wal elsewhere included.
"""

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from pgsql_ra.ocf import Deadline, NotInstalled, ServerFailure
from pgsql_ra.postgres.own_files import own_files, put_own_files, save_own_files, sync
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.running import Progress, run_watched
from pgsql_ra.postgres.upstream import SERVICE
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.vacancy import cannot_swap, is_vacant

NEW = ".pgsql-ra.new"
OLD = ".old-"
_OLD_NAME = re.compile(r"\.old-\d{8}T\d{6}$")
_NO_SLOT = re.compile(r'replication slot ".*" (?:does not exist|is active)|cannot use .*slot|can no longer get changes')


@dataclass(frozen=True)
class Swap:
    """`new` takes the place of `current`, which becomes `old`."""

    current: str
    new: str
    old: str


class CannotCopy(ServerFailure):
    """A copy cannot be put in the place of this data directory."""


def plan_swaps(pgdata: str) -> tuple[Swap, ...]:
    """Everything that has to change places, the data directory last. CannotCopy if that is impossible here."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    real = os.path.realpath(pgdata)
    swaps = [_beside(link.path, stamp, inside=True) for link in _tablespaces(real)]
    wal = os.path.join(real, "pg_wal")
    if os.path.islink(wal):
        swaps.append(_beside(os.path.realpath(wal), stamp, inside=False))
    swaps.append(_beside(real, stamp, inside=False))
    for swap in swaps:
        if os.path.ismount(swap.current) and os.path.dirname(swap.new) != swap.current:
            raise CannotCopy(cannot_swap(swap.current))
    return tuple(swaps)


def _beside(path: str, stamp: str, inside: bool) -> Swap:
    """A tablespace's location may be a mount point, and its parent another's: the new one lies inside of it."""
    base = path + "/" if inside else path
    if not inside:
        return Swap(path, f"{base}{NEW}", f"{base}{OLD}{stamp}")
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    version = next((name for name in names if name.startswith("PG_")), "")
    if not version:
        raise CannotCopy(f"the tablespace in {path} has no directory PG_*")
    return Swap(f"{base}{version}", f"{base}{NEW[1:]}/{version}", f"{base}{OLD[1:]}{stamp}/{version}")


@dataclass(frozen=True)
class _Tablespace:
    link: str
    path: str


def _tablespaces(pgdata: str) -> list[_Tablespace]:
    directory = os.path.join(pgdata, "pg_tblspc")
    if not os.path.isdir(directory):
        return []
    links = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    return [_Tablespace(link, os.readlink(link)) for link in links if os.path.islink(link)]


def make_copy(
    pgdata: str,
    swaps: tuple[Swap, ...],
    slot: str,
    programs: Programs,
    user: DatabaseUser,
    service: dict[str, str],
    lock: int,
    progress: Progress,
    deadline: Deadline,
) -> None:
    """A complete base backup lies in the new places, on disk, with this node's own files in it: the primary's, if this
    node has none.

    ServerFailure if it could not be made; then nothing of it is left.
    """
    discard(swaps)
    try:
        _back_up(pgdata, swaps, slot, programs, user, service, lock, progress, deadline)
        data = swaps[-1]
        place = f"{data.new}/{NEW[1:]}"
        if os.path.isdir(data.current) and own_files(data.current):
            save_own_files(data.current, place)
            put_own_files(place, data.new)
            shutil.rmtree(place)
        _point_links(data.new, swaps, lambda swap: swap.current)
        sync(data.new)
    except BaseException:
        discard(swaps)
        raise


def _back_up(
    pgdata: str,
    swaps: tuple[Swap, ...],
    slot: str,
    programs: Programs,
    user: DatabaseUser,
    service: dict[str, str],
    lock: int,
    progress: Progress,
    deadline: Deadline,
) -> None:
    data = swaps[-1]
    arguments = [f"--pgdata={data.new}", f"--dbname=service={SERVICE}", "--wal-method=stream", "--checkpoint=fast"]
    arguments += ["--progress", "--no-password"]
    _prepare(data.new, user, 0o700 if is_vacant(data.current) else os.stat(data.current).st_mode & 0o777)
    if os.path.islink(os.path.join(data.current, "pg_wal")):
        _prepare(swaps[-2].new, user, 0o700)
        arguments.append(f"--waldir={swaps[-2].new}")
    for tablespace in _tablespaces(os.path.realpath(pgdata)):
        new = os.path.join(tablespace.path, NEW[1:])
        _prepare(new, user, 0o700)
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
        discard(swaps)
        _back_up(pgdata, swaps, "", programs, user, service, lock, progress, deadline)
    elif status != 0:
        raise ServerFailure(f"pg_basebackup: {why_it_failed(said, data.new)}")


def _prepare(path: str, user: DatabaseUser, mode: int) -> None:
    try:
        os.mkdir(path, mode)
        user.own(path)
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


def _point_links(directory: str, swaps: tuple[Swap, ...], place: Callable[[Swap], str]) -> None:
    """The links of a data directory lead to where its parts are by `place`: a tablespace's path is its parent's."""
    inside = [swap for swap in swaps if os.path.basename(os.path.dirname(swap.new)) == NEW[1:]]
    parts = {os.path.dirname(path): os.path.dirname(place(swap)) for swap in inside for path in _all(swap)}
    parts |= {path: place(swap) for swap in swaps for path in _all(swap)}
    links = [tablespace.link for tablespace in _tablespaces(directory)]
    wal = os.path.join(directory, "pg_wal")
    for link in [*links, *([wal] if os.path.islink(wal) else [])]:
        target = parts.get(os.readlink(link)) or parts.get(os.path.realpath(link))
        if target and target != os.readlink(link):
            details = os.lstat(link)
            os.symlink(target, f"{link}.pgsql-ra")
            os.chown(f"{link}.pgsql-ra", details.st_uid, details.st_gid, follow_symlinks=False)
            os.rename(f"{link}.pgsql-ra", link)


def _all(swap: Swap) -> tuple[str, str, str]:
    return swap.current, swap.new, swap.old


def carry_out(swaps: tuple[Swap, ...]) -> None:
    """The new ones are in place, the old ones set aside, on disk. May be called again after it was broken off."""
    for swap in swaps:
        if not os.path.exists(swap.new):
            continue  # done before
        if os.path.exists(swap.current):
            _set_aside(swap)
        os.rename(swap.new, swap.current)
        sync(os.path.dirname(swap.current))
    if os.path.isdir(swaps[-1].old):
        _point_links(swaps[-1].old, swaps, lambda swap: swap.old)


def _set_aside(swap: Swap) -> None:
    """An empty directory is not worth keeping."""
    try:
        os.rmdir(swap.current)
    except OSError:
        os.makedirs(os.path.dirname(swap.old), exist_ok=True)
        os.rename(swap.current, swap.old)


def discard(swaps: tuple[Swap, ...]) -> None:
    """Nothing is left of a copy that was not put in place."""
    for swap in swaps:
        place = swap.new if swap.new.endswith(NEW) else os.path.dirname(swap.new)
        if os.path.isdir(place):
            shutil.rmtree(place)


def set_aside(pgdata: str) -> list[str]:
    """The data directories that were replaced here, the oldest first."""
    real = os.path.realpath(pgdata)
    parent, name = os.path.split(real)
    found = (entry for entry in os.listdir(parent) if entry.startswith(f"{name}{OLD}") and _OLD_NAME.search(entry))
    return [os.path.join(parent, entry) for entry in sorted(found)]


def prune(pgdata: str, keep: int) -> list[str]:
    """Delete what was set aside, but for the newest `keep`; returns what was deleted."""
    found = set_aside(pgdata)
    superfluous = found[: max(0, len(found) - keep)]
    for directory in superfluous:
        stamp = directory[-len("YYYYmmddTHHMMSS") :]
        parts = [tablespace.path for tablespace in _tablespaces(directory)]
        wal = os.path.join(directory, "pg_wal")
        if os.path.islink(wal):
            parts.append(os.readlink(wal))
        for part in parts:
            # What is not named for this directory is in use.
            if part.endswith(f"{OLD[1:]}{stamp}") and os.path.isdir(part):
                shutil.rmtree(part)
        shutil.rmtree(directory)
    return superfluous

# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks of a lab's nodes: file systems in files, which lose with the power what was not synced.

A node whose processes are killed loses nothing, because the page cache is the host's. EXT4_IOC_SHUTDOWN, made for such
tests (fs/ext4/ioctl.c), stops a file system at once: dirty pages are never written, the journal is not flushed, and
whoever still writes or syncs gets EIO. What was synced before is there after the next mount, which replays the journal.
"""

import errno
import fcntl
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.lab.layout import PGHOME, Layout, Settings
from tests.lab.processes import run
from tests.lab.waiting import LabError, eventually

PACEMAKER = Path("/var/lib/pacemaker")
LOOP_CONTROL = Path("/dev/loop-control")
SYSTEM_MEGABYTES = 32
ROOMY_MEGABYTES = 4096
"""For databases whose disks have no size: the file takes only what is used."""
RELEASE_SECONDS = 30.0

# include/uapi/linux/ext4.h and fs.h.
EXT4_IOC_SHUTDOWN = 0x8004587D
EXT4_GOING_FLAGS_NOLOGFLUSH = 2
FITHAW = 0xC0045878


def pack_disks(layout: Layout, settings: Settings) -> None:
    """What a node keeps is in file systems of its own: the PostgreSQL directory, and with true power cuts the CIB."""
    for name in settings.nodes:
        _pack(
            layout.node(name) / "pgsql",
            layout.disk_image(name),
            settings.disk_megabytes or ROOMY_MEGABYTES,
            journal=settings.true_power_cuts,
        )
        if settings.true_power_cuts:
            _pack(layout.node(name) / "pacemaker", layout.system_image(name), SYSTEM_MEGABYTES, journal=True)


def _pack(folder: Path, image: Path, megabytes: int, *, journal: bool) -> None:
    """The folder's content is in the file system; the folder is gone."""
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    owner = folder.stat()
    extended = f"root_owner={owner.st_uid}:{owner.st_gid}"
    features = ["-O", "has_journal", "-J", "size=8"] if journal else ["-O", "^has_journal"]
    run(["mkfs.ext4", "-q", "-F", "-m", "0", *features, "-E", extended, "-d", str(folder), str(image)])
    shutil.rmtree(folder)


def images(layout: Layout, settings: Settings, name: str) -> list[tuple[Path, Path]]:
    """A node's file systems and where they are mounted on it."""
    if not settings.has_images:
        return []
    system = [(layout.system_image(name), PACEMAKER)] if settings.true_power_cuts else []
    return [(layout.disk_image(name), PGHOME), *system]


def lose_power(init: int, disks: Iterable[tuple[Path, Path]]) -> None:
    """Nothing more reaches the disks of the node with this init, and what had not is gone."""
    for directory in _mounted(init, disks):
        fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", EXT4_GOING_FLAGS_NOLOGFLUSH))


def thaw(init: int, disks: Iterable[tuple[Path, Path]]) -> None:
    """Whoever waits for a frozen file system of the node goes on: it could not even be killed."""
    for directory in _mounted(init, disks):
        try:
            fcntl.ioctl(directory, FITHAW, 0)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it was not frozen
                raise


def _mounted(init: int, disks: Iterable[tuple[Path, Path]]) -> Iterator[int]:
    """A descriptor of each disk that the node with this init has mounted."""
    for image, target in disks:
        try:
            directory = os.open(f"/proc/{init}/root{target}", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # the node has ended by itself
        try:
            device = os.fstat(directory).st_dev
            # Before it is mounted the directory is the host's own, and what is done here must never be done to that.
            if _backing_file(Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")) == str(image):
                yield directory
        finally:
            os.close(directory)


def await_release(files: Iterable[Path]) -> None:
    """No loop device holds the files: the kernel unmounts some moments after the last process, and whoever mounts the
    file in between gets the old, dead file system.
    """
    wanted = {str(file) for file in files}
    eventually(
        "the disks are unmounted", lambda: _held(wanted), lambda held: not held, within=RELEASE_SECONDS, poll=0.02
    )


def _held(wanted: set[str]) -> set[str]:
    return {file for entry in Path("/sys/block").glob("loop*") if (file := _backing_file(entry)) in wanted}


def _backing_file(device: Path) -> str:
    """The file behind a loop device; empty if it is none, or holds none."""
    try:
        return (device / "loop/backing_file").read_text().strip()
    except OSError:
        return ""


def check_disks(settings: Settings) -> None:
    """LabError unless this machine can do what the settings need: nothing is silently tested with less."""
    if not settings.has_images:
        return
    if not LOOP_CONTROL.exists():
        raise LabError("disks of the nodes' own need loop devices: this machine has no /dev/loop-control")
    if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        raise LabError("disks of the nodes' own need a package: apt-get install --no-install-recommends e2fsprogs")

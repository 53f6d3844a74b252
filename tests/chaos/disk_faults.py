# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of data directories and of the disks below."""

import shutil
from collections.abc import Sequence

from tests.chaos.stage import Stage
from tests.lab import LabError, Node
from tests.lab.disks import images
from tests.lab.layout import PGDATA
from tests.lab.processes import run


def empty_data(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The server crashes, and its data directory is empty."""
    for node in nodes:
        stage.claim_destruction(node)
        node.crash_postgres()
        lost = f"{PGDATA}.lost"
        make = f"rm -rf {lost}; mv {PGDATA} {lost} && install -d -m 0700 -o postgres -g postgres {PGDATA}"
        node.run(["sh", "-c", make])


def corrupt_data(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """The server crashes, and a file that it cannot do without is full of zeros, or gone."""
    commands = (
        f"dd if=/dev/zero of={PGDATA}/global/pg_control bs=8192 count=1 conv=notrunc status=none",
        f"rm {PGDATA}/PG_VERSION",
        f"rm {PGDATA}/global/pg_filenode.map",
        f"rm -rf {PGDATA}/pg_wal",
    )
    for node in nodes:
        stage.claim_destruction(node)
        node.crash_postgres()
        node.run(["sh", "-c", commands[int(chance * len(commands))]])


def open_permissions(node: Node) -> None:
    """The data directory is open for all, and the server crashes, so that it has to start like that."""
    node.run(["chmod", "0777", str(PGDATA)])
    node.crash_postgres()


def back_up(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """The database's disk, by chance the CIB's too, is copied as it is at one moment; `restore` puts the copy back."""
    for node in nodes:
        disks = images(node.layout, node.settings, node.name)[: 1 if chance < 0.5 else None]
        node.freeze_disk()
        try:
            for image, _ in disks:
                run(["cp", "--sparse=always", str(image), f"{image}.old"])
        finally:
            node.thaw_disk()
        stage.backups[node.name] = [image for image, _ in disks]


def restore(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The node loses power, and boots with the disks of an earlier moment."""
    for node in nodes:
        disks = stage.backups.pop(node.name, [])
        if not disks:
            continue
        if not node.is_on:
            raise LabError(f"{node.name} is off: its copy may be the last one of something")
        stage.may_be_destroyed(node)
        node.power_cut()
        for image in disks:
            shutil.move(f"{image}.old", image)
        stage.note(f"{node.name} boots with old disks: {', '.join(image.name for image in disks)}")
        node.boot()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking a lab down: also one whose driver died, or of which only parts are left."""

import shutil
from pathlib import Path

from tests.lab import disks
from tests.lab.layout import Layout
from tests.lab.network import remove_namespaces
from tests.lab.processes import Identity
from tests.lab.waiting import LabError


def take_down(name: str, folder: Path, *, spare_power_supply: bool = False) -> None:
    """No process, network namespace, mount or file of the lab is left. Doing it twice does no harm.

    All mounts of a lab are private to its nodes and end with them. The power supply goes last, so that it can finish
    the work if this process dies in the middle; the power supply itself spares itself and ends afterwards.
    """
    _thaw_disks(Layout(folder))
    remove_namespaces(name)
    # Once more: a booting node may have been started while the first one was at work.
    remove_namespaces(name)
    records = sorted(folder.glob("processes/*"), key=lambda path: path.name == "power")
    for record in records:
        identity = Identity.load(record)
        if identity is not None and not (spare_power_supply and record.name == "power"):
            identity.kill()
    if folder.exists():
        shutil.rmtree(folder)


def _thaw_disks(layout: Layout) -> None:
    """Nobody waits for a frozen disk: who does cannot be killed."""
    try:
        settings = layout.load()
    except LabError:
        return
    for node in settings.nodes:
        init = Identity.load(layout.init_file(node))
        if init is not None and init.alive:
            disks.thaw(init.pid, disks.images(layout, settings, node))

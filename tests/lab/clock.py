# SPDX-License-Identifier: GPL-2.0-or-later
"""Clocks that can be shifted: namespaces share the host's wall clock, so a library stands between it and the server.

Only the database server of a node gets it. Pacemaker and the agents keep the host's clock: under libfaketime 0.9.10
every clock_nanosleep() until a moment of the monotonic clock fails (EINVAL), which is how Python sleeps.
"""

import shutil
from pathlib import Path

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
"""Debian package libfaketime."""

_ENVIRONMENT = {
    "LD_PRELOAD": str(LIBRARY),
    "FAKETIME_TIMESTAMP_FILE": "/var/log/clock",
    # Seconds after which the file is read again.
    "FAKETIME_CACHE_DURATION": "1",
    # A real clock that is set leaves the monotonic one alone.
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}


def clock_text(seconds: int) -> str:
    """The content of a node's clock file for so many seconds off the host's clock."""
    return f"{seconds:+d}\n"


def install_server(folder: Path, server: Path) -> None:
    """`folder`/postgres starts the server with a clock that can be shifted, whatever lies at `server` on a node."""
    real = folder.with_name(f"{folder.name}-real") / server.name
    for directory in (folder, real.parent):
        directory.mkdir()
    # The same name: it is how the server's processes are found.
    shutil.copy(server, real)
    settings = " ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
    start = folder / server.name
    start.write_text(f'#!/bin/sh\nexec env {settings} {real} "$@"\n')
    start.chmod(0o755)

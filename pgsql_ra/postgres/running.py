# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program of PostgreSQL that takes long: what it says is read as it comes, and it ends with whoever started
it.
"""

import os
import re
import selectors
import subprocess
from collections.abc import Callable

from pgsql_ra.ocf import Deadline, DeadlineExceeded
from pgsql_ra.postgres.programs import Programs

Progress = Callable[[int | None], None]
"""Told how many percent are done, each time that the program says so, and every second (None) when it does not."""

_DONE_OF_TOTAL = re.compile(r"(\d+)/(\d+) kB")
KEPT_CHARACTERS = 64 * 1024
TERMINATE_SECONDS = 5.0


def run_watched(
    programs: Programs,
    name: str,
    arguments: list[str],
    lock: int,
    deadline: Deadline,
    extra: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[int, str]:
    """Run it to its end: its exit status and the last of what it said.

    It inherits the descriptor `lock`, so the job's lock is held as long as it lives. It is ended if the deadline comes
    first, or if this process is told to end.
    """
    process = subprocess.Popen(
        [programs.path(name), *arguments],
        env=programs.environment() | (extra or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(lock,),
        cwd="/",
        umask=0o077,
        user=programs.child_user,
        group=programs.child_group,
        extra_groups=programs.child_groups,
    )
    try:
        said = _listen(process, name, deadline, progress)
        return process.wait(), said
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listen(process: "subprocess.Popen[bytes]", name: str, deadline: Deadline, progress: Progress | None) -> str:
    """Everything that it says until it closes its output."""
    if process.stdout is None:
        return ""
    said = ""
    with selectors.DefaultSelector() as selector, process.stdout as out:
        selector.register(out, selectors.EVENT_READ)
        while True:
            if deadline.remaining() <= 0:
                raise DeadlineExceeded(f"{name} did not end in time")
            chunk: bytes | None = None
            if selector.select(min(1.0, deadline.remaining())):
                chunk = os.read(out.fileno(), 65536)
                if not chunk:
                    return said
                said = (said + chunk.decode(errors="replace"))[-KEPT_CHARACTERS:]
            if progress:
                progress(_percent(chunk.decode(errors="replace") if chunk else ""))


def _percent(text: str) -> int | None:
    found = _DONE_OF_TOTAL.findall(text)
    if not found or int(found[-1][1]) == 0:
        return None
    return min(100, int(found[-1][0]) * 100 // int(found[-1][1]))

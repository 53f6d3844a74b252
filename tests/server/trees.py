# SPDX-License-Identifier: GPL-2.0-or-later
"""What files are there: to see that nothing was changed."""

from pathlib import Path

# What a running server writes by itself, and what the helpers of these tests write.
LIVELY = (
    "base",
    "global",
    "pg_wal",
    "pg_xact",
    "pg_stat",
    "pg_stat_tmp",
    "pg_logical",
    "pg_subtrans",
    "pg_notify",
    "pg_dynshmem",
)
OURS = ("agent.log", "cluster")

Tree = dict[str, tuple[int, int, int, int]]


def tree(root: Path, running: bool = False) -> Tree:
    """Owner, mode, size and time of change of everything below `root`, but not what a running server writes."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if inside.parts[0] in OURS or (running and set(inside.parts) & {*LIVELY, "data.log"}):
            continue
        facts = path.lstat()
        # The times of the data directory itself change with postmaster.pid.
        changed = 0 if running and path.is_dir() else facts.st_mtime_ns
        found[str(inside)] = (facts.st_uid, facts.st_mode, facts.st_size, changed)
    return found

# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen of how a standby recovers; fitness.py judges it."""

from dataclasses import dataclass
from enum import Enum


class Replay(Enum):
    """Whether a standby replays what it receives."""

    RUNS = "runs"
    PAUSED = "paused"
    """A promotion would end the pause."""
    PAUSED_FOR_GOOD = "paused for good"
    """A promotion would wait for the end of the pause (before PostgreSQL 13)."""


@dataclass(frozen=True)
class Recovery:
    """How a standby recovers, as far as a promotion depends on it.

    `targets` are the settings in force that end recovery before the WAL ends, with their values; `delay` is
    recovery_min_apply_delay in seconds. `sizes` are the settings that must not be lower than the primary's, and
    `demands` what the WAL that was replayed demands of them (looked up only while replay is paused).
    """

    targets: tuple[tuple[str, str], ...] = ()
    replay: Replay = Replay.RUNS
    delay: float = 0.0
    sizes: tuple[tuple[str, int], ...] = ()
    demands: tuple[tuple[str, int], ...] = ()

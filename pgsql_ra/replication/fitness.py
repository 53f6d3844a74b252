# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a standby can be promoted as it runs.

What a standby has received is its own only if a promotion makes it replay that. So one that cannot, or would take very
long, has no promotion score, says why (`<resource>-unfit`), and is passed over while another one holds as much. Its
data count all the same: commits may wait for it, and its record and its position are worth what they are always worth.
Should it be the only one that holds what must not be lost, it is promoted after all: a promotion first restarts a
standby for which that is the remedy, and looks again, before anything is recorded.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgsql_ra.replication.recovery import Replay
from pgsql_ra.replication.snapshot import Standby

LONGEST_DELAY: Final = 300.0
"""Seconds of recovery_min_apply_delay from which on a standby is passed over. A promotion ends the delay, but replays
all that is due first: it takes as long as the primary's work of that time does without its pauses.
"""


class Remedy(Enum):
    """What makes a standby fit."""

    RESTART = "restart"
    """A restart by the agent, which sets what the server needs on its command line."""
    PROMOTION = "promotion"
    """The promotion itself: it only takes longer."""


@dataclass(frozen=True)
class Hindrance:
    """Why a standby is passed over: a sentence that begins with what to do about it."""

    because: str
    remedy: Remedy


def hindrance(server: Standby) -> Hindrance | None:
    """What keeps this standby from being promoted as it runs; None if nothing does."""
    recovery = server.recovery
    if recovery.targets:
        name, value = recovery.targets[0]
        target = value if value.isprintable() else "a target"
        return Hindrance(
            f"restart it, and remove {name} from its configuration: it replays to {target} only, and would lose the"
            " rest if it was promoted",
            Remedy.RESTART,
        )
    if recovery.replay is Replay.RUNS:
        return _delay(recovery.delay)
    sizes = dict(recovery.sizes)
    lower = [(name, sizes[name], value) for name, value in recovery.demands if sizes.get(name, value) < value]
    if lower:
        name, here, there = lower[0]
        return Hindrance(
            f"raise {name} to {there} and restart it: it is {here}, lower than on the primary, so the server does not"
            " replay, and would end if it was promoted",
            Remedy.RESTART,
        )
    because = "resume its replay (SELECT pg_wal_replay_resume()): it is paused"
    return Hindrance(because, Remedy.PROMOTION if recovery.replay is Replay.PAUSED else Remedy.RESTART)


def _delay(seconds: float) -> Hindrance | None:
    if seconds < LONGEST_DELAY:
        return None
    because = f"lower recovery_min_apply_delay: it replays {seconds:.0f} s late, which a promotion has to make up for"
    return Hindrance(because, Remedy.PROMOTION)


def unfitness(server: object) -> str:
    """The same as a sentence; "" if nothing speaks against a promotion, or if it is no standby."""
    found = hindrance(server) if isinstance(server, Standby) else None
    return found.because if found else ""

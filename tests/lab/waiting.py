# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for facts. The only place of the lab that sleeps."""

import os
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIME_FACTOR = float(os.environ.get("LAB_TIME_FACTOR", "1"))
"""Multiplies every deadline of the lab: set it above 1 on a slow machine."""

POLL_SECONDS = 0.1


class LabError(Exception):
    """The lab, not what is tested in it, could not do what it was asked."""


class WaitError(AssertionError):
    """A fact did not come true in time. The text lists what was seen instead, step by step."""


def pause(seconds: float) -> None:
    """Let `seconds` go by: the pace of a loop or of a writing client, never a guess at how long something takes."""
    time.sleep(seconds)


def eventually(
    what: str,
    observe: Callable[[], T],
    accept: Callable[[T], object] = bool,
    *,
    within: float,
    show: Callable[[T], str] = str,
    poll: float = POLL_SECONDS,
) -> T:
    """Observe until `accept` holds and return that observation; fail after `within` seconds with all steps seen.

    An observation that raises LabError (a node just died, the cluster does not answer yet) is a step like any other.
    """
    started = time.monotonic()
    deadline = started + within * TIME_FACTOR
    steps: list[str] = []
    # Some observations alternate for ever: what was just seen is no news.
    recent: deque[str] = deque(maxlen=4)
    while True:
        try:
            value = observe()
            if accept(value):
                return value
            seen = show(value)
        except LabError as error:
            seen = f"({error})"
        now = time.monotonic()
        if seen not in recent:
            steps.append(f"  {now - started:6.1f} s  {seen}")
            recent.append(seen)
        if now >= deadline:
            raise WaitError(f"not within {within * TIME_FACTOR:g} s: {what}; seen:\n" + "\n".join(steps))
        pause(poll)

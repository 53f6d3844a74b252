# SPDX-License-Identifier: GPL-2.0-or-later
"""Standbys that were announced to stop, remembered for the moment until they do.

Between the pre-stop notification, in which the primary releases a synchronous standby, and the stop itself Pacemaker
may compute its transition anew, because what the primary wrote has changed the CIB. A monitor of the primary in between
must not make the standby synchronous again: it streams still, and the next write would abort the next transition, for
ever.

A file on this node, and a hint only: if it is lost a commit waits for a moment, and it is forgotten by itself.
"""

import time

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, AgentError

FILE = "leaving"
SECONDS = 30.0
"""How long an announced stop may take to begin. If it is called off, the standby is not synchronous for so long."""


def remember_leaving(context: Context, nodes: frozenset[str]) -> None:
    """The primary's next actions know that these nodes are about to stop."""
    # The clock of the system, which is the same for every process until it boots again.
    context.state.write(FILE, f"{time.monotonic()} {' '.join(sorted(nodes | leaving(context)))}\n")


def leaving(context: Context) -> frozenset[str]:
    """The nodes that were announced to stop a moment ago."""
    try:
        since, *nodes = (context.state.read(FILE) or "").split()
        age = time.monotonic() - float(since)
    except (AgentError, ValueError):
        return frozenset()
    return frozenset(nodes) if 0 <= age < SECONDS else frozenset()


def forget_leaving(context: Context) -> None:
    """What was announced is over: a node has started."""
    try:
        context.state.remove(FILE)
    except FAILURES:
        return  # nothing was announced

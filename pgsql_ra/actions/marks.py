# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes that a node sets for itself when its server starts, stops or is demoted."""

from collections.abc import Callable

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import AgentError

# The same words as in replication.status, which costs more to import than `stop` should need.
STATUS_STOPPED = "STOP"
STATUS_ALONE = "HS:alone"
SCORE_NEVER = "-INFINITY"


def mark_not_promotable(context: Context) -> None:
    """This node must not be promoted from now on. What Pacemaker does not take is logged: the server is stopped
    anyway.
    """
    _try(context, "promotion score", lambda: context.attributes.set_score(context.node, SCORE_NEVER))


def mark_stopped(context: Context) -> None:
    """This node's server is down: it has no position any more."""
    _try(context, "status", lambda: context.attributes.set_transient(context.node, {"status": STATUS_STOPPED}))
    _try(context, "position", lambda: context.attributes.withdraw_position(context.node))
    _try(
        context, "election", lambda: context.attributes.delete(context.node, "xlog-loc", "election", "receiver-status")
    )


def mark_alone(context: Context) -> None:
    """This node's server is a standby that nobody has seen streaming yet."""
    context.attributes.set_transient(context.node, {"status": STATUS_ALONE})


def _try(context: Context, what: str, write: Callable[[], None]) -> None:
    try:
        write()
    except AgentError as error:
        context.log.warning(f"the {what} of this node could not be written: {error}")

# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes that a node sets for itself when its server starts, stops or is demoted."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, reason_of

if TYPE_CHECKING:
    from pgsql_ra.pacemaker.attributes import Attributes

# The same words as in replication.status, which costs more to import than `stop` should need.
STATUS_STOPPED = "STOP"
SCORE_NEVER = "-INFINITY"
MARK_SECONDS = 5.0


def mark_not_promotable(context: Context) -> None:
    """This node must not be promoted from now on. What Pacemaker does not take is logged: the server is stopped
    anyway.
    """
    _try(context, "promotion score", lambda marks: marks.set_score(context.node, SCORE_NEVER))


def mark_stopped(context: Context) -> None:
    """This node's server is down: it has no position any more."""
    _try(context, "status", lambda marks: marks.set_transient(context.node, {"status": STATUS_STOPPED}))
    _try(context, "position", lambda marks: marks.empty_private(context.node, "position", "election", "receiver-from"))
    _try(context, "location", lambda marks: marks.delete(context.node, "xlog-loc", "receiver-status", "unfit"))


def mark_receiver_gone(context: Context) -> None:
    """With rep_mode=slave, where nothing else is marked: no WAL is received any more."""
    _try(context, "receiver's state", lambda marks: marks.delete(context.node, "receiver-status"))


def mark_known(context: Context) -> None:
    """Say which promotion is the newest that this node has heard of, before anything else could keep it from that: a
    node whose server does not start may be the only one that knows.
    """
    from pgsql_ra.postgres.promotion_file import read_promotion

    def write(marks: "Attributes") -> None:
        promotion = read_promotion(context.believed, context.pgdata)
        if promotion is not None:
            marks.set_private("known", context.node, promotion.stamp)

    _try(context, "newest known promotion", write)


def _try(context: Context, what: str, write: "Callable[[Attributes], None]") -> None:
    """Write it if Pacemaker takes it soon: a cluster that hangs must not use up the time of a stop."""
    limit = context.deadline.within(min(MARK_SECONDS, context.deadline.remaining() / 8))
    try:
        write(context.attributes_within(limit))
    except FAILURES as error:
        context.log.warning(f"the {what} of this node could not be written: {reason_of(error)}")

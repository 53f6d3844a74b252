# SPDX-License-Identifier: GPL-2.0-or-later
"""After a promotion: the server went on from where its record says that it would."""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.rejoin import job_file
from pgsql_ra.actions.replicate import Promised
from pgsql_ra.actions.stop import escalation_seconds
from pgsql_ra.ocf import NotSafe
from pgsql_ra.postgres.process import stop as stop_server
from pgsql_ra.postgres.promotion_file import read_promotion
from pgsql_ra.replication.lsn import Order
from pgsql_ra.replication.snapshot import Primary


def require_what_was_promised(context: Context, server: Primary, promised: Promised) -> None:
    """What this node was promoted for is in its new timeline: all WAL that it said it held, which others had counted
    on. NotSafe if not; the server is down then, and is not started from this directory again.

    Something that ends recovery too early (a target in a place that the agent does not know, files that went away) is
    seen here at the latest, before anybody is told that this node is the primary.
    """
    promotion = read_promotion(context.believed, context.pgdata)
    if promotion is None or promotion.node != context.node.lower() or promotion.begin is None:
        return
    begin, history = promotion.begin, server.position.history
    if server.position.compare(begin) in (Order.NEWER, Order.EQUAL):
        return
    if promised is Promised.ROUGHLY and promotion.is_held_by(server.position):
        return  # what was promised beyond it is the beginning of a record whose end never came
    fork = server.position.lsn if history.timeline == begin.timeline else history.left(begin.timeline)
    left = f"left timeline {begin.timeline} at {fork}" if fork else f"never was on timeline {begin.timeline}"
    number, timeline = promotion.number, history.timeline
    because = f"promotion {number} went wrong: timeline {timeline} {left}, and WAL to {begin.lsn} was promised"
    # First of all: a stop that is broken off must not let it be started again.
    job_file(context).update(broken_off=because)
    stop_server(context.pgdata, escalation_seconds(context), context.deadline, context.log)
    raise NotSafe(
        f"{because}. Keep {context.pgdata}, whose pg_wal may hold the rest. No server starts from it until it is"
        f" replaced, or {context.files.path('rejoin.state')} removed"
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Observe, decide, apply, and look again, until nothing is left to do or the time for it is over."""

import time
from collections.abc import Callable
from dataclasses import replace

from pgsql_ra.actions.apply import apply
from pgsql_ra.actions.context import Context
from pgsql_ra.actions.gone_to import note_how_far, read_note
from pgsql_ra.actions.leaving import leaving as announced
from pgsql_ra.actions.observe import look_ahead, observe_server
from pgsql_ra.ocf import Deadline
from pgsql_ra.pacemaker.cib import read_cluster
from pgsql_ra.postgres.promotion_file import read_promotion
from pgsql_ra.replication.changes import Plan
from pgsql_ra.replication.lsn import Lsn
from pgsql_ra.replication.originals import is_new
from pgsql_ra.replication.snapshot import Primary, ServerState, Snapshot, Standby, SynchronousStandbys

REPLAY_SECONDS = 1.0
"""How long a server may replay before its files are read."""

Decide = Callable[[Snapshot], Plan]


def take_snapshot(
    context: Context,
    server: ServerState,
    leaving: frozenset[str] = frozenset(),
    mark: Lsn | None = None,
) -> Snapshot:
    """The cluster as it is now beside a server that was just looked at."""
    cluster = read_cluster(context.resource, context.deadline)
    remembered = read_promotion(context.believed, context.pgdata)
    if isinstance(server, Primary):
        leaving |= announced(context)
    snapshot = Snapshot(server, cluster, context.policy, leaving - {context.policy.node}, mark, remembered)
    if isinstance(server, Standby) and (note := read_note(context, server.system)):
        snapshot = replace(snapshot, held=note.position)
    if not isinstance(server, Standby) or not is_new(snapshot):
        return snapshot
    from pgsql_ra.actions.originals import with_last_records

    return with_last_records(context, snapshot)


def converge(
    context: Context,
    decide: Decide,
    patience: Deadline,
    first_look: ServerState | None = None,
    leaving: frozenset[str] = frozenset(),
) -> tuple[ServerState, Plan]:
    """Apply what `decide` asks for until it asks for nothing and waits for nothing, or `patience` is over.

    Returns what the server was at the last look and the last plan; a plan that still waits is told in the log, and the
    next action takes it up where this one left it.
    """
    begun = time.monotonic()
    server = _look_ahead(context, first_look or observe_server(context, patience), begun)
    settled = _settled(server)
    mark: Lsn | None = None
    snapshot = take_snapshot(context, server, leaving, mark)
    if context.action == "monitor":
        note_how_far(context, server, snapshot.newest)
    while True:
        plan = decide(snapshot)
        context.log.debug(f"saw {snapshot}")
        context.log.debug(f"decided {plan}")
        for change in plan.changes:
            apply(context, change)
        if plan.refusal or not plan.waiting_for or patience.remaining() <= 0:
            break
        if not plan.changes:
            patience.pause(plan.waiting_for, 0.03)
        server = _look_ahead(context, observe_server(context, patience), begun)
        # The mark is taken in a look *after* one that saw these names settled, so nothing was committed before it that
        # did not wait for them or that it does not cover.
        if settled is None or settled != _settled(server):
            mark = None
        elif mark is None and isinstance(server, Primary):
            mark = server.position.lsn
        settled = _settled(server)
        snapshot = take_snapshot(context, server, leaving, mark)
    if plan.stalled:
        context.log.warning(f"for now: {plan.stalled}")
    if plan.waiting_for and not plan.refusal:
        context.log.info(f"left for the next look, was waiting for {plan.waiting_for}")
    return server, plan


def _look_ahead(context: Context, server: ServerState, begun: float) -> ServerState:
    """The end of what was received is quickly read from the files. All that lay there when the server was started takes
    as long to read as it is, and a server that was just started has replayed it in a moment.
    """
    if not isinstance(server, Standby) or server.unread is None:
        return server
    if server.unread.received is None and time.monotonic() - begun < REPLAY_SECONDS:
        return server
    return look_ahead(context, server, context.deadline.within(context.deadline.remaining() / 3))


def _settled(server: ServerState) -> SynchronousStandbys | None:
    """The standbys that every commit waits for; None if that is not known."""
    return server.synchronous if isinstance(server, Primary) and server.settled else None

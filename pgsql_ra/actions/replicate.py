# SPDX-License-Identifier: GPL-2.0-or-later
"""The replication's work of an action, in a loop of look, decide and apply (see converge) with the decision that
fits.
"""

from dataclasses import replace
from enum import Enum

from pgsql_ra.actions.apply import apply
from pgsql_ra.actions.context import Context
from pgsql_ra.actions.converge import converge, take_snapshot
from pgsql_ra.actions.observe import look_ahead, observe_server
from pgsql_ra.ocf import Deadline, NotSafe, say_exit_reason
from pgsql_ra.replication import election, primary, promotion
from pgsql_ra.replication.changes import Plan, Receive, RestartStandby
from pgsql_ra.replication.receiver import show_receiver, tell_endpoint
from pgsql_ra.replication.slots import drop_own_slots
from pgsql_ra.replication.snapshot import Link, Primary, ServerState, Snapshot, Standby, Stopped

STEP_SECONDS = 3.0
"""How long a monitor or a notification stays for a step that takes a moment; the next one goes on with it."""
TAKEOVER_SECONDS = 2.0
"""How long another standby may take to be synchronous in place of one that is about to stop."""
FREEZE_SECONDS = 1.5
"""How long standbys wait for each other's positions before a promotion. A busy Pacemaker notifies one after the other,
and then this is lost time for each of them: `promote` has the last word anyway."""

ADDRESS_SECONDS = 10.0
"""How long after a promotion a standby waits for the primary's address before it tries to receive anyway."""


def patience(context: Context, seconds: float = STEP_SECONDS) -> Deadline:
    """The time for steps that need another look."""
    return context.deadline.within(seconds)


def reconcile_standbys(
    context: Context, first_look: ServerState | None = None, leaving: frozenset[str] = frozenset()
) -> None:
    """As the primary: bring every standby's record, score and synchronous role to what it is able to give."""

    def decide(snapshot: Snapshot) -> Plan:
        if not isinstance(snapshot.server, Primary):
            return Plan()
        plan = primary.reconcile(snapshot, snapshot.server)
        return replace(plan, changes=plan.changes + show_receiver(snapshot))

    _, plan = converge(context, decide, patience(context), first_look, leaving)
    if plan.refusal:
        # Stopping one of two primaries is Pacemaker's and a person's business; neither may look healthier.
        context.log.error(plan.refusal)
        say_exit_reason(context.environ, plan.refusal)


def release_standbys(context: Context, leaving: frozenset[str]) -> None:
    """As the primary, before these nodes stop: others take over from them, and then nothing waits for them any more.

    Without anybody who could take over, or if that takes longer than a moment, they are released all the same: a
    planned stop makes no commit wait.
    """

    def decide(snapshot: Snapshot) -> Plan:
        return primary.release(snapshot, snapshot.server) if isinstance(snapshot.server, Primary) else Plan()

    server, _ = converge(context, decide, patience(context, TAKEOVER_SECONDS), leaving=leaving)
    reconcile_standbys(context, server, leaving)


def watch_primary(context: Context, first_look: ServerState | None = None) -> None:
    """As a standby: an election if there is no primary. NotSafe if the primary can never be followed from here."""

    def decide(snapshot: Snapshot) -> Plan:
        if not isinstance(snapshot.server, Standby):
            return Plan()
        plan = election.watch(snapshot, snapshot.server)
        changes = [each for each in plan.changes if not isinstance(each, Receive) or _may_receive(context, snapshot)]
        changes += [*drop_own_slots(snapshot, snapshot.server), *show_receiver(snapshot), *tell_endpoint(snapshot)]
        return replace(plan, changes=tuple(changes))

    _, plan = converge(context, decide, patience(context), first_look)
    if plan.refusal:
        raise NotSafe(plan.refusal)


def introduce_receiver(context: Context) -> None:
    """As a standby that has just begun to receive, or does so in a moment: the primary is told which connection is this
    node's, so that it does not have to wait for a monitor.
    """

    def decide(snapshot: Snapshot) -> Plan:
        server = snapshot.server
        if not isinstance(server, Standby):
            return Plan()
        return Plan(tell_endpoint(snapshot), "" if server.streaming else "the WAL receiver to stream")

    converge(context, decide, patience(context))


def elect_if_needed(context: Context) -> None:
    """As a standby that just started without a primary: an election, unless somebody can be promoted already.

    The cluster is looked at first: in a failover there is such a somebody, and asking the server would only take time.
    """
    if not election.heir(take_snapshot(context, Stopped())):
        watch_primary(context)


def freeze_position(context: Context, promoted: str) -> None:
    """As a standby, before `promoted` is promoted: say where the WAL ends, and let the best have the score."""

    def decide(snapshot: Snapshot) -> Plan:
        return election.freeze(snapshot, snapshot.server, promoted) if isinstance(snapshot.server, Standby) else Plan()

    converge(context, decide, patience(context, FREEZE_SECONDS))


def withdraw_position(context: Context) -> None:
    """As a node on which no standby runs, before a promotion: an old position must not be taken for where its WAL
    ends.
    """
    context.attributes.empty_private(context.node, "position")


def receive_again(context: Context) -> None:
    """As a standby, after a promotion elsewhere: receive WAL again, if `freeze_position` has stopped that.

    Not before the primary's address answers: a receiver that tries in vain is tried again after 5 seconds only
    (wal_retrieve_retry_interval).
    """
    if context.files.link() is not Link.CUT:
        return
    limit = context.deadline.within(ADDRESS_SECONDS)
    while not primary_listens(context) and limit.remaining() > 0:
        limit.pause("the primary's address to answer", 0.1)
    server = look_ahead(context, observe_server(context, limit), context.deadline.within(ADDRESS_SECONDS))
    snapshot = take_snapshot(context, server)
    for change in election.receive_again(snapshot, context.files.link()):
        if _may_receive(context, snapshot):
            apply(context, change)


def _may_receive(context: Context, snapshot: Snapshot) -> bool:
    from pgsql_ra.actions.same import may_open_link

    return primary_listens(context) and may_open_link(context, snapshot)


def primary_listens(context: Context) -> bool:
    """Whether somebody listens where the standbys receive from."""
    from pgsql_ra.actions.rejoin import primary_server

    return primary_server(context).listens()


def remember_promotion(context: Context) -> None:
    """As a node that is not promoted, after a promotion: keep its record in this node's file."""
    snapshot = take_snapshot(context, Stopped())
    for change in primary.remember(snapshot, snapshot.newest):
        apply(context, change)


def whole_records(context: Context, server: Standby) -> Standby:
    """A standby that still replays, with the end of the last whole record that it has: what was received may end within
    a record, and recovery does not get there. Where a promotion begins is compared with where its WAL ends ever after,
    so an end that cannot be read is waited for: replay comes to it.
    """
    if server.unread is None:
        return server
    limit = context.deadline.within(context.deadline.remaining() / 3)
    found = look_ahead(context, replace(server, position=None), limit)
    return found if isinstance(found, Standby) else replace(server, position=None)


def withdraw_promotion(context: Context) -> None:
    """As a node whose promotion was recorded and whose server has ended without having left recovery: it is taken back,
    so that whoever holds as much may be promoted.
    """
    plan = promotion.withdraw(take_snapshot(context, Stopped()))
    for change in plan.changes:
        apply(context, change)
    if plan.stalled:
        context.log.warning(plan.stalled)


class Promised(Enum):
    """How well the position is known that a promotion is recorded with."""

    EXACTLY = "where the last whole record ends"
    ROUGHLY = "where what was received ends, which may be within a record"


def prepare_promotion(context: Context) -> tuple[ServerState, Promised]:
    """As a standby that is to be promoted: every record that has to stand before. NotSafe if it must not be.

    Returns what the server was at the last look, and how well it is known where its WAL ends.
    """
    restarted: list[RestartStandby] = []
    promised = Promised.EXACTLY

    def decide(snapshot: Snapshot) -> Plan:
        nonlocal promised
        if not isinstance(snapshot.server, Standby):
            return Plan()
        server = whole_records(context, snapshot.server)
        promised = Promised.ROUGHLY if server.unread and server is snapshot.server else Promised.EXACTLY
        plan = promotion.decide_promotion(replace(snapshot, server=server), server)
        restarts = [change for change in plan.changes if isinstance(change, RestartStandby)]
        if restarts and restarted:
            return Plan(refusal=f"it was restarted, and that did not help: {restarts[0].because}")
        restarted.extend(restarts)
        return plan

    limit = patience(context, context.deadline.remaining() / 2)
    while True:
        server, plan = converge(context, decide, limit)
        if plan.refusal or plan.waiting_for:
            raise NotSafe(f"not promoted: {plan.refusal or 'waited in vain for ' + plan.waiting_for}")
        if not plan.changes:
            last_look = take_snapshot(context, server)
            for change in promotion.confirmation(last_look).changes:
                apply(context, change)
            return server, promised
        # Not promoted in the look that wrote the records: one has to see them stand, with quorum still there.
        limit.pause("the records of all nodes to stand", 0.02)

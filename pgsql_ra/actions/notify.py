# SPDX-License-Identifier: GPL-2.0-or-later
"""notify: what the cluster is about to do, or has done, with the other instances.

Pacemaker ignores the exit code and waits for every instance before it goes on, so a notification that does not matter
here must cost nothing, and one that does has a deadline of its own. What each one is for:

  pre-stop     the primary lets another standby take over from a synchronous one that stops, and releases that one
               *before* it stops, so that no commit waits for it
  post-stop    the primary goes on without a standby that stopped, or that was fenced
  post-start   a standby came: it says which connection is its own, and the primary takes it in; without a primary, the
               standbys elect one
  pre-promote  every standby stops receiving and says where its WAL ends, so that the newest one is promoted
  post-promote every other node remembers the promotion, and a standby looks whether it can follow, and follows
  pre-demote   a primary that is to be demoted only because its score was lost says again that it is the primary

The others are not for us. After a promotion the monitors start at once and do what else is to be done.
"""

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, Exit, reason_of
from pgsql_ra.postgres.process import postmaster

SCORE_SECONDS = 5.0
"""How long a demotion waits for a lost score to be taken again."""


def notify(context: Context) -> Exit:
    """Always SUCCESS: nothing that a notification could say would change Pacemaker's mind."""
    if not context.replicates or context.parameters.problems:
        return Exit.SUCCESS
    try:
        _react(context)
    except FAILURES as error:
        context.log.error(f"{context.notification.kind}-{context.notification.operation}: {reason_of(error)}")
    return Exit.SUCCESS


def _react(context: Context) -> None:
    match (context.notification.kind, context.notification.operation):
        case ("pre", "stop"):
            _release(context)
        case ("post", "stop"):
            _go_on_without(context)
        case ("post", "start"):
            _welcome(context)
        case ("pre", "promote"):
            _freeze(context)
        case ("post", "promote"):
            _follow_up(context)
        case ("pre", "demote"):
            _assert_lost_score(context)


def _release(context: Context) -> None:
    leaving = context.notification.stop - {context.node.lower()}
    if leaving and _runs_primary(context):
        from pgsql_ra.actions.leaving import remember_leaving
        from pgsql_ra.actions.replicate import release_standbys

        remember_leaving(context, leaving)
        release_standbys(context, leaving)


def _go_on_without(context: Context) -> None:
    if context.notification.stop - {context.node.lower()} and _runs_primary(context):
        _reconcile(context, context.notification.stop)


def _runs_primary(context: Context) -> bool:
    from pgsql_ra.actions.observe import is_configured_as_standby

    return postmaster(context.pgdata) is not None and not is_configured_as_standby(context.pgdata)


def _runs_standby(context: Context) -> bool:
    from pgsql_ra.actions.observe import is_configured_as_standby

    return postmaster(context.pgdata) is not None and is_configured_as_standby(context.pgdata)


def _reconcile(context: Context, leaving: frozenset[str]) -> None:
    from pgsql_ra.actions.replicate import reconcile_standbys

    reconcile_standbys(context, leaving=leaving)


def _assert_lost_score(context: Context) -> None:
    """Scores are attrd's and go with it. Pacemaker that was restarted under running servers (in maintenance mode, for
    an upgrade) finds a primary without a score, and demotes it before its first monitor could set one. A score that
    is there again makes Pacemaker give up this plan and make another one.

    Whoever wants the primary moved leaves its score alone, so one that is not set can only be lost.
    """
    if context.node.lower() not in context.notification.demote or not _runs_primary(context):
        return
    from pgsql_ra.pacemaker.cib import read_cluster

    limit = context.deadline.within(SCORE_SECONDS)

    def is_lost() -> bool:
        cluster = read_cluster(context.resource, limit)
        own = cluster.node(context.node)
        return own is not None and not own.score and cluster.may_decide

    if is_lost():
        _reconcile(context, frozenset())
        # Not before Pacemaker has it: when this action ends, the demotion begins.
        while is_lost():
            limit.pause("Pacemaker to take the primary's score")


def _welcome(context: Context) -> None:
    if _runs_primary(context):
        from pgsql_ra.actions.leaving import forget_leaving

        forget_leaving(context)
        _reconcile(context, frozenset())
    elif _runs_standby(context) and not (context.notification.promoted - context.notification.demote):
        from pgsql_ra.actions.replicate import elect_if_needed

        elect_if_needed(context)
    elif context.node.lower() in context.notification.start and _runs_standby(context):
        from pgsql_ra.actions.replicate import introduce_receiver

        introduce_receiver(context)


def _follow_up(context: Context) -> None:
    """In a process that nobody waits for: the virtual IP comes after the notifications of all nodes (measured with
    Pacemaker 2.1.5: vip_start is initiated when the last post_notify_promote has ended).
    """
    if context.node.lower() in context.notification.promote:
        return
    from pgsql_ra.postgres.job import detach

    runs_standby = _runs_standby(context)
    action, environ = context.action, context.environ

    def work() -> None:
        later = Context(action, environ)
        try:
            from pgsql_ra.actions.replicate import remember_promotion

            remember_promotion(later)
        except FAILURES as error:
            later.log.error(f"the promotion is remembered by the next monitor: {reason_of(error)}")
        if runs_standby:
            from pgsql_ra.actions.rejoin import mend_when_settled

            mend_when_settled(later)
            _receive_again(later)

    detach(work)


def _receive_again(context: Context) -> None:
    from pgsql_ra.actions.replicate import introduce_receiver, receive_again

    try:
        receive_again(context)
        introduce_receiver(context)
    except FAILURES as error:
        context.log.error(f"this standby follows the new primary from its next monitor on: {reason_of(error)}")


def _freeze(context: Context) -> None:
    """Nothing to compare if the node that is promoted is the only standby."""
    notification = context.notification
    others = (
        (notification.unpromoted | notification.start | notification.demote) - notification.stop - notification.promote
    )
    if not others or not notification.promote:
        return
    from pgsql_ra.actions.replicate import freeze_position, withdraw_position

    if not _runs_standby(context):
        withdraw_position(context)
        return
    promoted = min(notification.promote)
    try:
        freeze_position(context, promoted)
    except FAILURES:
        withdraw_position(context)
        raise
    if context.node.lower() in notification.demote:
        _tell_missed_checkpoint(context, promoted)


def _tell_missed_checkpoint(context: Context, promoted: str) -> None:
    """As the primary that was just demoted: say so if the one that takes over did not receive its last WAL."""
    from pgsql_ra.pacemaker.cib import read_cluster
    from pgsql_ra.replication.lsn import Order

    cluster = read_cluster(context.resource, context.deadline)
    own, heir = (node.position if (node := cluster.node(name)) else None for name in (context.node, promoted))
    if own and heir and own.compare(heir) not in (Order.EQUAL, Order.OLDER):
        context.log.warning(
            f"{promoted} did not receive the shutdown checkpoint of this node: its WAL ends at {heir.lsn}, ours at"
            f" {own.lsn}; if it is promoted all the same, this node has to be rewound"
        )

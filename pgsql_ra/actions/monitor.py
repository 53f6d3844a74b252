# SPDX-License-Identifier: GPL-2.0-or-later
"""monitor: what is, not what was hoped. A probe changes nothing; a recurring monitor also does the replication's
work.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, Exit, NotSafe, ServerFailure, is_probe, reason_of, say_exit_reason
from pgsql_ra.postgres.process import postmaster, server_processes

if TYPE_CHECKING:
    from pgsql_ra.replication.snapshot import Standby

PROBE_SECONDS = 2.0


def monitor(context: Context) -> Exit:
    """What `look` finds. If that was because a repair of the data had the server down for a moment, look again when it
    is over.
    """
    probe = is_probe(context.action, context.environ)
    if probe or not context.replicates:
        return look(context, probe)
    from pgsql_ra.actions.claim import watch_places

    watch_places(context)
    repair = context.job
    before = repair.last_downtime()
    try:
        found = look(context, probe)
        trouble = None
    except FAILURES as error:
        found, trouble = Exit.GENERIC, error
    if found in (Exit.SUCCESS, Exit.PROMOTED) or not repaired_meanwhile(context, before):
        if trouble:
            raise trouble
        return found
    return look(context, probe)


def look(context: Context, probe: bool) -> Exit:
    """NOT_RUNNING, SUCCESS for a standby (or a single instance), PROMOTED for a primary, FAILED_PROMOTED for a primary
    that does not answer. ServerFailure for another server that does not answer.
    """
    if not server_processes(context.pgdata, context.parameters.pgdba):
        return Exit.NOT_RUNNING
    # From here on it takes SQL, whose driver costs more than all the rest.
    from pgsql_ra.actions.observe import describe, is_configured_as_standby, observe_server
    from pgsql_ra.replication.snapshot import Primary, Standby, Stopped

    if probe:
        state = observe_server(context, context.deadline.within(PROBE_SECONDS))
    else:
        # A server that is slow has the whole time that the administrator gave; one that lets nobody in has half of it.
        state = observe_server(context, context.deadline.within(context.deadline.remaining() / 2), context.deadline)
    match state:
        case Stopped():
            return Exit.NOT_RUNNING
        case Standby():
            if not probe:
                watch_standby(context, state)
            return Exit.SUCCESS
        case Primary():
            if not probe:
                run_monitor_sql(context)
            if context.replicates and not probe and not context.parameters.problems:
                from pgsql_ra.actions.replicate import reconcile_standbys

                _without_failing(context, lambda: reconcile_standbys(context, state))
            return Exit.PROMOTED if context.has_roles else Exit.SUCCESS
        case _:
            if context.has_roles and not probe and not is_configured_as_standby(context.pgdata):
                context.log.error(describe(state))
                say_exit_reason(context.environ, describe(state))
                return Exit.FAILED_PROMOTED
            raise ServerFailure(describe(state))


def repaired_meanwhile(context: Context, before: str) -> bool:
    """Whether a repair of the data has the server down, or had it down since `before`; the end of that is waited for,
    as long as half of the action's time is left.
    """
    repair = context.job
    if repair.last_downtime() == before and not ((job := repair.running()) and job.holds_server):
        return False
    limit = context.deadline.within(context.deadline.remaining() / 2)
    while limit.remaining() > 0 and (job := repair.running()) and job.holds_server:
        limit.pause("the repair of the data directory", 0.05)
    return True


def watch_standby(context: Context, server: "Standby") -> None:
    """What a recurring monitor does for a standby: in the cluster's own replication, or of a primary outside."""
    if context.replicates and not context.parameters.problems:
        _without_failing(context, lambda: keep_following(context, server))
    elif not context.has_roles:
        run_monitor_sql(context)
        _without_failing(context, lambda: show_outside_receiver(context, server))


def keep_following(context: Context, server: "Standby") -> None:
    """As a standby: what replicate.watch_primary does; if the primary cannot be followed, what the parameter rejoin
    allows. NotSafe if it allows nothing.
    """
    from pgsql_ra.actions.replicate import watch_primary

    try:
        watch_primary(context, server)
    except NotSafe:
        from pgsql_ra.actions.rejoin import mend

        if not mend(context, server):
            raise
    else:
        if not server.streaming:
            from pgsql_ra.actions.rejoin import mend

            mend(context, server)


def show_outside_receiver(context: Context, server: "Standby") -> None:
    """With rep_mode=slave: the state of the WAL receiver, if somebody wants it."""
    from pgsql_ra.replication.receiver import receiver_state

    if context.parameters.check_wal_receiver:
        context.attributes.set_transient(context.node, {"receiver-status": receiver_state(server)})


def status(context: Context) -> Exit:
    """SUCCESS if a postmaster runs, else NOT_RUNNING."""
    return Exit.SUCCESS if postmaster(context.pgdata, context.parameters.pgdba) else Exit.NOT_RUNNING


def run_monitor_sql(context: Context) -> None:
    """Run the administrator's own check, if there is one. ServerFailure with the server's words if it fails."""
    given = context.parameters
    if given.monitor_sql == type(given).monitor_sql.default:
        return
    from pgsql_ra.actions.observe import open_session
    from pgsql_ra.postgres.session_settings import ADMINISTRATORS

    with open_session(context, context.deadline, ADMINISTRATORS) as session:
        session.execute(given.monitor_sql.encode())


def _without_failing(context: Context, work: Callable[[], None]) -> None:
    """A healthy server is not failed because Pacemaker did not take an attribute, a disk is full or a process ended by
    itself; the next monitor tries again.

    That a standby can never follow the primary (NotSafe) is no such thing: it is said by a failure.
    """
    try:
        work()
    except NotSafe:
        raise
    except FAILURES as error:
        told = f"the replication's state could not be brought up to date: {reason_of(error)}"
        context.log.error(told)
        say_exit_reason(context.environ, told)

# SPDX-License-Identifier: GPL-2.0-or-later
"""promote: this standby becomes the primary, after the records say that nobody else may."""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.manual import make_lock
from pgsql_ra.actions.observe import describe, observe_server
from pgsql_ra.actions.promised import require_what_was_promised
from pgsql_ra.actions.replicate import Promised, prepare_promotion, reconcile_standbys, withdraw_promotion
from pgsql_ra.actions.stop import escalation_seconds
from pgsql_ra.actions.validate_all import require_valid_parameters
from pgsql_ra.ocf import Exit, ServerFailure
from pgsql_ra.postgres.configuration import remove_standby_signal
from pgsql_ra.postgres.control import read_control
from pgsql_ra.postgres.process import stop as stop_server
from pgsql_ra.postgres.recovery import remove_recovery_signal
from pgsql_ra.postgres.wal import highest_timeline
from pgsql_ra.replication.snapshot import Primary, ServerState, Standby, Stopped


def promote(context: Context) -> Exit:
    """SUCCESS when the server takes writes and the cluster knows it. NotSafe if it must not be promoted."""
    if not context.has_roles:
        context.log.error(f"a resource with rep_mode={context.parameters.rep_mode} cannot be promoted")
        return Exit.UNIMPLEMENTED
    require_valid_parameters(context)
    state = observe_server(context, context.deadline)
    promised = Promised.EXACTLY
    if isinstance(state, Standby):
        state, promised = prepare_promotion(context)
        if isinstance(state, Standby):
            if context.parameters.rejoin == "manual":
                make_lock(context)
            if context.parameters.restart_on_promote:
                _restart_as_primary(context)
            else:
                context.server.promote(context.deadline)
            timeline = state.position.timeline if state.position else 0
            state = _await_primary(context)
            if isinstance(state, Stopped) and not may_have_taken_commits(context, timeline):
                withdraw_promotion(context)
    if not isinstance(state, Primary):
        raise ServerFailure(f"there is no server to promote in {context.pgdata}: {describe(state)}")
    require_what_was_promised(context, state, promised)
    reconcile_standbys(context, state)
    return Exit.SUCCESS


def may_have_taken_commits(context: Context, timeline: int) -> bool:
    """Whether a server that was told to be promoted, and has ended, was a primary before that for all we know.

    It takes commits from the moment at which it has left recovery. That is just before pg_control says so, but after
    the history of the new timeline is on disk (StartupXLOG in xlog.c). A restart (restart_on_promote) makes none.
    """
    if context.parameters.restart_on_promote:
        return True
    control = read_control(context.pgdata, context.programs, context.deadline)
    return control.was_primary or highest_timeline(context.pgdata) > max(timeline, control.timeline)


def _restart_as_primary(context: Context) -> None:
    """Stop the standby and start it as a primary, which keeps its timeline (restart_on_promote)."""
    stop_server(context.pgdata, escalation_seconds(context), context.deadline, context.log)
    remove_standby_signal(context.pgdata, context.user)
    remove_recovery_signal(context.pgdata, context.user_files, context.log)
    context.server.start(context.deadline, {})


def _await_primary(context: Context) -> ServerState:
    """Wait until the server has left recovery, which takes as long as replaying what it received."""
    while True:
        state = observe_server(context, context.deadline)
        if not isinstance(state, Standby):
            return state
        context.deadline.pause("the server to leave recovery", 0.02)

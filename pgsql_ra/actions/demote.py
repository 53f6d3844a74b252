# SPDX-License-Identifier: GPL-2.0-or-later
"""demote: the primary is down, and a standby is left behind unless this transition stops the instance anyway."""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.manual import release_lock
from pgsql_ra.actions.marks import mark_not_promotable, mark_stopped
from pgsql_ra.actions.observe import is_configured_as_standby
from pgsql_ra.actions.stop import escalation_seconds
from pgsql_ra.ocf import FAILURES, Exit, reason_of
from pgsql_ra.postgres.process import postmaster, server_processes
from pgsql_ra.postgres.process import stop as stop_server


def demote(context: Context) -> Exit:
    """SUCCESS when this node has no primary. Errors as in actions.standby if the standby does not come up."""
    if not context.has_roles:
        context.log.error(f"a resource with rep_mode={context.parameters.rep_mode} cannot be demoted")
        return Exit.UNIMPLEMENTED
    mark_not_promotable(context)
    is_standby = is_configured_as_standby(context.pgdata) and postmaster(context.pgdata) is not None
    stops_next = context.node.lower() in context.notification.stop
    # One that Pacemaker demotes may have been told to promote itself by an action that did not live to see it, and
    # would go on with that: there is no way to ask it, or to take that back.
    may_be_promoted = context.node.lower() in context.notification.demote
    if is_standby and not stops_next and not may_be_promoted:
        return Exit.SUCCESS
    user = context.parameters.pgdba
    if server_processes(context.pgdata, user):
        if not is_standby:
            checkpoint(context)
        stop_server(context.pgdata, escalation_seconds(context), context.deadline, context.log, user)
        context.log.info("the primary is stopped")
    mark_stopped(context)
    if context.parameters.rejoin == "manual" and not release_lock(context):
        return Exit.SUCCESS
    if not stops_next:
        from pgsql_ra.actions.standby import bring_up_standby
        from pgsql_ra.actions.validate_all import require_valid_parameters

        require_valid_parameters(context)
        bring_up_standby(context)
    return Exit.SUCCESS


def checkpoint(context: Context) -> None:
    """Write out most of what the shutdown checkpoint would have to, while the server still takes commits."""
    from pgsql_ra.actions.observe import open_owner_session

    limit = context.deadline.within(context.deadline.remaining() / 3)
    try:
        with open_owner_session(context, limit) as session:
            session.execute("CHECKPOINT")
    except FAILURES as error:
        context.log.info(f"no checkpoint before the shutdown: {reason_of(error)}")

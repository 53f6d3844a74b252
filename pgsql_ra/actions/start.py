# SPDX-License-Identifier: GPL-2.0-or-later
"""start: the server runs, in the replicating modes as a standby; promotion is another action."""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.marks import mark_known, mark_not_promotable, mark_stopped
from pgsql_ra.actions.observe import describe, observe_server
from pgsql_ra.actions.validate_all import require_valid_parameters
from pgsql_ra.ocf import FAILURES, Exit, ServerFailure, reason_of
from pgsql_ra.replication.snapshot import Primary, Standby, Stopped

SESSION_SECONDS = 5.0
"""How long a server that says it is ready may refuse the agent's session."""

QUORUM_SECONDS = 3.0

PACEMAKER_TRUE = ("true", "on", "yes", "y", "1")
"""What Pacemaker takes for true in a meta attribute, in any case (crm_str_to_boolean)."""


def start(context: Context) -> Exit:
    """SUCCESS when the server takes connections, or already did. Errors: those of actions.standby, InvalidParameter."""
    from pgsql_ra.actions.standby import bring_up_outside_standby, bring_up_single, bring_up_standby

    require_valid_parameters(context)
    warn_without_notifications(context)
    warn_of_decisions_alone(context)
    state = observe_server(context, context.deadline)
    if isinstance(state, Standby) or (isinstance(state, Primary) and context.parameters.rep_mode == "none"):
        return Exit.SUCCESS
    if not isinstance(state, Stopped):
        raise ServerFailure(f"a server runs in {context.pgdata} already, and not as a standby: {describe(state)}")
    from pgsql_ra.actions.claim import claim_places

    claim_places(context)
    match context.parameters.rep_mode:
        case "none":
            bring_up_single(context)
        case "slave":
            bring_up_outside_standby(context)
        case _:
            mark_not_promotable(context)
            mark_stopped(context)
            mark_known(context)
            bring_up_standby(context)
    # A promotion waits for all starts of its transition. The first monitor, and the start after that, find it as well.
    if not context.notification.promote:
        require_session(context)
    return Exit.SUCCESS


def warn_without_notifications(context: Context) -> None:
    """The clone's meta attribute notify: without it only those promises hold that a promotion checks by itself."""
    by_cluster = context.environ.get("OCF_RESKEY_CRM_meta_on_node")
    notifies = context.environ.get("OCF_RESKEY_CRM_meta_notify", "").lower() in PACEMAKER_TRUE
    if context.replicates and by_cluster and not notifies:
        context.log.warning(
            "the clone has no notify=true: commits wait when a synchronous standby is stopped, and standbys do not"
            " compare their data before a promotion (crm_resource --resource=CLONE --meta --set-parameter=notify"
            " --parameter-value=true)"
        )


def warn_of_decisions_alone(context: Context) -> None:
    """A node that may have quorum without having seen the other one: the agent then promotes nobody there until it has
    (replication.candidates.stranger_to), which is not what the administrator expects of such a setting.
    """
    if not context.replicates or not context.environ.get("OCF_RESKEY_CRM_meta_on_node"):
        return
    from pgsql_ra.pacemaker.management import decides_alone

    try:
        alone = decides_alone(context.deadline.within(QUORUM_SECONDS))
    except FAILURES as error:
        context.log.debug(f"whether corosync waits for all nodes could not be asked: {reason_of(error)}")
        return
    if alone:
        context.log.warning(
            "corosync has two_node without wait_for_all: a node that boots alone could be promoted past the other one's"
            " commits, so this agent promotes nobody on it before it has seen the other (set wait_for_all: 1)"
        )


def require_session(context: Context) -> None:
    """The server answers. One whose files are damaged may say that it is ready, stream, and let nobody in: each monitor
    would fail, and Pacemaker start it again for ever. ServerFailure with the server's own words.
    """
    limit = context.deadline.within(min(SESSION_SECONDS, context.deadline.remaining() / 2))
    state = observe_server(context, limit)
    if not isinstance(state, Primary | Standby):
        raise ServerFailure(describe(state))

# SPDX-License-Identifier: GPL-2.0-or-later
"""stop: no process of this data directory lives. It asks for nothing else: no valid parameters, no database, no
cluster.

A failed stop gets the node fenced, and a stop that lies loses data, so this module and what it imports stay small.
"""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.marks import mark_not_promotable, mark_receiver_gone, mark_stopped
from pgsql_ra.ocf import AgentError, Exit
from pgsql_ra.postgres.job import JobFile
from pgsql_ra.postgres.process import server_processes
from pgsql_ra.postgres.process import stop as stop_server


def stop(context: Context) -> Exit:
    """SUCCESS when nothing runs. DeadlineExceeded if a process cannot be ended."""
    if context.replicates:
        mark_not_promotable(context)
        end_repair(context)
    if server_processes(context.pgdata):
        stop_server(context.pgdata, escalation_seconds(context), context.deadline, context.log)
        context.log.info(f"the server in {context.pgdata} is stopped")
    if context.replicates:
        mark_stopped(context)
    elif context.parameters.check_wal_receiver:
        mark_receiver_gone(context)
    return Exit.SUCCESS


def end_repair(context: Context) -> None:
    """No repair works on the data directory any more. Only the stop that Pacemaker sends after a start that could not
    wait for the end of a repair leaves it alone: it is what the next start needs.
    """
    file = JobFile(context.parameters.tmpdir)
    job = file.running()
    if job is None:
        return
    if job.spared and not server_processes(context.pgdata):
        context.log.info(f"nothing runs; left alone: {job}")
        try:
            file.update(spared=False)
        except AgentError as error:
            context.log.warning(f"the state of the repair cannot be written: {error}")
        return
    context.log.info(f"ended: {job}")
    file.end(context.deadline.within(context.deadline.remaining() * 0.7))


def escalation_seconds(context: Context) -> float:
    """How long a fast shutdown may take: as the administrator says, and never so long that no time is left for more."""
    given = context.parameters
    stays_in_replication = context.replicates and context.action != "demote"
    wanted = given.stop_escalate_in_slave if stays_in_replication else given.stop_escalate
    return min(float(wanted), max(0.0, context.deadline.remaining() - 10.0, context.deadline.remaining() / 2))

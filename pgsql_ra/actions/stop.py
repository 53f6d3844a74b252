# SPDX-License-Identifier: GPL-2.0-or-later
"""stop: no process of this data directory lives. It asks for nothing else: no valid parameters, no database, no
cluster.

A failed stop gets the node fenced, and a stop that lies loses data, so this module and what it imports stay small.
"""

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.marks import mark_not_promotable, mark_receiver_gone, mark_stopped
from pgsql_ra.ocf import FAILURES, Exit, reason_of
from pgsql_ra.postgres.job import JobFile, besides
from pgsql_ra.postgres.process import server_processes
from pgsql_ra.postgres.process import stop as stop_server


def stop(context: Context) -> Exit:
    """SUCCESS when nothing runs. DeadlineExceeded if a process cannot be ended."""
    if context.replicates:
        mark_not_promotable(context)
        if not end_repair(context):
            mark_stopped(context)
            return Exit.SUCCESS
    user = context.parameters.pgdba
    if server_processes(context.pgdata, user):
        stop_server(context.pgdata, escalation_seconds(context), context.deadline, context.log, user)
        context.log.info(f"the server in {context.pgdata} is stopped")
    if context.replicates:
        mark_stopped(context)
    elif context.parameters.check_wal_receiver:
        mark_receiver_gone(context)
    return Exit.SUCCESS


def end_repair(context: Context) -> bool:
    """No repair works on the data directory any more; False if one goes on, which starts no server."""
    file = context.job
    job = file.running()
    if job is None:
        return True
    if leave_alone(context, file):
        # Whoever stops this node may be about to switch it off.
        limit = context.deadline.within(context.deadline.remaining() * 0.6)
        while (now := file.running()) is not None and now.in_place and limit.remaining() > 0:
            limit.pause("the end of what is changed in place", 0.05)
        context.log.info(f"nothing runs; left alone: {job}")
        return False
    context.log.info(f"ended: {job}")
    file.end(context.deadline.within(context.deadline.remaining() * 0.7))
    return True


def leave_alone(context: Context, file: JobFile) -> bool:
    """Whether the repair goes on. While no server runs, two do: one that the next start needs (this is the stop that
    Pacemaker sends after a start that could not wait), and one that is changing the data in place, which are worthless
    if that is broken off.
    """
    try:
        with file.changing():
            job = file.read()
            if not (job.spared or job.in_place) or besides(
                job, server_processes(context.pgdata, context.parameters.pgdba)
            ):
                return False
            # What it would start again belongs to Pacemaker's next start.
            file.write(job._replace(spared=False, holds_server=False))
    except FAILURES as error:
        context.log.warning(f"the repair has to be ended, because its state cannot be written: {reason_of(error)}")
        return False
    return True


def escalation_seconds(context: Context) -> float:
    """How long a fast shutdown may take: as the administrator says, and never so long that no time is left for more."""
    given = context.parameters
    stays_in_replication = context.replicates and context.action != "demote"
    wanted = given.stop_escalate_in_slave if stays_in_replication else given.stop_escalate
    return min(float(wanted), max(0.0, context.deadline.remaining() - 10.0, context.deadline.remaining() / 2))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy that cannot follow the primary is brought back, as far as the parameter rejoin allows: the facts, the
decision, and waiting for the work (actions.repair), which may take longer than any action.

  start     a server that is not running: the work is begun and waited for. If it takes longer than the action may, or
            needs a primary that is not there yet (Pacemaker promotes nobody while a start is under way), the start
            fails, the work goes on, and at its end asks Pacemaker for another start.
  monitor   a standby that runs and has diverged, or lacks WAL that is gone: the work is begun beside it. While the
            work needs the server down, a monitor waits for its end, and then says what is.
  notify    after a promotion the same at once, in a process of its own: the virtual IP waits for notifications.
"""

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.gone_to import forget_how_far, read_note
from pgsql_ra.actions.manual import LOCK_FILE
from pgsql_ra.ocf import FAILURES, Deadline, NotInstalled, NotSafe, ServerFailure, reason_of
from pgsql_ra.pacemaker.cib import read_cluster
from pgsql_ra.pacemaker.management import is_managed
from pgsql_ra.postgres.base_copy import Swap, carry_out
from pgsql_ra.postgres.control import DamagedControl, end_of_wal, least_end_of_wal, read_control
from pgsql_ra.postgres.job import JobFile, JobState, detach, own_identity, started_at
from pgsql_ra.postgres.promotion_file import remembered_system
from pgsql_ra.postgres.vacancy import hindrance, is_vacant
from pgsql_ra.postgres.wal import read_major
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.rejoin import (
    AwaitPrimary,
    Copy,
    Follow,
    LocalData,
    Refuse,
    Rejoin,
    Rewind,
    Vacancy,
    Verdict,
    decide_rejoin,
)
from pgsql_ra.replication.snapshot import ClusterState, Standby
from pgsql_ra.replication.upstream import Content, Upstream, why_not_primary

if TYPE_CHECKING:
    from pgsql_ra.postgres.upstream import PrimaryServer

IDENTIFY_SECONDS = 8.0
RETRY_SECONDS = 300.0
"""How long a monitor leaves a standby alone after a repair that failed."""
NO_PRIMARY_YET = "waiting for a primary to copy"
"""What the phase of a job begins with that nobody waits for: it ends after the promotion of another node, or never."""
SETTLE_SECONDS = 60.0
"""How long after a promotion a standby is given to read all of its WAL before its position is compared."""


def job_file(context: Context) -> JobFile:
    """The job of this data directory."""
    return context.job


def examine(context: Context, policy: Rejoin, running: Standby | None = None, ask: bool = True) -> Verdict:
    """What is to be done with this node's data: the facts of control file, WAL, cluster and primary, then the decision.

    `running` is the server if it runs as a standby. Without `ask` the primary's record in the cluster has to do.
    """
    local = local_data(context, running)
    cluster = read_cluster(context.resource, context.deadline)
    upstream = None
    if ask and len(other_primaries(cluster, context.node.lower())) == 1:
        local, upstream = ask_primary(context, cluster, local, running)
    return decide_rejoin(context.node, local, cluster, policy, upstream)


def local_data(context: Context, running: Standby | None) -> LocalData:
    """What lies in the data directory. NotInstalled or NotPermitted if it is not one that the agent may use."""
    from pgsql_ra.actions.standby import check_data_directory

    pgdata = context.pgdata
    if running is None:
        if is_vacant(pgdata):
            is_there = os.path.isdir(pgdata)
            found = f"the data directory {pgdata} is empty" if is_there else f"there is no data directory {pgdata}"
            vacancy = Vacancy(f"{found} (parameter pgdata)", hindrance=hindrance(pgdata))
            return LocalData(False, vacancy=vacancy)
        check_data_directory(context)
    try:
        control = read_control(pgdata, context.programs, context.deadline)
    except DamagedControl as error:
        if running is not None:
            raise
        vacancy = Vacancy(str(error), holds_data=True, hindrance=hindrance(pgdata))
        return LocalData(False, system=remembered_system(context.believed), vacancy=vacancy)
    was_primary = control.was_primary and running is None
    job = job_file(context).read()
    if running is not None:
        end = running.position
    elif was_primary:
        limit = context.deadline.within(context.deadline.remaining() / 2)
        end = end_of_wal(context.pgdata, control, context.programs, limit)
    else:
        end = least_end_of_wal(context.pgdata, control)
    lock = context.files.path(LOCK_FILE)
    return LocalData(
        was_primary=was_primary,
        end=end,
        system=control.system,
        changed_blocks=control.changed_blocks,
        # Somebody has put a base backup, or a finished rewind, in its place meanwhile.
        broken_off="" if control.is_backup else job.broken_off,
        unproven=job.unproven and not control.is_backup,
        followed=note.number if (note := read_note(context, control.system)) else 0,
        lock=lock if context.files.exists(LOCK_FILE) else "",
    )


def known_system(context: Context) -> str:
    """The system identifier of what lies in the data directory, remembered if need be; "" if that is not known."""
    if is_vacant(context.pgdata):
        return ""
    try:
        return read_control(context.pgdata, context.programs, context.deadline).system
    except DamagedControl:
        return remembered_system(context.believed)


def ask_primary(
    context: Context, cluster: ClusterState, local: LocalData, running: Standby | None
) -> tuple[LocalData, Upstream | None]:
    """What the only primary says of itself, None if it cannot be asked; and the local data with the end that their
    content was compared at.
    """
    next_needed = running.position if running and not running.streaming else None
    # A standby with an archive may find there what the primary does not have any more.
    if context.parameters.restore_command or (local.end and not _is_followed(local, cluster, context.node)):
        next_needed = None
    try:
        primary = primary_server(context)
        if not primary.listens():
            raise ServerFailure(f"nobody listens at {context.parameters.master_ip}")
        limit = context.deadline.within(min(IDENTIFY_SECONDS, context.deadline.remaining() / 3))
        upstream = primary.identify(limit, next_needed)
    except FAILURES as error:
        context.log.info(f"the primary's history is taken from its record in the cluster: {reason_of(error)}")
        return local, None
    return _compare_content(context, cluster, local, running, upstream)


def _compare_content(
    context: Context, cluster: ClusterState, local: LocalData, running: Standby | None, upstream: Upstream
) -> tuple[LocalData, Upstream]:
    """Whether the primary's WAL is the same where this one ends; not asked where the positions do not fit anyway."""
    from pgsql_ra.actions.same import content_of, whole_end

    primary = cluster.node(other_primaries(cluster, context.node.lower())[0])
    if primary is None or why_not_primary(upstream, primary):
        return local, upstream
    if local.vacancy or local.broken_off or local.system != upstream.system:
        return local, upstream
    limit = context.deadline.within(min(IDENTIFY_SECONDS, context.deadline.remaining() / 3))
    control = read_control(context.pgdata, context.programs, limit)
    end = local.end if running or local.was_primary else whole_end(context, control, limit)
    if end and not control.is_backup:
        local = replace(local, end=end)
    if local.end and not local.end.leads_to(upstream.history):
        return local, upstream
    found = content_of(context, upstream, control, end or local.end, limit)
    if found is Content.SAME and end is None and not control.is_backup:
        found = Content.UNKNOWN  # there may be more WAL behind what was compared
    return local, replace(upstream, content=found)


def _is_followed(local: LocalData, cluster: ClusterState, node: str) -> bool:
    return isinstance(decide_rejoin(node, local, cluster), Follow)


def primary_server(context: Context) -> "PrimaryServer":
    """The running primary, as this node reaches it."""
    from pgsql_ra.actions.standby import only_from_primary
    from pgsql_ra.postgres.upstream import PrimaryServer

    given = context.parameters
    has_version = os.path.exists(os.path.join(context.pgdata, "PG_VERSION"))
    major = read_major(context.pgdata) if has_version else context.programs.major(context.deadline)
    options = only_from_primary(major, given.primary_conninfo_opt)
    return PrimaryServer(
        given.master_ip, given.pgport, given.rejoin_user or given.repuser, options, context.user, major
    )


def policy_of(context: Context) -> Rejoin:
    """The parameter rejoin."""
    return Rejoin(context.parameters.rejoin)


def settle_data(context: Context) -> Follow:
    """Before the server is started as a standby: its data may follow the primary, repaired if need be. Returns why.

    NotSafe if they may not and nothing may be done about it, or if the repair takes longer than this action may.
    NotInstalled if there are none, and none may be copied.
    """
    file = job_file(context)
    if (job := file.running()) is not None:
        if job.phase.startswith(NO_PRIMARY_YET) and not isinstance(examine(context, policy_of(context)), AwaitPrimary):
            file.end(context.deadline)  # somebody has put data there meanwhile, or there is a primary now
        else:
            await_job(context, file)
        finish_swap(context)
    verdict = examine(context, policy_of(context))
    if isinstance(verdict, Rewind | Copy | AwaitPrimary):
        context.log.warning(f"the data cannot be followed as they are: {verdict.because}")
        begin(context, verdict)
        await_job(context, file)
        if failed := file.read().result:
            raise NotSafe(failed)
        verdict = examine(context, policy_of(context))
    if not isinstance(verdict, Follow):
        lacks_data = is_vacant(context.pgdata) and not policy_of(context).may_copy
        raise (NotInstalled if lacks_data else NotSafe)(verdict.because)
    if (job := file.read()).pid or job.broken_off:
        file.update(waiter=0, waiter_begun=0, spared=False, broken_off="", result="")
    return verdict


def finish_swap(context: Context) -> None:
    """A new copy that was being put in place when its job ended is put in place."""
    if not job_file(context).running():
        complete_swap(context)


def complete_swap(context: Context) -> None:
    """The same for whoever holds the job's lock."""
    file = job_file(context)
    if swaps := file.read().swaps:
        context.log.warning(f"putting the new copy of {context.pgdata} in place, which was broken off")
        carry_out(context.user_files, tuple(Swap(*swap) for swap in swaps))
        file.update(swaps=(), broken_off="", unproven=False)
        forget_how_far(context)


def begin(context: Context, verdict: Rewind | Copy | AwaitPrimary, policy: Rejoin | None = None) -> bool:
    """The work is under way, in a process that outlives this one. False if another one was faster."""
    context.files.prepare_directory()
    file = job_file(context)
    lock = file.acquire()
    if lock is None:
        return False
    with file.changing():
        kept = file.read()
        file.write(
            JobState(
                phase="begins",
                broken_off=kept.broken_off,
                unproven=kept.unproven,
                shown=kept.shown,
                result="the repair was broken off",
            )
        )
    action, environ = context.action, context.environ
    wanted = policy or policy_of(context)

    def work() -> None:
        from pgsql_ra.actions.repair import run_job

        run_job(Context(action, environ), lock, verdict, wanted)

    detach(work, lock)
    os.close(lock)
    return True


def await_job(context: Context, file: JobFile) -> None:
    """The job has ended. NotSafe with how far it is if it takes longer than this action may, or waits for a primary; it
    goes on then, and at its end asks Pacemaker for another start.
    """
    pid, begun = own_identity()
    file.update(waiter=pid, waiter_begun=begun, spared=True)
    margin = min(2.0, context.deadline.remaining() / 4)
    limit = Deadline(context.deadline.remaining() - margin)
    while (job := file.running()) is not None:
        if job.pid and started_at(job.pid) != job.begun:
            file.end(limit)  # it was killed, and what it had started still runs
        if limit.remaining() <= 0 or job.phase.startswith(NO_PRIMARY_YET):
            with file.changing():
                state = file.read()
                file.write(state._replace(waiter=0, waiter_begun=0))
            raise NotSafe(f"{job}: this node joins by itself when that is done (cancel it: pgsql-ra rejoin --cancel)")
        limit.pause("the repair of the data directory", 0.05)


def show(context: Context, value: str) -> None:
    """The node attribute `<resource>-rejoin` has this value; "" deletes it. Written only if it changes."""
    file = job_file(context)
    if file.read().shown == value:
        return
    limit = context.deadline.within(5.0)
    try:
        attributes = context.attributes_within(limit)
        if value:
            attributes.set_transient(context.node, {"rejoin": value})
        else:
            attributes.delete(context.node, "rejoin")
    except FAILURES as error:
        context.log.info(f"the attribute rejoin of this node could not be written: {reason_of(error)}")
        return
    file.update(shown=value)


def mend(context: Context, server: Standby, ask: bool = True) -> bool:
    """A running standby that cannot follow the primary is being repaired; False if it need not or may not be.

    What must not be done is told in the log and in the node attribute. NotSafe if what clients read from this server is
    not the cluster's.
    """
    if (job := job_file(context).running()) is not None:
        context.log.debug(f"repair of the data directory: {job}")
        return True
    if server.position is None or server.streaming:
        return False
    last = job_file(context).read()
    if last.result and 0 <= time.time() - last.failed_at < RETRY_SECONDS:
        context.log.info(f"the repair is not tried again yet, because it failed: {last.result}")
        return False
    verdict = examine(context, policy_of(context), server, ask)
    if isinstance(verdict, Rewind | Copy):
        context.log.warning(f"this standby cannot follow: {verdict.because}")
        if not is_managed(context.resource, context.node, context.deadline):
            context.log.info("nothing is done about it while Pacemaker does not manage the resource")
            return True
        return begin(context, verdict)
    if isinstance(verdict, Refuse | AwaitPrimary):
        context.log.warning(f"this standby cannot follow: {verdict.because}")
        show(context, f"{'refused' if isinstance(verdict, Refuse) else 'waits'}: {verdict.because}")
    if isinstance(verdict, Refuse) and verdict.content is Content.DIFFERENT:
        raise NotSafe(verdict.because)
    return False


def mend_when_settled(context: Context) -> None:
    """After a promotion elsewhere: look whether this standby can follow, as soon as that can be known."""
    from pgsql_ra.actions.observe import look_ahead, observe_server

    context.deadline = Deadline(SETTLE_SECONDS)
    try:
        while True:
            server = look_ahead(context, observe_server(context, context.deadline), context.deadline)
            if not isinstance(server, Standby) or server.streaming:
                return
            cluster = read_cluster(context.resource, context.deadline)
            primaries = [cluster.node(name) for name in other_primaries(cluster, context.node.lower())]
            record = primaries[0].record if len(primaries) == 1 and primaries[0] else None
            if record is not None and server.position is not None:
                break
            context.deadline.pause("the primary's record", 0.2)
        if not server.position.leads_to(record):
            # By the record alone: the primary's address comes up only after the notifications.
            mend(context, server, ask=False)
    except FAILURES as error:
        context.log.info(f"left for the next monitor: {reason_of(error)}")

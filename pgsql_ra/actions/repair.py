# SPDX-License-Identifier: GPL-2.0-or-later
"""The job that repairs a data directory: a process that looks after the one that works (actions.repair_steps), tries
again what may go well the next time, and asks Pacemaker for another start when nobody waits for the end.
"""

import os
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.rejoin import NO_PRIMARY_YET, complete_swap, examine, job_file, show
from pgsql_ra.actions.repair_steps import ALONE_SECONDS, Repair
from pgsql_ra.ocf import FAILURES, AgentError, Deadline, NotSafe, of_system, reason_of
from pgsql_ra.pacemaker.cib import read_cluster
from pgsql_ra.pacemaker.management import clean_up, has_failed_start, is_configured
from pgsql_ra.postgres.job import Cancelled, JobFile, own_identity, raise_cancelled, session_members, started_at
from pgsql_ra.postgres.process import send, server_processes
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.rejoin import AwaitPrimary, Copy, Follow, Refuse, Rejoin, Rewind

ATTEMPTS = 3
REST_SECONDS = 30.0
"""How long the job rests before another attempt: the primary may have failed over meanwhile."""
LOOK_SECONDS = 1.0
"""How often the job looks whether there is a primary now."""
QUERY_SECONDS = 10.0
JOB_SECONDS = 20 * 86400.0
"""More milliseconds would not fit into the 32 bits that poll() has for them."""


def run_job(context: Context, lock: int, verdict: Rewind | Copy | AwaitPrimary, policy: Rejoin) -> None:
    """Do it, to the end; what comes of it is in the state file and in the log.

    This process only looks after the one that works: should that one be killed, another one takes its place.
    """
    context.deadline = Deadline(JOB_SECONDS)
    file = job_file(context)
    pid, begun = own_identity()
    file.update(pid=pid, begun=begun)
    for attempt in range(1, ATTEMPTS + 1):
        status = _supervise(partial(_work, context, lock, verdict if attempt == 1 else None, policy))
        if os.WIFSIGNALED(status):
            context.log.error(f"the repair of the data directory was killed (signal {os.WTERMSIG(status)})")
            _kill_rest_of_session()
        elif not file.read().may_try_again or file.is_awaited() or attempt == ATTEMPTS or not _rest(file):
            break
    with file.changing():
        state = file.read()
        awaited = file.is_awaited()
        file.write(state._replace(phase="", percent=None, holds_server=False, failed_at=time.time()))
    show(context, f"failed: {state.result}" if state.result else "")
    os.close(lock)
    if not state.result and not awaited and not server_processes(context.pgdata):
        ask_for_start(context)


def _rest(file: JobFile) -> bool:
    """A pause before the next attempt; False if the job was told to end."""
    signal.signal(signal.SIGTERM, raise_cancelled)
    try:
        file.update(phase=f"tries again, because the last attempt failed: {file.read().result}", percent=None)
        time.sleep(REST_SECONDS)
    except Cancelled:
        return False
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return True


def _supervise(work: Callable[[], None]) -> int:
    """Run `work` in a child; its wait status. A request to end is handed on to it."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGTERM, raise_cancelled)
            work()
        finally:
            os._exit(0)
    signal.signal(signal.SIGTERM, lambda _number, _frame: send(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return status


def _work(context: Context, lock: int, verdict: Rewind | Copy | AwaitPrimary | None, policy: Rejoin) -> None:
    """One attempt; without a verdict, what is to be done now is found out first."""
    result, may_try_again = "", False
    job_file(context).update(in_place=False)  # an attempt before this one may have been killed at that
    try:
        # One that was killed while the parts changed places has left some of them new, some old, and some nowhere.
        complete_swap(context)
        found = verdict or examine(context, policy)
        while isinstance(found, AwaitPrimary):
            _await_primary(context, found.because)
            found = examine(context, policy)
        if isinstance(found, Refuse):
            raise NotSafe(found.because)
        if not isinstance(found, Follow):
            Repair(context, lock, policy).carry_out(found)
        context.log.info("the data directory is repaired")
    except AgentError as error:
        result, may_try_again = str(error), not isinstance(error, NotSafe | Cancelled)
        context.log.error(f"the data directory could not be repaired: {result}")
    except OSError as error:
        result, may_try_again = of_system(error), True
        context.log.error(f"the data directory could not be repaired: {result}: {traceback.format_exc()}")
    except Exception as error:  # noqa: BLE001 - nobody else would hear of it
        result = f"unexpected {type(error).__name__}: {error}; please report it as a BUG"
        context.log.error(f"the repair of the data directory: {result}: {traceback.format_exc()}")
    job_file(context).update(result=result, may_try_again=may_try_again)


def _await_primary(context: Context, because: str) -> None:
    """The cluster has a primary. Cancelled when Pacemaker does not run here any more, or does not know the resource.

    With one that is not at its address, nothing more can be awaited than another moment.
    """
    phase = _phase(context, because)
    if job_file(context).read().phase != phase:
        job_file(context).update(phase=phase, percent=None)
        context.log.info(f"repair of the data directory: {phase}")
    show(context, phase)
    alone = Deadline(ALONE_SECONDS)
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            cluster = read_cluster(context.resource, Deadline(QUERY_SECONDS))
            if other_primaries(cluster, context.node.lower()):
                return
            if not is_configured(context.resource, Deadline(QUERY_SECONDS)):
                raise Cancelled(f"the cluster has no resource {context.resource} any more")
            alone = Deadline(ALONE_SECONDS)
        except Cancelled:
            raise
        except FAILURES as error:
            if alone.remaining() <= 0:
                raise Cancelled(f"Pacemaker does not run on this node any more ({reason_of(error)})") from error


def _phase(context: Context, because: str) -> str:
    """What the job waits for: a primary, or the one that is there to answer at its address."""
    try:
        cluster = read_cluster(context.resource, Deadline(QUERY_SECONDS))
    except FAILURES:
        return NO_PRIMARY_YET
    return f"{NO_PRIMARY_YET} ({because})" if other_primaries(cluster, context.node.lower()) else NO_PRIMARY_YET


def _kill_rest_of_session() -> None:
    """What the killed process had started ends too: it would work on in the data directory."""
    while rest := [pid for pid in session_members(os.getpid()) if pid != os.getpid() and started_at(pid)]:
        for pid in rest:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)


def ask_for_start(context: Context) -> None:
    """Pacemaker starts the resource here again, although the last start failed: that failure is cleaned up when it is
    recorded, which may be a moment after the action has ended.
    """
    limit = Deadline(120.0)
    try:
        while limit.remaining() > 0:
            if has_failed_start(context.resource, context.node, limit):
                clean_up(context.resource, context.node, limit)
                context.log.info("Pacemaker was asked to start the server here again")
                return
            if server_processes(context.pgdata):
                return
            limit.pause("the failed start to be recorded", 0.5)
    except FAILURES as error:
        context.log.error(
            f"Pacemaker could not be asked for another start ({reason_of(error)}): crm_resource --cleanup"
            f" --resource={context.resource} --node={context.node}"
        )

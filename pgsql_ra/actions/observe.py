# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking at the server: the kernel, postmaster.pid and SQL merged once into one ServerState."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, Deadline, reason_of
from pgsql_ra.postgres.process import PidFile, PostmasterStatus, postmaster, server_processes
from pgsql_ra.replication.recovery import Replay
from pgsql_ra.replication.snapshot import Link, Primary, ServerState, Standby, Starting, Stopped, Unresponsive

if TYPE_CHECKING:
    from pgsql_ra.postgres.session import Session

LOOK_AGAIN_SECONDS = 0.1


def observe_server(context: Context, patience: Deadline, answer_by: Deadline | None = None) -> ServerState:
    """What the server is now. While it refuses connections but lives (it recovers from the crash of a backend, say),
    look again until `patience` is over. It has until `answer_by` for an answer, by default as long as that.
    """
    while True:
        state = _look_once(context, answer_by or patience)
        if not isinstance(state, Starting) or patience.remaining() <= LOOK_AGAIN_SECONDS:
            return state
        patience.pause("the server to take connections", LOOK_AGAIN_SECONDS)


def look_ahead(context: Context, server: ServerState, deadline: Deadline) -> ServerState:
    """A standby that has not replayed all of its WAL, with where that ends all the same: replaying is not owning.

    A delay of replay, a pause, or much to replay would hold up elections otherwise. Any other server is as it was.
    """
    if not isinstance(server, Standby) or server.position is not None or server.unread is None:
        return server
    from pgsql_ra.postgres.wal_end import end_of_unread

    try:
        end = end_of_unread(context.pgdata, server.unread, context.programs, deadline)
    except FAILURES as error:
        context.log.info(f"where the WAL that was not replayed yet ends could not be read: {reason_of(error)}")
        return server
    return replace(server, position=end)


def _look_once(context: Context, answer_by: Deadline) -> ServerState:
    pid = postmaster(context.pgdata, context.parameters.pgdba)
    if pid is None:
        left = server_processes(context.pgdata, context.parameters.pgdba)
        if left and context.replicates:
            from pgsql_ra.postgres.job import besides

            left = besides(context.job.running(), left)
        if left:
            return Unresponsive(left[0], f"the postmaster is gone, but processes of its server are left: {left}")
        return Stopped()
    file = PidFile.read(context.pgdata)
    if file is not None and file.pid == pid and file.status in (PostmasterStatus.STARTING, PostmasterStatus.STOPPING):
        return Starting(pid, f"the server is {file.status.value}")
    from pgsql_ra.postgres.endpoint import NONE, endpoint_of
    from pgsql_ra.postgres.session import Refused

    try:
        # The file first: what it says now is in force in the session, or nobody has been told yet.
        written = context.files.synchronous() if context.parameters.rep_mode == "sync" else None
        state = _look_by_sql(context, pid, answer_by)
        system = _system(context)
        if isinstance(state, Primary):
            return replace(state, written=written, system=system)
        if state.recovery.replay is not Replay.RUNS:
            state = _with_demands(context, state, answer_by)
        state = replace(state, endpoint=endpoint_of(state.receiver) if state.receiver else NONE)
        return replace(state, link=both(context.files.link(), state.link), system=system)
    except Refused as error:
        # It may be on its way up or down; whether it lives is asked again in the next look.
        return Starting(pid, str(error))
    except FAILURES as error:
        return Unresponsive(pid, reason_of(error))


def _with_demands(context: Context, server: Standby, deadline: Deadline) -> Standby:
    """A standby that does not replay, with what its WAL demands of its settings: that may be why. The control file has
    it before the server pauses (xlog_redo in src/backend/access/transam/xlog.c).
    """
    from pgsql_ra.postgres.control import read_control

    try:
        demands = read_control(context.pgdata, context.programs, deadline).demands
    except FAILURES as error:
        # It answers, so it lives. A restart helps, whatever it is.
        context.log.warning(f"why the server does not replay could not be found out: {reason_of(error)}")
        return replace(server, recovery=replace(server.recovery, replay=Replay.PAUSED_FOR_GOOD))
    return replace(server, recovery=replace(server.recovery, demands=demands))


def _look_by_sql(context: Context, pid: int, answer_by: Deadline) -> Primary | Standby:
    """What the server says of itself, as the monitoring user sees it if that is enough.

    A user without pg_monitor sees every standby as one without name and state: it would look gone, and would be
    recorded so. The owner, who has to be let in for other things anyway, sees it all.
    """
    from pgsql_ra.postgres.session import look, sees_replication

    user = context.parameters.monitor_user
    with open_session(context, answer_by) as session:
        if not user or not context.replicates or sees_replication(session):
            return look(session, context.pgdata, pid)
    context.log.warning(
        f"monitor_user {user} may not see pg_stat_replication, so {context.user.name} looks instead:"
        f' GRANT pg_monitor TO "{user}", or remove the parameter'
    )
    with open_owner_session(context, answer_by) as session:
        return look(session, context.pgdata, pid)


def _system(context: Context) -> str:
    """The system identifier of the data directory; "" where it cannot be read, or does not matter."""
    if not context.replicates:
        return ""
    from pgsql_ra.postgres.promotion_file import system_identifier

    try:
        return str(system_identifier(context.pgdata))
    except FAILURES as error:
        context.log.info(f"whose data these are could not be read: {error}")
        return ""


def both(written: Link, in_force: Link) -> Link:
    """What the file says of the link and what the server does, in one."""
    if Link.FIXED in (written, in_force):
        return Link.FIXED
    return written if in_force in (written, Link.UNSEEN) else Link.TORN


def open_session(
    context: Context, deadline: Deadline, settings: Mapping[str, str] | None = None
) -> "AbstractContextManager[Session]":
    """A session with the local server as the monitoring user, with the agent's own settings unless others are given."""
    from pgsql_ra.postgres.session import connect

    given = context.parameters
    return connect(
        context.pgdata, context.user, given.pgdb, given.monitor_user, given.monitor_password, deadline, settings
    )


def open_owner_session(context: Context, deadline: Deadline) -> "AbstractContextManager[Session]":
    """A session with the local server as the user who owns it: the monitoring user may lack the rights."""
    from pgsql_ra.postgres.session import connect

    return connect(context.pgdata, context.user, context.parameters.pgdb, "", "", deadline)


def is_configured_as_standby(pgdata: str) -> bool:
    """Whether the server, if it runs, is a standby: a promotion removes the file. Costs nothing, unlike SQL."""
    return os.path.exists(os.path.join(pgdata, "standby.signal"))


def describe(state: ServerState) -> str:
    """The state in words."""
    match state:
        case Stopped(because=because) | Unresponsive(because=because) | Starting(because=because):
            return because
        case Standby():
            return "the server is a standby"
        case Primary():
            return "the server is a primary"

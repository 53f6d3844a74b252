# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this node's copy has the same WAL as the primary (postgres.same_wal), and whether it may receive more of it.

What decides is the link: a server whose WAL was not compared may run as a standby, which throws nothing away, but names
no primary until it was compared (PostgreSQL 13 and later, where a reload gives it one). Whatever it received before
could not be told from its own afterwards. So it is compared once for each start, and again after a promotion:

  start                a primary is there: before the server runs. Without one the link stays cut.
  monitor, notify      before the link is opened. A standby that does not stream although its link is open is compared
                       by every monitor, since that is how a copy that cannot follow looks (actions.rejoin.mend).

A standby that follows an archive (restore_command) is compared when it has read that: it needs no link to do so.
"""

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, Deadline, reason_of
from pgsql_ra.pacemaker.cib import read_cluster
from pgsql_ra.postgres.control import ControlData, end_of_wal, least_end_of_wal
from pgsql_ra.postgres.same_wal import LocalWal, compare
from pgsql_ra.postgres.upstream import PrimaryServer
from pgsql_ra.postgres.wal import newest_timeline, read_history, read_major
from pgsql_ra.postgres.wal_end import end_of_unread
from pgsql_ra.replication.lsn import Position
from pgsql_ra.replication.primary import other_primaries
from pgsql_ra.replication.snapshot import Snapshot, Standby, Unread
from pgsql_ra.replication.upstream import Content, Upstream, may_receive, why_not_primary

COMPARE_SECONDS = 8.0
WAITS = "waits: "
"""What the attribute `<resource>-rejoin` begins with while the link stays cut."""


def streaming_server(context: Context) -> PrimaryServer:
    """The primary as this node's standby reaches it: who may stream from it may ask it for WAL."""
    from pgsql_ra.actions.standby import only_from_primary

    given = context.parameters
    options = only_from_primary(read_major(context.pgdata), given.primary_conninfo_opt)
    return PrimaryServer(given.master_ip, given.pgport, given.repuser, options, context.user)


def whole_end(context: Context, control: ControlData, deadline: Deadline) -> Position | None:
    """Where the WAL in the files of a server ends that does not run and was no primary; None if that is not found in
    time.
    """
    least = least_end_of_wal(context.pgdata, control)
    try:
        if least is None:
            return end_of_wal(context.pgdata, control, context.programs, deadline)
        return end_of_unread(context.pgdata, Unread(least.lsn), context.programs, deadline)
    except FAILURES as error:
        context.log.info(f"where the WAL of this node ends could not be read: {reason_of(error)}")
        return None


def content_of(
    context: Context, upstream: Upstream, control: ControlData, end: Position | None, deadline: Deadline
) -> Content:
    """How this copy, whose WAL ends at `end`, compares with the primary, which has just said `upstream`.

    A base backup that was never started has nothing of its own: its checkpoint is enough if it holds no more.
    """
    history = end.history if end else read_history(context.pgdata, newest_timeline(context.pgdata, control.timeline))
    try:
        primary, local = streaming_server(context), LocalWal(context.pgdata, context.user)
        last = local.last(end, context.programs, deadline) if end else None
        traces = (local.checkpoint(history), local.with_lead(last, history) if last else None)
        found = [compare(primary, upstream, trace, local, deadline) for trace in traces if trace is not None]
    except FAILURES as error:
        context.log.info(f"the WAL of this node could not be compared with the primary's: {reason_of(error)}")
        return Content.UNKNOWN
    if Content.DIFFERENT in found:
        return Content.DIFFERENT
    if last is None and not control.is_backup:
        return Content.UNKNOWN
    return found[-1] if found else Content.UNKNOWN


def may_open_link(context: Context, snapshot: Snapshot) -> bool:
    """Whether this standby, whose link is cut, may receive from the primary: its WAL is the same, or what is recorded
    of it says so. The node attribute shows if not.
    """
    from pgsql_ra.actions.rejoin import job_file, show

    content, because = Content.UNKNOWN, "where its WAL ends is not known yet"
    if isinstance(snapshot.server, Standby) and snapshot.server.position is not None:
        content, because = _ask(context, snapshot.server.position)
    file = job_file(context)
    job = file.read()
    if job.unproven and content is Content.SAME:
        file.update(unproven=False)
    if may_receive(content, snapshot) and (content is Content.SAME or not job.unproven):
        if job.shown.startswith(WAITS):
            show(context, "")
        return True
    context.log.warning(f"this standby does not receive from the primary yet: {because}")
    if content is not Content.DIFFERENT:
        show(context, f"{WAITS}{because}")
    return False


def _ask(context: Context, end: Position) -> tuple[Content, str]:
    from pgsql_ra.postgres.control import read_control

    limit = context.deadline.within(min(COMPARE_SECONDS, context.deadline.remaining() / 3))
    cluster = read_cluster(context.resource, limit)
    primaries = [cluster.node(name) for name in other_primaries(cluster, context.node.lower())]
    if len(primaries) != 1 or primaries[0] is None:
        return Content.UNKNOWN, "there is not one primary"
    try:
        upstream = streaming_server(context).identify(limit)
        if because := why_not_primary(upstream, primaries[0]):
            return Content.UNKNOWN, because
        control = read_control(context.pgdata, context.programs, limit)
    except FAILURES as error:
        return Content.UNKNOWN, f"its WAL cannot be compared with the primary's: {reason_of(error)}"
    content = content_of(context, upstream, control, end, limit)
    words = {
        Content.GONE: "the primary does not have the WAL any more with which its end could be compared",
        Content.UNKNOWN: "its WAL could not be compared with the primary's",
    }
    return content, words.get(content, f"its WAL and the primary's are {content.value}")

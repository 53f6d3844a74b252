# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts for a cluster that never had a primary (replication.originals): this node's last record, and the nodes
whose last records its WAL contradicts.
"""

from dataclasses import replace

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.rejoin import job_file
from pgsql_ra.ocf import AgentError
from pgsql_ra.postgres.same_wal import LocalWal
from pgsql_ra.replication.lsn import LastRecord, Lsn, Position
from pgsql_ra.replication.originals import is_new
from pgsql_ra.replication.snapshot import Snapshot, Standby
from pgsql_ra.replication.upstream import Content

NOT_FOUND = LastRecord(Lsn(0), "")


def with_last_records(context: Context, snapshot: Snapshot) -> Snapshot:
    """The snapshot of a standby in a new cluster, with what its WAL says of the others'; any other one as it is.

    This node's own record is looked for once: without a primary its WAL does not grow.
    """
    server = snapshot.server
    if not is_new(snapshot) or not isinstance(server, Standby) or server.position is None:
        return snapshot
    said = {node.name: node.last for node in snapshot.cluster.nodes if node.last and node.key != snapshot.own.key}
    try:
        wal = LocalWal(context.pgdata, context.user)
        last = snapshot.own.last or _last(context, wal, server.position)
        unlike = [name for name, record in said.items() if _contradicts(wal, server.position, record)]
    except (AgentError, OSError) as error:
        context.log.warning(f"the last records of the copies could not be compared: {error}")
        return replace(snapshot, last=replace(NOT_FOUND, was_primary=job_file(context).read().unproven))
    return replace(snapshot, last=last, unlike=tuple(unlike))


def _last(context: Context, wal: LocalWal, end: Position) -> LastRecord:
    trace = wal.last(end, context.programs, context.deadline.within(context.deadline.remaining() / 3))
    found = LastRecord(trace.start, trace.checksum) if trace else NOT_FOUND
    return replace(found, was_primary=job_file(context).read().unproven)


def _contradicts(wal: LocalWal, end: Position, record: LastRecord) -> bool:
    if record.start >= end.lsn:
        return False  # it goes further, and will look for the record of this node
    held = wal.holds(record.start, record.checksum, end.history) if record.checksum else Content.UNKNOWN
    return held is Content.DIFFERENT or (held is not Content.SAME and record.was_primary)

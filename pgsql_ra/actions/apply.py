# SPDX-License-Identifier: GPL-2.0-or-later
"""Applying changes, one after the other, each acknowledged before the next. The only place that writes for a
decision.
"""

import signal
from dataclasses import replace
from typing import LiteralString, assert_never

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.observe import open_owner_session
from pgsql_ra.ocf import ServerFailure, reason_of
from pgsql_ra.pacemaker.attributes import Life
from pgsql_ra.pacemaker.replicas import confirm
from pgsql_ra.postgres.configuration import SYNCHRONOUS_FILE, synchronous_settings, synchronous_value
from pgsql_ra.postgres.process import send, server_processes
from pgsql_ra.postgres.process import stop as stop_server
from pgsql_ra.postgres.promotion_file import read_promotion, write_promotion
from pgsql_ra.postgres.wal import read_major
from pgsql_ra.replication.changes import (
    Change,
    Confirm,
    CountLowering,
    CreateSlot,
    DropSlot,
    EndWalsender,
    ProvokeReply,
    PublishPosition,
    Receive,
    RememberPromotion,
    RestartStandby,
    SetDataStatus,
    SetElection,
    SetKnown,
    SetLastRecord,
    SetMet,
    SetPromotion,
    SetReceiver,
    SetReceives,
    SetRecord,
    SetScore,
    SetStatus,
    SetSynchronousStandbys,
    SetUnfit,
    SetVoters,
    SetWhy,
    ShowLocation,
    StopReceiving,
    WithdrawPosition,
)
from pgsql_ra.replication.record import Stamp, newest


def apply(context: Context, change: Change) -> None:
    """Do it, and return when it is acknowledged. Raises what the attempt raises."""
    context.log.info(f"{describe(change)}: {change.because}")
    attributes = context.attributes
    match change:
        case SetScore(node, score):
            attributes.set_score(node, score)
        case SetDataStatus(node, value):
            attributes.set("data-status", node, value, Life.FOREVER)
        case SetStatus(node, value):
            attributes.set("status", node, value, Life.REBOOT)
        case SetRecord(node, history):
            attributes.set("timeline", node, str(history), Life.FOREVER)
        case PublishPosition(node, published):
            attributes.set_private("position", node, str(published))
        case ShowLocation(node, position):
            attributes.set_transient(node, {"xlog-loc": position.lsn.padded()})
        case WithdrawPosition(node):
            attributes.empty_private(node, "position")
            attributes.delete(node, "xlog-loc")
        case SetElection(node, ""):
            attributes.empty_private(node, "election")
        case SetElection(node, value):
            attributes.set_private("election", node, value)
        case SetPromotion(node, promotion, proof=proof):
            attributes.set("promotion", node, str(Stamp(promotion, proof)), Life.FOREVER)
        case RememberPromotion(promotion):
            write_promotion(context.believed, context.pgdata, promotion)
        case SetKnown(node, promotion):
            attributes.set_private("known", node, str(promotion))
        case CountLowering(_, _, _, hearers):
            remembered = newest((read_promotion(context.believed, context.pgdata), change.knowledge))
            if remembered is not None:
                write_promotion(context.believed, context.pgdata, remembered)
                attributes.set_privates("known", hearers, str(replace(remembered, begin=None)))
        case SetMet(node, met):
            attributes.set_private("met", node, " ".join(sorted(met)))
        case Confirm(nodes, needed):
            confirm(nodes, needed, context.deadline)
        case SetLastRecord(node, record):
            attributes.set_private("known", node, str(record))
        case SetVoters(node, voters):
            attributes.set("voters", node, str(voters), Life.FOREVER)
        case SetWhy(node, ""):
            attributes.delete(node, "not-promoted")
        case SetWhy(node, why):
            attributes.set("not-promoted", node, why, Life.REBOOT)
        case SetUnfit(node, ""):
            attributes.delete(node, "unfit")
        case SetUnfit(node, why):
            attributes.set("unfit", node, why, Life.REBOOT)
        case RestartStandby():
            restart_standby(context)
        case SetSynchronousStandbys(standbys):
            context.files.write(SYNCHRONOUS_FILE, synchronous_settings(standbys))
            context.server.reload()
        case ProvokeReply():
            execute_sql(context, "SELECT pg_logical_emit_message(true, 'pgsql-ra', '')")
        case SetReceiver(node, value):
            attributes.set_transient(node, {"receiver-status": value})
        case SetReceives(node, value):
            attributes.set_private("receiver-from", node, value)
        case CreateSlot(name):
            attempt(context, change, "SELECT pg_create_physical_replication_slot(%s, true)", name)
        case DropSlot(name):
            attempt(context, change, "SELECT pg_drop_replication_slot(%s)", name)
        case EndWalsender(pid):
            terminate(context, pid)
        case StopReceiving(pid):
            context.files.set_conninfo("")
            context.server.reload()
            # It would end by itself when replay has come to its end.
            terminate(context, pid)
        case Receive():
            from pgsql_ra.actions.standby import conninfo_of_primary

            context.files.set_conninfo(conninfo_of_primary(context))
            context.server.reload()
        case _:
            assert_never(change)


def terminate(context: Context, pid: int) -> None:
    """End a process, if it still is one of this server: the number may have been given to somebody else.

    Walsenders and WAL receivers end by themselves all the time: one that is gone already is what was wanted.
    """
    if pid in server_processes(context.pgdata):
        send(pid, signal.SIGTERM)


def restart_standby(context: Context) -> None:
    """The standby runs again, with the settings of `launch`."""
    from pgsql_ra.actions.standby import launch_standby
    from pgsql_ra.actions.stop import escalation_seconds

    stop_server(context.pgdata, escalation_seconds(context), context.deadline, context.log)
    launch_standby(context, read_major(context.pgdata))


def execute_sql(context: Context, statement: LiteralString, *values: str) -> None:
    """Run a statement on the local server as the database user, who may make slots and write messages."""
    with open_owner_session(context, context.deadline) as session:
        session.execute(statement, values)


def attempt(context: Context, change: Change, statement: LiteralString, *values: str) -> None:
    """Like execute_sql, for what keeps nothing else from being done if it fails (max_replication_slots, say)."""
    try:
        execute_sql(context, statement, *values)
    except (ServerFailure, OSError) as error:
        context.log.warning(f"failed: {describe(change)}: {reason_of(error)}")


def describe(change: Change) -> str:
    """The change in the words of the log."""
    match change:
        case SetScore(node, score):
            return f"promotion score of {node} = {score}"
        case SetDataStatus(node, value):
            return f"data-status of {node} = {value}"
        case SetStatus(node, value):
            return f"status of {node} = {value}"
        case SetRecord(node, history):
            return f"timeline of {node} = {history}"
        case PublishPosition(node, published):
            return f"WAL position of {node} = {published}"
        case ShowLocation(node, position):
            return f"xlog-loc of {node} = {position.lsn.padded()}"
        case WithdrawPosition(node):
            return f"WAL position of {node} withdrawn"
        case SetElection(node, value):
            return f"election on {node} = {value or 'over'}"
        case SetPromotion(node, promotion, proof=proof):
            return f"promotion of {node} = {Stamp(promotion, proof)}"
        case RememberPromotion(promotion):
            return f"this node's file of the newest promotion = {promotion}"
        case SetKnown(node, promotion):
            return f"newest promotion known to {node} = {promotion}"
        case CountLowering(node, count, promotion):
            return f"records of {node} lowered under promotion {promotion.number} = {count}"
        case SetMet(node, met):
            return f"members seen by {node} = {' '.join(sorted(met))}"
        case Confirm(nodes, needed):
            return f"{needed} of {', '.join(nodes)} hold what was written"
        case SetLastRecord(node, record):
            return f"last record of {node} = {record}"
        case SetVoters(node, voters):
            return f"voters on {node} = {voters}"
        case SetWhy(node, why):
            return f"not-promoted of {node} = {why or '(nothing)'}"
        case SetUnfit(node, why):
            return f"unfit of {node} = {why or '(nothing)'}"
        case RestartStandby():
            return "restart the standby"
        case SetSynchronousStandbys(standbys):
            return f"synchronous_standby_names = {synchronous_value(standbys) or '(none)'}"
        case ProvokeReply():
            return "a little WAL is written"
        case SetReceiver(node, value):
            return f"receiver-status of {node} = {value}"
        case SetReceives(node, value):
            return f"{node} receives from the address {value}"
        case CreateSlot(name):
            return f"make the replication slot {name}"
        case DropSlot(name):
            return f"drop the replication slot {name}"
        case EndWalsender(pid):
            return f"end walsender {pid}"
        case StopReceiving(pid):
            return f"end the WAL receiver {pid or '(there is none)'} and start none"
        case Receive():
            return "receive WAL from the primary"
        case _:
            assert_never(change)

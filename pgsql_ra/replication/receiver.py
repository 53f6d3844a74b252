# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of the WAL receiver as a node attribute, for people and monitoring software (check_wal_receiver)."""

from pgsql_ra.replication.changes import SetReceiver
from pgsql_ra.replication.snapshot import Primary, ReceiverDisplay, ServerState, Snapshot, Standby


def receiver_state(server: ServerState) -> str:
    """The attribute's value; "" if this server has none."""
    match server:
        case Primary():
            return "normal (master)"
        case Standby(streaming=True):
            return "normal"
        case Standby():
            return "ERROR"
        case _:
            return ""


def show_receiver(snapshot: Snapshot) -> tuple[SetReceiver, ...]:
    """The change that makes the attribute true; nothing if it is, or if nobody wants it."""
    value = receiver_state(snapshot.server)
    if not value or snapshot.policy.receiver is ReceiverDisplay.HIDDEN or snapshot.own.receiver == value:
        return ()
    return (SetReceiver(snapshot.own.name, value, "check_wal_receiver is set"),)

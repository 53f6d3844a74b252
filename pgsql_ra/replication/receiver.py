# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of the WAL receiver as a node attribute, for people and monitoring software (check_wal_receiver)."""

from pgsql_ra.replication.changes import SetReceiver
from pgsql_ra.replication.snapshot import Primary, ReceiverDisplay, Snapshot, Standby


def show_receiver(snapshot: Snapshot) -> tuple[SetReceiver, ...]:
    """The change that makes the attribute true; nothing if it is, or if nobody wants it."""
    match snapshot.server:
        case Primary():
            value = "normal (master)"
        case Standby(streaming=True):
            value = "normal"
        case Standby():
            value = "ERROR"
        case _:
            return ()
    if snapshot.policy.receiver is ReceiverDisplay.HIDDEN or snapshot.own.receiver == value:
        return ()
    return (SetReceiver(snapshot.own.name, value, "check_wal_receiver is set"),)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a standby says of its WAL receiver: its state, for people and monitoring software (check_wal_receiver), and
where its connection begins, for the primary.
"""

from pgsql_ra.replication.changes import SetReceiver, SetReceives
from pgsql_ra.replication.peer import GONE, NOTHING_RECEIVED
from pgsql_ra.replication.policy import ReceiverDisplay
from pgsql_ra.replication.snapshot import Primary, ServerState, Snapshot, Standby


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


def tell_endpoint(snapshot: Snapshot) -> tuple[SetReceives, ...]:
    """As a standby: where its receiver connects from, by which the primary knows that it is this node's.

    A connection that has ended is said to be gone: the next one begins on the same host, and is made any moment.
    """
    server, said = snapshot.server, snapshot.own.receives
    if not isinstance(server, Standby) or not server.endpoint:
        return ()
    value = server.endpoint
    if value == NOTHING_RECEIVED and ":" in said:
        value = f"{GONE}{said.removeprefix(GONE)}"
    if value == said:
        return ()
    return (SetReceives(snapshot.own.name, value, "by that the primary knows this node's connection"),)


def show_receiver(snapshot: Snapshot) -> tuple[SetReceiver, ...]:
    """The change that makes the attribute true; nothing if it is, or if nobody wants it."""
    value = receiver_state(snapshot.server)
    if not value or snapshot.policy.receiver is ReceiverDisplay.HIDDEN or snapshot.own.receiver == value:
        return ()
    return (SetReceiver(snapshot.own.name, value, "check_wal_receiver is set"),)

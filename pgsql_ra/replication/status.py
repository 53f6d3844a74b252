# SPDX-License-Identifier: GPL-2.0-or-later
"""The values of the node attributes, and what each of them means for a promotion.

The names and values are those of ocf:heartbeat:pgsql: location rules, scripts and people read them.
"""

from typing import Final

from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.snapshot import ReplicationState, SyncState, Walsender

LATEST: Final = "LATEST"
"""data-status: this node was the primary last."""
DISCONNECT: Final = "DISCONNECT"
"""data-status: this node may lack acknowledged commits."""
STREAMING_SYNC: Final = "STREAMING|SYNC"
"""data-status: every acknowledged commit is flushed on this node."""

STREAMING_ASYNC: Final = "STREAMING|ASYNC"
STREAMING_QUORUM: Final = "STREAMING|QUORUM"
"""data-status: it is one of those among which every acknowledged commit is to be found."""
LAGGING: Final = "CATCHUP|ASYNC"
"""data-status: it receives WAL and is too far behind to be promoted."""

STATUS_PRIMARY: Final = "PRI"
STATUS_STOPPED: Final = "STOP"
STATUS_UNKNOWN: Final = "UNKNOWN"
STATUS_ALONE: Final = "HS:alone"
STATUS_CONNECTED: Final = "HS:connected"

SCORE_NEVER: Final = "-INFINITY"
SCORE_STANDBY: Final = "100"
SCORE_PRIMARY: Final = "1000"

_NEVER: Final = -1_000_000
"""Pacemaker's value of -INFINITY."""
_HIGHEST_OF_STANDBYS: Final = 999
"""A standby's score stays below a primary's."""


def data_status(walsender: Walsender | None) -> str:
    """The data-status that a standby's row in pg_stat_replication stands for.

    >>> data_status(None)
    'DISCONNECT'
    """
    if walsender is None:
        return DISCONNECT
    return f"{walsender.state.name}|{walsender.sync_state.name}"


def standby_status(walsender: Walsender) -> str:
    """The `<resource>-status` of a standby that is connected."""
    if walsender.state is not ReplicationState.STREAMING:
        return STATUS_CONNECTED
    names = {SyncState.QUORUM: "sync"}
    return f"HS:{names.get(walsender.sync_state, walsender.sync_state.value)}"


def may_be_promoted(value: str, mode: Mode) -> bool:
    """Whether a node with this data-status may become the primary without an administrator's word.

    Nothing recorded is a cluster that never had a primary. In async mode every standby that streamed qualifies.
    """
    if value in ("", LATEST, STREAMING_SYNC):
        return True
    return mode is Mode.ASYNC and value.startswith(f"{ReplicationState.STREAMING.name}|")


def standby_score(priority: int) -> str:
    """The promotion score of a standby that may be promoted: 100, or more for one that the administrator prefers.

    >>> standby_score(1), standby_score(5)
    ('100', '104')
    """
    return str(min(_HIGHEST_OF_STANDBYS, int(SCORE_STANDBY) - 1 + priority))


def score_value(score: str) -> int:
    """A promotion score as a number; what Pacemaker cannot read counts as 0, as in Pacemaker.

    >>> score_value("-INFINITY"), score_value("100"), score_value("")
    (-1000000, 100, 0)
    """
    if score.upper() in ("INFINITY", "+INFINITY"):
        return -_NEVER
    if score.upper() == "-INFINITY":
        return _NEVER
    try:
        return max(_NEVER, min(-_NEVER, int(score)))
    except ValueError:
        return 0

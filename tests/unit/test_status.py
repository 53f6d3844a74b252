# SPDX-License-Identifier: GPL-2.0-or-later
"""The values of the attributes, and what they mean for a promotion."""

import pytest

from pgsql_ra.actions import marks
from pgsql_ra.replication import status
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.snapshot import ReplicationState, SyncState
from tests.unit.builders import BETA, a_walsender


@pytest.mark.parametrize(
    ("state", "sync", "record", "shown"),
    [
        (ReplicationState.STREAMING, SyncState.SYNC, "STREAMING|SYNC", "HS:sync"),
        (ReplicationState.STREAMING, SyncState.QUORUM, "STREAMING|QUORUM", "HS:sync"),
        (ReplicationState.STREAMING, SyncState.ASYNC, "STREAMING|ASYNC", "HS:async"),
        (ReplicationState.STREAMING, SyncState.POTENTIAL, "STREAMING|POTENTIAL", "HS:potential"),
        (ReplicationState.CATCHUP, SyncState.ASYNC, "CATCHUP|ASYNC", "HS:connected"),
        (ReplicationState.STARTUP, SyncState.ASYNC, "STARTUP|ASYNC", "HS:connected"),
    ],
)
def test_the_words_are_those_of_the_shell_agent(
    state: ReplicationState, sync: SyncState, record: str, shown: str
) -> None:
    row = a_walsender(BETA, state, sync)
    assert status.data_status(row) == record
    assert status.standby_status(row) == shown


def test_no_connection_is_disconnect() -> None:
    assert status.data_status(None) == "DISCONNECT"


@pytest.mark.parametrize(
    ("value", "modes"),
    [
        pytest.param("", {Mode.SYNC, Mode.ASYNC}, id="never had a primary"),
        ("LATEST", {Mode.SYNC, Mode.ASYNC}),
        ("STREAMING|SYNC", {Mode.SYNC, Mode.ASYNC}),
        ("STREAMING|ASYNC", {Mode.ASYNC}),
        ("STREAMING|POTENTIAL", {Mode.ASYNC}),
        ("CATCHUP|ASYNC", set()),
        ("CATCHUP|SYNC", set()),
        ("DISCONNECT", set()),
        ("STREAMING", set()),
        ("latest", set()),
        ("junk", set()),
    ],
)
def test_who_may_be_promoted(value: str, modes: set[Mode]) -> None:
    assert {mode for mode in Mode if status.may_be_promoted(value, mode)} == modes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("0", 0),
        ("100", 100),
        ("-5", -5),
        ("INFINITY", 1_000_000),
        ("+INFINITY", 1_000_000),
        ("infinity", 1_000_000),
        ("-INFINITY", -1_000_000),
        ("-infinity", -1_000_000),
        ("99999999", 1_000_000),
        ("-99999999", -1_000_000),
        ("junk", 0),
    ],
)
def test_scores_are_pacemakers(text: str, value: int) -> None:
    assert status.score_value(text) == value


def test_stop_uses_the_same_words() -> None:
    """It has its own, because it must not need this package."""
    assert marks.STATUS_STOPPED == status.STATUS_STOPPED
    assert marks.SCORE_NEVER == status.SCORE_NEVER

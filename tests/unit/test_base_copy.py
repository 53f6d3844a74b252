# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a copy that failed."""

import pytest

from pgsql_ra.postgres.base_copy import why_it_failed

FULL = 'could not write to file "base/5/2616": No space left on device'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param(
            "waiting for checkpoint\n 1000/30000 kB (3%), 0/1 tablespace\r"
            'pg_basebackup: pg_basebackup:pg_basebackup: error: could not write to file "/d/data.new/base/5/2616": '
            "No space left on device\n"
            "pg_basebackup: removing contents of data directory\n",
            FULL,
            id="two processes in one line",
        ),
        pytest.param(
            "pg_basebackup: error: connection to server failed: FATAL: no such user\n",
            "connection to server failed: FATAL: no such user",
            id="one line",
        ),
        pytest.param("killed\n", "killed", id="no error"),
        pytest.param("", "it did not say why it failed", id="nothing"),
    ],
)
def test_the_reason_is_one_line_without_the_temporary_place(said: str, told: str) -> None:
    assert why_it_failed(said, "/d/data.new") == told
    assert len(told) < 127 - len("pg_basebackup: ")

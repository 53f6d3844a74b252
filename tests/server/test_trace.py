# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracing an action, and an action that cannot be traced."""

from pathlib import Path

import pytest

from tests.server.agent import Agent
from tests.server.database import Database


def test_a_trace_holds_what_was_seen_and_decided_and_no_secret(agent: Agent, standby: Database, tmp_path: Path) -> None:
    answer = agent.monitor(trace_ra="1", trace_dir=str(tmp_path), monitor_user="tester", monitor_password="geheim")
    assert answer.code == 0, answer
    assert standby.is_standby()
    (trace,) = tmp_path.rglob("*.monitor.*")
    assert trace.parent.name == "pgsql"
    text = trace.read_text()
    for expected in ("rep_mode=", "saw Snapshot", "decided Plan", "exit code 0"):
        assert expected in text, text
    assert "geheim" not in text


@pytest.mark.parametrize("target", ["/nonexistent/folder/trace", "9"])
def test_a_trace_that_cannot_be_written_changes_nothing(agent: Agent, standby: Database, target: str) -> None:
    assert agent.monitor(trace_ra="1", trace_file=target).code == 0
    assert standby.is_standby()

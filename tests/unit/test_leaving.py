# SPDX-License-Identifier: GPL-2.0-or-later
"""Standbys that were announced to stop are remembered for a moment, by a hint that is never in the way."""

from pathlib import Path

import pytest

from pgsql_ra.actions import leaving
from pgsql_ra.actions.context import Context
from pgsql_ra.state import PLACE_VARIABLE


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """An action with a directory for the agent's state."""
    return Context("notify", {PLACE_VARIABLE: str(tmp_path)})


def test_what_was_announced_is_known_until_somebody_starts(context: Context) -> None:
    assert leaving.leaving(context) == frozenset()
    leaving.remember_leaving(context, frozenset({"node-2"}))
    leaving.remember_leaving(context, frozenset({"node3"}))
    assert leaving.leaving(context) == {"node-2", "node3"}
    leaving.forget_leaving(context)
    leaving.forget_leaving(context)
    assert leaving.leaving(context) == frozenset()


@pytest.mark.parametrize("shift", [leaving.SECONDS + 1, -1.0])
def test_it_is_forgotten_by_itself(context: Context, monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    """After a while, and after the machine was booted, when its clock begins again."""
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    leaving.remember_leaving(context, frozenset({"node2"}))
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 + shift)
    assert leaving.leaving(context) == frozenset()


@pytest.mark.parametrize("text", ["", "soon node2", "\x00"])
def test_a_damaged_file_is_none(context: Context, text: str) -> None:
    context.state.write(leaving.FILE, text)
    assert leaving.leaving(context) == frozenset()

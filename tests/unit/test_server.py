# SPDX-License-Identifier: GPL-2.0-or-later
"""Launching the server: what cannot be had on demand is the moment at which a process has no command line."""

import subprocess
from collections.abc import Iterator
from itertools import chain, repeat
from typing import cast

import pytest

from pgsql_ra.ocf import Deadline, Log, ServerFailure
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.server import Server, ServerOptions


class NoPrograms:
    """pg_ctl says that it has launched the server."""

    def run(self, *_: object) -> "subprocess.CompletedProcess[str]":
        """As Programs.run."""
        return subprocess.CompletedProcess([], 0, "", "")


class Seen(Server):
    """A server of which each look sees what it is told to."""

    def __init__(self, alive: Iterator[bool], ready: Iterator[bool]) -> None:
        options = ServerOptions(pgdata="/nowhere", config="/nowhere/c", logfile="/dev/null", port=5432)
        super().__init__(options, cast(Programs, NoPrograms()), Log({}))
        self._alive, self._ready = alive, ready

    def _is_alive(self) -> bool:
        return next(self._alive)

    def _is_ready(self) -> bool:
        return next(self._ready)

    def _last_words(self, *_: object) -> str:
        return "its last words"


def test_one_look_that_sees_no_process_is_not_the_end() -> None:
    Seen(chain([True, False, False], repeat(True)), chain([False] * 6, repeat(True))).start(Deadline(10), {})


def test_a_server_that_becomes_ready_meanwhile_has_not_ended() -> None:
    Seen(repeat(False), chain([False] * 3, repeat(True))).start(Deadline(10), {})


def test_a_server_that_is_not_seen_any_more_has_ended() -> None:
    with pytest.raises(ServerFailure, match="its last words"):
        Seen(chain([True], repeat(False)), repeat(False)).start(Deadline(10), {})

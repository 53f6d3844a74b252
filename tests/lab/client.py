# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing clients: processes that commit through the VIP, and the report on what they saw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab.layout import DATABASE_USER, PORT, PROJECT, VIP
from tests.lab.network import CLIENT
from tests.lab.processes import CLEAN_ENVIRONMENT, Identity, children_of
from tests.lab.waiting import LabError, eventually

if TYPE_CHECKING:
    from tests.lab.lab import Lab
    from tests.lab.node import Node

NOTABLE_GAP_SECONDS = 0.5
STOP_SECONDS = 15.0

Line = dict[str, Any]


@dataclass(frozen=True)
class Gap:
    """A time without any acknowledged commit. Wall-clock times in seconds since 1970."""

    start: float
    end: float
    seconds: float
    """Measured by the monotonic clock."""
    errors: tuple[str, ...] = ()
    """What the client met meanwhile, each once."""

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s without a commit" + (f" ({'; '.join(self.errors)})" if self.errors else "")


@dataclass(frozen=True)
class Report:
    """What a client saw, and what became of its rows."""

    acknowledged: int
    gaps: tuple[Gap, ...]
    """Those longer than 0.5 s, in order."""
    longest_gap: Gap | None
    unknown: int
    """Attempts whose outcome the client never learnt (each was tried again)."""
    doubtful: int
    """Acknowledgements with the warning that a standby may lack the row (each was tried again)."""
    existed: int
    """Rows of an earlier attempt with unknown outcome that turned out to be there."""
    timelines: tuple[int, ...]
    """Timelines of the servers it wrote to, in order."""
    lost: tuple[int, ...] = ()
    """Acknowledged rows that are not in the table."""
    duplicates: tuple[int, ...] = ()
    checked: bool = False
    """Was the table looked at? Without it `lost` and `duplicates` say nothing."""

    def __str__(self) -> str:
        check = f"{len(self.lost)} lost, {len(self.duplicates)} duplicate" if self.checked else "table not checked"
        longest = f"; longest gap {self.longest_gap.seconds:.2f} s" if self.longest_gap else ""
        unclear = f", {self.unknown} unknown, {self.doubtful} doubtful"
        return f"{self.acknowledged} commits acknowledged{unclear}, {check}{longest}, timelines {list(self.timelines)}"


@dataclass
class Client:
    """A running or stopped writing client."""

    name: str
    history: Path
    process: subprocess.Popen[bytes]
    lab: Lab = field(repr=False)

    @classmethod
    def start(
        cls,
        lab: Lab,
        name: str,
        *,
        host: str = VIP,
        inside: Node | None = None,
        pause_ms: float = 5,
        connect_seconds: float = 1,
        statement_seconds: float = 3,
        retry_ms: float = 50,
        cancel_ms: float = 0,
    ) -> Self:
        """Start one in the clients' namespace, or `inside` a node (with host="127.0.0.1": for a side that is cut off).

        `pause_ms` goes by between two commits, `retry_ms` before what failed is tried again; a connection or a
        statement that takes longer than its seconds is given up. A statement without an answer after `cancel_ms` is
        cancelled (0: never).
        """
        history = lab.layout.clients / f"{name}.jsonl"
        if history.exists():
            raise LabError(f"there was a client {name!r} already: its history would be overwritten")
        conninfo = (
            f"host={host} port={PORT} user={DATABASE_USER} dbname=postgres application_name=lab_{name}"
            " sslmode=disable gssencmode=disable tcp_user_timeout=2000 keepalives_idle=1 keepalives_interval=1"
        )
        enter = lab.network.enter(CLIENT) if inside is None else inside.enter()
        options = {
            "client": name,
            "conninfo": conninfo,
            "history": str(history),
            "pause-ms": str(pause_ms),
            "connect-seconds": str(connect_seconds),
            "statement-seconds": str(statement_seconds),
            "retry-ms": str(retry_ms),
            "cancel-ms": str(cancel_ms),
        }
        with (lab.layout.clients / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*enter, sys.executable, "-m", "tests.lab.writer"]
                + [f"--{option}={value}" for option, value in options.items()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A path instead of a working directory: entering a node changes the latter.
                env={**CLEAN_ENVIRONMENT, "PYTHONPATH": str(PROJECT)},
                cwd="/",
                start_new_session=True,
            )
        Identity.of(process.pid).save(lab.layout.processes / f"client-{name}")
        return cls(name, history, process, lab)

    def lines(self) -> list[Line]:
        """The history so far."""
        try:
            text = self.history.read_text()
        except FileNotFoundError:
            return []
        # The last line may be on its way.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def acknowledged(self) -> list[int]:
        """The rows acknowledged so far."""
        return [line["seq"] for line in self.lines() if line["outcome"] == "ack"]

    def wait_for(self, more: int = 1, *, within: float = 30) -> None:
        """So many more commits than at the time of the call are acknowledged."""
        wanted = len(self.acknowledged()) + more
        eventually(
            f"{self.name} has {wanted} commits acknowledged",
            self.lines,
            lambda lines: sum(line["outcome"] == "ack" for line in lines) >= wanted,
            within=within,
            show=lambda lines: _describe(lines, self.process.poll(), self.history),
        )

    def stop(self) -> None:
        """The client ended by itself after its current attempt."""
        if self.process.poll() is None:
            # Inside a node the process is the child of the one that entered the node.
            for pid in (*children_of(self.process.pid), self.process.pid):
                os.kill(pid, signal.SIGTERM)
                break
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"client {self.name} does not stop") from error

    def abandon(self) -> None:
        """The client is dead, whatever it was doing."""
        self.process.kill()
        self.process.wait(timeout=STOP_SECONDS)

    def report(self, check: Node | None = None) -> Report:
        """The report on the history so far, with the table looked at on the node `check`."""
        rows: list[int] | None = None
        if check is not None:
            # No index: a duplicate would be one that the index does not know of.
            settings = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;"
            found = check.sql(f"{settings} SELECT seq FROM lab_commits WHERE client = '{self.name}'", timeout=60)  # noqa: S608
            rows = [int(row) for row in found.split()]
        return make_report(self.lines(), rows)


def make_report(lines: Iterable[Line], rows: list[int] | None) -> Report:
    """The report on a history and, if it was looked at, the client's rows in the table."""
    history = list(lines)
    acks = [line["seq"] for line in history if line["outcome"] == "ack"]
    gaps = _gaps(history)
    present = set(rows or ())
    seen: set[int] = set()
    duplicates = sorted({row for row in rows or () if row in seen or seen.add(row)})  # type: ignore[func-returns-value]
    return Report(
        acknowledged=len(acks),
        gaps=tuple(gap for gap in gaps if gap.seconds > NOTABLE_GAP_SECONDS),
        longest_gap=max(gaps, key=lambda gap: gap.seconds, default=None),
        unknown=_count(history, "unknown"),
        doubtful=_count(history, "doubtful"),
        existed=sum(bool(line.get("existed")) for line in history),
        timelines=tuple(dict.fromkeys(line["timeline"] for line in history if line["outcome"] == "connected")),
        lost=tuple(seq for seq in acks if seq not in present) if rows is not None else (),
        duplicates=tuple(duplicates),
        checked=rows is not None,
    )


def _gaps(history: list[Line]) -> list[Gap]:
    """The times between two acknowledgements, and after the last one until the client's end or its last line."""
    gaps = []
    last: Line | None = None
    errors: list[str] = []
    for number, line in enumerate(history):
        is_end = number == len(history) - 1
        if last is not None and (line["outcome"] == "ack" or is_end):
            seconds = line["monotonic"] - last["monotonic"]
            gaps.append(Gap(last["wall"], line["wall"], seconds, tuple(dict.fromkeys(errors))))
            errors = []
        if line["outcome"] == "ack":
            last = line
        elif "error" in line:
            errors.append(f"{line['outcome']}: {line['error']}")
    return gaps


def _count(history: list[Line], outcome: str) -> int:
    return sum(line["outcome"] == outcome for line in history)


def _describe(lines: list[Line], exit_code: int | None, history: Path) -> str:
    last = next((line for line in reversed(lines) if "error" in line), None)
    trouble = f", last trouble: {last['outcome']}: {last['error']}" if last else ""
    ended = "" if exit_code is None else f", ended with {exit_code}: see {history.with_suffix('.log')}"
    return f"{_count(lines, 'ack')} acknowledged{trouble}{ended}"

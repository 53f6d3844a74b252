# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened when, out of the logs of all nodes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.lab.crm import RESOURCE, VIP_RESOURCE
from tests.lab.lab import Lab

_STAMP = re.compile(r"^(\w{3} \d{2} \d{2}:\d{2}:\d{2}\.\d{3}) (\S+) \s*pacemaker-(\w+)")
_RESULT = re.compile(r"Result of (\w+) operation for (\S+) on \S+: ([^|]+?)\s*\|")


@dataclass(frozen=True)
class Event:
    """Something that a node's Pacemaker logged. `wall` in seconds since 1970."""

    wall: float
    node: str
    text: str


def timeline(lab: Lab, since: float) -> list[Event]:
    """The operations on the database and on the virtual IP since then, the oldest first; notifications are left out."""
    year = datetime.now(tz=UTC).year
    found = (event for node in lab.nodes for event in _events(node.log_text().splitlines(), year))
    fenced = [
        Event(float(event["wall"]), str(event["node"]), "is fenced")
        for event in lab.events()
        if event["event"] == "fenced"
    ]
    return sorted((event for event in [*found, *fenced] if event.wall >= since), key=lambda event: event.wall)


def _events(lines: Iterable[str], year: int) -> Iterable[Event]:
    for line in lines:
        stamp, result = _STAMP.match(line), _RESULT.search(line)
        if stamp is None or result is None or result[2] not in (RESOURCE, VIP_RESOURCE):
            continue
        text = _in_words(result[1], result[2], result[3])
        if text:
            at = datetime.strptime(f"{year} {stamp[1]}", "%Y %b %d %H:%M:%S.%f").astimezone()
            yield Event(at.timestamp(), stamp[2], text)


def _in_words(operation: str, resource: str, result: str) -> str:
    """The operation as a person would say it; "" if it says nothing (a monitor that found what was expected)."""
    if resource == VIP_RESOURCE:
        return {"start": "has the virtual IP", "stop": "gave the virtual IP up"}.get(operation, "")
    done = {"promote": "is promoted", "demote": "is demoted", "stop": "is stopped", "start": "runs as a standby"}
    if operation in done:
        return done[operation] if result == "ok" else f"{operation} failed: {result}"
    if operation == "monitor" and result not in ("ok", "promoted", "Cancelled"):
        return f"monitor says: {result}"
    return ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to a lab's power supply, the process tests.lab.power_supply."""

import json
import socket
import subprocess
import sys
from typing import Any

from tests.lab.layout import PROJECT, Layout
from tests.lab.processes import CLEAN_ENVIRONMENT, Identity
from tests.lab.waiting import LabError, WaitError, eventually

ANSWER_SECONDS = 300.0

Message = dict[str, Any]


def start(layout: Layout) -> subprocess.Popen[bytes]:
    """Start the power supply of a lab; it answers afterwards."""
    with (layout.root / "power.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.power_supply", str(layout.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(CLEAN_ENVIRONMENT),
            cwd=PROJECT,
            # Not in the terminal's process group: Ctrl-C must reach the driver only.
            start_new_session=True,
        )
    Identity.of(process.pid).save(layout.processes / "power")

    def answers() -> bool:
        if process.poll() is not None:
            raise WaitError(f"the power supply ended: {(layout.root / 'power.log').read_text()}")
        return bool(ask(layout, {"do": "set"})["ok"])

    eventually("the power supply answers", answers, within=15, poll=0.02)
    return process


def ask(layout: Layout, request: Message, timeout: float = ANSWER_SECONDS) -> Message:
    """Send one request to the power supply; a refusal raises."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout)
            link.connect(str(layout.power_socket))
            link.sendall(json.dumps(request).encode() + b"\n")
            with link.makefile() as lines:
                answer: Message = json.loads(lines.readline() or '{"ok": false, "error": "no answer"}')
    except OSError as error:
        raise LabError(f"the power supply of lab {layout.root.name} does not answer: {error}") from error
    if not answer["ok"]:
        raise LabError(str(answer["error"]))
    return answer

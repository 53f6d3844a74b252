# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the former primary is away: from the fault until it streams again as a standby, with nothing done by hand.

`python -m tests.bench.returns --help`. Under a writing client, with rejoin=rewind, in a fresh cluster each round.
"""

import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import click

from tests.bench.agents import our_agent
from tests.bench.report import versions
from tests.cluster.support import is_redundant
from tests.cluster.test_rejoin import diverge
from tests.lab import Configuration, Lab, LabError, Node, WaitError, eventually

NODES = 2
STREAMS = "SELECT 1 FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'"


@dataclass(frozen=True)
class Return:
    """A fault of the primary, after which it is waited for; what happens before the clock begins is the return."""

    title: str
    fault: Callable[[Lab, Node], None]
    comes_back: Callable[[Node], None] | None = None


RETURNS = {
    "crash": Return("crash of the primary's server", lambda _, primary: primary.crash_postgres()),
    "diverged-crash": Return("the same, with 24 MB that nobody received", diverge),
    "power-cut": Return("power cut, from the node's return", lambda _, primary: primary.power_cut(), Node.boot),
}


def measure(name: str, lab_name: str) -> tuple[float, bool]:
    """Seconds until it streams again, and whether it was rewound for that."""
    scenario, agent = RETURNS[name], our_agent()
    with Lab(lab_name, NODES, providers={agent.provider: agent.directory}) as lab:
        lab.configure(Configuration(agent=agent.name, parameters={"rejoin": "rewind"}))
        lab.wait("redundant", is_redundant, within=180)
        former = lab.primary()
        (other,) = (node for node in lab.nodes if node.name != former.name)
        client = lab.client("bench")
        client.wait_for(100)
        begin = time.monotonic()
        scenario.fault(lab, former)
        if scenario.comes_back:
            lab.wait("the other node took over", lambda now: now.promoted == other.name, within=120)
            begin = time.monotonic()
            scenario.comes_back(former)
        eventually("it streams", lambda: other.sql(STREAMS.format(former.name)), within=180, poll=0.05)
        seconds = time.monotonic() - begin
        client.stop()
        return seconds, "repair of the data directory: rewinding" in former.log_text()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--only", multiple=True, type=click.Choice(list(RETURNS)))
def main(rounds: int, only: tuple[str, ...]) -> None:
    """Measure how long the former primary is away."""
    signal.signal(signal.SIGTERM, _end)
    failed = False
    for name in only or RETURNS:
        times: list[float] = []
        rewound = 0
        for number in range(rounds):
            try:
                seconds, was_rewound = measure(name, f"returns{os.getpid()}_{name.replace('-', '_')}_{number}")
            except (LabError, WaitError) as error:
                click.echo(f"{name}: {error}", err=True)
                failed = True
                continue
            times.append(seconds)
            rewound += was_rewound
        if times:
            spread = f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"
            click.echo(f"{RETURNS[name].title}: {spread} s, {len(times)} rounds, {rewound} of them rewound")
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    click.echo(
        "Until the former primary streams again, median (minimum-maximum). Monitors every 3 s (primary) and 4 s;"
        f" {os.cpu_count()} cores, load {load}; {'; '.join(f'{key} {value}' for key, value in versions().items())}."
    )
    click.echo(f"Command: {shlex.join(['python', '-m', 'tests.bench.returns', *sys.argv[1:]])}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

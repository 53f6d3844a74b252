# SPDX-License-Identifier: GPL-2.0-or-later
"""How long commits stop when something fails or moves, seen by a client that writes through the virtual IP."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bench.agents import Agent
from tests.cluster.support import SYNC, data_status, is_degraded, is_redundant
from tests.lab import Configuration, Lab, LabError, Node, Status, WaitError, eventually
from tests.lab.client import make_report
from tests.lab.crm import CLONE
from tests.lab.layout import PROJECT
from tests.lab.timeline import timeline
from tests.lab.waiting import pause

ARTIFACTS = PROJECT / "tests" / ".artifacts" / "bench"
NODES = 3
START_SECONDS = 180.0
RECOVERY_SECONDS = 180.0
"""The shell agent waits for wal_sender_timeout, 60 s, when the synchronous standby's machine dies."""
MONITOR_SECONDS = 3.0
"""Interval of the primary's monitor in the lab's usual configuration."""
CONNECT_SECONDS = 0.5
"""After so long the client gives a connection up and tries again, which is how exact a gap is known."""
LEAD_SECONDS = 1.0
"""What the client met so long before the fault counts, too: it holds the last commit before the gap."""

Part = Literal["primary", "standby"]


@dataclass(frozen=True)
class Scenario:
    """Something done to a node, whether another node has to become the primary, and whether the node stays away."""

    name: str
    title: str
    part: Part
    fault: Callable[[Node], None] | None = None
    takeover: bool = False
    stays_away: bool = False
    nodes: int = NODES

    def is_over(self, seen: Status, victim: str) -> bool:
        """The cluster has noticed the fault, and there are a primary with the VIP and a synchronous standby again (if
        another node is left that could be one).
        """
        if self.takeover:
            noticed = seen.promoted != victim
        elif self.stays_away:
            noticed = not seen.node(victim).online
        else:
            noticed = bool(seen.failures)
        if self.stays_away and self.nodes == 2:
            return noticed and (self.takeover or is_degraded(seen))
        return noticed and has_synchronous_standby(seen, without=victim if self.stays_away else None)


def _move(node: Node) -> None:
    node.run(["crm_resource", "--ban", "--promoted", f"--resource={CLONE}", f"--node={node.name}"])


SCENARIOS = (
    Scenario("crash", "gap, crash of the primary", "primary", Node.crash_postgres, takeover=True),
    Scenario("power-cut", "gap, power cut of the primary", "primary", Node.power_cut, takeover=True, stays_away=True),
    Scenario("standby-crash", "gap, crash of the synchronous standby", "standby", Node.crash_postgres),
    Scenario(
        "standby-power-cut", "gap, power cut of the synchronous standby", "standby", Node.power_cut, stays_away=True
    ),
    Scenario(
        "only-standby-power-cut",
        "gap, power cut of the only standby",
        "standby",
        Node.power_cut,
        stays_away=True,
        nodes=2,
    ),
    Scenario("move", "gap, planned move", "primary", _move, takeover=True),
    Scenario("cold-start", "cold start", "primary"),
)


@dataclass(frozen=True)
class Outcome:
    """What one round gave. Times in seconds; None where it did not come so far."""

    scenario: str
    agent: str
    cold_start: float | None = None
    gap: float | None = None
    after_fencing: float | None = None
    """From the end of the fencing to the commit that ends the gap."""
    all_gaps: tuple[float, ...] = ()
    """Every time without a commit longer than 0.5 s."""
    acknowledged: int = 0
    lost: int = 0
    duplicates: int = 0
    timeline: tuple[str, ...] = ()
    """What the cluster did from the fault on, with the seconds after it."""
    error: str = ""


def has_synchronous_standby(seen: Status, without: str | None = None) -> bool:
    """One primary that has the VIP, and another node (not `without`) is its synchronous standby."""
    standbys = [node for node in seen.nodes if node.online and node.name not in (seen.promoted, without)]
    synchronous = any(data_status(node) == SYNC and node.promotion_score == "100" for node in standbys)
    return seen.promoted is not None and seen.location() == seen.promoted and synchronous


def nodes_of(lab: Lab, seen: Status) -> tuple[Node, Node]:
    """The primary and its synchronous standby."""
    standby = next(node for node in seen.nodes if node.name != seen.promoted and data_status(node) == SYNC)
    return lab.node(seen.promoted or ""), lab.node(standby.name)


@contextmanager
def redundant_lab(agent: Agent, lab_name: str, nodes: int = NODES) -> Iterator[tuple[Lab, Status, float]]:
    """A lab where everything runs, and its cold start: seconds from the configuration to a synchronous standby.

    If something fails, the logs of all nodes are kept.
    """
    with Lab(lab_name, nodes, providers={agent.provider: agent.directory}) as lab:
        try:
            begin = time.monotonic()
            lab.configure(Configuration(agent=agent.name))
            lab.wait("a primary with the VIP and a synchronous standby", has_synchronous_standby, within=START_SECONDS)
            cold_start = time.monotonic() - begin
            yield lab, lab.wait("all other nodes are standbys", is_redundant, within=START_SECONDS), cold_start
        except (LabError, WaitError) as error:
            logs = lab.collect(ARTIFACTS / lab_name)
            print(f"{error}\n(logs of all nodes: {logs.relative_to(PROJECT)})", file=sys.stderr, flush=True)
            raise type(error)(f"{_in_short(error)}{_failures(lab)}") from error


def run_round(scenario: Scenario, agent: Agent, lab_name: str, phase: float) -> Outcome:
    """One round in a fresh lab; the fault comes `phase` (0 to 1) of a monitor interval after the primary's began."""
    try:
        with redundant_lab(agent, lab_name, scenario.nodes) as (lab, seen, cold_start):
            if scenario.fault is None:
                return Outcome(scenario.name, agent.label, cold_start)
            return _measure_gap(scenario, scenario.fault, agent, lab, seen, cold_start, phase)
    except (LabError, WaitError) as error:
        return Outcome(scenario.name, agent.label, error=str(error))


def _measure_gap(
    scenario: Scenario,
    fault: Callable[[Node], None],
    agent: Agent,
    lab: Lab,
    seen: Status,
    cold_start: float,
    phase: float,
) -> Outcome:
    primary, standby = nodes_of(lab, seen)
    victim = primary if scenario.part == "primary" else standby
    client = lab.client("bench", connect_seconds=CONNECT_SECONDS)
    client.wait_for(100)
    # The primary's monitor finds its crash, and it is what lets commits go on when a standby is lost.
    _await_monitor(primary, agent)
    pause(phase * MONITOR_SECONDS)
    begin = time.time()
    fault(victim)
    after = lab.wait(
        f"after the fault on {victim.name} a primary with the VIP and a synchronous standby",
        lambda now: scenario.is_over(now, victim.name),
        within=RECOVERY_SECONDS,
    )
    client.wait_for(100, within=RECOVERY_SECONDS)
    client.stop()
    report = client.report(check=lab.node(after.promoted or ""))
    writable = [node.name for node in lab.writable()]
    history = make_report((line for line in client.lines() if line["wall"] > begin - LEAD_SECONDS), None)
    gap = history.longest_gap
    fenced = [float(event["wall"]) for event in lab.events() if event["event"] == "fenced"]
    events = [f"{event.wall - begin:+.2f} {event.node} {event.text}" for event in timeline(lab, begin)]
    events += [f"{each.start - begin:+.2f} to {each.end - begin:+.2f} no commit" for each in history.gaps]
    return Outcome(
        scenario.name,
        agent.label,
        cold_start,
        None if gap is None else gap.seconds,
        gap.end - fenced[0] if gap and fenced else None,
        tuple(each.seconds for each in history.gaps),
        report.acknowledged,
        len(report.lost),
        len(report.duplicates),
        tuple(events),
        "" if len(writable) == 1 else f"more than one server took writes in the end: {', '.join(writable)}",
    )


def _await_monitor(node: Node, agent: Agent) -> None:
    """A recurring monitor of the agent has just begun on the node."""
    eventually(f"no monitor runs on {node.name}", lambda: not _is_monitored(node, agent), within=30, poll=0.01)
    eventually(f"a monitor runs on {node.name}", lambda: _is_monitored(node, agent), within=30, poll=0.01)


def _is_monitored(node: Node, agent: Agent) -> bool:
    for pid in node.processes():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "monitor" in arguments and any(word.endswith(f"/{agent.provider}/pgsql") for word in arguments):
            return True
    return False


def _in_short(error: Exception) -> str:
    """What was awaited, and what was seen last."""
    first, *seen = str(error).splitlines()
    return f"{first} ... {' '.join(seen[-1].split())}" if seen else first


def _failures(lab: Lab) -> str:
    """What the cluster remembers of failed actions, for people."""
    try:
        failures = lab.status().failures
    except LabError:
        return ""
    texts = dict.fromkeys(f"{bad.operation} on {bad.node}: {bad.reason or bad.status}" for bad in failures)
    return f" (failed: {'; '.join(texts)})" if texts else ""

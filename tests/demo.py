# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a cluster and a failover before your eyes.

Exit status 0 only if a standby took over and no acknowledged row was lost. KEEP=1 leaves the cluster up.
"""

import os
import sys
import time
from pathlib import Path

from tests.cluster.support import is_redundant, synchronous_standby
from tests.lab import Lab
from tests.lab.client import Client, Report
from tests.lab.timeline import timeline
from tests.lab.waiting import LabError, WaitError

NAME = "demo"
INSTALLED_AGENT = Path(__file__).resolve().parents[1] / ".build" / "ocf"
TAKE_OVER_SECONDS = 60.0


class Story:
    """Prints what happens, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def tell(self, text: str) -> None:
        """One step."""
        print(f"[{time.monotonic() - self._begin:5.1f} s] {text}", flush=True)


def main() -> int:
    """Run the demonstration; the exit status."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    lab = Lab(NAME, 3, agent=INSTALLED_AGENT, keep=keep)
    story = Story()
    story.tell("three nodes boot, each in network namespaces of its own: Corosync, Pacemaker, PostgreSQL")
    with lab:
        lost_or_stuck = show_failover(lab, story)
        if keep:
            tell_how_to_look_around(lab)
    if not keep:
        story.tell("the cluster is taken down; KEEP=1 make demo leaves it up to look around")
    return 1 if lost_or_stuck else 0


def show_failover(lab: Lab, story: Story) -> bool:
    """Kill the primary under a writing client and tell what follows; whether anything went wrong."""
    lab.configure()
    seen = lab.wait("a primary with the virtual IP and a synchronous standby", is_redundant, within=90)
    victim, heir = lab.primary(), synchronous_standby(seen)
    others = ", ".join(name for name in seen.unpromoted if name != heir)
    story.tell(
        f"{victim.name} is the primary with the virtual IP {lab.vip}, {heir} its synchronous standby, then {others}"
    )
    client = lab.client("demo")
    client.wait_for(200, within=30)
    story.tell(f"a client writes through the virtual IP: {len(client.acknowledged())} commits are acknowledged")
    killed = time.time()
    victim.crash_postgres()
    story.tell(f"every PostgreSQL process on {victim.name} is killed (kill -9)")
    try:
        seen = lab.wait(
            "another node is promoted and has the virtual IP",
            lambda now: now.promoted not in (None, victim.name) and now.location() == now.promoted,
            within=TAKE_OVER_SECONDS,
        )
        client.wait_for(200, within=30)
    except WaitError as error:
        story.tell(f"nobody took over within {TAKE_OVER_SECONDS:.0f} s: {error}")
        return True
    client.stop()
    successor = lab.node(seen.promoted or "")
    report = client.report(check=successor)
    print_timeline(lab, client, killed, report)
    story.tell(
        f"{successor.name} took over; {report.acknowledged} commits acknowledged, acknowledged rows lost:"
        f" {len(report.lost)}, twice in the table: {len(report.duplicates)}"
    )
    return bool(report.lost or report.duplicates)


def print_timeline(lab: Lab, client: Client, killed: float, report: Report) -> None:
    """What happened when, in seconds after the kill."""
    gap = report.longest_gap
    rows = [(event.wall, event.node, event.text) for event in timeline(lab, killed)]
    rows.append((killed, "", "the primary's server is killed"))
    if gap:
        rows += [(gap.start, "client", "last commit before"), (gap.end, "client", "first commit after")]
    end = gap.end if gap else client.lines()[-1]["wall"]
    print("\n  seconds  who     what", flush=True)
    for wall, who, what in sorted(rows):
        # What comes after commits go on is the former primary's return, told in a moment.
        if wall <= end:
            print(f"  {wall - killed:+7.2f}  {who:<7} {what}")
    if gap:
        print(f"\n  no commit was possible for {gap.seconds:.2f} s\n", flush=True)


def tell_how_to_look_around(lab: Lab) -> None:
    """The commands for a cluster that stays."""
    lab_command = f"{os.path.relpath(sys.executable)} -m tests.lab"
    print(
        f"""
The cluster is up. As root, in this directory:
  {lab_command} run --name {lab.name} node1 crm_mon -1A       the cluster's state and attributes
  {lab_command} enter --name {lab.name} node1                 a shell on a node (then: crm_mon -A)
  {lab_command} fault --name {lab.name} power-cut node2       a fault (see fault --help)
  {lab_command} down {lab.name}                               take it down"""
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LabError, WaitError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Real Pacemaker clusters with PostgreSQL on one machine, in network namespaces, with fencing and a virtual address::

with Lab("demo", nodes=3, agent=Path("/usr/lib/ocf")) as lab:
    lab.configure()
    lab.wait_healthy()
    writer = lab.client()
    lab.primary().power_cut()
    lab.wait("a standby took over", lambda seen: seen.promoted not in (None, "node1"), within=60)
    writer.stop()
    print(writer.report(check=lab.primary()))
"""

from tests.lab.cib_view import FailedAction, NodeView, Status
from tests.lab.client import Client, Gap, Report
from tests.lab.crm import STATEFUL_AGENT, Configuration
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.waiting import LabError, WaitError, eventually

__all__ = [
    "STATEFUL_AGENT",
    "Client",
    "Configuration",
    "FailedAction",
    "Gap",
    "Lab",
    "LabError",
    "Node",
    "NodeView",
    "Report",
    "Status",
    "WaitError",
    "eventually",
]

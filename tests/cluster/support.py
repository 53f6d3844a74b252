# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cluster tests share: a running database under a writing client, the facts they wait for, and the audits that
hold after every test whatever it was about.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab import Configuration, Lab
from tests.lab.cib_view import NodeView, Status
from tests.lab.client import Client, Report
from tests.promises import promise

SYNC = "STREAMING|SYNC"
DISCONNECT = "DISCONNECT"
LATEST = "LATEST"


def data_status(node: NodeView) -> str:
    """The permanent record of a node's copy."""
    return node.permanent.get("pgsql-data-status", "")


def synchronous_standby(seen: Status) -> str | None:
    """The node that is recorded as synchronous and may be promoted; None if there is not exactly one."""
    found = [node.name for node in seen.nodes if data_status(node) == SYNC and node.promotion_score == "100"]
    return found[0] if len(found) == 1 else None


def is_redundant(seen: Status) -> bool:
    """One primary that has the VIP, every other node a standby, one of them synchronous."""
    standbys = len(seen.unpromoted) == len(seen.nodes) - 1
    return bool(seen.promoted and seen.location() == seen.promoted and standbys and synchronous_standby(seen))


def is_degraded(seen: Status) -> bool:
    """One primary that has the VIP, and nobody whom commits wait for."""
    alone = all(data_status(node) != SYNC for node in seen.nodes if node.name != seen.promoted)
    return seen.promoted is not None and seen.location() == seen.promoted and alone


def start(lab: Lab, configuration: Configuration | None = None) -> Status:
    """Configure the cluster and wait until it is redundant (in async mode: until everybody runs)."""
    lab.configure(configuration or Configuration(rep_mode=lab.settings.rep_mode))
    if lab.settings.rep_mode == "async":
        return lab.wait_healthy()
    return lab.wait("a primary with the VIP and a synchronous standby", is_redundant, within=60)


def synchronous_names(lab: Lab) -> str:
    """The setting in force on the primary."""
    return lab.primary().sql("SHOW synchronous_standby_names")


@contextmanager
def writing(lab: Lab, name: str = "writer") -> Iterator[Client]:
    """A client that writes meanwhile; at the end it must be able to write, and nothing may be lost or doubled."""
    client = lab.client(name)
    client.wait_for(20, within=30)
    yield client
    client.wait_for(20, within=60)
    client.stop()
    audit(lab, client)


def audit(lab: Lab, client: Client) -> Report:
    """Every acknowledged row is there, once; one server takes writes; the agent found no fault in itself."""
    seen = lab.wait("there is one primary", lambda now: now.promoted, within=30)
    report = client.report(check=lab.node(seen.promoted or ""))
    assert report.acknowledged > 0
    promise(report.lost == (), f"acknowledged rows are lost: {report}")
    promise(report.duplicates == (), str(report))
    promise(len(lab.writable()) == 1, f"writable: {lab.writable()}")
    for node in lab.nodes:
        fault = "report it as a BUG" in node.log_text()
        promise(not fault, f"{node.name}: the agent met something it did not expect")
    return report

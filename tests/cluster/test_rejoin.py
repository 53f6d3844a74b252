# SPDX-License-Identifier: GPL-2.0-or-later
"""A former primary, or a standby that was away too long, comes back by itself: as it is, rewound, or copied anew."""

import signal
from pathlib import Path

from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, start, writing
from tests.lab import Configuration, Lab
from tests.lab.cib_view import Status
from tests.lab.node import Node
from tests.lab.processes import Identity


def streams(seen: Status, node: str) -> bool:
    """The primary counts the node among its standbys."""
    return data_status(seen.node(node)).startswith("STREAMING")


def walreceivers(lab: Lab) -> list[Identity]:
    """The processes that receive WAL, on all nodes."""
    found = []
    for node in lab.nodes:
        for pid in node.postgres_processes():
            if b"walreceiver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(Identity.of(pid))
    return found


LOST = "CREATE TABLE lost AS SELECT repeat('x', 1000) FROM generate_series(1, 24000)"


def diverge(lab: Lab, primary: Node) -> None:
    """The primary holds WAL that no standby has received, and its server has crashed.

    Nobody was told that it is committed: what the receivers' sockets can hold is less than this.
    """
    receivers = walreceivers(lab)
    for receiver in receivers:
        receiver.signal(signal.SIGSTOP)
    primary.sql(f"SET synchronous_commit = local; {LOST}", timeout=60)
    primary.crash_postgres()
    for receiver in receivers:
        receiver.signal(signal.SIGCONT)


def test_a_crashed_primary_that_has_diverged_is_rewound(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab, Configuration(parameters={"rejoin": "rewind", "keep_lost_wal": "true"}))
    victim = lab.primary()
    with writing(lab):
        diverge(lab, victim)
        lab.wait("another node took over", lambda now: now.promoted not in (None, victim.name), within=60)
        lab.wait("redundant again, nothing done by hand", is_redundant, within=60)
    assert "thrown away:" in victim.log_text()
    assert victim.sql("SELECT count(*) FROM pg_class WHERE relname = 'lost'") == "0"

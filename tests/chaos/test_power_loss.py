# SPDX-License-Identifier: GPL-2.0-or-later
"""A power cut takes what was not synced; PostgreSQL syncs; and whoever does not is caught: the checker can see loss."""

import os
from collections.abc import Iterator

import pytest

from tests.chaos.checker import Verdict, judge
from tests.chaos.evidence import gather
from tests.cluster.conftest import INSTALLED_AGENT
from tests.lab import Lab, Node
from tests.lab.disks import PACEMAKER
from tests.lab.layout import PGHOME
from tests.promises import promise

pytestmark = pytest.mark.cluster
COMMITS = 60


@pytest.fixture(params=["on", "off"])
def fsync(request: pytest.FixtureRequest) -> str:
    """PostgreSQL's setting."""
    return str(request.param)


@pytest.fixture
def lab(fsync: str) -> Iterator[Lab]:
    """Two nodes whose disks forget, with servers that sync or do not."""
    name = f"powerloss{os.getpid()}"
    with Lab(name, 2, agent=INSTALLED_AGENT, true_power_cuts=True, postgresql_conf=f"fsync = {fsync}") as lab:
        lab.configure()
        lab.wait_healthy()
        yield lab


def write(node: Node, name: str, then: str = "") -> str:
    """A new file in the PostgreSQL directory; its path."""
    path = f"{PGHOME}/{name}"
    node.run(["sh", "-c", f"echo text > {path}; {then}"])
    return path


def test_commits_survive_a_power_cut_of_all_nodes_if_they_are_synced(lab: Lab, fsync: str) -> None:
    for node in lab.nodes:
        # All that led here is on the disks, so that the servers start again in any case.
        node.run(["sync", "--file-system", str(PGHOME)])
        node.run(["sync", "--file-system", str(PACEMAKER)])
    kept = write(lab.nodes[0], "kept", f"sync {PGHOME}/kept")
    gone = write(lab.nodes[0], "gone")
    client = lab.client()
    client.wait_for(COMMITS)
    for node in lab.nodes:
        node.power_cut()
    for node in lab.nodes:
        node.boot()
    lab.wait_healthy(within=120)
    client.wait_for(1)
    client.stop()

    assert lab.nodes[0].run(["test", "-e", kept], check=False).returncode == 0, "what was synced is there"
    assert lab.nodes[0].run(["test", "-e", gone], check=False).returncode, "what was not is gone"
    verdict: Verdict = judge(gather(lab, [client], (), ""))
    if fsync == "on":
        promise(not verdict.lost and not verdict.violations, str(verdict.violations))
    else:
        assert len(verdict.lost) >= COMMITS // 2
        assert any("acknowledged rows are lost" in text for text in verdict.violations)

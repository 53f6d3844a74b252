# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults that need parts of the lab of their own do what they say, and are healed by what heals them."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import INSTALLED_AGENT
from tests.lab import Lab, LabError, eventually
from tests.lab.layout import PGHOME
from tests.lab.network import CLIENT
from tests.lab.processes import run

pytestmark = pytest.mark.cluster
HOUR = 3600


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes with disks of a size and clocks of their own."""
    with Lab(f"faults{os.getpid()}", 2, agent=INSTALLED_AGENT, disk_megabytes=512, own_clocks=True) as lab:
        lab.configure()
        lab.wait_healthy()
        yield lab


def test_a_late_cable_makes_every_answer_late(lab: Lab) -> None:
    network = lab.network
    ping = [*network.enter(CLIENT), "ping", "-q", "-c", "1", "-W", "2", lab.nodes[0].address]

    def milliseconds() -> float:
        return float(run(ping).stdout.rsplit("/", maxsplit=3)[1])

    network.delay(CLIENT, 200)
    eventually("answers are late", milliseconds, lambda now: 200 <= now < 400, within=10)
    network.set_port(CLIENT, up=False)
    assert run(ping, check=False).returncode, "a late cable can be cut"
    network.set_port(CLIENT, up=True)
    network.delay(CLIENT, 0)
    eventually("answers are quick again", milliseconds, lambda now: now < 100, within=10)


def test_a_full_disk_has_no_room_until_it_is_freed(lab: Lab) -> None:
    node = lab.standbys()[0]
    write = ["dd", "if=/dev/zero", f"of={PGHOME}/one", "bs=4096", "count=1", "status=none"]
    node.fill_disk()
    assert "No space left" in node.run(write, check=False).stderr
    node.free_disk()
    assert node.run(write).returncode == 0


def test_the_clock_of_one_server_jumps(lab: Lab) -> None:
    node, other = lab.primary(), lab.standbys()[0]

    def seconds_ahead() -> float:
        now = "SELECT extract(epoch FROM now())"
        return float(node.sql(now)) - float(other.sql(now))

    node.shift_clock(HOUR)
    eventually("the clock has jumped", seconds_ahead, lambda now: now > HOUR - 60, within=10)
    node.shift_clock(0)
    eventually("the clocks agree", seconds_ahead, lambda now: now < 60, within=10)


def test_a_lab_without_these_parts_says_so() -> None:
    lab = Lab("nothing", 2)
    with pytest.raises(LabError, match="have no size"):
        lab.node("node1").fill_disk()
    with pytest.raises(LabError, match="the host's clock"):
        lab.node("node1").shift_clock(1)

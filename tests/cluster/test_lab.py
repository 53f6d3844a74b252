# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: its clusters behave like real ones, and nothing is left of them. No database and no agent of ours."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import PROJECT, Cluster
from tests.lab import STATEFUL_AGENT, Configuration, Lab, LabError, WaitError, eventually
from tests.lab.network import namespaces_of


def start(cluster: Cluster, nodes: int) -> Lab:
    """A healthy cluster with a promotable dummy."""
    lab = cluster(nodes=nodes, agent=None, database=False)
    lab.configure(Configuration(agent=STATEFUL_AGENT))
    lab.wait_healthy()
    return lab


def test_power_cut_of_the_primary_fences_it_and_moves_the_vip(cluster: Cluster) -> None:
    lab = start(cluster, nodes=3)
    victim = lab.primary()
    assert lab.vip in victim.addresses()

    lab.fencing_fails(1)
    victim.power_cut()
    assert not victim.is_on
    lab.wait(
        "another node is promoted and has the VIP",
        lambda seen: seen.promoted not in {None, victim.name} and seen.location("vip") == seen.promoted,
        within=30,
    )
    assert lab.fenced() == [victim.name]
    assert [event["event"] for event in lab.events()].count("fencing") == 2, "a refused fencing is tried again"
    assert lab.vip in lab.primary().addresses()
    assert not victim.addresses()

    victim.boot()
    lab.wait("the victim is back", lambda seen: seen.node(victim.name).role == "Unpromoted", within=30)
    assert victim.addresses() == {victim.address}


def test_a_cut_off_primary_of_two_is_fenced_once_and_only_one_survives(cluster: Cluster) -> None:
    lab = start(cluster, nodes=2)
    victim = lab.primary()
    other = next(node for node in lab.nodes if node != victim)

    victim.cut_network(fencing=False)
    lab.wait("the other node is promoted", lambda seen: seen.promoted == other.name, within=30, seen_by=other.name)
    assert lab.fenced() == [victim.name]
    assert not victim.is_on

    victim.restore_network()
    victim.boot()
    lab.wait("the victim is back", lambda seen: victim.name in seen.unpromoted, within=30)

    other.stop_cluster()
    lab.wait("a clean stop hands over without fencing", lambda seen: seen.promoted == victim.name, within=30)
    assert lab.fenced() == [victim.name]


def test_nothing_is_left_and_neighbours_stay(cluster: Cluster) -> None:
    here, neighbour = start(cluster, nodes=2), start(cluster, nodes=2)
    assert here.leftovers()
    assert not Path("/sys/class/net/br0").exists()

    here.down()
    assert here.leftovers() == []
    assert namespaces_of(here.name) == []
    assert len(neighbour.status().online) == 2

    neighbour.down()
    assert neighbour.leftovers() == []


DRIVER = """
from tests.lab import Lab
Lab({name!r}, 2, database=False).up()
print("up", flush=True)
input()
"""


def test_a_killed_driver_leaves_nothing() -> None:
    lab = Lab(f"killed{os.getpid()}", 2, database=False)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(name=lab.name)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"up\n"
        assert lab.leftovers()
        driver.kill()
    eventually("nothing is left", lab.leftovers, lambda left: not left, within=20)


def test_waiting_in_vain_tells_what_was_seen() -> None:
    values = iter([1, 1, 2])
    with pytest.raises(WaitError, match=r"(?s)not within .*: three; seen:.* 1\n.* 2\n.*no more"):
        eventually("three", lambda: _next(values), lambda value: value == 3, within=0.5, poll=0.05)


def _next(values: Iterator[int]) -> int:
    for value in values:
        return value
    raise LabError("no more")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody else answers at the primary's address: a former primary that nobody fenced, or that a stale ARP entry leads
to. Nothing is taken from it.
"""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Database
from tests.server.pair import Pair, jobs, state_of_files
from tests.server.stand_in import StandInCluster

STRANGER = "is not that of n2"


class Strange(Pair):
    """The pair, and a third server of the same system that is still on timeline 1, as a primary."""

    def __init__(self, agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> None:
        super().__init__(agent, cluster, make_database)
        self.agent = agent
        self.stranger = make_database("stranger")
        shutil.rmtree(self.stranger.data)
        subprocess.run(["cp", "-a", self.former.data, self.stranger.data], check=True)
        self.stranger.port = self.heir.port
        self.stranger.configure(
            f"listen_addresses = '127.0.0.1'\nunix_socket_directories = '{self.stranger.socket}'\nwal_keep_size = 64MB"
        )
        hba = self.stranger.data / "pg_hba.conf"
        hba.write_text(f"host all,replication all 127.0.0.1/32 trust\n{hba.read_text()}")

    def phase(self) -> str:
        """What the repair says that it does."""
        state = self.agent.state_file("rejoin.state")
        return str(json.loads(state.read_text())["phase"]) if state.exists() else ""


@pytest.fixture
def strange(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> Strange:
    """The three. Nobody answers at the address yet."""
    strange = Strange(agent, cluster, make_database)
    strange.heir.stop()
    return strange


def put_in_its_place(old: Database, new: Database) -> None:
    """The other one answers at the address."""
    if old.is_running():
        old.stop()
    new.start()


@pytest.mark.parametrize("rejoin", ["rewind", "copy"])
def test_a_repair_waits_for_the_primary_itself(
    agent: Agent, cluster: StandInCluster, strange: Strange, rejoin: str
) -> None:
    """The start fails and says whom it waits for; the work is done as soon as that one answers."""
    agent.parameters["rejoin"] = rejoin
    before = state_of_files(strange.former.data)
    put_in_its_place(strange.heir, strange.stranger)
    answer = agent.start()
    assert answer.code == 1, answer
    assert STRANGER in answer.reason
    assert "joins by itself" in answer.reason
    assert STRANGER in cluster.attribute("n1", "pgsql-rejoin")
    assert state_of_files(strange.former.data) == before
    put_in_its_place(strange.stranger, strange.heir)
    eventually("the repair is over", lambda: jobs(agent), lambda pids: not pids, within=60)
    assert agent.start().code == 0
    strange.follows()


def test_who_answers_is_looked_at_when_the_work_begins(agent: Agent, strange: Strange) -> None:
    """What is to be done was decided by the record alone, because nobody answered then."""
    before = state_of_files(strange.former.data)
    with ThreadPoolExecutor() as threads:
        start = threads.submit(agent.start, rejoin="rewind")
        eventually("the work waits", strange.phase, lambda phase: "waiting for the primary" in phase, within=20)
        strange.stranger.start()
        eventually("it sees who answers", strange.phase, lambda phase: STRANGER in phase, within=20)
        assert state_of_files(strange.former.data) == before
        put_in_its_place(strange.stranger, strange.heir)
        answer = start.result()
    assert answer.code == 0, answer
    strange.follows()


def test_an_empty_directory_is_filled_by_the_primary_itself(agent: Agent, strange: Strange) -> None:

    for entry in strange.former.data.iterdir():
        subprocess.run(["rm", "-rf", entry], check=True)
    put_in_its_place(strange.heir, strange.stranger)
    answer = agent.start(rejoin="copy")
    assert answer.code == 1, answer
    assert STRANGER in answer.reason
    assert list(strange.former.data.iterdir()) == []
    shown = agent.by_hand("rejoin", "--dry-run").out
    assert "to do:  nothing yet" in shown
    assert STRANGER in shown
    put_in_its_place(strange.stranger, strange.heir)
    eventually("the repair is over", lambda: jobs(agent), lambda pids: not pids, within=60)
    assert (strange.former.data / "pg_wal" / "00000002.history").exists(), "it is a copy of the heir"


def test_a_good_copy_is_left_alone(agent: Agent, cluster: StandInCluster, strange: Strange) -> None:
    """It is on the primary's timeline, and not the stranger's: to that one it looks like one that went too far."""
    strange.heir.start()
    assert agent.start(rejoin="rewind").code == 0
    strange.follows()
    assert agent.stop().code == 0
    before = (strange.former.data / "pg_wal" / "00000002.history").read_text()
    put_in_its_place(strange.heir, strange.stranger)
    for rejoin in ("rewind", "copy"):
        assert agent.start(rejoin=rejoin).code == 0
        assert agent.monitor(silent=False, rejoin=rejoin).code == 0
        assert jobs(agent) == []
        assert STRANGER in cluster.attribute("n1", "pgsql-rejoin")
        assert agent.stop().code == 0
    assert (strange.former.data / "pg_wal" / "00000002.history").read_text() == before
    put_in_its_place(strange.stranger, strange.heir)
    assert agent.start().code == 0
    receiver = "SELECT status FROM pg_stat_wal_receiver"
    eventually("it streams", lambda: strange.former.sql(receiver), lambda seen: seen == "streaming", within=20)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A node without data, or with a damaged control file, beside a primary that could be copied."""

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, Database, as_postgres
from tests.server.pair import jobs
from tests.server.stand_in import StandInCluster

INSTALLED = 5
MARK = "# the primary's"


@pytest.fixture
def primary(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> Database:
    """The primary, on TCP; this node's server will have the same port, on its socket only."""
    database = make_database("primary")
    database.port = agent.database.port
    database.configure(f"listen_addresses = '127.0.0.1'\nunix_socket_directories = '{database.socket}'\n{MARK}")
    hba = database.data / "pg_hba.conf"
    hba.write_text(f"host all,replication all 127.0.0.1/32 trust\n{hba.read_text()}")
    database.start()
    cluster.run_primary("n2", history="1:")
    agent.parameters["rejoin"] = "copy"
    agent.parameters["start_opt"] = f"-c listen_addresses='' -c unix_socket_directories={agent.database.socket}"
    return database


def follows(database: Database) -> None:
    """It is a standby that streams."""
    eventually(
        "it streams",
        lambda: database.sql("SELECT status FROM pg_stat_wal_receiver"),
        lambda seen: seen == "streaming",
        within=20,
    )


def beside(database: Database) -> list[str]:
    """What copies have left beside the data directory."""
    return sorted(path.name for path in database.data.parent.glob(f"{database.data.name}.*-*"))


def contents(directory: Path) -> dict[str, float]:
    """Everything in it, with its time of change."""
    return {str(path): path.lstat().st_mtime for path in directory.rglob("*")}


def remember_system(database: Database) -> None:
    """The node has heard of a promotion of this database system, when an earlier version of the agent was there."""
    said = as_postgres("pg_controldata", "-D", database.data)
    system = next(line.split()[-1] for line in said.splitlines() if line.startswith("Database system identifier"))
    database.tmpdir.mkdir()
    (database.tmpdir / "promotion").write_text(f"{system}\n1@n2\n")
    for path in (database.tmpdir, database.tmpdir / "promotion"):
        shutil.chown(path, USER, USER)


def damage(database: Database) -> None:
    """The control file says nothing any more."""
    file = database.data / "global" / "pg_control"
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("missing", [False, True], ids=["empty", "missing"])
def test_it_is_filled(agent: Agent, primary: Database, missing: bool) -> None:
    data = agent.database.data
    shutil.rmtree(data)
    if not missing:
        data.mkdir(0o755)
    answer = agent.start()
    assert answer.code == 0, answer
    follows(agent.database)
    assert data.stat().st_mode & 0o777 == 0o700
    assert data.owner() == USER
    assert MARK in agent.database.config.read_text(), "it had no configuration of its own"
    assert beside(agent.database) == [], "nothing was worth keeping"
    assert primary.is_running()


def test_a_damaged_control_file_is_set_aside_with_all_the_rest(agent: Agent, primary: Database) -> None:
    data = agent.database.data
    remember_system(agent.database)
    damage(agent.database)
    answer = agent.start()
    assert answer.code == 0, answer
    follows(agent.database)
    assert MARK not in agent.database.config.read_text(), "it keeps its own configuration"
    (kept,) = beside(agent.database)
    assert (data.with_name(kept) / "global" / "pg_control").read_bytes().strip(b"\0") == b""
    assert primary.is_running()


@pytest.mark.usefixtures("primary")
def test_data_that_may_be_anothers_are_left(agent: Agent) -> None:
    """By what this node remembers, or because it remembers nothing."""
    data = agent.database.data
    damage(agent.database)
    before = contents(data)
    answer = agent.start()
    assert answer.code == 1, answer
    assert "whose data" in answer.reason
    agent.keep_state("promotion", "4711\n1@n2\n")
    answer = agent.start()
    assert answer.code == 1, answer
    assert "system identifiers 4711" in answer.reason
    assert contents(data) == before
    assert beside(agent.database) == []


@pytest.mark.usefixtures("primary")
def test_programs_of_another_version_make_no_damage(agent: Agent) -> None:
    """To them every control file looks like that."""
    remember_system(agent.database)
    damage(agent.database)
    (agent.database.data / "PG_VERSION").write_text("13\n")
    answer = agent.start()
    assert answer.code == INSTALLED, answer
    assert "belongs to PostgreSQL 13" in answer.reason
    assert beside(agent.database) == []


@pytest.mark.usefixtures("primary")
def test_files_of_somebody_are_left(agent: Agent) -> None:
    data = agent.database.data
    (data / "PG_VERSION").unlink()
    before = contents(data)
    answer = agent.start()
    assert answer.code == INSTALLED, answer
    assert "no PG_VERSION" in answer.reason
    assert contents(data) == before


@pytest.mark.usefixtures("primary")
def test_without_leave_it_stays_empty_until_somebody_says_so(agent: Agent) -> None:
    data = agent.database.data
    shutil.rmtree(data)
    answer = agent.start(rejoin="rewind")
    assert answer.code == INSTALLED, answer
    assert "there is no data directory" in answer.reason
    assert "pgsql-ra rejoin" in answer.reason
    data.mkdir()
    answer = agent.start(rejoin="safe")
    assert answer.code == INSTALLED, answer
    assert "is empty" in answer.reason
    agent.parameters["rejoin"] = "safe"
    answer = agent.by_hand("rejoin", "--dry-run")
    assert answer.code == 0, answer
    assert "to do:  new copy of the primary" in answer.out
    assert list(data.iterdir()) == []
    assert beside(agent.database) == []
    answer = agent.by_hand("rejoin", "--yes")
    assert answer.code == 0, answer
    assert agent.start().code == 0
    follows(agent.database)


def test_without_a_primary_nobody_waits_but_the_copy(agent: Agent, cluster: StandInCluster, primary: Database) -> None:
    """While a start is under way Pacemaker promotes nobody, so it must not wait for a promotion."""
    cluster.stop_primary("n2")
    shutil.rmtree(agent.database.data)
    for _ in range(2):
        began = time.monotonic()
        answer = agent.start(timeout=120)
        assert time.monotonic() - began < 60
        assert answer.code == 1, answer
        assert answer.reason.startswith("waiting for a primary to copy: this node joins by itself")
        assert agent.stop().code == 0
        assert jobs(agent), "Pacemaker stops what it could not start"
    assert cluster.attribute("n1", "pgsql-rejoin") == "waiting for a primary to copy"
    cluster.finished("n1", "start", 1)
    cluster.run_primary("n2", history="1:")
    eventually(
        "another start is asked for",
        lambda: [call for call in cluster.calls() if call[0] == "crm_resource"],
        lambda calls: calls == [["crm_resource", "--cleanup", "--resource=pgsql", "--node=n1"]],
        within=60,
    )
    assert agent.start().code == 0
    follows(agent.database)
    assert cluster.attribute("n1", "pgsql-rejoin") == ""
    assert primary.is_running()


def test_data_that_somebody_brings_are_not_waited_for(agent: Agent, cluster: StandInCluster, primary: Database) -> None:
    data = agent.database.data
    cluster.stop_primary("n2")
    shutil.rmtree(data)
    assert agent.start().code == 1
    as_postgres("pg_basebackup", "-D", data, "-d", f"host=127.0.0.1 port={primary.port} user={USER}", "-c", "fast")
    answer = agent.start()
    assert answer.code == 0, answer
    assert jobs(agent) == []
    assert beside(agent.database) == []


def test_a_swap_with_nothing_that_was_broken_off(agent: Agent, primary: Database) -> None:
    data = agent.database.data
    new, old = data.with_name(f"{data.name}.pgsql-ra.new"), data.with_name(f"{data.name}.old-20260101T000000")
    as_postgres("pg_basebackup", "-D", new, "-d", f"host=127.0.0.1 port={primary.port} user={USER}", "-c", "fast")
    shutil.rmtree(data)
    state = {"broken_off": "half way", "swaps": [[str(data), str(new), str(old)]]}
    agent.keep_state("rejoin.state", json.dumps(state))
    answer = agent.start()
    assert answer.code == 0, answer
    follows(agent.database)
    assert beside(agent.database) == []

# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes: what is there, asked before anything was decided. They change nothing."""

import pytest

from tests.server.agent import Agent
from tests.server.database import Database
from tests.server.stand_in import StandInCluster
from tests.server.trees import tree


@pytest.mark.parametrize(("role", "code"), [("stopped", 7), ("standby", 0), ("primary", 8)])
def test_a_probe_tells_the_role_and_changes_nothing(
    agent: Agent, database: Database, cluster: StandInCluster, role: str, code: int
) -> None:
    {"stopped": lambda: None, "standby": agent.become_standby, "primary": agent.become_primary}[role]()
    files, calls = tree(database.root, running=role != "stopped"), cluster.calls()
    for interval in (None, "", "0"):
        assert agent.probe(interval).code == code, repr(interval)
    assert tree(database.root, running=role != "stopped") == files
    assert cluster.calls() == calls


@pytest.mark.parametrize(
    "given",
    [
        {"pgctl": "/nonexistent/pg_ctl", "psql": "/nonexistent/psql"},
        {"pgdata": "/nonexistent"},
        {"pgdba": "nobody_of_this_name"},
        {"tmpdir": "/proc/nowhere"},
        {"config": "/nonexistent.conf"},
        {"logfile": "/nonexistent/log"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_is_missing_on_a_node_is_no_failure_of_a_probe(agent: Agent, given: dict[str, str]) -> None:
    assert agent.probe(**given).code == 7


def test_a_configuration_that_cannot_be_read_is_no_failure_of_a_probe(agent: Agent, database: Database) -> None:
    database.configure("this is no setting")
    assert agent.probe().code == 7
    database.config.unlink()
    database.config.mkdir()
    assert agent.probe().code == 7


def test_a_file_in_the_place_of_the_data_directory(agent: Agent, database: Database) -> None:
    assert agent.probe(pgdata=str(database.config)).code == 7


def test_a_probe_finds_a_server_through_another_name_of_its_directory(agent: Agent, standby: Database) -> None:
    """A symbolic link, as on systems where the data directory was moved."""
    link = standby.root / "link"
    link.symlink_to(standby.data)
    assert agent.probe(pgdata=str(link)).code == 0
    assert agent.probe(pgdata=f"{standby.data}/").code == 0


def test_a_probe_of_a_running_server_whose_program_is_gone(agent: Agent, standby: Database) -> None:
    assert agent.probe(pgctl="/nonexistent/pg_ctl").code == 0
    assert standby.is_running()


def test_a_probe_does_not_wait_for_a_hanging_server(agent: Agent, standby: Database) -> None:
    with standby.frozen(standby.postmaster):
        answer = agent.probe()
    assert answer.code == 1, answer
    assert answer.seconds < 10


def test_status_is_asked_of_the_kernel(agent: Agent, database: Database) -> None:
    assert agent.run("status").code == 7
    agent.become_standby()
    assert agent.run("status").code == 0
    assert database.is_running()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A standby replays everything that it receives and is promoted by nobody but Pacemaker, whatever its configuration
says of recovery.
"""

import shutil
from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, Database
from tests.server.stand_in import StandInCluster
from tests.server.test_following import Following

LAST_WITH_TRIGGER_FILE = 15


def append(database: Database, text: str) -> None:
    """A restore tool's lines at the end of postgresql.auto.conf, which outranks the other files."""
    with (database.data / "postgresql.auto.conf").open("a") as file:
        file.write(f"{text}\n")


def touch(path: Path) -> None:
    """The database user's empty file."""
    path.touch()
    shutil.chown(path, USER, USER)


class Restored(Following):
    """A standby whose copy was made by a restore tool, which has left these lines behind."""

    def __init__(self, agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, lines: str) -> None:
        self.lines = lines
        super().__init__(agent, cluster, make_database)

    def prepare(self) -> None:
        """After the copy was made."""
        append(self.standby, self.lines)
        touch(self.standby.data / "recovery.signal")


@pytest.mark.parametrize(
    "lines",
    [
        "recovery_target_name = 'here'",
        "recovery_target_name = 'here'\nrecovery_target_action = 'promote'",
        "recovery_target_name = 'here'\nrecovery_target_time = '2001-01-01'",
        "recovery_target = 'immediate'",
        "recovery_target_timeline = '1'\nrecovery_target_xid = '3'",
    ],
)
def test_what_a_restore_left_ends_no_replay(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase, lines: str
) -> None:
    pair = Restored(agent, cluster, make_database, lines)
    pair.source.sql("SELECT pg_create_restore_point('here')")
    pair.send()
    eventually("it replays all", lambda: pair.standby.sql("SELECT to_regclass('sent')"), bool, within=10)
    assert not (pair.standby.data / "recovery.signal").exists()
    assert "point-in-time recovery" in agent.logged()
    pair.lose_primary()
    answer = agent.promote()
    assert answer.code == 0, answer
    assert pair.standby.sql("SELECT count(*) FROM sent") == 1000


def test_no_file_promotes_a_standby(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> None:
    trigger = agent.database.root / "trigger"
    if agent.database.major > LAST_WITH_TRIGGER_FILE:
        pytest.skip("there is no promote_trigger_file any more")
    pair = Restored(agent, cluster, make_database, f"promote_trigger_file = '{trigger}'")
    touch(trigger)
    pair.send()
    eventually("it replays all", lambda: pair.standby.sql("SELECT to_regclass('sent')"), bool, within=10)
    pair.source.stop()
    assert pair.standby.sql("SHOW promote_trigger_file") == ""
    assert pair.standby.is_standby()


@pytest.mark.parametrize("parameter", ["start_opt", "ctl_opt"])
def test_the_administrators_options_are_refused_if_they_say_how_it_recovers(agent: Agent, parameter: str) -> None:
    option = "-c recovery_target_time=2001-01-01"
    agent.parameters[parameter] = option if parameter == "start_opt" else f"-o '{option}'"
    answer = agent.start()
    assert answer.code == 5, answer
    assert answer.reason.startswith("remove recovery_target_time from start_opt"), answer
    assert not agent.database.is_running()
    assert agent.run("validate-all", environment=agent.environment() | {"OCF_CHECK_LEVEL": "10"}).code == 5


def test_a_setting_that_was_lowered_everywhere_keeps_no_standby_down(agent: Agent) -> None:
    """No node could start any more: the WAL says how large the primary was."""
    agent.database.configure("max_connections = 15\nmax_locks_per_transaction = 32")
    agent.become_standby()
    assert agent.database.sql("SHOW max_connections") == "20"
    assert agent.database.sql("SHOW max_locks_per_transaction") == "64"
    assert "max_connections=20, max_locks_per_transaction=64" in agent.logged()
    assert agent.promote().code == 0


def test_a_standby_starts_as_large_as_its_primary_has_become(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    pair = Following(agent, cluster, make_database)
    outgrow(pair)
    assert agent.stop().code == 0
    agent.become_standby()
    assert pair.standby.sql("SHOW max_connections") == "30"
    assert pair.standby.sql("SHOW max_prepared_transactions") == "5"
    pair.send()
    eventually("it replays all", lambda: pair.standby.sql("SELECT to_regclass('sent')"), bool, within=10)


def outgrow(pair: Following) -> None:
    """The primary comes back larger than its standby, which pauses when it meets that."""
    pair.source.stop()
    pair.source.configure("max_connections = 30\nmax_prepared_transactions = 5")
    pair.source.start()
    eventually("it is paused", lambda: pair.standby.sql("SELECT pg_is_wal_replay_paused()"), bool, within=20)

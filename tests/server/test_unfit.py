# SPDX-License-Identifier: GPL-2.0-or-later
"""A standby that does not replay what it receives: it says so, has no promotion score, and if it is promoted all the
same, loses nothing.
"""

from collections.abc import Callable

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.stand_in import StandInCluster
from tests.server.test_following import Following
from tests.server.test_recovery_settings import outgrow

PAUSED = "SELECT pg_is_wal_replay_paused()"


def aimed(pair: Following) -> None:
    """Somebody has started it by hand, with a recovery target that a restore tool left."""
    pair.agent.stop()
    with (pair.standby.data / "postgresql.auto.conf").open("a") as file:
        file.write("recovery_target_name = 'here'\n")
    pair.source.sql("SELECT pg_create_restore_point('here')")
    pair.source.sql("CREATE TABLE promised AS SELECT generate_series(1, 100) AS n")
    pair.standby.start()
    eventually("it is paused at its target", lambda: pair.standby.sql(PAUSED), bool, within=20)


def paused(pair: Following) -> None:
    """Somebody has paused it."""
    pair.standby.sql("SELECT pg_wal_replay_pause()")
    pair.source.sql("CREATE TABLE promised AS SELECT generate_series(1, 100) AS n")


def outgrown(pair: Following) -> None:
    """The primary has become larger."""
    outgrow(pair)
    pair.source.sql("CREATE TABLE promised AS SELECT generate_series(1, 100) AS n")


def delayed(pair: Following) -> None:
    """It replays late, on purpose."""
    pair.standby.configure("recovery_min_apply_delay = '10min'")
    pair.standby.sql("SELECT pg_reload_conf()")
    pair.source.sql("CREATE TABLE promised AS SELECT generate_series(1, 100) AS n")


CASES = {
    "a recovery target": (aimed, "remove recovery_target_name from its configuration", "restart the standby"),
    "paused": (paused, "pg_wal_replay_resume()", ""),
    "settings too low": (outgrown, "raise max_connections to 30", "restart the standby"),
    "delayed": (delayed, "lower recovery_min_apply_delay: it replays 600 s late", ""),
}


@pytest.mark.parametrize(("happens", "words", "done"), CASES.values(), ids=list(CASES))
def test_a_standby_that_does_not_replay_says_so_and_loses_nothing(
    agent: Agent,
    cluster: StandInCluster,
    make_database: MakeDatabase,
    happens: Callable[[Following], None],
    words: str,
    done: str,
) -> None:
    pair = Following(agent, cluster, make_database)
    cluster.set_score("n1", "100")
    happens(pair)
    pair.await_streaming()

    def says_so() -> str:
        assert agent.monitor().code == 0
        return cluster.attribute("n1", "pgsql-unfit")

    eventually("it says so", says_so, lambda said: words in said, within=20)
    assert cluster.attribute("n1", "master-pgsql") == "-INFINITY"
    assert pair.standby.sql("SELECT to_regclass('promised')") is None
    pair.lose_primary()
    answer = agent.promote()
    assert answer.code == 0, answer
    assert pair.standby.sql("SELECT count(*) FROM promised") == 100
    assert done in agent.logged()
    assert cluster.attribute("n1", "pgsql-unfit") == ""
    # Nobody can tell a number that was given to a promotion from one that was not: there is one number only.
    assert cluster.attribute("n1", "pgsql-promotion").startswith("1@n1")


def test_what_is_over_is_taken_back(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> None:
    pair = Following(agent, cluster, make_database)
    paused(pair)
    assert agent.monitor().code == 0
    assert "pg_wal_replay_resume" in cluster.attribute("n1", "pgsql-unfit")
    pair.standby.sql("SELECT pg_wal_replay_resume()")
    assert agent.monitor().code == 0
    assert cluster.attribute("n1", "pgsql-unfit") == ""
    pair.standby.sql("SELECT pg_wal_replay_pause()")
    assert agent.monitor().code == 0
    assert agent.stop().code == 0
    assert cluster.attribute("n1", "pgsql-unfit") == ""


def test_a_standby_that_a_restart_does_not_help_is_not_promoted_and_nothing_is_recorded(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    pair = Following(agent, cluster, make_database)
    outgrown(pair)
    # This one also has no room for what it would need: it does not start again.
    pair.standby.configure("shared_buffers = '900GB'")
    pair.lose_primary()
    answer = agent.promote()
    assert answer.code == 1, answer
    assert cluster.attribute("n1", "pgsql-promotion") == ""
    assert cluster.attribute("n1", "pgsql-data-status") == "STREAMING|SYNC"

# SPDX-License-Identifier: GPL-2.0-or-later
"""A data directory that is replaced by an older copy of itself, about which no record in the cluster knows."""

import shutil

from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import Database, base_backup
from tests.server.stand_in import StandInCluster


def write_a_lot(database: Database) -> None:
    """More than one monitor takes for news (16 MiB)."""
    database.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 20000000))")


def test_a_restored_backup_is_not_promoted_over_what_was_committed_since(
    agent: Agent, primary: Database, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """It is from after the promotion, so it holds all that this began with; its node is the one that was promoted."""
    restored = make_database("restored")
    base_backup(primary, restored)
    write_a_lot(primary)
    primary.sql("CREATE TABLE acknowledged AS SELECT 1 AS n")
    assert agent.monitor().code == 8
    assert agent.stop().code == 0
    shutil.rmtree(primary.data)
    restored.data.rename(primary.data)
    assert agent.start().code == 0
    answer = agent.promote()
    assert answer.code == 1, answer
    assert "older copy" in answer.err
    agent.monitor()
    assert cluster.private("n1", "pgsql-position").endswith(" back"), "the others must not go by what it holds"
    allowed = agent.by_hand("allow", "n1", "--yes")
    assert allowed.code == 0, allowed
    assert agent.promote().code == 0
    assert agent.monitor().code == 8


def test_one_that_was_only_restarted_is_promoted(agent: Agent, primary: Database) -> None:
    write_a_lot(primary)
    assert agent.monitor().code == 8
    primary.crash()
    assert agent.start().code == 0
    assert agent.promote().code == 0

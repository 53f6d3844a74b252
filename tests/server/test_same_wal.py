# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a copy may follow is decided by its WAL's content: a clone that was started as a primary once, and ends
before the real one does, has other WAL under the same numbers.
"""

import shutil
from collections.abc import Callable

import pytest

from pgsql_ra.replication.lsn import Lsn
from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, Database, base_backup, file_copy
from tests.server.pair import jobs
from tests.server.stand_in import StandInCluster

WORDS = "its data were once started as a primary of their own"
LINK = "SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'"


class Clones:
    """`original` runs, on n2. The agent's database is a base backup of it."""

    def __init__(self, agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> None:
        self.agent, self.cluster, self.clone = agent, cluster, agent.database
        self.original = make_database("original")
        self.original.port = self.clone.port
        self.original.configure("listen_addresses = '127.0.0.1'\nwal_keep_size = 64MB")
        hba = self.original.data / "pg_hba.conf"
        hba.write_text(f"host all,replication all 127.0.0.1/32 trust\n{hba.read_text()}")
        self.original.start()
        self.original.sql("CREATE TABLE common AS SELECT 1 AS n")
        base_backup(self.original, self.clone)
        self.clone.configure("listen_addresses = ''")

    def run_as_primary(self, end: Callable[[Database], None] = Database.stop) -> None:
        """Somebody starts the clone, as a primary; the original goes on, and further."""
        self.clone.start()
        self.clone.sql("CREATE TABLE own AS SELECT 1 AS n")
        end(self.clone)
        self.go_on()

    def go_on(self, rows: int = 10000) -> None:
        """The original commits."""
        self.original.sql("CREATE TABLE IF NOT EXISTS theirs (n int)")
        self.original.sql("INSERT INTO theirs SELECT generate_series(1, %s)", rows)

    def run_as_standby(self, conninfo: str = "", end: Callable[[Database], None] = Database.stop) -> None:
        """Somebody starts the clone as a standby, and stops it again."""
        signal = self.clone.data / "standby.signal"
        signal.touch()
        shutil.chown(signal, USER, USER)
        before = self.clone.config.read_text()
        self.clone.configure(f"primary_conninfo = '{conninfo}'")
        self.clone.start()
        eventually("it waits for WAL", self.waits, within=20)
        end(self.clone)
        self.clone.config.write_text(before)

    def waits(self) -> bool:
        """Whether it has replayed all that it has."""
        query = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"
        return self.clone.sql(query) in ("RecoveryWalStream", "RecoveryRetrieveRetryInterval", "RecoveryWalAll")

    def primary_is_there(self) -> None:
        """The original is the cluster's primary."""
        self.cluster.run_primary("n2", history="1:")

    def streams(self) -> None:
        """The clone receives what the original commits."""
        self.go_on()
        rows = self.original.sql("SELECT count(*) FROM theirs")
        eventually("it follows", self.count, lambda seen: seen == rows, within=20)

    def count(self) -> int:
        """The rows on the clone; 0 if the table has not come yet."""
        there = self.clone.sql("SELECT to_regclass('theirs')::text")
        return int(self.clone.sql("SELECT count(*) FROM theirs")) if there else 0


@pytest.fixture
def clones(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> Clones:
    """The two."""
    return Clones(agent, cluster, make_database)


def stopped(clones: Clones) -> None:
    """It was a primary when it was stopped."""
    clones.run_as_primary()


def crashed(clones: Clones) -> None:
    """It was a primary when it crashed."""
    clones.run_as_primary(end=Database.crash)


def then_a_standby(clones: Clones) -> None:
    """It was started as a standby since, so that its control file says nothing of a primary."""
    clones.run_as_primary()
    clones.run_as_standby()


def then_a_standby_that_crashed(clones: Clones) -> None:
    """The same, with nothing written at its end."""
    clones.run_as_primary(end=Database.crash)
    clones.run_as_standby(end=Database.crash)


def then_a_standby_that_received(clones: Clones) -> None:
    """A WAL receiver has written the original's WAL over its own, from the beginning of the segment."""
    clones.run_as_primary()
    clones.run_as_standby(f"host=127.0.0.1 port={clones.original.port} user={USER}", end=Database.stop)


def further_on(clones: Clones) -> None:
    """It holds more WAL than the original."""
    clones.clone.start()
    clones.clone.sql("CREATE TABLE own AS SELECT generate_series(1, 60000) AS n")
    clones.clone.stop()
    clones.run_as_standby()


def a_copy_of_files_that_crashed(clones: Clones) -> None:
    """Its last checkpoint is the original's: only what it wrote afterwards is its own."""
    clones.original.stop()
    file_copy(clones.original, clones.clone)
    clones.clone.configure("listen_addresses = ''")
    clones.original.start()
    clones.run_as_primary(end=Database.crash)


def then_a_standby_without_a_checkpoint(clones: Clones) -> None:
    """The same, and its control file says nothing of a primary."""
    a_copy_of_files_that_crashed(clones)
    clones.run_as_standby(end=Database.crash)


PASTS = [
    a_copy_of_files_that_crashed,
    then_a_standby_without_a_checkpoint,
    stopped,
    crashed,
    then_a_standby,
    then_a_standby_that_crashed,
    then_a_standby_that_received,
    further_on,
]


@pytest.mark.parametrize("past", PASTS)
def test_a_clone_with_a_life_of_its_own_is_not_started(clones: Clones, past: Callable[[Clones], None]) -> None:
    past(clones)
    clones.primary_is_there()
    answer = clones.agent.start()
    assert answer.code == 1, answer
    assert WORDS in answer.reason
    shown = clones.agent.by_hand("rejoin", "--dry-run").out
    assert "to do:  new copy of the primary" in shown
    assert WORDS in shown
    answer = clones.agent.start(rejoin="rewind")
    assert answer.code == 1, "pg_rewind sees no difference"
    assert clones.agent.start(rejoin="copy").code == 0
    clones.streams()
    assert clones.clone.sql("SELECT to_regclass('own')::text") is None


def the_backup_itself(_clones: Clones) -> None:
    """It was never started."""


def while_it_went_on(clones: Clones) -> None:
    """It was never started, and the original has written many segments since."""
    clones.go_on(60000)


def a_standby_that_stopped(clones: Clones) -> None:
    """It has streamed, and was stopped."""
    clones.run_as_standby(f"host=127.0.0.1 port={clones.original.port} user={USER}")
    clones.go_on()


def a_standby_that_crashed(clones: Clones) -> None:
    """It has streamed, and crashed."""
    clones.run_as_standby(f"host=127.0.0.1 port={clones.original.port} user={USER}", end=Database.crash)
    clones.go_on()


def a_standby_with_a_long_record(clones: Clones) -> None:
    """The last record that it has goes through several segments."""

    def end(clone: Database) -> None:
        clones.original.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 3000000))")
        clones.original.sql("SELECT pg_switch_wal()")
        sent = Lsn.parse(clones.original.sql("SELECT pg_current_wal_flush_lsn()::text"))
        eventually(
            "it has all",
            lambda: Lsn.parse(clone.sql("SELECT pg_last_wal_replay_lsn()::text")) >= sent,
            within=20,
        )
        clone.stop()

    clones.run_as_standby(f"host=127.0.0.1 port={clones.original.port} user={USER}", end=end)


def a_standby_at_the_border_of_a_segment(clones: Clones) -> None:
    """It needs nothing of the segment with its last record, and that segment is gone."""

    def end(clone: Database) -> None:
        clones.original.sql("SELECT pg_switch_wal()")
        sent = Lsn.parse(clones.original.sql("SELECT pg_current_wal_flush_lsn()::text"))
        eventually(
            "it has all", lambda: Lsn.parse(clone.sql("SELECT pg_last_wal_replay_lsn()::text")) >= sent, within=20
        )
        clone.stop()

    clones.run_as_standby(f"host=127.0.0.1 port={clones.original.port} user={USER}", end=end)
    clones.original.configure("wal_keep_size = 0")
    clones.original.sql("SELECT pg_reload_conf()")
    clones.original.sql("CHECKPOINT")


def a_standby_that_has_replayed_a_later_checkpoint(clones: Clones) -> None:
    """It would restart from an earlier one, beside which pg_control keeps the next transaction of the later one."""

    def end(clone: Database) -> None:
        original = clones.original
        for _ in range(20):
            original.sql("CREATE TABLE temporary AS SELECT 1 AS n")
            original.sql("DROP TABLE temporary")
        original.sql("CHECKPOINT")
        original.sql("CREATE TABLE temporary AS SELECT 1 AS n")
        original.sql("DROP TABLE temporary")  # its replay has pg_control written (xact_redo_commit)
        sent = Lsn.parse(original.sql("SELECT pg_current_wal_flush_lsn()::text"))
        eventually(
            "it has all", lambda: Lsn.parse(clone.sql("SELECT pg_last_wal_replay_lsn()::text")) >= sent, within=20
        )
        clone.crash()

    clones.run_as_standby(f"host=127.0.0.1 port={clones.original.port} user={USER}", end=end)
    clones.go_on()


SOUND = [
    a_standby_that_has_replayed_a_later_checkpoint,
    the_backup_itself,
    while_it_went_on,
    a_standby_that_stopped,
    a_standby_that_crashed,
    a_standby_with_a_long_record,
    a_standby_at_the_border_of_a_segment,
]


@pytest.mark.parametrize("past", SOUND)
def test_a_sound_copy_follows_at_once(clones: Clones, past: Callable[[Clones], None]) -> None:
    past(clones)
    clones.primary_is_there()
    answer = clones.agent.start()
    assert answer.code == 0, answer
    assert clones.clone.sql(LINK), "it was compared"
    clones.streams()


def test_a_clone_that_was_started_without_a_primary_receives_nothing(clones: Clones) -> None:
    """It runs while nobody can be compared with it; when there is a primary, a monitor says what it is."""
    clones.run_as_primary()
    clones.agent.become_standby()
    clones.primary_is_there()
    eventually("it waits for WAL", clones.waits, within=20)
    assert clones.clone.sql(LINK) == ""
    answer = clones.agent.monitor(silent=False)
    assert answer.code == 1, "clients read there what the cluster never had"
    assert WORDS in answer.reason
    assert clones.cluster.attribute("n1", "pgsql-rejoin").startswith("refused: ")
    assert WORDS in clones.cluster.attribute("n1", "pgsql-rejoin")
    assert clones.clone.sql(LINK) == ""
    eventually(
        "a copy is made",
        lambda: clones.agent.monitor(silent=False, rejoin="copy").code == 0 and jobs(clones.agent),
        within=30,
    )
    eventually("the repair is over", lambda: jobs(clones.agent), lambda pids: not pids, within=60)
    clones.streams()
    assert clones.clone.sql("SELECT to_regclass('own')::text") is None


def test_a_sound_copy_that_was_started_without_a_primary_follows_the_first_one(clones: Clones) -> None:
    clones.agent.become_standby()
    assert clones.clone.sql(LINK) == ""
    eventually("it waits for WAL", clones.waits, within=20)
    clones.go_on()
    clones.primary_is_there()
    assert clones.agent.monitor(silent=False).code == 0
    clones.streams()


def test_what_could_not_be_compared_waits_and_says_so(clones: Clones) -> None:
    """The server at the address is not the one that the cluster's primary has recorded."""
    clones.cluster.run_primary("n2", history="2:1@0/F000000")
    assert clones.agent.start().code == 0
    eventually("it waits for WAL", clones.waits, within=20)
    assert clones.agent.monitor(silent=False).code == 0
    assert clones.clone.sql(LINK) == ""
    assert "is not that of n2" in clones.cluster.attribute("n1", "pgsql-rejoin")
    clones.primary_is_there()
    assert clones.agent.monitor(silent=False).code == 0
    clones.streams()
    assert clones.cluster.attribute("n1", "pgsql-rejoin") == ""


def test_it_is_not_rewound_to_a_checkpoint_that_only_it_has(clones: Clones) -> None:
    """pg_rewind goes by timelines and by the links between records: WAL of the same lengths passes for the same."""
    clones.original.configure("wal_log_hints = on")
    clones.original.stop()
    file_copy(clones.original, clones.clone)
    clones.clone.configure("listen_addresses = ''")
    ends = []
    for database, word in ((clones.original, "this"), (clones.clone, "that")):
        database.start()
        database.sql(f"CREATE TABLE own AS SELECT '{word}' AS word")
        database.sql("CHECKPOINT")
        ends.append(database.sql("SELECT pg_current_wal_insert_lsn()::text"))
        database.stop()
    assert len(set(ends)) == 1
    clones.clone.start()
    clones.clone.sql("INSERT INTO own SELECT 'more' FROM generate_series(1, 60000)")
    clones.clone.stop()
    signal = clones.original.data / "standby.signal"
    signal.touch()
    shutil.chown(signal, USER, USER)
    clones.original.start()
    clones.original.sql("SELECT pg_promote()")
    clones.original.sql("CHECKPOINT")
    history = (clones.original.data / "pg_wal" / "00000002.history").read_text().split()
    clones.cluster.run_primary("n2", history=f"2:1@{history[1]}")
    answer = clones.agent.start(rejoin="rewind")
    assert answer.code == 1, answer
    assert (
        "pg_rewind cannot help (the last checkpoint before the fork is not known to be the primary's" in answer.reason
    )
    assert clones.agent.start(rejoin="copy").code == 0
    clones.streams()
    assert clones.clone.sql("SELECT word FROM own") == "this"


def test_what_pg_basebackup_wrote_does_not_open_the_link(clones: Clones) -> None:
    """postgresql.auto.conf outranks the agent's file."""
    auto = clones.clone.data / "postgresql.auto.conf"
    conninfo = f"primary_conninfo = 'user={USER} host=127.0.0.1 port={clones.original.port}'\n"
    auto.write_text(f"{auto.read_text()}{conninfo}work_mem = '8MB'\n")
    clones.run_as_primary()
    clones.agent.become_standby()
    assert clones.clone.sql(LINK) == ""
    assert clones.clone.sql("SHOW work_mem") == "8MB"
    assert auto.owner() == USER


def test_a_changed_parameter_does_not_open_the_link(clones: Clones) -> None:
    clones.agent.become_standby()
    assert clones.agent.run("reload-agent", repuser="somebody").code == 0
    assert clones.clone.sql(LINK) == ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""What postgres.session sees, compared with what the server does: the facts on which the safety of sync mode rests."""

import os
import shutil
import signal
import subprocess

import pytest

from pgsql_ra.ocf import Deadline
from pgsql_ra.postgres.configuration import SYNCHRONOUS_FILE, ConfigurationFiles, synchronous_settings
from pgsql_ra.postgres.control import end_of_wal, read_control
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.session import look
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.replication.lsn import Lsn
from pgsql_ra.replication.snapshot import Primary, Standby, SynchronousStandbys
from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import BINARIES, USER, Commit, Database, base_backup


def seen(database: Database) -> Primary | Standby:
    """The server in one look, on a new session, as the agent takes it."""
    with database.connect() as session:
        return look(session, str(database.data), database.postmaster)


def as_primary(database: Database) -> Primary:
    """The same, of a server that is known to be a primary."""
    state = seen(database)
    assert isinstance(state, Primary)
    return state


def as_standby(database: Database) -> Standby:
    """The same, of a server that is known to be a standby."""
    state = seen(database)
    assert isinstance(state, Standby)
    return state


def wait_for(database: Database, *names: str) -> None:
    """What the agent's change SetSynchronousStandbys does: the file, then a reload."""
    files = ConfigurationFiles(str(database.config), str(database.tmpdir), DatabaseUser(USER))
    files.write(SYNCHRONOUS_FILE, synchronous_settings(SynchronousStandbys(names)))
    os.kill(database.postmaster, signal.SIGHUP)
    shown = ",".join(f'"{name}"' for name in names)
    eventually(
        "new sessions show the setting",
        lambda: database.sql("SHOW synchronous_standby_names"),
        lambda setting: setting == shown,
        within=10,
        poll=0.02,
    )


# Whether commits wait


def test_a_setting_becomes_settled_and_commits_wait(primary: Database) -> None:
    wait_for(primary, "n2")
    state = eventually("it is settled", lambda: as_primary(primary), lambda now: now.settled, within=10, poll=0.02)
    assert state.synchronous.names == ("n2",)
    Commit(primary).await_wait()


def test_a_setting_is_not_in_force_while_the_checkpointer_is_busy(primary: Database) -> None:
    """The reason for the rule: every new session shows the setting, and commits return without the standby."""
    checkpointer = primary.process("checkpointer")
    with primary.frozen(checkpointer):
        wait_for(primary, "n2")
        state = as_primary(primary)
        assert state.synchronous.names == ("n2",)
        assert not state.settled
        Commit(primary).await_return(5)
        assert not as_primary(primary).settled
    eventually("it is settled", lambda: as_primary(primary), lambda now: now.settled, within=10, poll=0.02)
    Commit(primary).await_wait()


def test_releasing_the_last_standby_lets_commits_go(primary: Database) -> None:
    wait_for(primary, "n2")
    eventually("it is settled", lambda: as_primary(primary), lambda now: now.settled, within=10, poll=0.02)
    wait_for(primary)
    eventually("it is settled", lambda: as_primary(primary), lambda now: now.settled, within=10, poll=0.02)
    Commit(primary).await_return(5)


def test_settled_is_never_said_before_commits_wait(primary: Database) -> None:
    """Switched back and forth with the checkpointer at work: the first look that says settled is right."""
    for _ in range(5):
        wait_for(primary)
        eventually("it is settled", lambda: as_primary(primary), lambda now: now.settled, within=10, poll=0.005)
        work = subprocess.Popen(
            [
                str(BINARIES / "psql"),
                "-h",
                primary.socket,
                "-p",
                str(primary.port),
                "-U",
                "tester",
                "-qc",
                "CHECKPOINT",
            ],
            cwd="/",
            env={"PGDATABASE": "postgres", "PATH": "/usr/bin:/bin"},
        )
        wait_for(primary, "n2")
        eventually("it is settled", lambda: as_primary(primary), lambda now: now.settled, within=10, poll=0.005)
        Commit(primary).await_wait()
        assert work.wait(20) == 0


# Where the WAL ends


def test_the_position_of_a_primary(primary: Database) -> None:
    state = as_primary(primary)
    assert state.position.lsn == Lsn.parse(primary.sql("SELECT pg_current_wal_flush_lsn()::text"))
    assert state.position.timeline == 2, "it was promoted once"
    assert state.position.history.left(1) is not None


def test_a_standby_has_no_position_until_it_has_read_all_its_wal(
    database: Database, make_database: MakeDatabase
) -> None:
    """A copy gets the WAL of the original's later life, and replays it with a delay that the test ends."""
    copy = make_database("copy")
    database.configure("wal_keep_size = '64MB'")  # the copy goes on in the segment with which both began
    database.start()
    for _ in range(3):
        database.sql("CREATE TABLE IF NOT EXISTS t AS SELECT generate_series(1, 1000) AS n")
        database.sql("INSERT INTO t SELECT n FROM t")
    database.stop()
    end = Lsn.parse(_next_record(database))
    for segment in (database.data / "pg_wal").glob("0*"):
        shutil.copy2(segment, copy.data / "pg_wal")
        shutil.chown(copy.data / "pg_wal" / segment.name, USER, USER)
    copy.configure("recovery_min_apply_delay = '1h'\nrecovery_target_timeline = latest")
    (copy.data / "standby.signal").touch()
    copy.start()
    event = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"
    eventually("replay is held up", lambda: copy.sql(event), lambda seen: seen == "RecoveryApplyDelay", within=10)
    assert as_standby(copy).position is None
    copy.configure("recovery_min_apply_delay = 0")
    os.kill(copy.postmaster, signal.SIGHUP)
    state = eventually("all is read", lambda: as_standby(copy), lambda now: now.position, within=15, poll=0.02)
    assert state.position is not None
    assert state.position.lsn == end
    assert state.position.timeline == 1
    assert not state.streaming


def test_a_timeline_that_a_broken_off_promotion_did_not_begin_is_none(standby: Database) -> None:
    """Its segment is made before its history file: the node lost its power in between."""
    before = eventually("all is read", lambda: as_standby(standby), lambda now: now.position, within=10, poll=0.02)
    assert before.position is not None
    for segment in (standby.data / "pg_wal").glob(f"{before.position.timeline:08X}*"):
        shutil.copy(segment, segment.with_name(f"{before.position.timeline + 1:08X}{segment.name[8:]}"))
    assert as_standby(standby).position == before.position


def test_the_position_of_a_standby_that_was_a_primary(agent: Agent, primary: Database) -> None:
    """After a demotion the standby's WAL ends with the shutdown checkpoint, on the primary's timeline."""
    assert agent.demote().code == 0
    state = eventually("all is read", lambda: as_standby(primary), lambda now: now.position, within=10, poll=0.02)
    assert state.position is not None
    assert state.position.timeline == 2
    assert state.position.lsn == Lsn.parse(primary.sql("SELECT pg_last_wal_replay_lsn()::text"))


@pytest.mark.parametrize("position", ["streams", "stopped"])
def test_a_streaming_standby(primary: Database, make_database: MakeDatabase, position: str) -> None:
    """Both ends of a real replication: what the primary says of the standby, what the standby says of itself."""
    standby = clone(primary, make_database)
    standby.start()

    def streams() -> bool:
        rows = as_primary(primary).walsenders
        return len(rows) == 1 and rows[0].state.value == "streaming" and as_standby(standby).streaming

    eventually("the standby streams", streams, within=15)
    primary.sql("CREATE TABLE sent AS SELECT generate_series(1, 1000) AS n")
    end = as_primary(primary).position
    if position == "stopped":
        primary.stop()
        eventually("it does not stream", lambda: not as_standby(standby).streaming, within=10)
        seen_last = eventually("all is read", lambda: as_standby(standby).position, within=10)
        assert seen_last is not None
        assert seen_last.lsn >= end.lsn
        assert seen_last.history == end.history
    else:
        row = eventually(
            "all is flushed there",
            lambda: as_primary(primary).walsenders[0],
            lambda now: now.flush is not None and now.flush >= end.lsn,
            within=10,
        )
        assert row.node == "n2", "names are compared in lower case"
        standing = as_standby(standby).position
        assert standing is not None
        assert standing.lsn >= end.lsn
        assert standing.history == end.history
    standby.stop()


def clone(primary: Database, make_database: MakeDatabase) -> Database:
    """A standby N2 of a primary, connected by its socket."""
    standby = make_database("clone")
    base_backup(primary, standby)
    standby.configure(f"primary_conninfo = 'host={primary.socket} port={primary.port} user=tester application_name=N2'")
    (standby.data / "standby.signal").touch()
    shutil.chown(standby.data / "standby.signal", USER, USER)
    return standby


def _next_record(database: Database) -> str:
    """Where the WAL of a cleanly stopped server ends."""
    programs = Programs(str(BINARIES / "pg_ctl"), "", DatabaseUser(USER))
    control = read_control(str(database.data), programs, Deadline(10))
    end = end_of_wal(str(database.data), control, programs, Deadline(10))
    assert end is not None
    return str(end.lsn)

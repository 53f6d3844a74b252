# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control file and the WAL say about a stopped server, compared with what the server makes of them."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from pgsql_ra.ocf import Deadline, ServerFailure
from pgsql_ra.postgres.control import ClusterPhase, ControlData, end_of_wal, read_control
from pgsql_ra.postgres.programs import Programs
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.wal import before_header, end_of_record, page_bytes, read_history, segment_bytes
from pgsql_ra.postgres.wal_end import valid_until
from pgsql_ra.replication.lsn import Lsn, Position
from tests.server.agent import Agent
from tests.server.database import BINARIES, USER, Database
from tests.server.stand_in import StandInCluster

SEGMENT_NAME = 24
"""The length of a segment's name."""


def remove_empty_segments(database: Database) -> None:
    """As if those that nothing was written into had not been made yet."""
    for segment in (database.data / "pg_wal").glob("0*"):
        if len(segment.name) == SEGMENT_NAME and not any(segment.read_bytes()):
            segment.unlink()


def written_to(database: Database) -> Lsn:
    """Where the running server's WAL ends."""
    return Lsn.parse(database.sql("SELECT pg_current_wal_flush_lsn()::text"))


@pytest.fixture
def programs() -> Programs:
    """PostgreSQL's programs."""
    return Programs(str(BINARIES / "pg_ctl"), "", DatabaseUser(USER))


def control_of(database: Database, programs: Programs) -> ControlData:
    """The control file."""
    return read_control(str(database.data), programs, Deadline(10))


def end_of(database: Database, programs: Programs) -> Position:
    """The end of the WAL; there must be one."""
    end = end_of_wal(str(database.data), control_of(database, programs), programs, Deadline(10))
    assert end is not None
    return end


def end_of_recovery(database: Database) -> Lsn:
    """Where the server's own crash recovery found the end, as its log says."""
    found = Lsn.parse(re.findall(r"invalid record length at (\S+):", database.log.read_text())[-1])
    return before_header(found, page_bytes(str(database.data)), segment_bytes(str(database.data)))


def cut_off(database: Database, place: Lsn) -> None:
    """What lies in the WAL from this page on was never written: a segment that is used again has old pages there."""
    size = segment_bytes(str(database.data))
    for segment in sorted((database.data / "pg_wal").glob("0*")):
        if len(segment.name) != SEGMENT_NAME:
            continue
        start = (int(segment.name[8:16], 16) * (0x1_0000_0000 // size) + int(segment.name[16:], 16)) * size
        kept = max(0, int(place) - start)
        if kept < size:
            segment.write_bytes(segment.read_bytes()[:kept] + bytes(size - kept))


def leave_lock_of_shell_agent(database: Database) -> Path:
    """What ocf:heartbeat:pgsql leaves on each primary, whether its data fits or not."""
    lock = database.tmpdir / "PGSQL.lock"
    lock.touch()
    return lock


def work(database: Database) -> None:
    """Some WAL."""
    database.sql("CREATE TABLE IF NOT EXISTS t AS SELECT generate_series(1, 2000) AS n")
    database.sql("INSERT INTO t SELECT n FROM t")


def test_a_cleanly_stopped_primary_ends_with_its_shutdown_checkpoint(
    agent: Agent, primary: Database, programs: Programs
) -> None:
    work(primary)
    assert agent.stop().code == 0
    control = control_of(primary, programs)
    assert (control.phase, control.timeline, control.was_primary) == (ClusterPhase.SHUT_DOWN, 2, True)
    end = end_of(primary, programs)
    assert end.lsn > control.checkpoint
    assert end.history == read_history(str(primary.data), 2)
    agent.become_primary()
    assert read_history(str(primary.data), 3).left(2) == end.lsn, "the next timeline forks where this one ended"


def test_a_crashed_primary_ends_where_its_recovery_does(primary: Database, programs: Programs) -> None:
    primary.sql("CHECKPOINT")
    work(primary)
    primary.crash()
    control = control_of(primary, programs)
    assert (control.phase, control.was_primary) == (ClusterPhase.PRODUCTION, True)
    end = end_of(primary, programs)
    primary.start()
    assert end.lsn == end_of_recovery(primary)
    assert end.timeline == 2


def test_a_record_that_was_written_in_part_ends_the_wal_before_it(primary: Database, programs: Programs) -> None:
    """The last whole record counts, too: it may be an acknowledged commit. Found from the last checkpoint on, and from
    anywhere.
    """
    primary.sql("CHECKPOINT")
    work(primary)
    written = written_to(primary)
    primary.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 200000))")
    primary.crash()
    page = page_bytes(str(primary.data))
    cut_off(primary, Lsn((int(written) // page + 3) * page))
    end = end_of(primary, programs)
    assert end.lsn == written
    for before in (999, 5000, 20_001):
        anywhere = Lsn(written - before)
        assert valid_until(str(primary.data), end.history, anywhere, programs, Deadline(10)) == end


@pytest.mark.parametrize("following", ["missing", "zeros"])
def test_a_record_that_goes_on_in_a_segment_without_content(
    primary: Database, programs: Programs, following: str
) -> None:
    primary.sql("CHECKPOINT")
    work(primary)
    written = written_to(primary)
    primary.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 1500000))")
    primary.crash()
    size = segment_bytes(str(primary.data))
    border = Lsn((int(written) // size + 1) * size)
    cut_off(primary, border)
    if following == "missing":
        remove_empty_segments(primary)
    assert end_of(primary, programs).lsn == written


@pytest.mark.parametrize("following", ["missing", "zeros"])
def test_a_segment_that_was_left_by_pg_switch_wal_is_full(
    primary: Database, programs: Programs, following: str
) -> None:
    primary.sql("CHECKPOINT")
    work(primary)
    size = segment_bytes(str(primary.data))
    border = Lsn((int(written_to(primary)) // size + 1) * size)
    primary.sql("SELECT pg_switch_wal()")
    work(primary)
    primary.crash()
    cut_off(primary, border)
    if following == "missing":
        remove_empty_segments(primary)
    end = end_of(primary, programs)
    assert end.lsn == border
    assert valid_until(str(primary.data), end.history, border, programs, Deadline(10)) == end, "nothing comes"


def test_where_records_end(primary: Database, programs: Programs) -> None:
    """As computed from their lengths, against where the next one begins; records of all lengths, over all borders."""
    begin = primary.sql("SELECT pg_current_wal_flush_lsn()::text")
    for length in [*range(1, 120, 7), *range(8000, 8400, 41), 30_000, 70_000, 1_100_000, 2_500_000]:
        primary.sql(f"SELECT pg_logical_emit_message(true, 'test', repeat('x', {length}))")
    primary.crash()
    data = str(primary.data)
    where = ["-p", f"{data}/pg_wal", "-t", "2", "-s", begin]
    listed = programs.run("pg_waldump", where, Deadline(20)).stdout
    found = re.findall(r"len \(rec/tot\): *\d+/ *(\d+),.*lsn: (\S+),", listed)
    records = [(Lsn.parse(start), int(length)) for length, start in found]
    assert len(records) > 60
    page, size = page_bytes(data), segment_bytes(data)
    for (start, length), (following, _) in pairwise(records):
        assert end_of_record(start, length, page, size) == before_header(following, page, size)


def test_a_primary_that_crashed_over_many_segments(primary: Database, programs: Programs) -> None:
    primary.sql("CHECKPOINT")
    for _ in range(5):
        work(primary)
    primary.crash()
    end = end_of(primary, programs)
    primary.start()
    assert end.lsn == end_of_recovery(primary)


def test_a_primary_that_crashed_right_after_it_changed_segments(primary: Database, programs: Programs) -> None:
    """The next segment has not been made yet: the WAL ends with the last one. archive_timeout does that to any idle
    primary.
    """
    work(primary)
    primary.sql("CHECKPOINT")
    primary.sql("SELECT pg_switch_wal()")
    primary.crash()
    control = control_of(primary, programs)
    end = end_of_wal(str(primary.data), control, programs, Deadline(10))
    assert end is not None
    assert end.timeline == 2
    assert end.lsn > control.checkpoint


def test_a_new_primary_that_crashed_before_its_first_checkpoint(
    agent: Agent, standby: Database, programs: Programs
) -> None:
    """Until that checkpoint is done, which takes minutes under load, pg_control names the old timeline."""
    with standby.frozen(standby.process("checkpointer")):
        assert agent.promote().code == 0
        work(standby)
        written = Lsn.parse(standby.sql("SELECT pg_current_wal_flush_lsn()::text"))
        standby.crash()
    control = control_of(standby, programs)
    assert control.was_primary, control
    end = end_of(standby, programs)
    assert (end.timeline, end.lsn) == (2, written)


def test_such_a_primary_is_not_started_as_a_standby_of_another_one(
    agent: Agent, standby: Database, cluster: StandInCluster
) -> None:
    """It went on after the other one, which followed it, had been cut off; that one is promoted now."""
    with standby.frozen(standby.process("checkpointer")):
        assert agent.promote().code == 0
        work(standby)
        fork = standby.sql("SELECT pg_current_wal_flush_lsn()::text")
        work(standby)
        standby.crash()
    cluster.run_primary("n2", history=f"3:1@{read_history(str(standby.data), 2).left(1)},2@{fork}")
    answer = agent.start()
    assert answer.code == 1, answer
    assert "n2" in answer.reason
    assert not standby.is_running()


def test_a_former_primary_that_went_further_is_refused(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    fork = str(Lsn.parse(primary.sql("SELECT pg_current_wal_flush_lsn()::text")))
    work(primary)
    primary.crash()
    lock = leave_lock_of_shell_agent(primary)
    cluster.run_primary("n2", history=f"3:1@{read_history(str(primary.data), 2).left(1)},2@{fork}")
    answer = agent.start()
    assert answer.code == 1, answer
    assert "bytes of WAL" in answer.reason
    assert not primary.is_running()
    assert lock.exists()


def test_a_former_primary_that_ends_at_the_fork_follows(
    agent: Agent, primary: Database, cluster: StandInCluster, programs: Programs
) -> None:
    work(primary)
    assert agent.stop().code == 0
    end = end_of(primary, programs)
    lock = leave_lock_of_shell_agent(primary)
    cluster.run_primary("n2", history=f"3:1@{end.history.left(1)},2@{end.lsn}")
    answer = agent.start()
    assert answer.code == 0, answer
    assert primary.is_standby()
    assert not lock.exists(), "what it was to protect has been looked at"


def test_a_stopped_standby_was_no_primary(agent: Agent, standby: Database, programs: Programs) -> None:
    assert agent.stop().code == 0
    control = control_of(standby, programs)
    assert not control.was_primary, control


def test_a_crashed_standby_was_no_primary(standby: Database, programs: Programs) -> None:
    standby.crash()
    assert not control_of(standby, programs).was_primary


def test_a_damaged_control_file_says_nothing(agent: Agent, standby: Database, programs: Programs) -> None:
    standby.crash()
    with (standby.data / "global" / "pg_control").open("r+b") as file:
        file.write(bytes(512))
    with pytest.raises(ServerFailure, match="is damaged"):
        control_of(standby, programs)
    done = agent.start()
    assert done.code == 1
    assert "the control file of" in done.reason
    assert "is damaged" in done.reason


def test_a_demoted_primary_that_stops_again(agent: Agent, primary: Database, programs: Programs) -> None:
    assert agent.demote().code == 0
    assert agent.stop().code == 0
    control = control_of(primary, programs)
    assert control.phase in (ClusterPhase.SHUT_DOWN_IN_RECOVERY, ClusterPhase.SHUT_DOWN)
    assert control.timeline == 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""A former primary that went too far (pair.Pair): rewound, copied anew, or left."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, Database, as_postgres
from tests.server.pair import HINTS, Pair, jobs, state_of_files
from tests.server.stand_in import StandInCluster


@pytest.fixture
def pair(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> Pair:
    """A pair that can be rewound."""
    return Pair(agent, cluster, make_database, HINTS)


@pytest.fixture
def pair_without_hints(agent: Agent, cluster: StandInCluster, make_database: MakeDatabase) -> Pair:
    """A pair that cannot be rewound."""
    return Pair(agent, cluster, make_database, "wal_log_hints = off")


def test_it_is_rewound(agent: Agent, pair: Pair) -> None:
    agent.parameters |= {"rejoin": "rewind", "keep_lost_wal": "true"}
    answer = agent.start()
    assert answer.code == 0, answer
    pair.follows()
    assert "2 transactions that the primary does not have" in agent.logged()
    (kept,) = agent.database.tmpdir.glob("lost-wal-1-*")
    assert list(kept.glob("00000001*"))
    assert pair.set_aside() == []
    assert jobs(agent) == []


def test_it_is_rewound_before_the_first_checkpoint_after_the_promotion(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    """Before that, the control file of the new primary names the old timeline, and pg_rewind sees no difference."""
    pair = Pair(agent, cluster, make_database, checkpoint="under way")
    answer = agent.start(rejoin="rewind")
    assert answer.code == 0, answer
    pair.follows()


def test_a_standby_that_runs_is_rewound(agent: Agent, cluster: StandInCluster, pair: Pair) -> None:
    """As after a failover: it was started while there was no primary, and a monitor finds that it cannot follow."""
    history = cluster.attribute("n2", "pgsql-timeline")
    cluster.stop_primary("n2")
    assert agent.start(rejoin="rewind").code == 0
    pair.former.sql("CHECKPOINT")
    cluster.run_primary("n2", history)
    eventually(
        "it has read its WAL", lambda: agent.monitor(silent=False, rejoin="rewind").code == 0 and jobs(agent), within=30
    )
    eventually("the repair is over", lambda: jobs(agent), lambda pids: not pids, within=60)
    pair.follows()
    assert "new copy" not in agent.logged()


def test_a_standby_that_runs_keeps_the_wal_that_its_shutdown_would_remove(
    agent: Agent, cluster: StandInCluster, pair: Pair, make_database: MakeDatabase
) -> None:
    """Its last restartpoint was before the parting, and it has read checkpoints after it: the one that it makes when it
    stops needs nothing of what pg_rewind has to read.
    """
    receive_checkpoints(pair.former, make_database("origin"))
    history = cluster.attribute("n2", "pgsql-timeline")
    cluster.stop_primary("n2")
    assert agent.start(rejoin="rewind").code == 0
    cluster.run_primary("n2", history)
    eventually(
        "it has read its WAL", lambda: agent.monitor(silent=False, rejoin="rewind").code == 0 and jobs(agent), within=30
    )
    eventually("the repair is over", lambda: jobs(agent), lambda pids: not pids, within=60)
    pair.follows()
    assert pair.set_aside() == []


def receive_checkpoints(database: Database, origin: Database) -> None:
    """As if it had streamed from `origin`, which went on where it ends: its WAL goes on, its control file does not."""
    shutil.rmtree(origin.data)
    subprocess.run(["cp", "-a", database.data, origin.data], check=True)
    origin.configure(f"unix_socket_directories = '{origin.socket}'\nwal_keep_size = 64MB")
    origin.start()
    origin.sql("CREATE TABLE more AS SELECT generate_series(1, 60000) AS n")
    origin.stop()
    segments = sorted(map(str, (origin.data / "pg_wal").glob("00000001*")))
    subprocess.run(["cp", "-a", *segments, str(database.data / "pg_wal")], check=True)


def test_it_is_copied_if_the_wal_since_the_parting_is_gone(agent: Agent, pair: Pair) -> None:
    """pg_rewind would do its work, and the server would wait for that WAL for ever."""
    pair.heir.configure("wal_keep_size = 0")
    pair.heir.sql("SELECT pg_reload_conf()")
    for _ in range(4):
        pair.heir.sql("SELECT pg_switch_wal()")
        pair.heir.sql("CREATE TABLE IF NOT EXISTS more AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
        pair.heir.sql("CHECKPOINT")
    answer = agent.start(rejoin="rewind")
    assert answer.code == 1, answer
    assert "does not have the WAL" in answer.reason
    answer = agent.start(rejoin="copy")
    assert answer.code == 0, answer
    pair.follows()


def test_it_is_refused_by_default_and_unchanged(agent: Agent, pair: Pair) -> None:
    before = state_of_files(pair.former.data)
    answer = agent.start()
    assert answer.code == 1, answer
    assert "bytes of WAL on n1 are not in the cluster" in answer.reason
    assert state_of_files(pair.former.data) == before


def test_without_hints_a_rewind_is_refused_with_that_reason(agent: Agent, pair_without_hints: Pair) -> None:
    before = state_of_files(pair_without_hints.former.data)
    answer = agent.start(rejoin="rewind")
    assert answer.code == 1, answer
    assert "wal_log_hints" in answer.reason[:127]
    assert state_of_files(pair_without_hints.former.data) == before


def test_without_hints_it_is_copied_and_one_old_directory_is_kept(agent: Agent, pair_without_hints: Pair) -> None:
    pair = pair_without_hints
    older = pair.former.data.with_name(f"{pair.former.data.name}.old-20200101T000000")
    (older / "pg_tblspc").mkdir(parents=True)
    for path in (older, older / "pg_tblspc"):
        shutil.chown(path, USER, USER)
    roots = pair.former.data.with_name(f"{pair.former.data.name}.old-20190101T000000")
    roots.mkdir(mode=0o700)
    certificate = pair.former.data / "server.crt"
    certificate.write_text("this node's")
    answer = agent.start(rejoin="copy")
    assert answer.code == 0, answer
    pair.follows()
    left, kept = pair.set_aside()
    assert (left, older.exists()) == (roots, False)
    assert f"{roots} cannot be deleted" in agent.logged(), "which the database user may not do, and is no failure"
    assert (kept / "PG_VERSION").exists()
    assert certificate.read_text() == "this node's"
    assert pair.left_by_a_copy() == []


def test_pg_wal_elsewhere_stays_elsewhere(agent: Agent, pair_without_hints: Pair, root: Path) -> None:
    pair, elsewhere = pair_without_hints, root / "wal"
    shutil.move(pair.former.data / "pg_wal", elsewhere)
    (pair.former.data / "pg_wal").symlink_to(elsewhere)
    assert agent.start(rejoin="copy").code == 0
    pair.follows()
    assert (pair.former.data / "pg_wal").readlink() == elsewhere
    (kept,) = pair.set_aside()
    assert (kept / "pg_wal").readlink().name.startswith("wal.old-")
    assert list((kept / "pg_wal").iterdir())


@pytest.fixture
def little_space(agent: Agent, root: Path) -> Iterator[None]:
    """The former primary's directory lies where its data fit once, and not twice."""
    place = root / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m,mode=755", "tmpfs", place], check=True)
    try:
        shutil.chown(place, USER, USER)
        target = place / "data"
        subprocess.run(["cp", "-a", agent.database.data, target], check=True)
        agent.database.data = target
        agent.parameters["pgdata"] = str(target)
        yield
    finally:
        agent.database.clear()
        subprocess.run(["umount", place], check=True)


@pytest.mark.usefixtures("little_space")
def test_a_full_disk_leaves_the_data_as_they_were(
    agent: Agent, cluster: StandInCluster, make_database: MakeDatabase
) -> None:
    pair = Pair(agent, cluster, make_database, "wal_log_hints = off")
    pair.heir.sql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 40000)")
    before = state_of_files(pair.former.data)
    answer = agent.start(rejoin="copy")
    assert answer.code == 1, answer
    assert "No space left" in answer.reason
    assert state_of_files(pair.former.data) == before
    assert pair.left_by_a_copy() == []
    assert pair.set_aside() == []


def test_a_copy_outlives_its_start_and_asks_for_another(
    agent: Agent, cluster: StandInCluster, pair_without_hints: Pair
) -> None:
    pair = pair_without_hints
    with pair.heir.frozen(pair.heir.process("checkpointer")):
        answer = agent.start(timeout=12, rejoin="copy")
        assert answer.code == 1, answer
        assert "joins by itself" in answer.reason
        assert jobs(agent)
        assert cluster.attribute("n1", "pgsql-rejoin") == "copying"
    eventually("the job is over", lambda: jobs(agent), lambda pids: not pids, within=60)
    eventually(
        "another start is asked for",
        lambda: [call for call in cluster.calls() if call[0] == "crm_resource"],
        lambda calls: calls == [["crm_resource", "--cleanup", "--resource=pgsql", "--node=n1"]],
        within=20,
    )
    assert cluster.attribute("n1", "pgsql-rejoin") == ""
    assert agent.start(rejoin="copy").code == 0
    pair.follows()


def test_stop_ends_a_copy_unless_it_cleans_up_after_its_start(agent: Agent, pair_without_hints: Pair) -> None:
    pair = pair_without_hints
    before = state_of_files(pair.former.data)
    with pair.heir.frozen(pair.heir.process("checkpointer")):
        assert agent.start(timeout=12, rejoin="copy").code == 1
        assert agent.stop().code == 0
        assert jobs(agent), "Pacemaker stops what it could not start"
        assert agent.stop().code == 0
        assert jobs(agent) == []
        assert pair.left_by_a_copy() == []
    assert state_of_files(pair.former.data) == before


def test_a_repair_is_cancelled_and_leaves_the_data_as_they_were(
    agent: Agent, cluster: StandInCluster, pair_without_hints: Pair
) -> None:
    pair = pair_without_hints
    before = state_of_files(pair.former.data)
    with ThreadPoolExecutor() as threads:
        with pair.heir.frozen(pair.heir.process("checkpointer")):
            repair = threads.submit(agent.by_hand, "rejoin", "--yes")
            eventually("a copy is made", pair.left_by_a_copy, within=20)
            answer = agent.by_hand("rejoin", "--cancel")
            assert (answer.code, answer.out) == (0, "ended\n")
            assert jobs(agent) == []
            assert pair.left_by_a_copy() == []
        answer = repair.result()
    assert answer.code == 1, answer
    assert "the repair was cancelled" in answer.err
    assert cluster.attribute("n1", "pgsql-rejoin") == "failed: the repair was cancelled"
    assert pair.set_aside() == []
    assert state_of_files(pair.former.data) == before
    assert [call for call in cluster.calls() if call[0] == "crm_resource"] == [], "nobody wants it started"
    assert agent.by_hand("rejoin", "--cancel").out == "no repair is under way\n"


def test_a_killed_job_leaves_nothing_that_works_on(agent: Agent, pair_without_hints: Pair) -> None:
    """Even pg_basebackup itself, which nobody waits for any more, is ended before another one begins."""
    pair = pair_without_hints
    with pair.heir.frozen(pair.heir.process("checkpointer")):
        assert agent.start(timeout=12, rejoin="copy").code == 1
        orphans = jobs(agent)
        for pid in orphans:
            if b"pg_basebackup" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        assert jobs(agent), "pg_basebackup lives on"
    answer = agent.start(rejoin="copy")
    assert answer.code == 0, answer
    pair.follows()
    assert jobs(agent) == []


def test_nothing_starts_from_a_directory_whose_rewind_was_broken_off(agent: Agent, pair: Pair) -> None:
    agent.keep_state("rejoin.state", '{"broken_off": "pg_rewind was broken off"}')
    answer = agent.start(rejoin="rewind")
    assert answer.code == 1, answer
    assert "second time" in answer.reason
    answer = agent.start(rejoin="copy")
    assert answer.code == 0, answer
    pair.follows()
    assert agent.stop().code == 0
    assert agent.start(rejoin="safe").code == 0, "the note is gone"


def test_a_swap_that_was_broken_off_is_completed(agent: Agent, pair: Pair) -> None:
    data = pair.former.data
    new, old = data.with_name("data.pgsql-ra.new"), data.with_name("data.old-20260101T000000")
    as_postgres("pg_basebackup", "-D", new, "-d", f"host=127.0.0.1 port={pair.heir.port} user={USER}")
    shutil.copy(data / "postgresql.conf", new)
    shutil.copy(data / "pg_hba.conf", new)
    data.rename(old)
    agent.keep_state("rejoin.state", f'{{"broken_off": "half way", "swaps": [["{data}", "{new}", "{old}"]]}}')
    answer = agent.start()
    assert answer.code == 0, answer
    pair.follows()


def test_another_database_is_never_replaced(agent: Agent, pair: Pair) -> None:
    shutil.rmtree(pair.former.data)
    as_postgres("initdb", "-D", pair.former.data, "--no-sync", "-A", "peer", "--wal-segsize=1")
    pair.former.configure(f"unix_socket_directories = '{pair.former.socket}'\nlisten_addresses = ''")
    before = state_of_files(pair.former.data)
    answer = agent.start(rejoin="copy")
    assert answer.code == 1, answer
    assert "system identifier" in answer.reason
    assert state_of_files(pair.former.data) == before


def test_the_lock_of_the_manual_way(agent: Agent) -> None:
    agent.parameters["rejoin"] = "manual"
    agent.become_primary()
    lock = agent.database.tmpdir / "PGSQL.lock"
    assert lock.exists()
    unpromoted = {"notify_unpromoted_uname": "n2", "notify_slave_uname": "n2"}
    assert agent.run("demote", meta=unpromoted).code == 0
    assert not agent.database.is_running()
    answer = agent.start()
    assert answer.code == 1, answer
    assert str(lock) in answer.reason
    lock.unlink()
    agent.become_primary()
    assert agent.run("demote", meta={"notify_unpromoted_uname": " ", "notify_slave_uname": " "}).code == 0
    assert not lock.exists()
    assert agent.database.is_standby()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the actions do while a repair of the data directory is under way."""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pgsql_ra.postgres.job import started_at
from tests.lab.waiting import eventually, pause
from tests.server.agent import Agent
from tests.server.database import BINARIES, USER, Database


@contextmanager
def a_repair(agent: Agent, **more: object) -> Iterator[None]:
    """What a repair looks like that has the server down, from outside; this process is the one that does it."""
    with agent.state_file("rejoin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = {"phase": "rewinding", "holds_server": True, **more}
        agent.state_file("rejoin.state").write_text(json.dumps(state))
        yield


def test_a_monitor_waits_for_a_repair_and_says_what_is_then(agent: Agent, standby: Database) -> None:
    with ThreadPoolExecutor() as threads:
        with a_repair(agent):
            standby.stop()
            answer = threads.submit(agent.monitor, timeout=60)
            pause(2)
            assert not answer.done()
            standby.start()
        assert answer.result().code == 0


def test_a_monitor_does_not_wait_for_ever(agent: Agent, standby: Database) -> None:
    with a_repair(agent):
        standby.stop()
        answer = agent.monitor(timeout=10)
        assert answer.code == 7, answer
        assert agent.probe().seconds < answer.seconds, "a probe says what is at once"


def test_a_stop_leaves_alone_what_is_changed_in_place(agent: Agent, standby: Database) -> None:
    """Broken off, it would leave a directory that is good for nothing."""
    with ThreadPoolExecutor() as threads:
        with a_repair(agent, in_place=True):
            standby.stop()
            answer = agent.stop(timeout=10)
            assert answer.code == 0, answer
            state = json.loads(agent.state_file("rejoin.state").read_text())
            assert not state["holds_server"], "what comes next is Pacemaker's to say"
            next_start = threads.submit(agent.start, timeout=60)
            pause(2)
            assert not next_start.done(), "a start waits for it"
        assert next_start.result().code == 0


def test_the_recovery_of_a_crashed_server_is_the_repairs_own(agent: Agent, standby: Database) -> None:
    """Before a rewind it runs in single-user mode: it serves nobody, and the stop after the start that had to wait for
    it leaves it alone.
    """
    standby.stop()
    (standby.data / "standby.signal").unlink()
    command = [str(BINARIES / "postgres"), "--single", "-D", str(standby.data), "template1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, user=USER, cwd="/", start_new_session=True
    ) as server:
        assert server.stdin is not None
        with a_repair(agent, pid=server.pid, begun=started_at(server.pid), spared=True, holds_server=False):
            eventually("it works in the directory", standby.processes, lambda seen: seen == [server.pid], within=10)
            assert agent.monitor(timeout=10).code == 7
            answer = agent.stop(timeout=20)
            assert answer.code == 0, answer
            assert standby.processes() == [server.pid]
        server.stdin.close()
    assert server.returncode == 0
    assert agent.start().code == 0


def test_a_stop_ends_what_is_not(agent: Agent, standby: Database) -> None:
    with a_repair(agent):
        standby.stop()
        answer = agent.stop(timeout=10)
        assert answer.code == 1, "it waited for the end of this very process"
        assert "repair" in answer.reason


def test_a_start_finds_that_a_repair_has_started_the_server(agent: Agent, standby: Database) -> None:
    with ThreadPoolExecutor() as threads:
        with a_repair(agent):
            standby.stop()
            answer = threads.submit(agent.start, timeout=60)
            pause(2)
            standby.start()
        assert answer.result().code == 0


def test_a_state_that_is_damaged_is_not_an_empty_one(agent: Agent, standby: Database) -> None:
    """It may have said that pg_rewind was broken off, which leaves a directory that is good for nothing."""
    assert agent.stop().code == 0
    for text in ("", "{", "[]", '{"swaps": [1]}', '{"broken_off": "\x00'):
        agent.keep_state("rejoin.state", text)
        answer = agent.start()
        assert answer.code == 1, answer
        assert str(agent.state_file("rejoin.state")) in answer.reason
        assert "cannot be read" in answer.reason
        assert not standby.is_running()
        assert agent.stop().code == 0
    agent.state_file("rejoin.state").unlink()
    assert agent.start().code == 0


def test_that_a_rewind_was_broken_off_stays_with_the_data(agent: Agent, standby: Database) -> None:
    """Another machine gets the disk, or the state is lost: the mark beside the data says so all the same."""
    assert agent.stop().code == 0
    agent.keep_state("rejoin.state", '{"phase": ""}')
    mark = standby.data.with_name(f"{standby.data.name}.pgsql-ra.broken-off")
    mark.touch()
    shutil.rmtree(agent.state)
    answer = agent.start()
    assert answer.code == 1, answer
    assert str(mark) in answer.reason
    mark.unlink()
    assert agent.start().code == 0


def test_what_an_earlier_version_has_left_is_taken_over_once(agent: Agent, standby: Database) -> None:
    assert agent.stop().code == 0
    shutil.rmtree(agent.state)
    state, promotion = standby.tmpdir / "rejoin.state", standby.tmpdir / "promotion"
    state.write_text('{"broken_off": "pg_rewind was broken off"}')
    promotion.write_text("a secret\n")
    for path in (state, promotion):
        path.chmod(0o600)
        shutil.chown(path, USER, USER)
    answer = agent.start()
    assert answer.code == 1, answer
    assert str(promotion) in agent.logged()
    assert "secret" not in agent.logged()
    promotion.write_text("4711\n7@n2 0/40 1:\n")
    answer = agent.start()
    assert answer.code == 1, answer
    assert "earlier version" in answer.reason
    assert agent.state_file("promotion").read_text() == "4711\n7@n2 0/40 1:\n"
    # From now on nobody looks there.
    promotion.write_text("4711\n9@n2\n")
    agent.state_file("rejoin.state").unlink()
    standby.data.with_name(f"{standby.data.name}.pgsql-ra.broken-off").unlink(missing_ok=True)
    assert agent.start().code == 0
    assert agent.state_file("promotion").read_text() == "4711\n7@n2 0/40 1:\n"

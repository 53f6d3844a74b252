# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that cannot start: noticed at once, told in the server's own words, with the exit code that fits."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.agent import Agent, Answer
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, Database
from tests.server.stand_in import StandInCluster

AT_ONCE_SECONDS = 10.0
"""What `at once` may take; the action's timeout is 60 s."""
GENERIC, PERM, INSTALLED = 1, 4, 5


def must_fail(agent: Agent, code: int, *words: str) -> Answer:
    """Start, and be told these words, at once, with nothing left behind that runs."""
    answer = agent.start()
    assert answer.code == code, answer
    assert answer.seconds < AT_ONCE_SECONDS, answer
    missing = [word for word in words if word not in answer.reason]
    assert not missing, f"the reason does not say {missing}: {answer}"
    assert agent.database.processes() == []
    assert agent.monitor().code == 7
    return answer


# What is wrong on this node is found before anything is started or written.


@dataclass(frozen=True)
class Damage:
    """Something wrong on this node, and what is to be answered to it."""

    do: Callable[[Database], object]
    code: int
    words: tuple[str, ...]


def remove_pgdata(database: Database) -> None:
    shutil.rmtree(database.data)


def remove_version(database: Database) -> None:
    (database.data / "PG_VERSION").unlink()


def remove_config(database: Database) -> None:
    database.config.unlink()


def open_to_everybody(database: Database) -> None:
    database.data.chmod(0o777)


def give_to_root(database: Database) -> None:
    shutil.chown(database.data, "root", "root")


def pretend_to_be_old(database: Database) -> None:
    (database.data / "PG_VERSION").write_text("9.6\n")


def pretend_to_be_the_last_one_with_recovery_conf(database: Database) -> None:
    (database.data / "PG_VERSION").write_text("11\n")


def add_unknown_setting(database: Database) -> None:
    database.configure("nonsense_setting = on")


def add_wrong_value(database: Database) -> None:
    database.configure("shared_buffers = lots")


def add_broken_line(database: Database) -> None:
    database.configure("this is no setting")


def name_synchronous_standbys(database: Database) -> None:
    (database.data / "postgresql.auto.conf").write_text("synchronous_standby_names = 'somebody'\n")


def overwrite_control_file(database: Database) -> None:
    file = database.data / "global" / "pg_control"
    file.write_bytes(b"\xff" * file.stat().st_size)


def empty_control_file(database: Database) -> None:
    (database.data / "global" / "pg_control").write_bytes(b"")


DAMAGES = {
    "the data directory is missing": Damage(remove_pgdata, INSTALLED, ("no data directory", "pgdata")),
    "PG_VERSION is missing": Damage(remove_version, INSTALLED, ("no PG_VERSION", "pgsql-ra rejoin")),
    "PG_VERSION is too old": Damage(pretend_to_be_old, INSTALLED, ("9.6", "version 12")),
    "PostgreSQL 11": Damage(pretend_to_be_the_last_one_with_recovery_conf, INSTALLED, ("PostgreSQL 11", "version 12")),
    "the configuration is missing": Damage(remove_config, INSTALLED, ("no configuration file", "postgresql.conf")),
    "pgdata is open to everybody": Damage(open_to_everybody, PERM, ("mode 0777", "chmod 0700")),
    "pgdata belongs to root": Damage(give_to_root, PERM, ("does not belong to postgres", "chown -R postgres")),
    # The server says what is wrong in LOG lines; the FATAL one after them says only that something is.
    "an unknown setting": Damage(add_unknown_setting, GENERIC, ("nonsense_setting", "unrecognized")),
    "a wrong value": Damage(add_wrong_value, GENERIC, ("shared_buffers", "lots")),
    "a line that is none": Damage(add_broken_line, GENERIC, ("syntax error", "postgresql.conf")),
    "synchronous_standby_names elsewhere": Damage(name_synchronous_standbys, INSTALLED, ("somebody", "ALTER SYSTEM")),
    "pg_control is overwritten": Damage(overwrite_control_file, GENERIC, ("control",)),
    "pg_control is empty": Damage(empty_control_file, GENERIC, ("pg_control",)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_what_is_wrong_on_this_node_is_told(agent: Agent, database: Database, damage: Damage) -> None:
    damage.do(database)
    must_fail(agent, damage.code, *damage.words)


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("pgctl", "/nonexistent/pg_ctl", ("/nonexistent/pg_ctl", "pgctl")),
        ("pgdba", "nobody_of_this_name", ("nobody_of_this_name", "pgdba")),
    ],
)
def test_what_is_missing_on_this_node_is_told(agent: Agent, parameter: str, value: str, words: tuple[str, ...]) -> None:
    agent.parameters[parameter] = value
    must_fail(agent, INSTALLED, *words)


# What only the server itself finds out, when it is started.


@contextmanager
def taken_port(database: Database) -> Iterator[None]:
    """Somebody else listens where the server is to listen."""
    database.configure("listen_addresses = '127.0.0.1'")
    with socket.create_server(("127.0.0.1", database.port)):
        yield


@contextmanager
def broken_hba(database: Database) -> Iterator[None]:
    """The file of who may connect cannot be read; the server finds that after its log collector has started."""
    (database.data / "pg_hba.conf").write_text("this is no line of pg_hba.conf\n")
    yield


@contextmanager
def broken_label(database: Database) -> Iterator[None]:
    """The startup process finds that it cannot recover, and the postmaster only sees it end."""
    (database.data / "backup_label").write_text("this is no label\n")
    yield


Cause = Callable[[Database], AbstractContextManager[None]]
COLLAPSES: dict[str, tuple[Cause, tuple[str, ...]]] = {
    "port taken": (taken_port, ("could not bind", "Address already in use")),
    "pg_hba.conf broken": (broken_hba, ("could not load", "pg_hba.conf")),
    "label broken": (broken_label, ("invalid data in file", "backup_label")),
}
LOGS = {
    "to a file": ("", ""),
    "to /dev/null": ("/dev/null", ""),
    "by the collector": ("/dev/null", "logging_collector = on"),
}


@pytest.mark.parametrize("log", LOGS.values(), ids=list(LOGS))
@pytest.mark.parametrize("collapse", COLLAPSES.values(), ids=list(COLLAPSES))
def test_a_server_that_ends_at_once_is_heard(
    agent: Agent,
    database: Database,
    collapse: tuple[Cause, tuple[str, ...]],
    log: tuple[str, str],
) -> None:
    cause, words = collapse
    logfile, setting = log
    agent.parameters["logfile"] = logfile or agent.parameters["logfile"]
    database.configure(setting)
    with cause(database):
        must_fail(agent, GENERIC, *words)


def test_a_server_that_is_ready_and_lets_nobody_in_is_no_success(agent: Agent, database: Database) -> None:
    """A standby without this file replays, streams and says that it is ready."""
    (database.data / "global" / "pg_filenode.map").unlink()
    answer = agent.start(timeout=8)
    assert answer.code == GENERIC, answer
    assert 'could not open file "global/pg_filenode.map"' in answer.reason
    assert agent.stop().code == 0
    assert database.processes() == []


def test_a_promotion_does_not_wait_for_that(agent: Agent, database: Database) -> None:
    (database.data / "global" / "pg_filenode.map").unlink()
    promotion = {"notify_promote_uname": "n2"}
    assert agent.run("start", meta=promotion).code == 0
    assert agent.run("monitor", timeout=4).code == GENERIC
    assert agent.stop().code == 0


def test_the_last_words_are_of_this_start(agent: Agent, database: Database) -> None:
    """What an earlier start left in the log is not the reason of this one."""
    with taken_port(database):
        must_fail(agent, GENERIC, "could not bind")
    with broken_hba(database):
        assert "could not bind" not in must_fail(agent, GENERIC, "pg_hba.conf").reason


def test_it_starts_when_the_cause_is_gone(agent: Agent, database: Database) -> None:
    with taken_port(database):
        must_fail(agent, GENERIC)
    assert agent.start().code == 0
    assert agent.monitor().code == 0


def test_a_log_that_cannot_be_written_is_told(agent: Agent, database: Database) -> None:
    """pg_ctl's shell cannot open it, and the server is never run; pg_ctl calls that success."""
    logs = database.root / "logs"
    logs.mkdir()
    agent.parameters["logfile"] = str(logs / "server.log")
    answer = agent.start()
    if answer.code == 0:
        assert (logs / "server.log").stat().st_uid == database.data.stat().st_uid
    else:
        assert "server.log" in answer.reason, answer


def test_another_server_on_a_directory_of_a_longer_name_is_no_sign_of_life(
    agent: Agent, database: Database, make_database: MakeDatabase
) -> None:
    """.../data and .../data2: the second's command line holds the first's path."""
    other = make_database("data2")
    other.start()
    with broken_hba(database):
        answer = agent.start(timeout=20)
        assert answer.code == GENERIC
        assert "pg_hba.conf" in answer.reason, answer
    assert other.is_running()


def test_a_stale_pid_file_with_the_number_of_a_living_process(agent: Agent, database: Database) -> None:
    """After a power cut the number may belong to anybody, to another server of the same user for example."""
    sleeper = subprocess.Popen(["sleep", "3600"], user=USER, group=USER, extra_groups=[], start_new_session=True)
    try:
        pid_file = database.data / "postmaster.pid"
        pid_file.write_text(
            f"{sleeper.pid}\n{database.data}\n1700000000\n{database.port}\n{database.socket}\n\n0 0\nready\n"
        )
        shutil.chown(pid_file, USER, USER)
        answer = agent.start()
        assert sleeper.poll() is None
        assert answer.code == 0, answer
    finally:
        os.kill(sleeper.pid, signal.SIGKILL)
        sleeper.wait()


def test_a_pid_file_of_a_crashed_server(agent: Agent, standby: Database) -> None:
    """Without a reboot: the number was given to another process of the same user."""
    standby.crash()
    sleeper = subprocess.Popen(["sleep", "3600"], user=USER, group=USER, extra_groups=[], start_new_session=True)
    try:
        name_in_pid_file(standby, sleeper.pid)
        answer = agent.start()
        assert sleeper.poll() is None
        assert answer.code == 0, answer
    finally:
        os.kill(sleeper.pid, signal.SIGKILL)
        sleeper.wait()


@pytest.mark.parametrize("memory", ["shared", "separate"])
def test_the_pid_file_of_a_server_in_another_container_stays(agent: Agent, standby: Database, memory: str) -> None:
    """The agent sees no process of it, and another process of the same user under its number."""
    name_in_pid_file(standby, 2)
    before = (standby.data / "postmaster.pid").read_text()
    namespaces = ["--pid", "--fork", "--kill-child", "--mount-proc", *(["--ipc"] if memory == "separate" else [])]
    # The shell is number 1 and what it starts first is number 2.
    script = f'setpriv --reuid={USER} --clear-groups sleep 60 & until [ -e /proc/2/status ]; do :; done; $0 "$@"'
    done = subprocess.run(
        ["unshare", *namespaces, "sh", "-c", script, *agent.command("start")],
        env=agent.environment(20),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert (standby.data / "postmaster.pid").read_text() == before
    assert "in another container" in agent.logged()
    assert standby.is_running()


def name_in_pid_file(database: Database, pid: int) -> None:
    """The file in which the server says its number says this one."""
    path = database.data / "postmaster.pid"
    path.write_text(f"{pid}\n" + path.read_text().partition("\n")[2])


def test_start_without_a_cluster_fails_in_time(agent: Agent, database: Database, cluster: StandInCluster) -> None:
    cluster.go_down()
    answer = agent.start()
    assert answer.code == GENERIC, answer
    assert answer.seconds < AT_ONCE_SECONDS
    assert "Connection to cluster failed" in answer.reason
    assert not database.is_running()


def test_a_wrong_start_changes_no_configuration(agent: Agent, database: Database) -> None:
    """What must not be written before everything was checked."""
    open_to_everybody(database)
    before = database.config.read_text()
    must_fail(agent, PERM)
    assert database.config.read_text() == before
    assert not Path(database.tmpdir).exists()
    assert not (database.data / "standby.signal").exists()

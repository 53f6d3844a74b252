# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose process is one of the server: what another user calls a program, and where that works, keeps no stop from
ending and no probe from being right.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.database import USER, Database, state_of

LONG = "600"


def program(directory: Path, name: str = "postgres") -> Path:
    """A program of this name, which does nothing for long."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    path = directory / name
    shutil.copy(os.path.realpath("/bin/sleep"), path)
    path.chmod(0o755)
    return path


@contextmanager
def running(*command: str | Path, user: str, cwd: Path | str, shows: str = "postgres") -> Iterator[int]:
    """That program, until it is over with it; `shows` is the name of its process when it has begun."""
    process = subprocess.Popen(
        [*map(str, command)], user=user, extra_groups=[], cwd=cwd, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        comm = Path(f"/proc/{process.pid}/comm")
        eventually("it runs", lambda: comm.read_text().strip(), lambda seen: seen == shows, within=10, poll=0.01)
        yield process.pid
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_left_alone(agent: Agent, pid: int) -> None:
    """It is neither taken for the server nor ended."""
    answer = agent.stop(timeout=20)
    assert answer.code == 0, answer
    assert not agent.database.is_running() or agent.database.processes() == [pid]
    assert agent.probe().code == 7
    assert state_of(pid) == "S"


def is_ended(agent: Agent, pid: int) -> None:
    """It is one of the server."""
    assert agent.probe().code == 1
    assert agent.stop(stop_escalate_in_slave="1").code == 0
    assert state_of(pid) in ("", "Z")


@pytest.mark.parametrize("name", ["postgres", "postmaster", "postgresq"])
def test_a_program_of_another_user_that_is_told_the_data_directory(agent: Agent, standby: Database, name: str) -> None:
    path = program(standby.root / "work", name)
    # sleep would not take the option.
    shutil.copy(os.path.realpath("/bin/sh"), path)
    with running(
        path, "-c", f"while :; do sleep {LONG}; done", "-D", standby.data, user="nobody", cwd=path.parent, shows=name
    ) as pid:
        is_left_alone(agent, pid)


def test_the_same_where_there_is_no_data_directory(agent: Agent, database: Database) -> None:
    """Not mounted, or on a node that is no place for the database: nobody owns it, and the name of its user counts."""
    path = program(database.root / "work")
    shutil.copy(os.path.realpath("/bin/sh"), path)
    nowhere = database.root / "nowhere"
    with running(path, "-c", f"while :; do sleep {LONG}; done", "-D", nowhere, user="nobody", cwd=path.parent):
        assert agent.probe(pgdata=str(nowhere)).code == 7
        assert agent.probe(pgdata=str(nowhere), pgdba="nobody_of_this_name").code == 7
        assert agent.stop(pgdata=str(nowhere)).code == 0


def test_a_program_of_another_user_in_the_data_directory(agent: Agent, standby: Database) -> None:
    """It came there when it was another's, or was handed the directory."""
    with running(program(standby.root / "work"), LONG, user="nobody", cwd=standby.data) as pid:
        is_left_alone(agent, pid)


def test_another_program_of_the_database_user_in_the_data_directory(agent: Agent, standby: Database) -> None:
    """A shell, an editor, postgres_exporter: no danger to the data, and not for us to end."""
    path = program(standby.root / "work", "postgres_export")
    with running(path, LONG, user=USER, cwd=standby.data, shows="postgres_export") as pid:
        is_left_alone(agent, pid)


def test_a_start_that_fails_while_another_user_names_the_directory(agent: Agent, database: Database) -> None:
    """It would pass for the server that is just being launched."""
    path = program(database.root / "work")
    shutil.copy(os.path.realpath("/bin/sh"), path)
    (database.data / "pg_hba.conf").write_text("nonsense\n")
    with running(path, "-c", f"while :; do sleep {LONG}; done", "-D", database.data, user="nobody", cwd=path.parent):
        answer = agent.start(timeout=30)
    assert answer.code == 1
    assert "pg_hba.conf" in answer.reason, answer


@pytest.mark.parametrize("fate", ["kept", "replaced", "renamed", "owned by root meanwhile"])
def test_a_server_is_known_whatever_becomes_of_its_program(agent: Agent, database: Database, fate: str) -> None:
    """An upgrade of the package replaces the program under the server that runs it."""
    path = program(database.root / "work")
    with running(path, LONG, user=USER, cwd=database.data) as pid:
        if fate == "replaced":
            path.unlink()
            program(path.parent)
        elif fate == "renamed":
            path.rename(path.with_name("postgres.old"))
        elif fate == "owned by root meanwhile":
            shutil.chown(database.data, "root", "root")
        is_ended(agent, pid)


@pytest.mark.parametrize("directory", ["the same", "another one"])
def test_a_server_in_another_container(agent: Agent, database: Database, directory: str) -> None:
    """There a path means something else, and this directory may have another name."""
    path = program(database.root / "work")
    other = database.root / "elsewhere"
    other.mkdir()
    shutil.chown(other, USER, USER)
    origin, place = (database.data, other) if directory == "the same" else (other, database.data)
    script = 'mount --bind "$1" "$2" && cd "$2" && exec setpriv --reuid="$3" --clear-groups "$4" 600'
    command: list[str | Path] = ["unshare", "--mount", "sh", "-c", script, "sh", origin, place, USER, path]
    with running(*command, user="root", cwd="/") as pid:
        is_ended(agent, pid) if directory == "the same" else is_left_alone(agent, pid)

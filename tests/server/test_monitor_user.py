# SPDX-License-Identifier: GPL-2.0-or-later
"""A database user for monitoring: with a password from the configuration or from .pgpass, and with too few rights."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.processes import all_pids, title_of
from tests.lab.waiting import eventually
from tests.server.agent import Agent, Answer
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, Database
from tests.server.stand_in import StandInCluster
from tests.server.test_session import clone

SECRET = "S3cret-Pa55word"
HOME = "/var/lib/postgresql"
"""The database user's home directory."""


@pytest.fixture
def watched(agent: Agent, database: Database) -> Agent:
    """The agent of a primary that has the users `watch`, who needs a password, and `blind`, who sees little."""
    agent.become_primary()
    database.sql(f"CREATE ROLE watch LOGIN PASSWORD '{SECRET}' IN ROLE pg_monitor")
    database.sql("CREATE ROLE blind LOGIN")
    hba = database.data / "pg_hba.conf"
    hba.write_text(f"local all watch scram-sha-256\nlocal all blind trust\n{hba.read_text()}")
    database.sql("SELECT pg_reload_conf()")
    return agent


class Looker:
    """Whoever reads the command lines of all processes meanwhile, as every user may."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.is_set():
            self.looks += 1
            self.found |= {title for title in map(title_of, all_pids()) if SECRET in title}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look all the time within this context."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def test_a_password_is_seen_nowhere(watched: Agent, database: Database, cluster: StandInCluster) -> None:
    traces = database.root / "traces"
    watched.parameters |= {"monitor_user": "watch", "monitor_password": SECRET}
    watched.parameters |= {"monitor_sql": "SELECT pg_sleep(0.2)", "trace_ra": "1", "trace_dir": str(traces)}
    looker, answers = Looker(), []
    with looker.looking():
        answers += [watched.monitor(), watched.demote(), watched.monitor(), watched.promote(), watched.probe()]
        answers += [watched.run("reload-agent"), watched.run("notify"), watched.run("validate-all")]
        environment = Path(f"/proc/{database.postmaster}/environ").read_bytes()
        answers += [watched.stop(), watched.start()]
    assert [answer.code for answer in answers] == [8, 0, 0, 0, 8, 0, 0, 0, 0, 0]
    assert looker.looks > 10
    assert looker.found == set()
    assert SECRET.encode() not in environment, "the server that the agent started does not inherit it"
    written = [path for path in database.root.rglob("*") if path.is_file() and "pg_authid" not in str(path)]
    told = [path for path in written if path.suffix in (".log", ".conf") or traces in path.parents]
    assert len(told) > 8
    assert [str(path) for path in told if SECRET in path.read_text(errors="replace")] == []
    assert SECRET not in "".join(answer.out + answer.err for answer in answers)
    assert SECRET not in str(cluster.calls())


def test_a_wrong_password_is_told_without_it(watched: Agent) -> None:
    answer = watched.monitor(monitor_user="watch", monitor_password=f"not-{SECRET}")
    assert answer.code in (1, 9), answer
    assert "watch" in answer.reason
    assert SECRET not in answer.err + answer.out + watched.logged()


def at_home(agent: Agent, home: Path) -> Answer:
    """A monitor for which `home` is the database user's home directory."""
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", f'mount --bind "$0" {HOME} && exec "$@"', str(home),
         *agent.command("monitor")],
        env=agent.environment(meta={"interval": "10000"}, monitor_user="watch"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr, 0)


def test_a_password_from_the_file_of_the_database_user(watched: Agent, database: Database) -> None:
    home = database.root / "home"
    home.mkdir()
    shutil.chown(home, USER, USER)
    without = at_home(watched, home)
    assert without.code == 9, without
    assert "no password supplied" in without.reason
    pgpass = home / ".pgpass"
    pgpass.write_text(f"*:*:*:watch:{SECRET}\n")
    pgpass.chmod(0o600)
    shutil.chown(pgpass, USER, USER)
    with_it = at_home(watched, home)
    assert (with_it.code, with_it.err) == (8, "")
    assert SECRET not in watched.logged()


def test_a_user_without_pg_monitor_is_told_and_no_standby_is_lost(
    watched: Agent, database: Database, make_database: MakeDatabase, cluster: StandInCluster
) -> None:
    watched.parameters["rep_mode"] = "async"
    cluster.join("n2")
    cluster.receives_by_socket("n2")
    standby = clone(database, make_database)
    standby.start()
    eventually("it streams", lambda: database.sql("SELECT state FROM pg_stat_replication") == "streaming", within=20)
    assert watched.monitor().code == 8
    assert cluster.attribute("n2", "pgsql-data-status") == "STREAMING|ASYNC"
    writes = cluster.writes()
    assert watched.monitor(monitor_user="blind").code == 8
    assert cluster.writes() == writes, "the standby looks as before"
    assert 'GRANT pg_monitor TO "blind"' in watched.logged()
    standby.stop()

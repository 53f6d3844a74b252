# SPDX-License-Identifier: GPL-2.0-or-later
"""A database, an agent for it and a stand-in for the cluster: fresh for each test, ended with it in any case."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.lab.processes import all_pids, signal_all, title_of
from tests.lab.waiting import eventually
from tests.server.agent import Agent, state_place
from tests.server.database import USER, Database, make_template
from tests.server.stand_in import StandInCluster

MakeDatabase = Callable[[str], Database]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder needs PostgreSQL."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what the agent and the server said."""
    report = yield
    agent = getattr(item, "funcargs", {}).get("agent")
    if report.failed and isinstance(agent, Agent):
        report.sections.append(("the agent's log", agent.logged()))
        if agent.database.log.exists():
            report.sections.append(("the server's log", agent.database.log.read_text(errors="replace")[-8000:]))
    return report


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that every user may enter (pytest's own are private); in memory, because copying is half of it."""
    with tempfile.TemporaryDirectory(prefix="pgsql-ra-server.", dir="/dev/shm") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def template(place: Path) -> Path:
    """A data directory to copy."""
    return make_template(place)


@pytest.fixture
def root(place: Path) -> Iterator[Path]:
    """The directory of one test."""
    root = Path(tempfile.mkdtemp(prefix="t.", dir=place))
    root.chmod(0o755)
    shutil.chown(root, USER)
    yield root
    eventually("nothing works in this directory", lambda: end_all_in(root), lambda left: not left, within=10, poll=0.02)
    shutil.rmtree(root)
    for state in root.parent.parent.glob(state_place(root, "*").name):
        shutil.rmtree(state)


def end_all_in(root: Path) -> list[int]:
    """End what the agent has left at work behind an action (after a promotion, a repair); who was still there."""
    found = [pid for pid in all_pids() if f"{root}/" in title_of(pid)]
    signal_all(found, signal.SIGKILL)
    return found


@pytest.fixture
def make_database(root: Path, template: Path) -> Iterator[MakeDatabase]:
    """Make databases that do not run yet: `make_database("data")`."""
    made: list[Database] = []

    def make(name: str) -> Database:
        made.append(Database(root, template, name))
        return made[-1]

    yield make
    for database in made:
        database.clear()


@pytest.fixture
def database(make_database: MakeDatabase) -> Database:
    """A database that does not run."""
    return make_database("data")


@pytest.fixture
def cluster(root: Path) -> StandInCluster:
    """The stand-in for the cluster."""
    return StandInCluster(root / "cluster")


@pytest.fixture
def agent(database: Database, cluster: StandInCluster, root: Path) -> Agent:
    """The agent, configured for the database in sync mode."""
    return Agent(database, cluster, root / "agent.log")


@pytest.fixture
def standby(agent: Agent) -> Database:
    """The database, running as a standby."""
    agent.become_standby()
    return agent.database


@pytest.fixture
def primary(agent: Agent) -> Database:
    """The database, running as the primary."""
    agent.become_primary()
    return agent.database

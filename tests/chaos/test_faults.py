# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults that need parts of the lab of their own do what they say, and are healed by what heals them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.kinds import Kind
from tests.chaos.sampler import Sampler
from tests.chaos.stage import Stage
from tests.cluster.conftest import INSTALLED_AGENT
from tests.cluster.support import SYNC, data_status
from tests.lab import Client, Lab, LabError, Node, eventually
from tests.lab.layout import PGDATA, PGHOME, SOCKETDIR
from tests.lab.network import CLIENT
from tests.lab.processes import run

pytestmark = pytest.mark.cluster
HOUR = 3600


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes with disks of a size and clocks of their own."""
    own = {"disk_megabytes": 512, "own_clocks": True, "true_power_cuts": True}
    with Lab(f"faults{os.getpid()}", 2, agent=INSTALLED_AGENT, **own) as lab:  # type: ignore[arg-type]
        lab.configure()
        lab.wait_healthy()
        yield lab


def test_a_late_cable_makes_every_answer_late(lab: Lab) -> None:
    network = lab.network
    ping = [*network.enter(CLIENT), "ping", "-q", "-c", "1", "-W", "2", lab.nodes[0].address]

    def milliseconds() -> float:
        return float(run(ping).stdout.rsplit("/", maxsplit=3)[1])

    network.delay(CLIENT, 200)
    eventually("answers are late", milliseconds, lambda now: 200 <= now < 400, within=10)
    network.set_port(CLIENT, up=False)
    assert run(ping, check=False).returncode, "a late cable can be cut"
    network.set_port(CLIENT, up=True)
    network.delay(CLIENT, 0)
    eventually("answers are quick again", milliseconds, lambda now: now < 100, within=10)


def test_a_full_disk_has_no_room_until_it_is_freed(lab: Lab) -> None:
    node = lab.standbys()[0]
    write = ["dd", "if=/dev/zero", f"of={PGHOME}/one", "bs=4096", "count=1", "status=none"]
    node.fill_disk()
    assert "No space left" in node.run(write, check=False).stderr
    node.free_disk()
    assert node.run(write).returncode == 0


def test_the_clock_of_one_server_jumps(lab: Lab) -> None:
    node, other = lab.primary(), lab.standbys()[0]

    def seconds_ahead() -> float:
        now = "SELECT extract(epoch FROM now())"
        return float(node.sql(now)) - float(other.sql(now))

    node.shift_clock(HOUR)
    eventually("the clock has jumped", seconds_ahead, lambda now: now > HOUR - 60, within=10)
    node.shift_clock(0)
    eventually("the clocks agree", seconds_ahead, lambda now: now < 60, within=10)


@pytest.fixture
def stage(lab: Lab, tmp_path: Path) -> Iterator[Stage]:
    """A stage without a schedule; its diary says what the faults did."""
    lab.wait_healthy(within=120)
    eventually("the standby streams", lambda: receivers(lab.primary()), lambda count: count == "1", within=60)
    stage = Stage(lab, Sampler(lab, tmp_path / "samples"), tmp_path / "diary", lab.client)
    yield stage
    stage.end_background()
    lab.configure("property maintenance-mode=false")


@contextmanager
def unattended(lab: Lab) -> Iterator[None]:
    """The cluster leaves the servers alone: what is tried here is the fault, not what the agent does about it."""
    lab.configure("property maintenance-mode=true")
    lab.nodes[0].run(["crm_resource", "--wait"])
    yield
    lab.configure("property maintenance-mode=false")


@contextmanager
def fault(stage: Stage, kind: Kind, node: Node, chance: float = 0.0) -> Iterator[None]:
    """A fault is on, and healed afterwards."""
    FAULTS[kind].inject(stage, [node], chance)
    yield
    FAULTS[kind].heal(stage, [node], chance)


def ask(node: Node) -> str:
    """What psql says to a question."""
    return node.run(["psql", "-XAtqh", str(SOCKETDIR), "-U", "postgres", "-c", "SELECT 1"], check=False).stderr


def receivers(node: Node) -> str:
    """The standbys that stream from a primary."""
    return node.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name ~ '^node'")


def test_nobody_gets_a_connection(lab: Lab, stage: Stage) -> None:
    node = lab.primary()
    with unattended(lab), fault(stage, Kind.CONNECTIONS_EXHAUSTED, node):
        assert "too many clients" in ask(node)
    eventually("connections are free", lambda: ask(node), lambda said: not said, within=10)


@pytest.mark.parametrize(("chance", "agent_too"), [(0.0, False), (0.9, True)])
def test_pg_hba_keeps_the_standby_out(lab: Lab, stage: Stage, chance: float, agent_too: bool) -> None:
    node = lab.primary()
    with unattended(lab), fault(stage, Kind.WRONG_HBA, node, chance):
        log = lab.standbys()[0]
        eventually(
            "the standby is kept out",
            lambda: log.log_text("postgresql/postgresql.log"),
            lambda text: "pg_hba.conf rejects replication connection" in text[-3000:],
            within=20,
        )
        assert ("pg_hba.conf rejects" in ask(node)) is agent_too
    eventually("the standby streams", lambda: receivers(node), lambda count: count == "1", within=30)


def test_a_server_does_not_start_with_its_configuration(lab: Lab, stage: Stage) -> None:
    node = lab.standbys()[0]
    with unattended(lab), fault(stage, Kind.WRONG_CONFIGURATION, node, 0.0):
        start = ["su", "postgres", "-c", f"{lab.settings.postgres_bin}/postgres -D {PGDATA} -C port"]
        assert "shared_buffers" in node.run(start, check=False).stderr
    assert node.run(start).stdout == "5432\n"


@pytest.mark.parametrize("chance", [0.0, 0.9])
def test_a_standby_receives_and_does_not_replay(lab: Lab, stage: Stage, chance: float) -> None:
    node = lab.standbys()[0]
    behind = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
    with unattended(lab), fault(stage, Kind.REPLAY_DELAY, node, chance):
        lab.primary().sql("CREATE TABLE IF NOT EXISTS replayed (number int); INSERT INTO replayed VALUES (1)")
        eventually("it is behind", lambda: node.sql(behind), lambda answer: answer == "t", within=10)
    eventually("it catches up", lambda: node.sql(behind), lambda answer: answer == "f", within=20)


def test_only_the_port_of_the_database_is_cut(lab: Lab, stage: Stage) -> None:
    primary, standby = lab.primary(), lab.standbys()[0]
    lsn = "SELECT pg_last_wal_receive_lsn()"
    with unattended(lab), fault(stage, Kind.DATABASE_PORT_CUT, standby):
        before = standby.sql(lsn)
        primary.sql("SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'x', 'y')")
        pings = ["ping", "-q", "-c", "1", "-W", "2", primary.address]
        assert standby.run(pings, check=False).returncode == 0, "the rest of the network lives"
        assert set(lab.status().online) == {node.name for node in lab.nodes}
        assert standby.sql(lsn) == before
    eventually("WAL comes through", lambda: standby.sql(lsn), lambda now: now != before, within=90)


def test_a_stranger_has_the_name_of_a_node(lab: Lab, stage: Stage) -> None:
    standby = lab.standbys()[0]
    rows = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{standby.name}'"  # noqa: S608 a name of the lab
    named = f"{rows} AND client_addr <> '{standby.address}'"
    with unattended(lab), fault(stage, Kind.FOREIGN_NAME, standby):
        eventually("it is there", lambda: lab.primary().sql(named), lambda count: count == "1", within=15)
    eventually("it is gone", lambda: lab.primary().sql(named), lambda count: count == "0", within=15)


def test_a_frozen_disk_lets_nobody_write_and_does_not_outlive_the_power(lab: Lab, stage: Stage) -> None:
    node = lab.standbys()[0]
    with unattended(lab), fault(stage, Kind.FROZEN_FILESYSTEM, node):
        touch = ["timeout", "-s", "KILL", "1", "touch", f"{PGHOME}/touched"]
        with pytest.raises(LabError, match="no end"):
            node.run(touch, timeout=3)
    eventually("it can be written", lambda: node.run(["touch", f"{PGHOME}/touched"]).returncode == 0, within=10)
    node.freeze_disk()
    node.power_cut()
    node.boot()
    lab.wait_healthy()


def test_cancelled_commits_are_told_apart_from_acknowledged_ones(lab: Lab, stage: Stage) -> None:
    lab.wait("the standby is synchronous", lambda seen: SYNC in map(data_status, seen.nodes))
    standby = lab.standbys()[0]
    clients: list[Client] = []
    stage.add_client = lambda name, **how: clients.append(lab.client(name, **how))
    with unattended(lab), fault(stage, Kind.CANCELLED_COMMITS, standby):
        eventually(
            "a commit was cancelled",
            lambda: [line["outcome"] for line in clients[0].lines()],
            lambda outcomes: "doubtful" in outcomes,
            within=15,
        )
        assert not clients[0].acknowledged()
    clients[0].wait_for(1)
    clients[0].stop()


def test_a_disk_goes_back_to_an_earlier_moment(lab: Lab, stage: Stage) -> None:
    node = lab.standbys()[0]
    FAULTS[Kind.OLD_DISK].inject(stage, [node], 0.0)
    node.run(["sh", "-c", f"echo > {PGHOME}/later; sync {PGHOME}/later"])
    FAULTS[Kind.OLD_DISK].heal(stage, [node], 0.0)
    lab.wait_healthy()
    assert node.run(["test", "-e", f"{PGHOME}/later"], check=False).returncode, "it came after the backup"


def test_a_lab_without_these_parts_says_so() -> None:
    lab = Lab("nothing", 2)
    with pytest.raises(LabError, match="have no size"):
        lab.node("node1").fill_disk()
    with pytest.raises(LabError, match="the host's clock"):
        lab.node("node1").shift_clock(1)

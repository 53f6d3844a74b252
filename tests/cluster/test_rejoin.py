# SPDX-License-Identifier: GPL-2.0-or-later
"""A former primary, or a standby that was away too long, comes back by itself: as it is, rewound, or copied anew."""

import signal
from functools import partial
from itertools import product
from pathlib import Path

from tests.cluster.conftest import Cluster
from tests.cluster.support import is_redundant, start, synchronous_standby, writing
from tests.lab import Configuration, Lab
from tests.lab.cib_view import Status
from tests.lab.crm import CLONE
from tests.lab.layout import PGDATA, PGHOME, PROJECT, TMPDIR
from tests.lab.node import FILLER, Node
from tests.lab.processes import Identity, name_of, parent_of
from tests.lab.waiting import eventually

COMMAND = str(PROJECT / ".build" / "bin" / "pgsql-ra")
SPACE, WAL = PGHOME / "space", PGHOME / "wal"


def walreceivers(lab: Lab) -> list[Identity]:
    """The processes that receive WAL, on all nodes."""
    found = []
    for node in lab.nodes:
        for pid in node.postgres_processes():
            if b"walreceiver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(Identity.of(pid))
    return found


LOST = "CREATE TABLE lost AS SELECT repeat('x', 1000) FROM generate_series(1, 24000)"


def diverge(lab: Lab, primary: Node) -> None:
    """The primary holds WAL that no standby has received, and its server has crashed.

    Nobody was told that it is committed: what the receivers' sockets can hold is less than this.
    """
    receivers = walreceivers(lab)
    for receiver in receivers:
        receiver.signal(signal.SIGSTOP)
    primary.sql(f"SET synchronous_commit = local; {LOST}", timeout=60)
    primary.crash_postgres()
    for receiver in receivers:
        receiver.signal(signal.SIGCONT)


def took_over(former: str, seen: Status) -> bool:
    """Another node is the primary and has the virtual address."""
    return seen.promoted not in (None, former) and seen.location() == seen.promoted


def test_a_primary_that_crashed_and_diverged_is_rewound(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab, Configuration(parameters={"rejoin": "rewind", "keep_lost_wal": "true"}))
    victim = lab.primary()
    with writing(lab):
        diverge(lab, victim)
        lab.wait("another node took over", partial(took_over, victim.name), within=60)
        lab.wait("redundant again, nothing done by hand", is_redundant, within=60)
        assert "1 transactions that the primary does not have" in victim.log_text()
        assert victim.sql("SELECT count(*) FROM pg_class WHERE relname = 'lost'") == "0"
        assert victim.run(["sh", "-c", f"ls {TMPDIR}/lost-wal-*/0*"]).stdout.split()
        # The same again for the other one, which crashes once more before it is back.
        second = lab.primary()
        diverge(lab, second)
        lab.wait("the first one took over", partial(took_over, second.name), within=60)
        second.crash_postgres()
        lab.wait("redundant again", is_redundant, within=90)
    assert "report it as a BUG" not in victim.log_text() + second.log_text()


def test_a_primary_that_lost_power_returns(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab, Configuration(parameters={"rejoin": "rewind"}))
    victim = lab.primary()
    with writing(lab):
        victim.power_cut()
        lab.wait("another node took over", partial(took_over, victim.name), within=60)
        victim.boot()
        lab.wait("redundant again", is_redundant, within=90)
    # A crash without load: nothing is lost, so nothing is rewound.
    idle = lab.primary()
    rewound = idle.log_text().count("rewinding")
    idle.crash_postgres()
    lab.wait("the other one took over", partial(took_over, idle.name), within=60)
    lab.wait("redundant again", is_redundant, within=60)
    assert idle.log_text().count("rewinding") == rewound


def test_it_is_refused_until_somebody_says_so(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab)
    victim = lab.primary()
    with writing(lab):
        diverge(lab, victim)
        lab.wait("another node took over", partial(took_over, victim.name), within=60)
        lab.wait("its start fails and says why", partial(is_refused, victim.name), within=60)
        shown = victim.run([COMMAND, "rejoin", "--dry-run"]).stdout
        assert "to do:  pg_rewind" in shown
        assert "1 transactions that the primary does not have" in shown
        assert victim.postgres_processes() == [], "nothing was done"
        victim.run([COMMAND, "rejoin", "--yes"], timeout=120)
        lab.wait("redundant again", is_redundant, within=60)
        assert "follows as it is" in victim.run([COMMAND, "rejoin", "--yes"]).stdout
    assert not [failure for failure in lab.status().failures if "start" in failure.operation]


def is_refused(node: str, seen: Status) -> bool:
    """The resource could not be started there and is stopped; the reason is WAL that the cluster does not have."""
    if seen.node(node).role != "Stopped":
        return False
    starts = [failure for failure in seen.failures if failure.node == node and "start" in failure.operation]
    return any("are not in the cluster" in failure.reason for failure in starts)


def test_ten_moves_in_a_row(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab)
    with writing(lab):
        for _ in range(10):
            former = lab.primary()
            former.run(["crm_resource", "--ban", "--promoted", f"--resource={CLONE}", f"--node={former.name}"])
            lab.wait("the primary moved", partial(took_over, former.name), within=60)
            former.run(["crm_resource", "--clear", f"--resource={CLONE}"])
            seen = lab.wait("the former primary follows", is_redundant, within=60)
            assert not seen.failures
    for node in lab.nodes:
        assert "did not receive the shutdown checkpoint" not in node.log_text()
        assert "repair of the data directory" not in node.log_text()


def test_all_nodes_go_down_and_come_up_in_every_order(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    start(lab, Configuration(parameters={"rejoin": "copy"}))
    for number, (first_down, first_up) in enumerate(product((True, False), repeat=2)):
        with writing(lab, f"writer{number}"):
            former = lab.primary()
            others = [node for node in lab.nodes if node.name != former.name]
            for node in (former, *others) if first_down else (*others, former):
                node.power_cut()
            for node in (former, *others) if first_up else (*others, former):
                node.boot()
            lab.wait("redundant again", is_redundant, within=120)


def test_without_wal_log_hints_it_is_refused_or_copied_when_there_is_room(cluster: Cluster) -> None:
    lab = cluster(nodes=2, disk_megabytes=700)
    for node in lab.nodes:
        node.run(["sh", "-c", f"echo 'wal_log_hints = off' >> {PGDATA}/postgresql.conf"])
    start(lab, Configuration(parameters={"rejoin": "rewind"}))
    victim = lab.primary()
    with writing(lab):
        diverge(lab, victim)
        lab.wait("another node took over", partial(took_over, victim.name), within=60)
        seen = lab.wait("its start fails", lambda now: now.node(victim.name).role == "Stopped", within=60)
        lab.wait("and says why", lambda now: any("wal_log_hints" in bad.reason for bad in now.failures), within=60)

        leave_free(victim, megabytes=10)
        survivor = lab.node(seen.promoted or "")
        survivor.run(["crm_resource", "--resource=pgsql", "--set-parameter=rejoin", "--parameter-value=copy"])
        survivor.run(["crm_resource", "--cleanup", "--resource=pgsql", f"--node={victim.name}"])
        lab.wait(
            "the copy does not fit",
            lambda now: (
                now.node(victim.name).role == "Stopped"
                and any("No space left on device" in bad.reason for bad in now.failures)
            ),
            within=90,
        )
        assert victim.run(["test", "-e", f"{PGDATA}/PG_VERSION"]).returncode == 0, "the data are where they were"
        victim.free_disk()
        survivor.run(["crm_resource", "--cleanup", "--resource=pgsql", f"--node={victim.name}"])
        lab.wait("redundant again", is_redundant, within=120)
        (old,) = victim.run(["sh", "-c", f"ls -d {PGDATA}.old-*"]).stdout.split()
        assert victim.run(["test", "-e", f"{old}/PG_VERSION"]).returncode == 0, "the old data are kept"


def leave_free(node: Node, megabytes: int) -> None:
    """So much is free on the node's database disk."""
    free, block = map(int, node.run(["stat", "--file-system", "--format=%a %S", str(PGHOME)]).stdout.split())
    node.run(["fallocate", "--length", str(free * block - (megabytes << 20)), str(FILLER)])


def test_a_standby_whose_wal_is_gone_is_copied_anew(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    seen = start(lab, Configuration(parameters={"rejoin": "copy", "keep_old_data": "1"}))
    primary, away = lab.primary(), lab.node(seen.unpromoted[0])
    primary.sql("ALTER SYSTEM SET wal_keep_size = 0")
    primary.sql("SELECT pg_reload_conf()")
    for node in lab.nodes:
        node.run(["install", "-d", "-o", "postgres", "-m", "700", str(SPACE)])
    primary.sql(f"CREATE TABLESPACE space LOCATION '{SPACE}'")
    primary.sql("CREATE TABLE far (n int) TABLESPACE space")
    primary.sql("INSERT INTO far SELECT generate_series(1, 1000)")
    away.standby()
    lab.wait("it is stopped", lambda now: now.node(away.name).role == "Stopped")
    away.run(["sh", "-c", f"mv {PGDATA}/pg_wal {WAL} && ln -s {WAL} {PGDATA}/pg_wal"])
    with writing(lab):
        primary.sql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 200000)", timeout=60)
        for _ in range(2):
            primary.sql("SELECT pg_switch_wal()")
            primary.sql("CHECKPOINT", timeout=60)
        away.unstandby()
        # The process that makes the copy is killed while it copies: another one takes its place.
        copying = eventually("a copy is made", lambda: processes_of(away, "pg_basebackup"), within=60, poll=0.01)
        _signal_parents(copying)
        lab.wait("redundant again", is_redundant, within=120)
    assert "was killed (signal 9)" in away.log_text()
    assert away.sql("SELECT count(*) FROM big") == "200000"
    assert away.sql("SELECT count(*) FROM far") == "1000"
    assert away.run(["readlink", f"{PGDATA}/pg_wal"]).stdout.strip() == str(WAL)
    (old,) = away.run(["sh", "-c", f"ls -d {PGDATA}.old-*"]).stdout.split()
    assert away.run(["sh", "-c", f"readlink {old}/pg_wal"]).stdout.startswith(f"{WAL}.old-")
    links = away.run(["sh", "-c", f"readlink {PGDATA}/pg_tblspc/* {old}/pg_tblspc/*"]).stdout.split()
    assert links[0] == str(SPACE)
    assert links[1].startswith(f"{SPACE}/old-")
    assert not lab.status().failures, "the standby ran meanwhile, so nothing failed"
    lab.wait("it is not shown any more", lambda now: "pgsql-rejoin" not in now.node(away.name).transient)


def test_a_standby_that_lost_its_data_is_filled_again(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    seen = start(lab, Configuration(parameters={"rejoin": "copy"}))
    victim = lab.node(synchronous_standby(seen) or "")
    with writing(lab):
        victim.crash_postgres()
        victim.run(["sh", "-c", f"rm -rf {PGDATA}/* {PGDATA}/.[!.]*"])
        lab.wait("it is seen to be down", lambda now: not is_redundant(now), within=30)
        lab.wait("redundant again, nothing done by hand", is_redundant, within=60)
        assert "is empty" in victim.log_text()
        assert not [failure for failure in lab.status().failures if "start" in failure.operation]

        victim.run(["sh", "-c", f"rm -rf {PGDATA}"])
        for node in lab.nodes:
            node.power_cut()
        for node in lab.nodes:
            node.boot()
        lab.wait("redundant again, although there was no primary to copy at first", is_redundant, within=120)
    assert "waiting for a primary to copy" in victim.log_text()
    assert victim.run(["sh", "-c", f"ls -d {PGDATA}.*"], check=False).stdout == "", "there was nothing to keep"


def processes_of(node: Node, name: str) -> list[int]:
    """The node's processes of this name."""
    return [pid for pid in node.processes() if name_of(pid).startswith(name[:15])]


def _signal_parents(pids: list[int]) -> None:
    for parent in {parent_of(pid) for pid in pids} - set(pids):
        Identity.of(parent).signal(signal.SIGKILL)

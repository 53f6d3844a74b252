# SPDX-License-Identifier: GPL-2.0-or-later
"""Every superuser of the database can act as the server's user (COPY ... TO PROGRAM), and the agent is root. Whatever
that user puts where the agent looks, nothing of root's changes, nothing of root's is shown, and every action answers.
"""

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.waiting import eventually
from tests.server.agent import Agent, Answer
from tests.server.database import USER, Database
from tests.server.stand_in import StandInCluster

SECRET = "root:$6$no-one-reads-this"
GENERIC, PERM, INSTALLED, NOT_RUNNING, PROMOTED, FAILED_PROMOTED = 1, 4, 5, 7, 8, 9
REFUSALS = (GENERIC, PERM, INSTALLED)


@pytest.fixture
def roots() -> Iterator[Path]:
    """What is root's: a directory that everybody may enter, with a secret, a program, and an empty directory."""
    with tempfile.TemporaryDirectory(prefix="pgsql-ra-roots.", dir="/dev/shm") as name:
        roots = Path(name)
        roots.chmod(0o755)
        for file, mode in (("shadow", 0o600), ("program", 0o755)):
            (roots / file).write_text(f"{SECRET}\n1@{SECRET}\n")
            (roots / file).chmod(mode)
        for folder, mode in (("empty", 0o755), ("private", 0o700)):
            (roots / folder).mkdir(mode=mode)
            (roots / folder).chmod(mode)
        (roots / "private" / "key").write_text(SECRET)
        yield roots


def everything(directory: Path) -> dict[str, tuple[int, int, int, int, str]]:
    """All that is in it and itself: owner, group, mode, time of change, and what it holds."""

    def describe(path: Path) -> tuple[int, int, int, int, str]:
        facts = path.lstat()
        content = path.read_text() if stat.S_ISREG(facts.st_mode) else ""
        return facts.st_uid, facts.st_gid, facts.st_mode, facts.st_mtime_ns, content

    return {str(path): describe(path) for path in (directory, *sorted(directory.rglob("*")))}


@contextmanager
def untouched(agent: Agent, roots: Path) -> Iterator[None]:
    """Within it nothing of root's changes, and what only root may read is told nowhere."""
    before = everything(roots)
    yield
    assert everything(roots) == before
    told = agent.logged() + (agent.cluster.path / "state.json").read_text() + (agent.cluster.path / "calls").read_text()
    assert SECRET not in told


def act_as(user: str, script: str, **names: Path) -> None:
    """What the attacker does."""
    subprocess.run(
        ["sh", "-ec", script],
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=[],
        check=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", **{name: str(path) for name, path in names.items()}},
    )


def trap(agent: Agent, roots: Path, script: str) -> None:
    """As the database user, with short names for the places."""
    database = agent.database
    act_as(USER, script, D=database.data, T=database.tmpdir, L=database.log, S=database.socket, R=roots)


IN_TMPDIR = (
    "recovery.conf recovery.conf.new rep_mode.conf promotion PGSQL.lock primary.pass rejoin.state rejoin.state.new"
    " rejoin.state.lock rejoin.lock rejoin.service rejoin.files rejoin.files.new leaving lost-wal-1-0000000000000000"
)
OF_DATA = "standby.signal recovery.signal backup_label backup_label.old postmaster.pid"


def each(names: str, what: str) -> str:
    """A script that puts the same in the place of each of these in tmpdir or the data directory."""
    return f'mkdir -p -m 700 "$T"; for name in {names}; do rm -rf "$name"; {what} "$name"; done'


def in_tmpdir(what: str) -> str:
    """The same for the files of tmpdir."""
    return f'mkdir -p -m 700 "$T"; cd "$T"; {each(IN_TMPDIR, what)}'


def in_data(what: str, names: str = OF_DATA) -> str:
    """The same for files of the data directory."""
    return f'cd "$D"; {each(names, what)}'


TRAPS = {
    "tmpdir is root's directory": 'rm -rf "$T"; ln -s "$R/empty" "$T"',
    "tmpdir is root's private directory": 'rm -rf "$T"; ln -s "$R/private" "$T"',
    "tmpdir leads to where nothing is": 'rm -rf "$T"; ln -s "$R/new" "$T"',
    "tmpdir is a file": 'rm -rf "$T"; touch "$T"',
    "the files of tmpdir are root's secret": in_tmpdir('ln -s "$R/shadow"'),
    "the files of tmpdir are root's program": in_tmpdir('ln -s "$R/program"'),
    "the files of tmpdir would be root's": in_tmpdir('ln -s "$R/new"'),
    "the files of tmpdir are root's directory": in_tmpdir('ln -s "$R/empty"'),
    "the files of tmpdir are pipes": in_tmpdir("mkfifo"),
    "the files of tmpdir are directories": in_tmpdir("mkdir"),
    "the files of tmpdir are the agent's memory": in_tmpdir("ln -s /proc/self/mem"),
    "files of the data are root's secret": in_data('ln -s "$R/shadow"'),
    "files of the data would be root's": in_data('ln -s "$R/new"'),
    "files of the data are pipes": in_data("mkfifo"),
    "files of the data are the agent's environment": in_data("ln -s /proc/self/environ"),
    "the version is root's secret": in_data('ln -s "$R/shadow"', "PG_VERSION"),
    "the version is a pipe": in_data("mkfifo", "PG_VERSION"),
    "the WAL is root's directory": in_data('ln -s "$R/private"', "pg_wal"),
    "the tablespaces are root's directory": in_data('ln -s "$R"', "pg_tblspc"),
    "the control file is root's secret": in_data('ln -s "$R/shadow"', "global/pg_control"),
    "the control file is a pipe": in_data("mkfifo", "global/pg_control"),
    "the configuration is root's secret": in_data('ln -s "$R/shadow"', "postgresql.conf"),
    "the configuration is root's program": in_data('ln -s "$R/program"', "postgresql.conf"),
    "the configuration is a pipe": in_data("mkfifo", "postgresql.conf"),
    "the log is root's secret": 'rm -rf "$L"; ln -s "$R/shadow" "$L"',
    "the log is root's program": 'rm -rf "$L"; ln -s "$R/program" "$L"',
    "the log would be root's": 'rm -rf "$L"; ln -s "$R/new" "$L"',
    "the log is a pipe": 'rm -rf "$L"; mkfifo "$L"',
    "the socket's directory is root's": 'rm -rf "$S"; ln -s "$R/empty" "$S"',
    "the socket's directory would be root's": 'rm -rf "$S"; ln -s "$R/new" "$S"',
    "what lies beside the data is root's": (
        'ln -s "$R/shadow" "$D.pgsql-ra.broken-off"; ln -s "$R/empty" "$D.pgsql-ra.new"'
    ),
    "what would lie beside the data is root's": (
        'ln -s "$R/new" "$D.pgsql-ra.broken-off"; ln -s "$R/new2" "$D.pgsql-ra.new"'
    ),
    "the data are root's directory": 'mv "$D" "$D.real"; ln -s "$R" "$D"',
    "the data are root's private directory": 'mv "$D" "$D.real"; ln -s "$R/private" "$D"',
    "the data would be root's": 'mv "$D" "$D.real"; ln -s "$R/new" "$D"',
}


@pytest.mark.parametrize("script", TRAPS.values(), ids=TRAPS.keys())
def test_what_is_put_there_before_a_start(agent: Agent, roots: Path, script: str) -> None:
    with untouched(agent, roots):
        trap(agent, roots, script)
        answers = {
            "validate-all": agent.run("validate-all", OCF_CHECK_LEVEL="10"),
            "probe": agent.probe(),
            "start": agent.start(timeout=20),
            "monitor": agent.monitor(timeout=20, silent=False),
            "stop": agent.stop(timeout=20),
        }
        told(answers)
    assert answers["probe"].code == NOT_RUNNING, answers["probe"]
    assert answers["start"].code in (0, *REFUSALS), answers["start"]
    assert answers["monitor"].code == (0 if answers["start"].code == 0 else NOT_RUNNING), answers["monitor"]
    assert answers["stop"].code == 0, answers["stop"]
    assert not agent.database.is_running()


@pytest.mark.parametrize("script", TRAPS.values(), ids=TRAPS.keys())
def test_what_is_put_there_while_it_runs(agent: Agent, roots: Path, script: str) -> None:
    agent.become_standby()
    heard = {"notify_type": "pre", "notify_operation": "promote", "notify_promote_uname": "n2"}
    with untouched(agent, roots):
        trap(agent, roots, script)
        answers = {
            "reload-agent": agent.run("reload-agent", timeout=20),
            "monitor": agent.monitor(timeout=20, silent=False),
            "notify": agent.run("notify", timeout=20, meta={**heard, "notify_unpromoted_uname": "n1 n2"}),
            "promote": agent.run("promote", timeout=20),
            "demote": agent.run("demote", timeout=20),
            "stop": agent.stop(timeout=20),
        }
        told(answers)
    # (A server that cannot write its WAL any more has ended.)
    assert answers["monitor"].code in (0, GENERIC, NOT_RUNNING, FAILED_PROMOTED), answers["monitor"]
    assert answers["promote"].code in (0, *REFUSALS), answers["promote"]
    assert answers["demote"].code in (0, *REFUSALS), answers["demote"]
    assert answers["stop"].code == 0, answers["stop"]
    assert not agent.database.is_running()


def told(answers: dict[str, Answer]) -> None:
    """None of what they say is root's, and none took all of its time."""
    for action, answer in answers.items():
        assert SECRET not in answer.out + answer.err, f"{action}: {answer}"
        assert answer.seconds < 20, f"{action}: {answer}"


def test_a_forged_job_renames_nothing_and_ends_nobody(agent: Agent, database: Database, roots: Path) -> None:
    """What earlier versions believed: a state in tmpdir, and a lock there that somebody holds."""
    agent.become_standby()
    assert agent.stop().code == 0
    shutil.rmtree(agent.state)
    victim = subprocess.Popen(["sleep", "600"], start_new_session=True)
    evil = database.root / "evil"
    state = {
        "pid": victim.pid,
        "begun": int(Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[19]),
        "swaps": [[str(roots / "ld.so.preload"), str(evil), str(database.root / "old")]],
        "broken_off": "",
        "phase": SECRET,
    }
    script = """
    echo attacker > "$E"; cd "$T"; rm -rf rejoin.*; printf %s "$J" > rejoin.state
    exec flock rejoin.lock sleep 300"""
    holder = subprocess.Popen(
        ["sh", "-ec", script],
        user=USER,
        group=USER,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "E": str(evil), "T": str(database.tmpdir), "J": json.dumps(state)},
        start_new_session=True,
    )
    try:
        eventually("it lies there", (database.tmpdir / "rejoin.lock").exists, within=10)
        with untouched(agent, roots):
            for answer in (agent.probe(), agent.start(), agent.monitor(silent=False), agent.stop()):
                assert SECRET not in answer.err
        assert victim.poll() is None
        assert evil.exists()
    finally:
        os.killpg(holder.pid, 9)
        holder.wait()
        victim.kill()
        victim.wait()


RACE = """
import os, random, sys, time
tmpdir, data, roots = sys.argv[1:]
def put(path, target):
    try:
        os.symlink(target, path + ".evil")
        os.rename(path + ".evil", path)
    except OSError:
        pass
def swap():
    try:
        os.rename(tmpdir, tmpdir + ".aside")
        os.symlink(roots + "/empty", tmpdir)
        time.sleep(random.random() / 100)
        os.unlink(tmpdir)
    except OSError:
        pass
    try:
        os.rename(tmpdir + ".aside", tmpdir)
    except OSError:
        pass
while True:
    time.sleep(random.random() / 100)
    swap()
    put(data + "/standby.signal", roots + "/shadow")
    try:
        for name in os.listdir(tmpdir):
            put(tmpdir + "/" + name, roots + "/new")
    except OSError:
        pass
"""


def test_a_race_is_not_won(agent: Agent, standby: Database, roots: Path) -> None:
    """Between two steps of the agent the attacker puts a link there, again and again."""
    agent.parameters["primary_conninfo_opt"] = "password=x"
    with untouched(agent, roots):
        racer = subprocess.Popen(
            [sys.executable, "-IS", "-c", RACE, standby.tmpdir, standby.data, roots],
            user=USER,
            group=USER,
            extra_groups=[],
            start_new_session=True,
        )
        try:
            for _ in range(5):
                for action in ("reload-agent", "monitor", "promote", "demote"):
                    assert SECRET not in agent.run(action, timeout=20).err
        finally:
            racer.kill()
            racer.wait()
        assert agent.stop(timeout=20).code == 0


def test_nobodys_directories_are_refused(agent: Agent, database: Database, roots: Path) -> None:
    """Somebody else's tmpdir and state, made before the agent's, in a directory that everybody may write."""
    open_to_all = roots.with_name(f"{roots.name}.all")
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    try:
        act_as("nobody", 'mkdir -m 777 "$A/tmp" "$A/state" "$A/state/pgsql"', A=open_to_all)
        agent.parameters["tmpdir"] = str(open_to_all / "tmp")
        with untouched(agent, roots):
            answer = agent.start()
            assert answer.code == PERM, answer
            assert f"{open_to_all}/tmp" in answer.reason
            agent.parameters["tmpdir"] = str(database.tmpdir)
            agent.state = open_to_all / "state"
            answer = agent.start()
            assert answer.code == PERM, answer
            assert f"{open_to_all}/state belongs to user {pwd.getpwnam('nobody').pw_uid}" in answer.reason
            assert agent.stop().code == 0
        assert [*(open_to_all / "state" / "pgsql").iterdir(), *(open_to_all / "tmp").iterdir()] == []
    finally:
        shutil.rmtree(open_to_all)


def test_a_state_that_others_may_write_is_not_believed(agent: Agent, standby: Database, roots: Path) -> None:
    directory = agent.state / agent.instance
    for mode, owner in ((0o770, "root"), (0o700, USER)):
        directory.chmod(mode)
        shutil.chown(directory, owner)
        with untouched(agent, roots):
            answer = agent.run("promote")
            assert answer.code in REFUSALS, answer
            assert str(directory) in answer.reason
    assert agent.stop().code == 0
    assert not standby.is_running()


def test_root_makes_what_lies_in_its_own_directories(agent: Agent, database: Database, roots: Path) -> None:
    """/run is emptied at every boot, and only root can make a directory there."""
    run = roots / "run"
    run.mkdir(mode=0o755)
    run.chmod(0o755)
    places = {"socketdir": run / "postgresql", "tmpdir": run / "agent" / "tmp", "logfile": run / "log" / "server.log"}
    (run / "log").mkdir(mode=0o755)
    (run / "log").chmod(0o755)
    database.configure(f"unix_socket_directories = '{places['socketdir']}'")
    agent.parameters |= {name: str(path) for name, path in places.items()}
    agent.become_standby()
    assert {path.owner() for path in places.values()} == {USER}
    assert (run / "agent").owner() == "root"
    assert agent.stop().code == 0


def test_the_database_user_runs_the_agent_itself(agent: Agent, database: Database, cluster: StandInCluster) -> None:
    """Its state is its own then."""
    agent.state = database.root / "state"
    agent.state.mkdir(mode=0o700)
    shutil.chown(agent.state, USER, USER)
    agent.log.touch()
    for path in (agent.log, cluster.path, *cluster.path.iterdir()):
        shutil.chown(path, USER, USER)
    agent.user = USER
    agent.become_primary()
    assert agent.monitor().code == PROMOTED
    assert agent.run("demote").code == 0
    assert agent.stop().code == 0


def test_two_resources_do_not_share_a_directory(
    agent: Agent, standby: Database, make_database: object, root: Path
) -> None:
    """The start of one would switch off what the commits of the other wait for."""
    assert callable(make_database)
    other = Agent(make_database("second"), StandInCluster(root / "cluster2"), root / "agent2.log")
    other.instance, other.state = "second", agent.state
    before = other.parameters["tmpdir"]
    other.parameters["tmpdir"] = str(standby.tmpdir)
    answer = other.start()
    assert answer.code == INSTALLED, answer
    assert answer.reason.startswith(f"the resource pgsql uses tmpdir={standby.tmpdir}"), answer
    settings = (standby.tmpdir / "rep_mode.conf").read_text()
    # Its server does not run, and it is there all the same.
    assert agent.stop().code == 0
    other.cluster.configure(agent.parameters)
    assert other.start().code == INSTALLED
    assert (standby.tmpdir / "rep_mode.conf").read_text() == settings
    other.cluster.configure({"tmpdir": str(root / "elsewhere"), "pgdata": str(standby.data), "rep_mode": "sync"})
    other.become_standby()
    assert "does not use it any more" in other.logged()
    assert agent.start().code == INSTALLED, "now it is the other's"
    assert other.stop().code == 0
    other.parameters["tmpdir"] = before
    other.become_standby()
    agent.become_standby()
    # Both run: they were started before anybody looked at that.
    shared = {"pgdata": str(other.database.data), "tmpdir": str(standby.tmpdir)}
    other.keep_state("claim", json.dumps(shared))
    assert agent.monitor().code == 0
    assert f"the resource second uses tmpdir={standby.tmpdir} too" in agent.logged()
    assert other.stop().code == 0

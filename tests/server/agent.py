# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the agent as Pacemaker does: a process of its own, its input in the environment, its answer in the exit code.

Only one thing differs: the stand-ins for Pacemaker's tools are found first.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.database import BINARIES, Database
from tests.server.stand_in import StandInCluster

PROJECT = Path(__file__).resolve().parents[2]
PREFIX = "ocf-exit-reason:"
HEALTHY = (0, 7, 8)

LAUNCHER = """
import os, sys
sys.path.insert(0, {project!r})
blocked = {blocked!r}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{{name}} is not to be had")
sys.meta_path.insert(0, Block())
from pgsql_ra.pacemaker import command
command.ENVIRONMENT["PATH"] = {tools!r} + ":" + command.ENVIRONMENT["PATH"]
{meanwhile}
{way_in}
"""
AGENT = "from pgsql_ra.agent import main; sys.exit(main(sys.argv, os.environ))"
COMMAND = "from pgsql_ra.cli import main; main()"


PLACE_VARIABLE = "PGSQL_RA_STATE_DIR"


def state_place(root: Path, node: str) -> Path:
    """Where an agent keeps its state: beside the directory of all tests, which belongs to the database user."""
    return Path("/dev/shm") / f"{root.parent.name}.{root.name}.{node}.state"


@dataclass(frozen=True)
class Answer:
    """What an action answered, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def reason(self) -> str:
        """The exit reason that Pacemaker would show; "" if there is none."""
        return ([""] + [line for line in self.err.splitlines() if line.startswith(PREFIX)])[-1].removeprefix(PREFIX)

    def __str__(self) -> str:
        return f"{self.code} after {self.seconds:.1f} s: {self.reason or self.err or '(no reason)'}"


class Agent:
    """The agent on node n1. `parameters` are the resource's, and may be changed."""

    def __init__(self, database: Database, cluster: StandInCluster, log: Path) -> None:
        self.database = database
        self.cluster = cluster
        self.log = log
        self.instance = "pgsql"
        self.user: str | None = None
        """Who runs the agent; root if that is None."""
        self.state = state_place(database.root, database.data.name)
        self.parameters = {
            "pgctl": str(BINARIES / "pg_ctl"),
            "pgdata": str(database.data),
            "pgport": str(database.port),
            "logfile": str(database.log),
            "tmpdir": str(database.tmpdir),
            "socketdir": str(database.socket),
            "rep_mode": "sync",
            "node_list": "n1 n2",
            "master_ip": "127.0.0.1",
        }

    # The actions

    def start(self, timeout: float = 60, **given: Any) -> Answer:
        """start."""
        return self.run("start", timeout=timeout, **given)

    def stop(self, timeout: float = 60, **given: Any) -> Answer:
        """stop."""
        return self.run("stop", timeout=timeout, **given)

    def promote(self) -> Answer:
        """promote."""
        return self.run("promote")

    def demote(self) -> Answer:
        """demote."""
        return self.run("demote")

    def monitor(self, timeout: float = 60, silent: bool = True, **given: Any) -> Answer:
        """A recurring monitor; one that finds nothing wrong is silent unless it is said to have something to say."""
        answer = self.run("monitor", timeout=timeout, meta={"interval": "10000"}, **given)
        if silent and answer.code in HEALTHY:
            assert (answer.out, answer.err) == ("", ""), "a monitor that found nothing wrong is silent"
        return answer

    def probe(self, interval: str | None = None, **given: Any) -> Answer:
        """A monitor that only asks what is there."""
        return self.run("monitor", meta={} if interval is None else {"interval": interval}, **given)

    def become_standby(self) -> None:
        """Started, and nothing else."""
        answer = self.start()
        assert answer.code == 0, answer

    def become_primary(self) -> None:
        """Started and promoted."""
        self.become_standby()
        answer = self.promote()
        assert answer.code == 0, answer

    # How

    def environment(self, timeout: float = 60, meta: dict[str, str] | None = None, **parameters: Any) -> dict[str, str]:
        """The environment of an action; a parameter that is given as "" is not set."""
        given = {name: value for name, value in (self.parameters | parameters).items() if value}
        told = {
            "timeout": str(int(timeout * 1000)),
            "on_node": "n1",
            "promoted_max": "1",
            "notify": "true",
            **(meta or {}),
        }
        return {
            "OCF_ROOT": "/usr/lib/ocf",
            "OCF_RESOURCE_INSTANCE": self.instance,
            "OCF_RESOURCE_TYPE": "pgsql",
            "OCF_EXIT_REASON_PREFIX": PREFIX,
            "HA_LOGFILE": str(self.log),
            "HA_debug": "1",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            PLACE_VARIABLE: str(self.state),
            **{f"OCF_RESKEY_{name}": value for name, value in given.items()},
            **{f"OCF_RESKEY_CRM_meta_{name}": value for name, value in told.items()},
        }

    def by_hand(self, *words: str, timeout: float = 60) -> Answer:
        """The command `pgsql-ra`, which finds the parameters in the cluster's configuration."""
        self.cluster.configure({name: value for name, value in self.parameters.items() if value})
        begun = time.monotonic()
        done = subprocess.run(
            self.command(*words, way_in=COMMAND),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", PLACE_VARIABLE: str(self.state)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    def command(
        self, *words: str, blocked: tuple[str, ...] = (), meanwhile: str = "", way_in: str = AGENT
    ) -> list[str]:
        """The command line of the agent; modules of `blocked` cannot be imported, and `meanwhile` is Python that makes
        a moment certain which otherwise is a matter of luck.
        """
        code = LAUNCHER.format(
            project=str(PROJECT), blocked=blocked, tools=str(self.cluster.path), meanwhile=meanwhile, way_in=way_in
        )
        return [sys.executable, "-IXutf8", "-c", code, *words]

    def run(
        self,
        *words: str,
        timeout: float = 60,
        meta: dict[str, str] | None = None,
        blocked: tuple[str, ...] = (),
        meanwhile: str = "",
        environment: dict[str, str] | None = None,
        **parameters: Any,
    ) -> Answer:
        """Run an action to its end within its timeout, and check what holds for every action.

        `environment` replaces all that is made of the other arguments.
        """
        begun = time.monotonic()
        process = subprocess.Popen(
            self.command(*words, blocked=blocked, meanwhile=meanwhile),
            env=self.environment(timeout, meta, **parameters) if environment is None else environment,
            cwd=self.database.root,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise AssertionError(
                f"{words} did not answer in {timeout} s (or left its output open to another)"
            ) from None
        answer = Answer(process.returncode, out, err, time.monotonic() - begun)
        action = words[0] if words else ""
        self.cluster.finished("n1", action, answer.code)
        check(action, answer)
        return answer

    def state_file(self, name: str) -> Path:
        """A file of the state directory, which only root can write."""
        return self.state / self.instance / name

    def keep_state(self, name: str, text: str) -> None:
        """The file of the state directory says this, before the agent was ever run or after."""
        self.state_file(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state_file(name).write_text(text)

    def logged(self) -> str:
        """All that the agent logged so far."""
        return self.log.read_text() if self.log.exists() else ""


def check(action: str, answer: Answer) -> None:
    """What holds for every answer, whatever was asked."""
    assert "report it as a BUG" not in answer.err, f"{action}: the agent met something it did not expect: {answer.err}"
    assert "Traceback" not in answer.err, answer.err
    reasons = [line for line in answer.err.splitlines() if line.startswith(PREFIX)]
    if action not in ("start", "validate-all"):
        assert answer.code != 6, f"{action} answered 6, which stops the whole clone: {answer}"
    if action == "stop":
        assert answer.code in (0, 1), f"stop answered {answer}"
    if action in ("start", "stop", "monitor", "promote", "demote") and answer.code in (1, 2, 4, 5, 6, 9):
        assert len(reasons) == 1, f"{action} must say why it failed, once: {answer.err!r}"
        assert re.search(r"\w", answer.reason), f"{action} gave an empty reason"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Running Pacemaker's command line tools. They cost 10 to 20 ms each, and are the one stable interface it has."""

import subprocess
from typing import NamedTuple

from pgsql_ra.ocf import ClusterFailure, Deadline, DeadlineExceeded

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""The tools are found by this path, not by the caller's; what they print is not translated."""

COMMAND_SECONDS = 20.0
"""How long one command may take: a cluster that is between two memberships answers when it has the next one."""


def run(arguments: list[str], deadline: Deadline) -> str:
    """The command's standard output.

    ClusterFailure with its words if it fails, DeadlineExceeded if it takes too long.
    """
    return run_together([arguments], deadline)[0]


def run_together(commands: list[list[str]], deadline: Deadline) -> list[str]:
    """The standard outputs of several commands that are run at the same time; all have ended when this returns.

    ClusterFailure or DeadlineExceeded for the first of them that fails.
    """
    return [ended.succeeded() for ended in execute(commands, deadline)]


class Ended(NamedTuple):
    """A command that has ended, well or not."""

    arguments: list[str]
    status: int
    out: str
    err: str

    def succeeded(self) -> str:
        """Its standard output; ClusterFailure with its own words if it failed."""
        if self.status != 0:
            said = " ".join((self.err or self.out).split())
            raise ClusterFailure(f"{' '.join(self.arguments)} failed with exit status {self.status}: {said}")
        return self.out


def execute(commands: list[list[str]], deadline: Deadline) -> list[Ended]:
    """Run several commands at the same time, to their ends. DeadlineExceeded for the first that takes too long."""
    limit = deadline.within(COMMAND_SECONDS)
    processes = [(arguments, _begin(arguments)) for arguments in commands]
    try:
        return [_finish(arguments, process, limit) for arguments, process in processes]
    finally:
        for _, process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _begin(arguments: list[str]) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            arguments,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise ClusterFailure(f"{arguments[0]} is not installed on this node (package pacemaker-cli-utils)") from error


def _finish(arguments: list[str], process: "subprocess.Popen[str]", limit: Deadline) -> Ended:
    seconds = max(0.1, limit.remaining())
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{' '.join(arguments)} gave no answer for {seconds:.0f} s") from error
    return Ended(arguments, process.returncode, out, err)

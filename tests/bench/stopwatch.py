# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command again and again on a node and takes its time.

A stand-alone program for the standard library only, started as `python -I stopwatch.py PLAN`; PLAN is a JSON object
with argv, environment, directory, expected (exit code), warm_up and runs (counts). It prints a JSON object with the
lists wall and cpu, in seconds; cpu is user and system time of the command and of all its descendants that were waited
for.
"""

import json
import os
import subprocess
import sys
import tempfile
import time


def take_time(argv: list[str], environment: dict[str, str], directory: str, expected: int) -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        child = subprocess.Popen(
            argv,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != expected:
            errors.seek(0)
            message = errors.read().decode(errors="replace").strip()
            raise SystemExit(f"{' '.join(argv)}: exit code {child.returncode}, not {expected}: {message}")
    return wall, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Do what the plan says."""
    plan = json.loads(sys.argv[1])
    times = [
        take_time(plan["argv"], plan["environment"], plan["directory"], plan["expected"])
        for _ in range(plan["warm_up"] + plan["runs"])
    ][plan["warm_up"] :]
    json.dump({"wall": [wall for wall, _ in times], "cpu": [cpu for _, cpu in times]}, sys.stdout)


if __name__ == "__main__":
    main()

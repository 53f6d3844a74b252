# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL's programs, run as the database user."""

import os
import re
import shutil
import subprocess

from pgsql_ra.ocf import Deadline, DeadlineExceeded, NotInstalled
from pgsql_ra.postgres.user import DatabaseUser

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the server's commands (archive_command, say) are looked for after its own programs."""
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


class Programs:
    """The programs of one PostgreSQL installation, found beside `pgctl`."""

    def __init__(self, pgctl: str, pglibs: str, user: DatabaseUser) -> None:
        found = shutil.which(pgctl, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if found is None:
            raise NotInstalled(f"there is no program {pgctl} on this node (parameter pgctl)")
        self.pg_ctl = found
        self._directory = os.path.dirname(os.path.realpath(found))
        self._pglibs = pglibs
        self.user = user
        # What makes subprocess run a child as the database user; nothing if this process is that user already.
        is_user = os.geteuid() == user.uid
        self.child_user = None if is_user else user.uid
        self.child_group = None if is_user else user.gid
        self.child_groups = None if is_user else user.groups

    def path(self, name: str) -> str:
        """The program of this name. NotInstalled if it is not beside pg_ctl."""
        path = os.path.join(self._directory, name)
        if not os.access(path, os.X_OK):
            raise NotInstalled(f"there is no program {name} beside {self.pg_ctl} (parameter pgctl)")
        return path

    def environment(self) -> dict[str, str]:
        """A small environment of our own: the caller's PG* variables and locale must not change what the server
        does.
        """
        libraries = ":".join(part for part in (os.environ.get("LD_LIBRARY_PATH", ""), self._pglibs) if part)
        environment = {"PATH": f"{self._directory}:{PATH}", "LC_ALL": "C", "HOME": self.user.home}
        return environment | {"USER": self.user.name, "LOGNAME": self.user.name, "LD_LIBRARY_PATH": libraries}

    def major(self, deadline: Deadline) -> int:
        """The major version of this installation. NotInstalled if its server does not say it."""
        done = self.run("postgres", ["--version"], deadline)
        found = _VERSION.search(done.stdout)
        if found is None:
            raise NotInstalled(f"{self.path('postgres')} does not say its version: {' '.join(done.stderr.split())}")
        return int(found[1])

    def run(
        self, name: str, arguments: list[str], deadline: Deadline, extra: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end. DeadlineExceeded when the deadline comes first."""
        seconds = max(0.5, deadline.remaining())
        try:
            return subprocess.run(
                [self.path(name), *arguments],
                timeout=seconds,
                env=self.environment() | (extra or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd="/",
                umask=0o077,
                user=self.child_user,
                group=self.child_group,
                extra_groups=self.child_groups,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(f"{name} did not end within {seconds:.0f} s") from error

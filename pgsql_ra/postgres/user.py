# SPDX-License-Identifier: GPL-2.0-or-later
"""The operating system user of the database, and doing things as that user.

The agent runs as root. What it makes for the server belongs to the server's user, and local connections are made as
that user, because `peer` authentication asks the kernel who connects. No su or runuser: no PAM session that could hang.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from pgsql_ra.ocf import NotInstalled, NotPermitted


class DatabaseUser:
    """The user of the parameter pgdba. NotInstalled if this node does not know it."""

    def __init__(self, name: str) -> None:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise NotInstalled(
                f"this node has no user {name!r} (parameter pgdba): install PostgreSQL here, or correct the parameter"
            ) from None
        self.name = name
        self.uid = entry.pw_uid
        self.gid = entry.pw_gid
        self.home = entry.pw_dir
        self.groups = os.getgrouplist(name, entry.pw_gid)

    def own(self, path: str) -> None:
        """Give a file or directory to the user."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within this context the process acts as the user (effective ids), outside of it as before."""
        if os.geteuid() == self.uid:
            yield
            return
        if os.geteuid() != 0:
            raise NotPermitted(f"the agent has to run as root or as {self.name}")
        groups = os.getgroups()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

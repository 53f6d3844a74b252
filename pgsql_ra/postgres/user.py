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

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within this context the process acts as the user (effective ids), outside of it as before."""
        if os.geteuid() not in (0, self.uid):
            raise NotPermitted(f"the agent has to run as root or as {self.name}")
        with acting_as(self.uid, self.gid, self.groups):
            yield


@contextmanager
def acting_as(uid: int, gid: int, groups: list[int]) -> Iterator[None]:
    """Within this context the process, which is root's, acts as somebody else. One that does not act as root stays who
    it is.

    The real ids stay root's, so whom it acts as can neither signal nor trace it (kill(2), ptrace(2)).
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    before = os.getgroups()
    try:
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)

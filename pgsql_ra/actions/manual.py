# SPDX-License-Identifier: GPL-2.0-or-later
"""rejoin=manual: the lock file of ocf:heartbeat:pgsql. A primary makes it, and while it is there no server starts on
that node: a person has to look at the data first.
"""

import os

from pgsql_ra.actions.context import Context

LOCK_FILE = "PGSQL.lock"


def make_lock(context: Context) -> None:
    """The lock is there, on disk."""
    context.files.prepare_directory()
    os.close(os.open(context.files.path(LOCK_FILE), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    os.sync()


def release_lock(context: Context) -> bool:
    """A demoted primary's lock is removed if no standby runs: then nobody else can have become the primary, and this
    node holds the newest data. False if it stays, so that nothing may be started here.
    """
    lock = context.files.path(LOCK_FILE)
    standbys = context.notification.unpromoted - {context.node.lower()}
    if standbys and os.path.exists(lock):
        context.log.warning(
            f"{', '.join(sorted(standbys))} may take over, so {lock} stays (rejoin=manual): this node starts again when"
            " somebody has looked at its data and removed it"
        )
        return False
    if os.path.exists(lock):
        os.remove(lock)
    return True

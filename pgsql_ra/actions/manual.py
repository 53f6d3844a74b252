# SPDX-License-Identifier: GPL-2.0-or-later
"""rejoin=manual: the lock file of ocf:heartbeat:pgsql. A primary makes it, and while it is there no server starts on
that node: a person has to look at the data first.
"""

from pgsql_ra.actions.context import Context

LOCK_FILE = "PGSQL.lock"


def make_lock(context: Context) -> None:
    """The lock is there, on disk."""
    context.files.prepare_directory()
    context.files.write(LOCK_FILE, "")


def release_lock(context: Context) -> bool:
    """A demoted primary's lock is removed if no standby runs: then nobody else can have become the primary, and this
    node holds the newest data. False if it stays, so that nothing may be started here.
    """
    lock = context.files.path(LOCK_FILE)
    locked = context.files.exists(LOCK_FILE)
    standbys = context.notification.unpromoted - {context.node.lower()}
    if standbys and locked:
        context.log.warning(
            f"{', '.join(sorted(standbys))} may take over, so {lock} stays (rejoin=manual): this node starts again when"
            " somebody has looked at its data and removed it"
        )
        return False
    if locked:
        context.files.remove(LOCK_FILE)
    return True

# SPDX-License-Identifier: GPL-2.0-or-later
"""postgresql.auto.conf, which outranks every other file: pg_basebackup -R leaves a primary_conninfo in it.

Whom a standby receives from, and whether from anybody, is the agent's to say (actions.same). ALTER SYSTEM would take
the line out, but only of a server that runs, which would receive by it meanwhile.
"""

import os
import re

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.user import DatabaseUser

AUTO_FILE = "postgresql.auto.conf"
_CONNINFO = re.compile(rb"^\s*primary_conninfo\s*[=\s].*(?:\n|\Z)", re.MULTILINE | re.IGNORECASE)


def forget_conninfo(pgdata: str, user: DatabaseUser) -> bool:
    """The file of a server that does not run sets no primary_conninfo; False if it did not before. NotPermitted if it
    cannot be changed.
    """
    path = os.path.join(pgdata, AUTO_FILE)
    try:
        with user.acting():
            with open(path, "rb") as file:
                text = file.read()
            if not _CONNINFO.search(text):
                return False
            descriptor = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_CONNINFO.sub(b"", text))
                file.flush()
                os.fsync(file.fileno())
            # The name that the server itself uses, and cleans up (PG_AUTOCONF_FILENAME ".tmp" in guc.c).
            os.replace(f"{path}.tmp", path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NotPermitted(f"cannot take primary_conninfo out of {path}: {error.strerror}") from error
    return True

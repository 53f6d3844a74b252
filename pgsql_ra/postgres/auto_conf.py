# SPDX-License-Identifier: GPL-2.0-or-later
"""postgresql.auto.conf, which outranks every other file: pg_basebackup -R leaves a primary_conninfo in it.

Whom a standby receives from, and whether from anybody, is the agent's to say (actions.same). ALTER SYSTEM would take
the line out, but only of a server that runs, which would receive by it meanwhile.
"""

import os
import re

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.user_files import UserFiles

AUTO_FILE = "postgresql.auto.conf"
_CONNINFO = re.compile(r"^\s*primary_conninfo\s*[=\s].*(?:\n|\Z)", re.MULTILINE | re.IGNORECASE)


def forget_conninfo(pgdata: str, files: UserFiles) -> bool:
    """The file of a server that does not run sets no primary_conninfo; False if it did not before. NotPermitted if it
    cannot be changed.
    """
    path = os.path.join(pgdata, AUTO_FILE)
    try:
        text = files.read(path).decode(errors="surrogateescape")
        if not _CONNINFO.search(text):
            return False
        files.write(path, _CONNINFO.sub("", text))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NotPermitted(f"cannot take primary_conninfo out of {path}: {error.strerror}") from error
    return True

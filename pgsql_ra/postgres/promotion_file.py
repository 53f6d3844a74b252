# SPDX-License-Identifier: GPL-2.0-or-later
"""The newest promotion that this node has heard of (see replication.record), in a file of the state directory.

It is the node's knowledge, and root acts upon it, so it does not lie with the data, where every superuser of the
database could change it. What keeps the two together: the file says which database system it is about. A promotion of
another one, whose data directory was here before, means nothing for this one. If the data come to another machine
(storage that is shared or moved), what that machine knows of the same system counts there, or nothing; the CIB and the
other nodes say the rest: a promotion asks all of them (SAFETY: "each promotion is recorded three times").
"""

import os
import struct

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.reading import files_in
from pgsql_ra.replication.record import Promotion
from pgsql_ra.state import StateDirectory

PROMOTION_FILE = "promotion"
_SYSTEM_IDENTIFIER = struct.Struct("=Q")


def read_promotion(state: StateDirectory, pgdata: str) -> Promotion | None:
    """What the file says; None if there is none, or if it is about another database system.

    NotPermitted if it cannot be read or is damaged: not knowing is not the same as there being nothing to know.
    """
    text = state.read(PROMOTION_FILE)
    if text is None:
        return None
    try:
        system, promotion = text.splitlines()[:2]
        return Promotion.parse(promotion) if int(system) == system_identifier(pgdata) else None
    except ValueError:
        raise NotPermitted(
            f"remove {state.path(PROMOTION_FILE)} if another node knows the newest promotion (`pgsql-ra show`), which"
            " it is to tell: it is damaged"
        ) from None


def remembered_system(state: StateDirectory) -> str:
    """Which database system the file is about, as a system identifier; "" if there is none, or if it does not say."""
    system = (state.read(PROMOTION_FILE) or "").partition("\n")[0].strip()
    return system if system.isascii() and system.isdigit() else ""


def write_promotion(state: StateDirectory, pgdata: str, promotion: Promotion) -> None:
    """The file says this, durably."""
    state.write(PROMOTION_FILE, f"{system_identifier(pgdata)}\n{promotion}\n")


def system_identifier(pgdata: str) -> int:
    """Which database system the directory belongs to: the first field of pg_control in every version
    (src/include/catalog/pg_control.h, ControlFileData). NotPermitted if the file cannot be read.
    """
    path = os.path.join(pgdata, "global", "pg_control")
    try:
        return int(_SYSTEM_IDENTIFIER.unpack(files_in(pgdata).read(path, _SYSTEM_IDENTIFIER.size))[0])
    except OSError as error:
        raise NotPermitted(f"cannot read {path}: {error.strerror}") from error
    except struct.error as error:
        raise NotPermitted(f"{path} is empty or cut off") from error

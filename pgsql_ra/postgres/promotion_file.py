# SPDX-License-Identifier: GPL-2.0-or-later
"""The newest promotion that this node has heard of, in a file of its own in tmpdir (see replication.record).

The file also says which database system it is about: a promotion of another one, whose data directory was here before,
means nothing for this one.
"""

import os
import struct

from pgsql_ra.ocf import NotPermitted
from pgsql_ra.postgres.configuration import ConfigurationFiles
from pgsql_ra.replication.record import Promotion

PROMOTION_FILE = "promotion"
_SYSTEM_IDENTIFIER = struct.Struct("=Q")


def read_promotion(files: ConfigurationFiles, pgdata: str) -> Promotion | None:
    """What the file says; None if there is none, or if it is about another database system.

    NotPermitted if it cannot be read or is damaged: not knowing is not the same as there being nothing to know.
    """
    path = files.path(PROMOTION_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            system, promotion = file.read().splitlines()[:2]
            return Promotion.parse(promotion) if int(system) == system_identifier(pgdata) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotPermitted(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise NotPermitted(
            f"remove {path} if another node knows the newest promotion (`pgsql-ra show`), which it is to tell: it is"
            f" damaged ({error})"
        ) from error


def remembered_system(files: ConfigurationFiles) -> str:
    """Which database system the file is about, as a system identifier; "" if there is none, or if it does not say."""
    try:
        with open(files.path(PROMOTION_FILE), encoding="utf-8", errors="replace") as file:
            system = file.readline().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NotPermitted(f"cannot read {files.path(PROMOTION_FILE)}: {error.strerror}") from error
    return system if system.isascii() and system.isdigit() else ""


def write_promotion(files: ConfigurationFiles, pgdata: str, promotion: Promotion) -> None:
    """The file says this, durably."""
    files.write(PROMOTION_FILE, f"{system_identifier(pgdata)}\n{promotion}\n")


def system_identifier(pgdata: str) -> int:
    """Which database system the directory belongs to: the first field of pg_control in every version
    (src/include/catalog/pg_control.h, ControlFileData). NotPermitted if the file cannot be read.
    """
    path = os.path.join(pgdata, "global", "pg_control")
    try:
        with open(path, "rb") as file:
            return int(_SYSTEM_IDENTIFIER.unpack(file.read(_SYSTEM_IDENTIFIER.size))[0])
    except OSError as error:
        raise NotPermitted(f"cannot read {path}: {error.strerror}") from error
    except struct.error as error:
        raise NotPermitted(f"{path} is empty or cut off") from error

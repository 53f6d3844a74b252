# SPDX-License-Identifier: GPL-2.0-or-later
"""How a standby is to recover, said where nothing overrides it: on the server's command line.

postgresql.auto.conf outranks every file that the agent could write, and tools that restore a backup leave their
`recovery_target_time` there. Such a standby looks healthy and stops to replay, or promotes itself; when it is promoted,
what it had received beyond its target is gone. The command line outranks them all (GucSource in
src/include/utils/guc.h), and among equal words there the last one counts.
"""

import os
import re
from collections.abc import Mapping

from pgsql_ra.ocf import Log, NotPermitted
from pgsql_ra.postgres.user_files import UserFiles

TRIGGER_FILE_VERSIONS = range(12, 16)
"""The versions that know promote_trigger_file."""
TARGETS = (
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
)
SIZES = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
"""What must not be lower on a standby than on its primary (CheckRequiredParameterValues in
src/backend/access/transam/xlogrecovery.c).
"""
RECOVERY_SIGNAL = "recovery.signal"
_REFUSED = re.compile(
    r"(?:-c\s*|--)['\"]?(recovery[_-]target(?:[_-]\w+)*|promote[_-]trigger[_-]file)\s*=", re.IGNORECASE
)


def settings_of_standby(major: int) -> dict[str, str]:
    """The settings by which a standby replays all that it receives, until somebody promotes it.

    recovery_min_apply_delay is none of them: a promotion ends the delay, and replays everything first
    (recoveryApplyDelay in src/backend/access/transam/xlogrecovery.c).
    """
    settings = dict.fromkeys(TARGETS, "")
    settings |= {"recovery_target_action": "pause", "recovery_target_timeline": "latest"}
    if major in TRIGGER_FILE_VERSIONS:
        settings["promote_trigger_file"] = ""
    return settings


def as_options(settings: Mapping[str, str]) -> list[str]:
    """The settings as words of a command line.

    >>> as_options({"recovery_target": ""})
    ['-c', 'recovery_target=']
    """
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def contrary_option(*texts: str) -> str:
    """The setting in the administrator's own options (start_opt, ctl_opt) that contradicts the agent's; "" if none.

    The server would refuse both together: several recovery targets, even empty ones, exclude each other.

    >>> contrary_option("-c recovery_target_time=now"), contrary_option("--Recovery-Target-XID=5")
    ('recovery_target_time', 'recovery_target_xid')
    >>> contrary_option("-c hba_file=/etc/recovery_target/hba.conf")
    ''
    """
    found = _REFUSED.search(" ".join(texts))
    return found[1].replace("-", "_").lower() if found else ""


def remove_recovery_signal(pgdata: str, files: UserFiles, log: Log) -> None:
    """No file asks for a point-in-time recovery. Beside standby.signal the server overlooks it, and would find it when
    it has been promoted and is started again.
    """
    path = os.path.join(pgdata, RECOVERY_SIGNAL)
    try:
        files.remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotPermitted(f"cannot remove {path}: {error.strerror}") from error
    log.warning(
        f"{path} asked for a point-in-time recovery and is removed: in the cluster this server is a standby, which"
        " replays everything (make such a recovery before the cluster starts the server)"
    )

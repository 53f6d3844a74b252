# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings that the agent's sessions bring along.

What is set for a role or a database (ALTER ROLE, ALTER DATABASE) is not for the agent, nor always by administrators:
the owner of a database may set most of it. A search_path with a schema that others may write into (public, up to
PostgreSQL 14) would make the agent run their functions and operators with its own rights.

They come in the startup packet, which goes before settings of roles and databases, and hold for walsenders too. What an
event trigger for logins changes (PostgreSQL 17 and later) cannot be prevented: only superusers can make one.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CLIENT_ENCODING: Final = "UTF8"
"""What we send and read. A database in SQL_ASCII would otherwise name no encoding, and everything would be bytes."""

OWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "search_path": "pg_catalog,pg_temp",
        "default_transaction_read_only": "off",
        "default_transaction_isolation": "read\\ committed",
        "default_transaction_deferrable": "off",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "local_preload_libraries": "",
        "standard_conforming_strings": "on",
        "datestyle": "ISO,YMD",
        "intervalstyle": "postgres",
        "bytea_output": "hex",
        "row_security": "on",
        "role": "none",
    }
)
"""For the agent's own questions and commands. Every PostgreSQL from 12 on knows these, and every role may set them."""
SINCE: Final[Mapping[int, Mapping[str, str]]] = MappingProxyType(
    {
        14: MappingProxyType({"idle_session_timeout": "0"}),
        17: MappingProxyType({"transaction_timeout": "0"}),
    }
)
"""The same, by the version that brought them: an older server refuses a session that names them."""
ADMINISTRATORS: Final[Mapping[str, str]] = MappingProxyType({})
"""For monitor_sql, which is the administrator's, and finds its tables by the role's own settings."""


def own_settings(major: int) -> Mapping[str, str]:
    """The settings for the agent's own work on a server of this version (0 if it is not known)."""
    newer = [settings for version, settings in SINCE.items() if version <= major]
    return {name: value for settings in (OWN, *newer) for name, value in settings.items()}


def startup_options(settings: Mapping[str, str], seconds: float) -> str:
    """The text for libpq's keyword `options`.

    A commit of ours (monitor_sql) must not wait for a standby, or a lost one stops the monitor; and no statement
    outlives whoever waits for it.
    """
    always = {"synchronous_commit": "local", "statement_timeout": str(int(seconds * 1000))}
    return " ".join(f"-c {name}={value}" for name, value in {**settings, **always}.items())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The secrets in a connection string, and where they go: the server logs primary_conninfo whenever it changes.

A password goes into a password file. For all others (the passphrase of a client's key, say) libpq has no file but a
service file, which it finds by PGSERVICEFILE in the server's environment.

Imports psycopg.
"""

from typing import Final

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

from pgsql_ra.ocf import ServerFailure

SECRETS: Final = ("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")
"""Those that are known. What the libpq at hand shows as "*" counts as well (dispchar, PQconndefaults)."""


def secret_keywords() -> frozenset[str]:
    """The keywords whose values are nobody's to see."""
    hidden = (option.keyword.decode() for option in pq.Conninfo.get_defaults() if b"*" in option.dispchar)
    return frozenset((*SECRETS, *hidden))


def parse_options(options: str) -> dict[str, str]:
    """The keywords and values of the parameter primary_conninfo_opt.

    ServerFailure if it is no connection string, not in libpq's own words: they hold parts of it. (So do the server's.)
    """
    try:
        return {name: str(value) for name, value in conninfo_to_dict(options).items()}
    except ProgrammingError:
        raise ServerFailure(
            "the parameter primary_conninfo_opt is not a connection string: key=value key='another value'"
        ) from None


def service_file(name: str, secrets: dict[str, str]) -> str:
    """The text of a service file with this service. ServerFailure for what libpq cannot read from one."""
    for keyword, value in secrets.items():
        if value != value.strip() or "\n" in value:
            raise ServerFailure(
                f"{keyword} in primary_conninfo_opt begins or ends with a blank, or has several lines: no service file"
                " can hold it"
            )
    lines = [f"{keyword}={value}\n" for keyword, value in secrets.items()]
    return "".join([f"[{name}]\n", *lines]) if lines else ""

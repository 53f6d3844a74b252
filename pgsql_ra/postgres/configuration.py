# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration files that the agent writes: recovery settings and synchronous_standby_names, each in a file of its
own in tmpdir, and the lines in the server's configuration that include them.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pgsql_ra.ocf import NotInstalled, NotPermitted
from pgsql_ra.postgres.user import DatabaseUser
from pgsql_ra.postgres.user_files import UserFiles
from pgsql_ra.replication.snapshot import Link, SynchronousStandbys

PASSWORD_FILE = "primary.pass"  # noqa: S105 - the name of a file
RECOVERY_FILE = "recovery.conf"
SERVICE = "pgsql-ra-primary"
SERVICE_FILE = "primary.service"
SYNCHRONOUS_FILE = "rep_mode.conf"
PRIVATE = 0o700
_NOTE = "# added by pgsql-ra"


def quote(value: str) -> str:
    """A value as postgresql.conf wants it (src/backend/utils/misc/guc-file.l): quotes doubled, backslashes too.

    >>> quote("it's")
    "'it''s'"
    """
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def quote_conninfo(value: str) -> str:
    r"""A value within a connection string (libpq, conninfo_parse).

    >>> quote_conninfo(r"a'b\c d")
    "'a\\'b\\\\c d'"
    """
    if re.fullmatch(r"[A-Za-z0-9_.:/-]+", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


_KEEPALIVES = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}
"""A WAL receiver that connects waits for the server's first answer without a limit (libpqrcv_connect; connect_timeout
does not count there). If that server was stopped in mid-air and then died while its address moved, nobody would ever
tell.
"""


_SENDER_TIMEOUT = {"options": "-c wal_sender_timeout=6s"}
"""For this connection only: the primary's walsender asks after half of it, and ends if no answer comes. With the
default of 60 s commits wait so long for a standby that Pacemaker still sees, but to which nothing of TCP gets through:
while its row is in pg_stat_replication it is not given up. Any user may set it (PGC_USERSET since PostgreSQL 12).
"""


def password_line(password: str) -> str:
    r"""A line of a password file (libpq, passwordFromFile) that holds for every server, database and user.

    >>> password_line(r"a:b\c")
    '*:*:*:*:a\\:b\\\\c\n'
    """
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def primary_conninfo(host: str, port: int, user: str, node: str, options: str) -> str:
    """The connection string of a standby; `options` is the administrator's own text and is appended as it is, so that
    what it says again counts.
    """
    parts = {"host": host, "port": str(port), "user": user, "application_name": node, **_KEEPALIVES, **_SENDER_TIMEOUT}
    words = [f"{name}={quote_conninfo(value)}" for name, value in parts.items()]
    return " ".join([*words, options]).strip()


def recovery_settings(settings: Mapping[str, str]) -> str:
    """The text of a recovery file; settings that are empty are left out."""
    lines = [f"{name} = {quote(value)}\n" for name, value in settings.items() if value]
    return "# Written by pgsql-ra at each start; changes here are lost.\n" + "".join(lines)


def synchronous_value(standbys: SynchronousStandbys) -> str:
    """The value of synchronous_standby_names. Names are quoted: `any`, `first` and hyphens would not parse.

    >>> synchronous_value(SynchronousStandbys(("node-1",)))
    '"node-1"'
    >>> synchronous_value(SynchronousStandbys(("b", "c"), any_of=1))
    'ANY 1 ("b", "c")'
    """
    quoted = ['"' + name.replace('"', '""') + '"' for name in standbys.names]
    if standbys.any_of:
        return f"ANY {standbys.any_of} ({', '.join(quoted)})"
    return quoted[0] if len(quoted) == 1 else f"FIRST {len(quoted)} ({', '.join(quoted)})" if quoted else ""


def synchronous_settings(standbys: SynchronousStandbys) -> str:
    """The text of the file with synchronous_standby_names."""
    value = quote(synchronous_value(standbys))
    return f"# Written by pgsql-ra; changes here are lost.\nsynchronous_standby_names = {value}\n"


def parse_synchronous(setting: str) -> SynchronousStandbys:
    """The standbys of a synchronous_standby_names, their names in lower case.

    >>> parse_synchronous('FIRST 2 ("node-1", Node2)')
    SynchronousStandbys(names=('node-1', 'node2'), any_of=0)
    >>> parse_synchronous('ANY 1 (b, c)').any_of
    1
    """
    inner = setting.partition("(")[2].rpartition(")")[0] if "(" in setting else setting
    names = (name.strip() for name in inner.split(","))
    method = re.match(r"\s*ANY\s+([0-9]+)\s*\(", setting, re.IGNORECASE)
    return SynchronousStandbys(
        tuple(name.strip('"').lower() for name in names if name), int(method[1]) if method else 0
    )


def synchronous_in_settings(text: str) -> SynchronousStandbys | None:
    """The standbys in a text that `synchronous_settings` made; None if it is another one.

    >>> synchronous_in_settings(synchronous_settings(SynchronousStandbys(("a", "node-2")))).names
    ('a', 'node-2')
    """
    found = re.search(r"^synchronous_standby_names = '(.*)'$", text, re.MULTILINE)
    return parse_synchronous(found[1].replace("''", "'")) if found else None


_CONNINFO = re.compile(r"^[ \t]*primary_conninfo[ \t]*=.*$", re.MULTILINE)
_NO_CONNINFO = "primary_conninfo = ''"


def with_conninfo(text: str, conninfo: str) -> str:
    """The text of a recovery file with this connection string in the place of its own.

    >>> with_conninfo("a = 'b'\\nprimary_conninfo = 'host=x'\\n", "")
    "a = 'b'\\nprimary_conninfo = ''\\n"
    """
    line = f"primary_conninfo = {quote(conninfo)}"
    return _CONNINFO.sub(lambda _: line, text) if _CONNINFO.search(text) else f"{text}{line}\n"


class ConfigurationFiles:
    """The agent's files in `tmpdir` and the include lines in `config`."""

    def __init__(self, config: str, tmpdir: str, user: DatabaseUser) -> None:
        self._config = config
        self._tmpdir = tmpdir
        self._files = UserFiles(user)

    def path(self, name: str) -> str:
        """Where the file of this name lies."""
        return os.path.join(self._tmpdir, name)

    def prepare_directory(self) -> None:
        """Make tmpdir, for nobody but the database user. NotPermitted if that cannot be done.

        A link is followed, since nothing is done there but what the user may do.
        """
        files, tmpdir, user = self._files, self._tmpdir, self._files.user
        try:
            files.provide_directory(tmpdir, PRIVATE)
            if (owner := files.make_private(tmpdir)) != user.uid:
                raise NotPermitted(
                    f"the directory {tmpdir} (parameter tmpdir) belongs to user {owner}, and has to be {user.name}'s:"
                    f" chown {user.name} {tmpdir}, if it is the agent's alone"
                )
        except OSError as error:
            raise NotPermitted(f"cannot prepare the directory {tmpdir} (parameter tmpdir): {error.strerror}") from error

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self._files.exists(self.path(name))

    def read(self, name: str) -> str | None:
        """What a file says; None if there is none. NotPermitted if it cannot be read."""
        try:
            return self._files.text(self.path(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NotPermitted(f"cannot read {self.path(name)}: {error.strerror}") from error

    def write(self, name: str, text: str) -> None:
        """Replace a file in one step that survives a crash: whoever reads it sees the old text or the new one."""
        with self._changing(name):
            self._write(name, text)

    def change(self, name: str, changed: Callable[[str], str]) -> None:
        """Replace a file by what `changed` makes of it; nobody else changes it in between."""
        with self._changing(name):
            text = self.read(name)
            if text is None:
                raise NotPermitted(f"there is no file {self.path(name)}: the agent writes it when it starts the server")
            if (new := changed(text)) != text:
                self._write(name, new)

    def remove(self, name: str) -> None:
        """There is no file of this name."""
        try:
            self._files.remove(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise NotPermitted(f"cannot remove {self.path(name)}: {error.strerror}") from error

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        try:
            with self._files.locked(self._tmpdir):
                yield
        except OSError as error:
            raise NotPermitted(f"cannot write {self.path(name)} (parameter tmpdir): {error.strerror}") from error

    def _write(self, name: str, text: str) -> None:
        try:
            self._files.write(self.path(name), text)
        except OSError as error:
            raise NotPermitted(f"cannot write {self.path(name)}: {error.strerror}") from error

    def synchronous(self) -> SynchronousStandbys | None:
        """The setting that the file gives to the server at its next reload; None if there is no such file."""
        text = self.read(SYNCHRONOUS_FILE)
        return None if text is None else synchronous_in_settings(text)

    def link(self) -> Link:
        """Whether the recovery file names a primary. FIXED if there is no such file: the agent has not set this up."""
        text = self.read(RECOVERY_FILE)
        if text is None:
            return Link.FIXED
        return Link.CUT if _NO_CONNINFO in text.splitlines() else Link.OPEN

    def set_conninfo(self, conninfo: str) -> None:
        """Change the recovery file's connection string, and nothing else in it."""
        self.change(RECOVERY_FILE, lambda text: with_conninfo(text, conninfo))

    def include(self, *names: str) -> None:
        """Make sure that the server's configuration includes these files; a line that does is left as it is."""
        try:
            text = self._files.read_linked(self._config).decode(errors="surrogateescape")
        except FileNotFoundError as error:
            raise NotInstalled(f"there is no configuration file {self._config} (parameter config)") from error
        except OSError as error:
            raise NotPermitted(f"cannot read {self._config} (parameter config): {error.strerror}") from error
        missing = [name for name in names if not self._is_included(text, self.path(name))]
        if not missing:
            return
        lines = "".join(f"include_if_exists {quote(self.path(name))} {_NOTE}\n" for name in missing)
        start = "" if text.endswith("\n") or not text else "\n"
        try:
            self._files.append_provided(self._config, start + lines)
        except OSError as error:
            raise NotPermitted(f"cannot add the include lines to {self._config}: {error.strerror}") from error

    @staticmethod
    def _is_included(text: str, path: str) -> bool:
        pattern = rf"^\s*include(?:_if_exists)?\s*=?\s*{re.escape(quote(path))}"
        return re.search(pattern, text, re.MULTILINE) is not None


def write_standby_signal(pgdata: str, user: DatabaseUser) -> None:
    """Make the server start as a standby (PostgreSQL 12 and later). A link or a pipe of that name is replaced."""
    path = os.path.join(pgdata, "standby.signal")
    try:
        UserFiles(user).write(path, "")
    except OSError as error:
        raise NotPermitted(f"cannot write {path}: {error.strerror}") from error


def remove_standby_signal(pgdata: str, user: DatabaseUser) -> None:
    """Make the server start as a primary."""
    path = os.path.join(pgdata, "standby.signal")
    try:
        UserFiles(user).remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotPermitted(f"cannot remove {path}: {error.strerror}") from error

# SPDX-License-Identifier: GPL-2.0-or-later
"""The database of a lab: created once, then copied to every node, before the nodes boot."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.layout import DATABASE_USER, PORT, SOCKETDIR, SUBNET, TMPDIR, Layout, Settings
from tests.lab.processes import CLEAN_ENVIRONMENT, Identity, run
from tests.lab.waiting import LabError, eventually

POSTGRESQL_CONF = f"""
# The lab's.
listen_addresses = '*'
port = {PORT}
unix_socket_directories = '{SOCKETDIR}'
wal_level = replica
hot_standby = on
wal_log_hints = on
max_wal_senders = 10
max_replication_slots = 10
wal_keep_size = 256MB
wal_retrieve_retry_interval = 1s
shared_buffers = 32MB
max_connections = 50
log_line_prefix = '%m [%p] %q%a '
log_connections = on
log_replication_commands = on
log_checkpoints = on
# wal_sender_timeout and wal_receiver_timeout keep their default of 60 s on purpose: the agent has to live with them.
"""

PG_HBA_CONF = f"""
local all all trust
local replication all trust
host all all 127.0.0.1/32 trust
host all all {SUBNET} trust
host replication all 127.0.0.1/32 trust
host replication all {SUBNET} trust
"""

SCHEMA = """
CREATE TABLE lab_commits (
    client text NOT NULL,
    seq bigint NOT NULL,
    attempt integer NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (client, seq)
);
"""


def newest_postgres_bin() -> Path:
    """The directory with the newest PostgreSQL's programs."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    if not found:
        raise LabError("there is no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql-15")
    return max(found, key=lambda path: int(path.parent.name))


def prepare_databases(layout: Layout, settings: Settings) -> None:
    """Every node has a data directory: one system, the first node's a primary's, the others base backups of it."""
    for name in settings.nodes:
        for folder, mode in ((layout.pgdata(name).parent, 0o755), (layout.pgdata(name).parent / TMPDIR.name, 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
            shutil.chown(folder, DATABASE_USER, DATABASE_USER)
    first, *others = settings.nodes
    data = layout.pgdata(first)
    binaries = Path(settings.postgres_bin)
    as_database_user(
        [
            str(binaries / "initdb"),
            "--pgdata",
            str(data),
            "--username",
            DATABASE_USER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]
    )
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(f"{POSTGRESQL_CONF}{settings.postgresql_conf}\n")
    (data / "pg_hba.conf").write_text(PG_HBA_CONF)
    sockets = layout.root / "seed"
    sockets.mkdir(mode=0o700)
    shutil.chown(sockets, DATABASE_USER, DATABASE_USER)
    server = _start_server(layout, binaries, data, sockets)
    try:
        connection = ["--host", str(sockets), "--port", str(PORT), "--username", DATABASE_USER]
        ready = [str(binaries / "psql"), *connection, "-XAtqc", "SELECT 1", "postgres"]
        eventually("the first server answers", lambda: as_database_user(ready).stdout, within=30)
        as_database_user([str(binaries / "psql"), *connection, "-Xqc", SCHEMA, "postgres"])
        for name in others:
            target = str(layout.pgdata(name))
            as_database_user(
                [
                    str(binaries / "pg_basebackup"),
                    *connection,
                    "--pgdata",
                    target,
                    "--no-sync",
                    "--checkpoint",
                    "fast",
                    "--wal-method",
                    "stream",
                ]
            )
    finally:
        server.terminate()
        server.wait(timeout=60)
        (layout.processes / "seed").unlink()
    shutil.rmtree(sockets)
    _forget_log_position(data)


def as_database_user(argv: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command on the host as the database user."""
    return run(
        ["setpriv", f"--reuid={DATABASE_USER}", f"--regid={DATABASE_USER}", "--init-groups", *argv], timeout=timeout
    )


def _start_server(layout: Layout, binaries: Path, data: Path, sockets: Path) -> subprocess.Popen[bytes]:
    """A server that only a private Unix socket leads to."""
    user = pwd.getpwnam(DATABASE_USER)
    with (layout.root / "seed.log").open("ab") as log:
        server = subprocess.Popen(
            [
                str(binaries / "postgres"),
                "-D",
                str(data),
                "-c",
                "listen_addresses=",
                "-c",
                f"unix_socket_directories={sockets}",
                "-c",
                "fsync=off",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**CLEAN_ENVIRONMENT, "HOME": str(sockets)},
            cwd=sockets,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            start_new_session=True,
        )
    Identity.of(server.pid).save(layout.processes / "seed")
    return server


def _forget_log_position(data: Path) -> None:
    """The data directory holds no trace of the server that prepared it."""
    for name in ("postmaster.opts", "postmaster.pid"):
        if (data / name).exists():
            os.unlink(data / name)

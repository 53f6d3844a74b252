# SPDX-License-Identifier: GPL-2.0-or-later
"""A former primary that went too far, beside a real one that was promoted in its place.

Both share a port: the new primary listens on TCP, the former one on its socket only.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from tests.lab.waiting import eventually
from tests.server.agent import Agent
from tests.server.conftest import MakeDatabase
from tests.server.database import USER, as_postgres
from tests.server.stand_in import StandInCluster

HINTS = "wal_log_hints = on"


class Pair:
    """`former` crashed with WAL that `heir` never had. `heir` runs and took over."""

    def __init__(
        self,
        agent: Agent,
        cluster: StandInCluster,
        make_database: MakeDatabase,
        settings: str = HINTS,
        checkpoint: Literal["done", "under way"] = "done",
    ) -> None:
        self.former = agent.database
        self.former.configure(settings)
        if settings != HINTS and not re.search(
            r"checksum version: +0", as_postgres("pg_controldata", "-D", self.former.data)
        ):
            as_postgres("pg_checksums", "--disable", "-D", self.former.data)
        self.former.start()
        self.former.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        self.former.stop()
        self.heir = make_database("heir")
        shutil.rmtree(self.heir.data)
        subprocess.run(["cp", "-a", self.former.data, self.heir.data], check=True)
        self.former.start()
        self.former.sql("INSERT INTO t SELECT n FROM t")
        self.former.sql("CREATE TABLE lost AS SELECT generate_series(1, 60000) AS n")
        self.former.crash()
        self.heir.port = self.former.port
        self.heir.configure("wal_keep_size = 64MB")
        self.heir.configure(
            f"listen_addresses = '127.0.0.1'\nunix_socket_directories = '{self.heir.socket}'\n# the heir's"
        )
        hba = self.heir.data / "pg_hba.conf"
        hba.write_text(f"host all,replication all 127.0.0.1/32 trust\n{hba.read_text()}")
        (self.heir.data / "standby.signal").touch()
        shutil.chown(self.heir.data / "standby.signal", USER, USER)
        self.heir.start()
        if checkpoint == "done":
            self.heir.sql("SELECT pg_promote()")
            self.heir.sql("CHECKPOINT")
        else:
            # Held until there is much to write, which it then does at its leisure.
            with self.heir.frozen(self.heir.process("checkpointer")):
                self.heir.sql("SELECT pg_promote()")
                self.heir.sql("CREATE TABLE dirty AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        self.heir.sql("CREATE TABLE won AS SELECT 1 AS n")
        history = (self.heir.data / "pg_wal" / "00000002.history").read_text().split()
        cluster.run_primary("n2", history=f"2:1@{history[1]}")

    def follows(self) -> None:
        """The former primary is a standby that holds what the heir has, and keeps its own configuration."""
        eventually(
            "it streams",
            lambda: self.former.sql("SELECT status FROM pg_stat_wal_receiver"),
            lambda seen: seen == "streaming",
            within=20,
        )
        self.heir.sql("INSERT INTO won VALUES (2)")
        eventually("it replays", lambda: self.former.sql("SELECT count(*) FROM won"), lambda seen: seen == 2, within=10)
        assert self.former.sql("SELECT to_regclass('lost')::text") is None
        assert "# the heir's" not in self.former.config.read_text()

    def set_aside(self) -> list[Path]:
        """The data directories that were replaced."""
        return sorted(self.former.data.parent.glob(f"{self.former.data.name}.old-*"))

    def left_by_a_copy(self) -> list[Path]:
        """What a copy that was not completed has left."""
        return list(self.former.data.parent.glob("*.pgsql-ra.new"))


def state_of_files(directory: Path) -> dict[str, tuple[int, float]]:
    """Every file's size and time of change."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime) for path in files}


def jobs(agent: Agent) -> list[int]:
    """The processes that hold the lock of the repair."""
    lock = agent.state_file("rejoin.lock")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if any(descriptor.readlink() == lock for descriptor in (entry / "fd").iterdir()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found

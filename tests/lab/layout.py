# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a lab keeps its things, and the settings that every one of its processes reads."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.lab.waiting import LabError

PROJECT = Path(__file__).resolve().parents[2]

SUBNET = "10.77.0.0/24"
"""Every lab has the same: it exists only inside the lab's own network namespaces."""
PREFIX_LENGTH = 24
VIP = "10.77.0.100"
CLIENT_ADDRESS = "10.77.0.200"
PORT = 5432

PGHOME = Path("/var/lib/postgresql")
"""The PostgreSQL directory inside every node: home of the database user, so that it exists as a mount point."""
PGDATA = PGHOME / "data"
TMPDIR = PGHOME / "tmp"
STATEDIR = Path("/var/lib/corosync/pgsql-ra")
"""What only root may write, on a node's own disk."""
SOCKETDIR = Path("/run/postgresql")
PGLOG = Path("/var/log/postgresql/postgresql.log")
DATABASE_USER = "postgres"


def base_folder() -> Path:
    """The folder that holds a folder for every lab. On a disk: a node's database needs a few 100 MB."""
    return Path(os.environ.get("PGSQL_RA_LAB_DIR", "/var/tmp/pgsql-ra-lab"))


@dataclass(frozen=True)
class Settings:
    """What a lab was started with."""

    name: str
    nodes: tuple[str, ...]
    postgres_bin: str
    providers: dict[str, str] = field(default_factory=dict)
    """Resource agent provider (as in ocf:PROVIDER:agent) -> directory with its agents."""
    auto_boot: bool = False
    """Does a node boot again after it was fenced with "reboot"?"""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the cluster's daemons, and so to that of the agents."""
    rep_mode: str = "sync"
    own_clocks: bool = False
    """Has every node's server a clock that can be shifted?"""
    disk_megabytes: int = 0
    """Size of the file system that holds a node's PostgreSQL directory; 0 means the host's own, which never fills."""
    true_power_cuts: bool = False
    """Is what was not synced gone after a power cut? Otherwise the host's page cache keeps all."""
    transport: str = "udpu"
    """Corosync's: udpu or knet."""
    postgresql_conf: str = ""
    """More lines for every node's postgresql.conf."""

    def __post_init__(self) -> None:
        # No dash: the namespaces of a lab are found again by the prefix "pgra-NAME-".
        if not re.fullmatch(r"[a-z0-9_]{1,40}", self.name):
            raise LabError(f"a lab's name consists of 1 to 40 characters out of a-z, 0-9 and _, not {self.name!r}")

    @property
    def has_images(self) -> bool:
        """Have the nodes disks of their own?"""
        return bool(self.disk_megabytes or self.true_power_cuts)

    def address(self, node: str) -> str:
        """The fixed address of a node."""
        return f"10.77.0.{11 + self.nodes.index(node)}"


@dataclass(frozen=True)
class Layout:
    """The folder of one lab."""

    root: Path

    @classmethod
    def of(cls, name: str) -> "Layout":
        """The layout of the lab with this name."""
        return cls(base_folder() / name)

    @property
    def settings_file(self) -> Path:
        """The settings as JSON."""
        return self.root / "lab.json"

    @property
    def owner_file(self) -> Path:
        """The identity of the process at whose end the lab ends too; absent if the lab is kept."""
        return self.root / "owner"

    @property
    def power_socket(self) -> Path:
        """Where the power supply listens. A path, so it is reachable from every network namespace."""
        return self.root / "power.sock"

    @property
    def events_file(self) -> Path:
        """What the power supply did, one JSON object a line."""
        return self.root / "events.jsonl"

    @property
    def processes(self) -> Path:
        """Identities of the lab's processes that live outside of its network namespaces."""
        return self.root / "processes"

    @property
    def corosync(self) -> Path:
        """/etc/corosync of every node."""
        return self.root / "etc-corosync"

    @property
    def sbin(self) -> Path:
        """What is laid over /usr/sbin of every node: the fence agent."""
        return self.root / "sbin"

    @property
    def ocf(self) -> Path:
        """What is laid over /usr/lib/ocf/resource.d of every node: mount points of the providers."""
        return self.root / "ocf"

    @property
    def hosts(self) -> Path:
        """/etc/hosts of every node."""
        return self.root / "hosts"

    @property
    def clients(self) -> Path:
        """The histories of the writing clients."""
        return self.root / "clients"

    def node(self, name: str) -> Path:
        """The folder of a node: its disk."""
        return self.root / name

    def log(self, name: str) -> Path:
        """/var/log of a node."""
        return self.node(name) / "log"

    def clock(self, name: str) -> Path:
        """How far the clock of a node's server is from the host's, in a lab with own clocks."""
        return self.log(name) / "clock"

    @property
    def clocked_bin(self) -> Path:
        """What is laid over the directory of PostgreSQL's programs then."""
        return self.root / "clocked-bin"

    def disk_image(self, name: str) -> Path:
        """The file system of a node's PostgreSQL directory, in a lab whose nodes have disks of their own."""
        return self.node(name) / "pgsql.img"

    def system_image(self, name: str) -> Path:
        """The file system of a node's /var/lib/pacemaker, in a lab with true power cuts."""
        return self.node(name) / "system.img"

    def pgdata(self, name: str) -> Path:
        """The data directory of a node, as the host sees it; only until the disks are packed, if it gets its own."""
        return self.node(name) / "pgsql" / PGDATA.name

    def init_file(self, name: str) -> Path:
        """The identity of a node's init process."""
        return self.node(name) / "init"

    def save(self, settings: Settings) -> None:
        """Write the settings."""
        self.settings_file.write_text(json.dumps(asdict(settings), indent=2) + "\n")

    def load(self) -> Settings:
        """Read the settings."""
        try:
            values = json.loads(self.settings_file.read_text())
        except FileNotFoundError as error:
            raise LabError(f"there is no lab in {self.root}: start one with `python -m tests.lab up`") from error
        values["nodes"] = tuple(values["nodes"])
        return Settings(**values)

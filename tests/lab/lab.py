# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab: a real cluster of N nodes on this machine."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab import crm, power
from tests.lab.cib_view import Status, parse_status
from tests.lab.client import Client
from tests.lab.database import newest_postgres_bin, prepare_databases
from tests.lab.disks import pack_disks
from tests.lab.layout import VIP, Layout, Settings
from tests.lab.network import Network, namespaces_of
from tests.lab.node import Node
from tests.lab.preparation import check_prerequisites, prepare_files, provider_directory
from tests.lab.processes import Identity, all_pids, title_of
from tests.lab.teardown import take_down
from tests.lab.waiting import LabError, eventually

DOWN_SECONDS = 60.0
STATUS_SECONDS = 5.0


class Lab:
    """Use it as a context manager, or call `up` and `down`.

    However the driver ends, the lab's power supply takes the lab down after it, unless `keep` is true.
    """

    def __init__(
        self,
        name: str,
        nodes: int | Iterable[str] = 3,
        *,
        agent: Path | None = None,
        rep_mode: str = "sync",
        providers: Mapping[str, Path] | None = None,
        postgres_bin: Path | None = None,
        database: bool = True,
        auto_boot: bool = False,
        keep: bool = False,
        environment: Mapping[str, str] | None = None,
        first_properties: Mapping[str, str] | None = None,
        disk_megabytes: int = 0,
        own_clocks: bool = False,
        true_power_cuts: bool = False,
        transport: str = "udpu",
        postgresql_conf: str = "",
        failed_start_logs: Path | None = None,
    ) -> None:
        """Describe a lab; nothing is done yet.

        `agent` is a directory with the installed agent: `pgsql` in it, or `resource.d/pgsql-ra/pgsql` below it. It
        becomes the provider `pgsql-ra` on the nodes; `providers` adds others. `database` false leaves out the database.
        `environment` reaches the cluster's daemons and the agents; `first_properties` are cluster properties that hold
        from the first boot on. `disk_megabytes` is the size of every node's database disk (0: no limit); with
        `own_clocks` the clock of a node's server can be shifted (needs libfaketime); with `true_power_cuts` a power cut
        takes what was not synced. `transport` is Corosync's, udpu or knet. `postgresql_conf` is added to every
        server's. If `up` fails, the logs are copied to `failed_start_logs`.
        """
        directories = {provider: str(Path(path).resolve()) for provider, path in (providers or {}).items()}
        if agent is not None:
            directories["pgsql-ra"] = str(provider_directory(agent))
        names = tuple(f"node{number}" for number in range(1, nodes + 1)) if isinstance(nodes, int) else tuple(nodes)
        self.settings = Settings(
            name=name,
            nodes=names,
            postgres_bin=str((postgres_bin or newest_postgres_bin()).resolve()),
            providers=directories,
            auto_boot=auto_boot,
            environment=dict(environment or {}),
            rep_mode=rep_mode,
            own_clocks=own_clocks and database,
            disk_megabytes=disk_megabytes if database else 0,
            true_power_cuts=true_power_cuts and database,
            transport=transport,
            postgresql_conf=postgresql_conf,
        )
        self.layout = Layout.of(name)
        self.keep = keep
        self.database = database
        self.failed_start_logs = failed_start_logs
        self.first_properties = {"dc-deadtime": "2s", **(first_properties or {})}
        self._power: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    @classmethod
    def attach(cls, name: str) -> "Lab":
        """A lab that another process started."""
        settings = Layout.of(name).load()
        lab = cls(name, settings.nodes, postgres_bin=Path(settings.postgres_bin), keep=True)
        lab.settings = settings
        return lab

    @property
    def name(self) -> str:
        """The lab's name, part of all names on this machine."""
        return self.settings.name

    @property
    def network(self) -> Network:
        """The lab's network."""
        return Network(self.layout, self.settings)

    @property
    def vip(self) -> str:
        """The virtual address of the primary."""
        return VIP

    @property
    def nodes(self) -> list[Node]:
        """All nodes."""
        return [self.node(name) for name in self.settings.nodes]

    def node(self, name: str) -> Node:
        """One node."""
        if name not in self.settings.nodes:
            raise LabError(f"lab {self.name} has no node {name!r}")
        return Node(name, self.layout, self.settings)

    # --- up and down

    def up(self, within: float = 60) -> None:
        """All nodes are in one cluster without resources; what was left of an older lab of this name is gone."""
        check_prerequisites(self.settings)
        owner = Identity.load(self.layout.owner_file)
        if owner is not None and owner.alive and owner.pid != os.getpid():
            raise LabError(f"lab {self.name} is in use by process {owner.pid}: take another name")
        take_down(self.name, self.layout.root)
        try:
            prepare_files(self.layout, self.settings, self.first_properties)
            if not self.keep:
                Identity.of(os.getpid()).save(self.layout.owner_file)
            self.network.create()
            self._power = power.start(self.layout)
            if self.database:
                prepare_databases(self.layout, self.settings)
            if self.settings.has_images:
                pack_disks(self.layout, self.settings)
            for node in self.nodes:
                node.boot()
            self.wait("all nodes are online", lambda seen: len(seen.online) == len(self.settings.nodes), within=within)
        except BaseException:
            # An interrupted start, too: half a lab is of no use to anybody, but its logs are.
            if self.failed_start_logs is not None:
                self.collect(self.failed_start_logs)
            self.down()
            raise

    def down(self) -> None:
        """Nothing of the lab is left on this machine."""
        for client in self._clients:
            client.abandon()
        take_down(self.name, self.layout.root)
        if self._power is not None:
            self._power.wait(timeout=DOWN_SECONDS)
            self._power = None

    def leftovers(self) -> list[str]:
        """What exists of the lab: namespaces, folder, mounts and processes of the host. Empty after `down`."""
        mounts = Path("/proc/self/mounts").read_text()
        root = str(self.layout.root)
        return [
            *namespaces_of(self.name),
            *([root] if self.layout.root.exists() else []),
            *(line for line in mounts.splitlines() if root in line or f"pgra-{self.name}-" in line),
            *_processes_that_mention(root),
        ]

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.keep:
            self.down()

    # --- the cluster

    def configure(self, configuration: str | crm.Configuration | None = None) -> None:
        """The cluster has this configuration: text for crmsh, or what differs from the usual configuration."""
        if not isinstance(configuration, str):
            usual = configuration or crm.Configuration(rep_mode=self.settings.rep_mode)
            configuration = crm.crm_text(self.settings, usual)
        (self.layout.root / "configuration.crm").write_text(configuration)
        node = self._any_node()
        node.run(["crm", "--force", "configure", "load", "update", "-"], text=configuration, timeout=60)

    def status(self, seen_by: str | None = None) -> Status:
        """The cluster as one living node sees it: the given one, or the first that answers and has quorum."""
        candidates = (
            [self.node(seen_by)] if seen_by else [node for node in self.nodes if node.is_on and not node.is_frozen]
        )
        status: Status | None = None
        problem = "no node is running"
        for node in candidates:
            try:
                cib = node.run(["cibadmin", "--query"], timeout=STATUS_SECONDS).stdout
                mon = node.run(["crm_mon", "--one-shot", "--output-as=xml"], timeout=STATUS_SECONDS).stdout
            except LabError as error:
                problem = str(error)
                continue
            status = parse_status(node.name, cib, mon, crm.RESOURCE)
            if status.quorum:
                return status
        if status is None:
            raise LabError(problem)
        return status

    def wait(
        self, what: str, accept: Callable[[Status], object], *, within: float = 60, seen_by: str | None = None
    ) -> Status:
        """The first status for which `accept` holds; fails after `within` seconds with every status seen until then."""

        def holds(status: Status) -> object:
            try:
                return accept(status)
            except KeyError:
                # The cluster does not know the node yet.
                return False

        return eventually(what, lambda: self.status(seen_by), holds, within=within)

    def wait_healthy(self, *, within: float = 90) -> Status:
        """One primary with the VIP, and a standby on every other node."""
        expected = len(self.settings.nodes)
        return self.wait(
            "one node is promoted and has the VIP, all others are unpromoted",
            lambda seen: (
                seen.promoted is not None
                and len(seen.unpromoted) == expected - 1
                and ("vip" not in seen.locations or seen.location("vip") == seen.promoted)
            ),
            within=within,
        )

    def primary(self) -> Node:
        """The node that the cluster has promoted."""
        status = self.status()
        if status.promoted is None:
            raise LabError(f"there is not one primary: {status}")
        return self.node(status.promoted)

    def standbys(self) -> list[Node]:
        """The nodes on which the cluster runs an unpromoted instance."""
        return [self.node(name) for name in self.status().unpromoted]

    def writable(self) -> list[Node]:
        """The nodes whose server would take a write, whatever the cluster thinks. More than one is a split brain."""
        return [node for node in self.nodes if node.is_writable()]

    # --- fencing

    @property
    def fencing_delay(self) -> float:
        """Seconds between a fencing request and its execution."""
        return float(power.ask(self.layout, {"do": "set"})["delay"])

    @fencing_delay.setter
    def fencing_delay(self, seconds: float) -> None:
        power.ask(self.layout, {"do": "set", "delay": seconds})

    def fencing_fails(self, times: int) -> None:
        """The next so many fencing requests fail."""
        power.ask(self.layout, {"do": "set", "failures": times})

    def events(self) -> list[dict[str, Any]]:
        """What the power supply did: event, node, wall and monotonic time in seconds."""
        try:
            return [json.loads(line) for line in self.layout.events_file.read_text().splitlines()]
        except FileNotFoundError:
            return []

    def fenced(self) -> list[str]:
        """The names of the nodes that the cluster fenced, in order, as often as it did."""
        return [str(event["node"]) for event in self.events() if event["event"] == "fenced"]

    # --- clients and logs

    def client(self, name: str = "writer", **options: Any) -> Client:
        """Start a client that writes through the VIP; see Client.start for the options."""
        client = Client.start(self, name, **options)
        self._clients.append(client)
        return client

    def collect(self, destination: Path) -> Path:
        """Copy every log, history and the CIB into a folder."""
        destination.mkdir(parents=True, exist_ok=True)
        for node in self.nodes:
            for name, path in node.logs().items():
                _copy(path, destination / node.name / name)
            _copy(node.cib_file, destination / node.name / "cib.xml")
        for pattern in ("*.log", "*.json", "*.jsonl", "*.crm", "clients/*"):
            for path in self.layout.root.glob(pattern):
                _copy(path, destination / path.relative_to(self.layout.root))
        try:
            (destination / "status.txt").write_text(f"{self.status()}\n")
            (destination / "cib.xml").write_text(self._any_node().run(["cibadmin", "--query"]).stdout)
        except LabError as error:
            (destination / "status.txt").write_text(f"{error}\n")
        return destination

    def _any_node(self) -> Node:
        for node in self.nodes:
            if node.is_on:
                return node
        raise LabError("no node is on")


def _copy(source: Path, destination: Path) -> None:
    if source.is_file():
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)


def _processes_that_mention(root: str) -> list[str]:
    # The name of a lab may be the beginning of another one's.
    wanted = re.compile(re.escape(root) + r"(?![a-z0-9_])")
    return [f"{pid}: {title[:200]}" for pid in all_pids() if wanted.search(title := title_of(pid))]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be on the machine, and in a lab's folder, before the first node boots."""

import os
import shutil
from pathlib import Path

from tests.lab import clock, corosync, disks, fence_agent
from tests.lab.layout import PGHOME, Layout, Settings
from tests.lab.machine import RESOURCE_AGENTS
from tests.lab.waiting import LabError

PROGRAMS = {
    "corosync": "corosync",
    "pacemakerd": "pacemaker",
    "crm_mon": "pacemaker-cli-utils",
    "crm": "crmsh",
    "ip": "iproute2",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""Program -> Debian package that it comes with."""


def check_prerequisites(settings: Settings) -> None:
    """Everything that the lab needs is there; otherwise one sentence says what to install."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces and mounts (private ones)")
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=_SEARCH) is None}
    if not (RESOURCE_AGENTS / "heartbeat" / "IPaddr2").exists():
        missing.add("resource-agents")
    if not PGHOME.is_dir():
        missing.add("postgresql-common")
    if missing:
        raise LabError(f"the lab needs packages: apt-get install --no-install-recommends {' '.join(sorted(missing))}")
    if settings.own_clocks and not clock.LIBRARY.exists():
        raise LabError("clocks of the nodes' own need a package: apt-get install --no-install-recommends libfaketime")
    disks.check_disks(settings)
    if not (Path(settings.postgres_bin) / "postgres").exists():
        raise LabError(f"there is no PostgreSQL server in {settings.postgres_bin}: apt-get install postgresql-15")
    for provider, directory in settings.providers.items():
        if not Path(directory).is_dir():
            raise LabError(f"the directory of resource agent provider {provider} does not exist: {directory}")


_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def provider_directory(agent: Path) -> Path:
    """The directory that holds the executable `pgsql`, given it or a directory above as the installation makes it."""
    for below in ("", "resource.d/pgsql-ra", "usr/lib/ocf/resource.d/pgsql-ra"):
        if os.access(agent / below / "pgsql", os.X_OK):
            return (agent / below).resolve()
    raise LabError(
        f"there is no executable `pgsql` or `resource.d/pgsql-ra/pgsql` in {agent}: run `make install` first"
    )


def prepare_files(layout: Layout, settings: Settings, first_properties: dict[str, str]) -> None:
    """The lab's folder holds all that its nodes mount, except for the databases."""
    layout.root.mkdir(parents=True)
    # The database user has to get through, whatever the umask.
    for folder in (layout.root.parent, layout.root):
        folder.chmod(0o755)
    for folder in (layout.processes, layout.corosync, layout.sbin, layout.ocf, layout.clients):
        folder.mkdir()
    layout.save(settings)
    (layout.corosync / "corosync.conf").write_text(corosync.corosync_conf(settings))
    layout.hosts.write_text(corosync.hosts(settings))
    _install_fence_agent(layout)
    for provider in settings.providers:
        (layout.ocf / provider).mkdir()
    if settings.own_clocks:
        clock.install_server(layout.clocked_bin, Path(settings.postgres_bin) / "postgres")
    cib = corosync.first_cib(first_properties)
    for name in settings.nodes:
        _prepare_disk(layout, name, cib)
        if settings.own_clocks:
            layout.clock(name).write_text(clock.clock_text(0))


def _prepare_disk(layout: Layout, name: str, cib: bytes) -> None:
    """The folders of a node that outlive its boots."""
    disk = layout.node(name)
    for folder, mode, user, group in (
        ("pgsql", 0o755, "postgres", "postgres"),
        ("corosync", 0o755, "root", "root"),
        ("log", 0o755, "root", "root"),
        ("log/corosync", 0o755, "root", "root"),
        ("log/pacemaker", 0o770, "hacluster", "haclient"),
        ("log/crmsh", 0o775, "hacluster", "haclient"),
        ("log/postgresql", 0o775, "postgres", "postgres"),
        ("pacemaker", 0o755, "root", "root"),
        ("pacemaker/cib", 0o750, "hacluster", "haclient"),
        ("pacemaker/pengine", 0o750, "hacluster", "haclient"),
        ("pacemaker/cores", 0o750, "hacluster", "haclient"),
        ("pacemaker/blackbox", 0o750, "hacluster", "haclient"),
    ):
        path = disk / folder
        path.mkdir(parents=True)
        path.chmod(mode)
        shutil.chown(path, user, group)
    first = disk / "pacemaker/cib/cib.xml"
    first.write_bytes(cib)
    first.chmod(0o600)
    shutil.chown(first, "hacluster", "haclient")


def _install_fence_agent(layout: Layout) -> None:
    source = Path(fence_agent.__file__).read_text().replace("@POWER_SOCKET@", str(layout.power_socket))
    target = layout.sbin / "fence_lab"
    # The system's Python (crmsh needs it, too): Pacemaker asks for the metadata as hacluster, who may not see ours.
    target.write_text(f"#!/usr/bin/python3 -I\n{source}")
    target.chmod(0o755)

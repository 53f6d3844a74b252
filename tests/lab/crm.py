# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster's configuration as text for crmsh."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.lab.layout import PGDATA, PGLOG, PORT, PREFIX_LENGTH, SOCKETDIR, TMPDIR, VIP, Settings

RESOURCE = "pgsql"
CLONE = "pgsql-clone"
VIP_RESOURCE = "vip"
DEFAULT_AGENT = "ocf:pgsql-ra:pgsql"

STATEFUL_AGENT = "ocf:pacemaker:Stateful"
"""A promotable resource without any database, to test the lab itself."""

OPERATIONS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("start", {"timeout": "60s"}),
    ("stop", {"timeout": "60s"}),
    ("promote", {"timeout": "60s"}),
    ("demote", {"timeout": "60s"}),
    ("notify", {"timeout": "60s"}),
    ("monitor", {"interval": "4s", "timeout": "30s"}),
    ("monitor", {"interval": "3s", "timeout": "30s", "role": "Promoted"}),
)


@dataclass(frozen=True)
class Configuration:
    """What a test may want to change of the usual configuration. A value None leaves out what is there by default."""

    agent: str = DEFAULT_AGENT
    rep_mode: str = "sync"
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    """Parameters of the agent, over the usual ones."""
    operations: tuple[tuple[str, Mapping[str, str]], ...] = OPERATIONS
    meta: Mapping[str, str | None] = field(default_factory=dict)
    """Meta attributes of the clone, over the usual ones."""
    properties: Mapping[str, str | None] = field(default_factory=dict)
    """Cluster properties, over the usual ones."""
    migration_threshold: int | None = None
    fence_parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Node -> parameters of the device that fences it, such as pcmk_delay_base."""
    fencing: bool = True
    vip: bool = True
    extra: str = ""
    """More lines for crmsh."""


def agent_parameters(settings: Settings, configuration: Configuration) -> dict[str, str]:
    """The parameters of the agent."""
    usual: dict[str, str | None] = {}
    if configuration.agent != STATEFUL_AGENT:
        usual = {
            "pgctl": f"{settings.postgres_bin}/pg_ctl",
            "psql": f"{settings.postgres_bin}/psql",
            "pgdata": str(PGDATA),
            "config": str(PGDATA / "postgresql.conf"),
            "pgport": str(PORT),
            "pgdba": "postgres",
            "socketdir": str(SOCKETDIR),
            "logfile": str(PGLOG),
            "tmpdir": str(TMPDIR),
            "rep_mode": configuration.rep_mode,
            "node_list": " ".join(settings.nodes),
            "master_ip": VIP,
            "repuser": "postgres",
        }
    return _merge(usual, configuration.parameters)


def crm_text(settings: Settings, configuration: Configuration) -> str:
    """The whole configuration for crmsh."""
    properties = _merge({"stonith-enabled": "true" if configuration.fencing else "false"}, configuration.properties)
    defaults: dict[str, str] = {}
    if configuration.migration_threshold is not None:
        defaults["migration-threshold"] = str(configuration.migration_threshold)
    meta = _merge(
        {
            "promotable": "true",
            "promoted-max": "1",
            "promoted-node-max": "1",
            "clone-max": str(len(settings.nodes)),
            "clone-node-max": "1",
            "notify": "true",
            "interleave": "true",
        },
        configuration.meta,
    )
    lines = [
        _line("property", properties),
        _line("rsc_defaults", defaults) if defaults else "",
        *(_fence_device(node, configuration) for node in settings.nodes if configuration.fencing),
        _primitive(RESOURCE, configuration.agent, agent_parameters(settings, configuration), configuration.operations),
        _line(f"clone {CLONE} {RESOURCE} meta", meta),
        _vip() if configuration.vip else "",
        configuration.extra,
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _vip() -> str:
    address = {"ip": VIP, "nic": "eth0", "cidr_netmask": str(PREFIX_LENGTH)}
    operations = (
        ("start", {"timeout": "30s"}),
        ("stop", {"timeout": "30s"}),
        ("monitor", {"interval": "10s", "timeout": "30s"}),
    )
    return "\n".join(
        [
            _primitive(VIP_RESOURCE, "ocf:heartbeat:IPaddr2", address, operations),
            f"colocation vip-with-primary inf: {VIP_RESOURCE} {CLONE}:Promoted",
            # Not symmetrical: standbys and clients reach the old primary until it was demoted.
            f"order promote-then-vip Mandatory: {CLONE}:promote {VIP_RESOURCE}:start symmetrical=false",
            f"order demote-then-no-vip Optional: {CLONE}:demote {VIP_RESOURCE}:stop symmetrical=false",
        ]
    )


def _fence_device(node: str, configuration: Configuration) -> str:
    parameters = {
        "pcmk_host_check": "static-list",
        "pcmk_host_list": node,
        **configuration.fence_parameters.get(node, {}),
    }
    monitor = {"interval": "60s", "timeout": "30s"}
    device = _primitive(f"fence-{node}", "stonith:fence_lab", parameters, (("monitor", monitor),))
    # A node cannot vouch for its own death.
    return f"{device}\nlocation fence-{node}-elsewhere fence-{node} -inf: {node}"


def _primitive(
    name: str,
    agent: str,
    parameters: Mapping[str, str],
    operations: tuple[tuple[str, Mapping[str, str]], ...],
) -> str:
    lines = [f"primitive {name} {agent}"]
    if parameters:
        lines.append(_line("    params", parameters))
    lines += [_line(f"    op {operation}", values) for operation, values in operations]
    return " \\\n".join(lines)


def _line(start: str, values: Mapping[str, str]) -> str:
    return " ".join([start, *(f'{name}="{value}"' for name, value in values.items())])


def _merge(usual: Mapping[str, str | None], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}

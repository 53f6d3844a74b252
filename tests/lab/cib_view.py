# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node says about the cluster, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass

from lxml import etree

PROMOTED = "Promoted"
UNPROMOTED = "Unpromoted"
STOPPED = "Stopped"
_MODERN_ROLES = {"Master": PROMOTED, "Slave": UNPROMOTED}


@dataclass(frozen=True)
class FailedAction:
    """A failure that the cluster remembers."""

    node: str
    operation: str
    exit_code: int
    status: str
    reason: str


@dataclass(frozen=True)
class NodeView:
    """A node and its instance of the promotable resource."""

    name: str
    online: bool
    unclean: bool
    standby: bool
    pending: bool
    role: str
    """Promoted, Unpromoted, Started, Starting ..., or Stopped."""
    blocked: bool
    failed: bool
    permanent: Mapping[str, str]
    """Node attributes of the CIB's configuration, for offline nodes too."""
    transient: Mapping[str, str]
    """Node attributes that last until the node leaves the cluster."""
    promotion_score: str | None

    def __str__(self) -> str:
        state = "online" if self.online else "OFFLINE"
        flags = [name for name in ("unclean", "standby", "pending", "blocked", "failed") if getattr(self, name)]
        score = "" if self.promotion_score is None else f"({self.promotion_score})"
        return " ".join([self.name, state, *flags, self.role + score])


@dataclass(frozen=True)
class Status:
    """The cluster in the eyes of one node."""

    seen_by: str
    dc: str | None
    quorum: bool
    nodes: tuple[NodeView, ...]
    locations: Mapping[str, tuple[str, ...]]
    """Plain resource, in a group or not -> nodes where it is active."""
    failures: tuple[FailedAction, ...]

    def node(self, name: str) -> NodeView:
        """The view of one node; KeyError if the cluster does not know it (yet)."""
        return {node.name: node for node in self.nodes}[name]

    @property
    def online(self) -> tuple[str, ...]:
        """Names of the nodes that are members and ready."""
        return tuple(node.name for node in self.nodes if node.online and not node.pending and not node.unclean)

    @property
    def promoted_nodes(self) -> tuple[str, ...]:
        """Names of the nodes where the resource is promoted (more than one while something is wrong or stale)."""
        return tuple(node.name for node in self.nodes if node.role == PROMOTED and not node.unclean)

    @property
    def promoted(self) -> str | None:
        """The one promoted node; None if there is none or more than one."""
        return self.promoted_nodes[0] if len(self.promoted_nodes) == 1 else None

    @property
    def unpromoted(self) -> tuple[str, ...]:
        """Names of the nodes where the resource runs unpromoted."""
        return tuple(node.name for node in self.nodes if node.role == UNPROMOTED and not node.unclean)

    def location(self, resource: str = "vip") -> str | None:
        """The one node where a plain resource is active."""
        nodes = self.locations.get(resource, ())
        return nodes[0] if len(nodes) == 1 else None

    def __str__(self) -> str:
        parts = [
            f"by {self.seen_by}: DC {self.dc or '-'}{'' if self.quorum else ' NO QUORUM'}",
            *map(str, self.nodes),
            ", ".join(f"{name}@{'+'.join(nodes) or '-'}" for name, nodes in self.locations.items()),
            *(f"failed {bad.operation} on {bad.node}: {bad.exit_code} {bad.reason}" for bad in self.failures),
        ]
        return " | ".join(part for part in parts if part)


def parse_status(seen_by: str, cib_xml: str, crm_mon_xml: str, resource: str) -> Status:
    """The status out of `cibadmin --query` and `crm_mon --output-as=xml`; `resource` is the promotable one's name."""
    cib = etree.fromstring(cib_xml.encode())
    mon = etree.fromstring(crm_mon_xml.encode())
    instances = {
        node.get("name", ""): element
        for element in mon.iterfind("resources/clone/resource")
        if element.get("id", "").split(":")[0] == resource
        for node in element.iterfind("node")
    }
    dc = mon.find("summary/current_dc")
    nodes = []
    for element in mon.iterfind("nodes/node"):
        name = element.get("name", "")
        transient = _attributes(cib, f"status/node_state[@uname='{name}']/transient_attributes")
        permanent = _attributes(cib, f"configuration/nodes/node[@uname='{name}']")
        instance = instances.get(name)
        role = STOPPED if instance is None else instance.get("role", "")
        nodes.append(
            NodeView(
                name=name,
                online=_flag(element, "online"),
                unclean=_flag(element, "unclean"),
                standby=_flag(element, "standby"),
                pending=_flag(element, "pending"),
                role=_MODERN_ROLES.get(role, role),
                blocked=_flag(instance, "blocked"),
                failed=_flag(instance, "failed"),
                permanent=permanent,
                transient=transient,
                promotion_score=transient.get(f"master-{resource}"),
            )
        )
    return Status(
        seen_by=seen_by,
        dc=dc.get("name") if dc is not None else None,
        quorum=_flag(dc, "with_quorum"),
        nodes=tuple(sorted(nodes, key=lambda node: node.name)),
        locations={
            # While it is being started it is shown on its node already (Pacemaker 2.1.5: role Starting, active).
            element.get("id", ""): ()
            if element.get("role") == "Starting"
            else tuple(node.get("name", "") for node in element.iterfind("node"))
            for element in (*mon.iterfind("resources/resource"), *mon.iterfind("resources/group/resource"))
        },
        failures=tuple(
            FailedAction(
                node=element.get("node", ""),
                operation=element.get("op_key", element.get("id", "")),
                exit_code=int(element.get("exitcode", "-1")),
                status=element.get("status", ""),
                reason=element.get("exitreason", ""),
            )
            for element in mon.iterfind("failures/failure")
        ),
    )


def _flag(element: etree._Element | None, name: str) -> bool:
    return element is not None and element.get(name) == "true"


def _attributes(cib: etree._Element, where: str) -> dict[str, str]:
    found = cib.iterfind(f"{where}/instance_attributes/nvpair")
    return {pair.get("name", ""): pair.get("value", "") for pair in found}

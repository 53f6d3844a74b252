# SPDX-License-Identifier: GPL-2.0-or-later
"""What Pacemaker will do with a resource by itself: whether it manages it at all, and whether a failed start keeps it
from trying again.
"""

from lxml import etree

from pgsql_ra.ocf import Deadline
from pgsql_ra.pacemaker.command import execute, run

_TRUE = ("1", "true", "yes", "on", "y")
_NO_FAILURE = ("0", "-1", "193")
"""rc-code of an operation that went well, or is under way (PCMK_OCF_UNKNOWN)."""


def is_managed(resource: str, node: str, deadline: Deadline) -> bool:
    """False in maintenance (of the cluster, the node or the resource), and if the resource is unmanaged."""
    cib = _query(deadline)
    properties = "configuration/crm_config/cluster_property_set/nvpair"
    if any(_says(pair, "maintenance-mode") for pair in cib.iterfind(properties)):
        return False
    for element in cib.iterfind("configuration/nodes/node"):
        pairs = element.iterfind("instance_attributes/nvpair")
        if str(element.get("uname")).lower() == node.lower() and any(_says(pair, "maintenance") for pair in pairs):
            return False
    for primitive in cib.iterfind("configuration/resources//primitive"):
        if primitive.get("id") != resource:
            continue
        # Its own meta attributes, and those of the clone around it.
        for element in (primitive, *primitive.iterancestors("clone", "master")):
            for pair in element.iterfind("meta_attributes/nvpair"):
                if _says(pair, "maintenance") or _denies(pair, "is-managed"):
                    return False
    return True


def is_configured(resource: str, deadline: Deadline) -> bool:
    """Whether the cluster has the resource at all."""
    return any(each.get("id") == resource for each in _query(deadline).iterfind("configuration/resources//primitive"))


def configured_parameters(resource: str, deadline: Deadline) -> dict[str, str] | None:
    """The parameters of the resource in the cluster's configuration; None if the cluster does not have it."""
    for primitive in _query(deadline).iterfind("configuration/resources//primitive"):
        if primitive.get("id") == resource:
            pairs = primitive.iterfind("instance_attributes/nvpair")
            return {str(pair.get("name")): str(pair.get("value", "")) for pair in pairs}
    return None


def has_failed_start(resource: str, node: str, deadline: Deadline) -> bool:
    """Whether the cluster remembers that the resource could not be started on the node."""
    for state in _query(deadline).iterfind("status/node_state"):
        if str(state.get("uname")).lower() != node.lower():
            continue
        for history in state.iterfind("lrm/lrm_resources/lrm_resource"):
            if str(history.get("id")).partition(":")[0] == resource:
                operations = history.iterfind("lrm_rsc_op[@operation='start']")
                return any(operation.get("rc-code") not in _NO_FAILURE for operation in operations)
    return False


def clean_up(resource: str, node: str, deadline: Deadline) -> None:
    """The failures of the resource on the node are forgotten, so that Pacemaker starts it there again."""
    run(["crm_resource", "--cleanup", f"--resource={resource}", f"--node={node}"], deadline)


def decides_alone(deadline: Deadline) -> bool:
    """Whether corosync gives one of two nodes a quorum although it has not seen the other one since it was started:
    two_node without wait_for_all. False where corosync does not say so.
    """
    said = execute([["corosync-quorumtool", "-s"]], deadline)[0].out
    return has_no_wait_for_all(said)


def has_no_wait_for_all(said: str) -> bool:
    """The same, from what `corosync-quorumtool -s` prints.

    >>> has_no_wait_for_all("Flags:            2Node Quorate WaitForAll "), has_no_wait_for_all("Flags: 2Node Quorate")
    (False, True)
    """
    flags = next((line.split()[1:] for line in said.splitlines() if line.startswith("Flags:")), [])
    return "2Node" in flags and "WaitForAll" not in flags


def _query(deadline: Deadline) -> etree._Element:
    return etree.fromstring(run(["cibadmin", "--query"], deadline).encode())


def _says(pair: etree._Element, name: str) -> bool:
    return pair.get("name") == name and str(pair.get("value")).lower() in _TRUE


def _denies(pair: etree._Element, name: str) -> bool:
    return pair.get("name") == name and str(pair.get("value")).lower() not in _TRUE

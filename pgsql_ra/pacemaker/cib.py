# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the cluster: one `cibadmin --query`, parsed into the state that decisions look at.

The local replica answers (about 10 ms). crm_mon would show roles and "unclean" ready made, but leaves out the permanent
attributes of nodes that are offline, which is what a failover is about. Formats: Pacemaker 2.0 to 3.0.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from lxml import etree

from pgsql_ra.ocf import ClusterFailure, Deadline
from pgsql_ra.pacemaker.command import execute
from pgsql_ra.replication.lsn import History, LastRecord
from pgsql_ra.replication.record import Promotion, Published, Stamp
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState, Role, Voters

T = TypeVar("T")

DEFAULT_PRIORITY: Final = 1
PRIVATE: Final = ("position", "election", "known", "met", "receiver-from")
"""Attributes that attrd alone knows."""
Private = Mapping[str, Mapping[str, str]]
"""Their values, by attribute and node."""
FENCING: Final = ("fencing-enabled", "stonith-enabled")
"""One cluster option: the name in current Pacemaker (lib/common/options.c), and the one until then."""
_TRUE = ("1", "true", "yes", "on", "y")


def read_cluster(resource: str, deadline: Deadline) -> ClusterState:
    """The state of the cluster, as far as `resource` is concerned. ClusterFailure if Pacemaker does not answer."""
    queries = [["attrd_updater", "--query", "--all", f"--name={resource}-{name}"] for name in PRIVATE]
    cib, *answers = execute([["cibadmin", "--query"], *queries], deadline)
    # attrd fails if nobody ever set the attribute; the codes for that differ between versions (6, 78, 105).
    values = (parse_private(answer.out if answer.status == 0 else "") for answer in answers)
    return parse(cib.succeeded(), resource, dict(zip(PRIVATE, values, strict=True)))


_PUBLISHED = re.compile(r'\bhost="([^"]*)" value="([^"]*)"')


def parse_private(text: str) -> dict[str, str]:
    """The values of a private attribute by node name in lower case, from what `attrd_updater --query --all` prints.

    >>> parse_private('name="pgsql-position" host="Node1" value="0/40 2:1@0/4"')
    {'node1': '0/40 2:1@0/4'}
    """
    return {host.lower(): value for host, value in _PUBLISHED.findall(text)}


def parse(text: str, resource: str, private: Private | None = None) -> ClusterState:
    """Read a CIB, beside the private attributes. ClusterFailure if it is not a CIB."""
    try:
        cib = etree.fromstring(text.encode())
    except etree.XMLSyntaxError as error:
        raise ClusterFailure(f"cibadmin printed something that is not a CIB: {error}") from error
    options = {
        str(pair.get("name")): str(pair.get("value"))
        for pair in cib.iterfind("configuration/crm_config/cluster_property_set[@id='cib-bootstrap-options']/nvpair")
    }
    # Whoever says that it is on is right: what is not fenced must not be taken for down.
    said = [options[name].lower() in _TRUE for name in FENCING if name in options]
    fencing = any(said) or not said
    states = {str(state.get("id")): state for state in cib.iterfind("status/node_state")}
    nodes = tuple(
        _node(node, states.get(str(node.get("id"))), resource, fencing, private or {})
        for node in cib.iterfind("configuration/nodes/node")
        if node.get("uname")
    )
    return ClusterState(
        quorum=cib.get("have-quorum", "0").lower() in _TRUE,
        fencing=fencing,
        nodes=nodes,
        quorum_needed=options.get("no-quorum-policy", "stop") != "ignore",
    )


def _node(
    node: etree._Element,
    state: etree._Element | None,
    resource: str,
    fencing: bool,
    private: Private,
) -> NodeState:
    values = _values(node.iterfind("instance_attributes/nvpair"))
    own = {name: by_node.get(str(node.get("uname")).lower(), "") for name, by_node in private.items()}
    role = Role.UNKNOWN
    if state is not None:
        values |= _values(state.iterfind("transient_attributes/instance_attributes/nvpair"))
        role = _role(state, resource)
    published = _read(Published.parse, own.get("position", ""))
    stamp = _read(Stamp.parse, values.get(f"{resource}-promotion", ""))
    return NodeState(
        name=str(node.get("uname")),
        membership=_membership(state, fencing),
        role=role,
        data_status=values.get(f"{resource}-data-status", ""),
        status=values.get(f"{resource}-status", ""),
        score=values.get(f"master-{resource}", ""),
        position=published.position if published else None,
        cut_for=published.cut_for if published else 0,
        system=published.system if published else "",
        went_back=published.went_back if published else False,
        record=_read(History.parse, values.get(f"{resource}-timeline", "")),
        promotion=stamp.promotion if stamp else None,
        proof=stamp.proof if stamp else None,
        known=_read(Promotion.parse, own.get("known", "")),
        met=frozenset(own.get("met", "").lower().split()),
        last=_read(LastRecord.parse, own.get("known", "")),
        voters=_read(Voters.parse, values.get(f"{resource}-voters", "")),
        priority=_priority(values.get(f"{resource}-priority", "")),
        why=values.get(f"{resource}-not-promoted", ""),
        location=values.get(f"{resource}-xlog-loc", ""),
        receiver=values.get(f"{resource}-receiver-status", ""),
        unfit=values.get(f"{resource}-unfit", ""),
        election=own.get("election", ""),
        receives=own.get("receiver-from", ""),
    )


def _values(pairs: Iterable[etree._Element]) -> dict[str, str]:
    return {str(pair.get("name")): str(pair.get("value", "")) for pair in pairs}


def _read(parse_value: Callable[[str], T], text: str) -> T | None:
    """An attribute's value; None if it is not set or not one (somebody else's value counts as unknown)."""
    try:
        return parse_value(text) if text else None
    except ValueError:
        return None


def _priority(text: str) -> int:
    """The administrator's number; what is no number is none."""
    return int(text) if text.isascii() and text.isdigit() else DEFAULT_PRIORITY


def _membership(state: etree._Element | None, fencing: bool) -> Membership:
    """By the rules of the scheduler (determine_online_status_fencing in lib/pengine/unpack.c), and never more
    optimistic.

    in_ccm and crmd are true/online up to Pacemaker 2.1.6 and epoch seconds from 2.1.7 on (0: not a member).
    """
    if state is None:
        return Membership.UNCLEAN if fencing else Membership.CLEAN
    in_corosync = _is_up(state.get("in_ccm"))
    in_pacemaker = _is_up(state.get("crmd"))
    if in_corosync and in_pacemaker and state.get("join") == "member":
        return Membership.MEMBER
    if state.get("expected") == "down" and state.get("join") == "down":
        # Fenced, or it left properly. Until it has joined again nothing is started on it: the scheduler calls a node
        # that boots after its fencing "not ready to run resources", and a promotion or a commit must not wait for it.
        return Membership.CLEAN
    if in_pacemaker:
        return Membership.UNCLEAN  # joining or leaving: not to be counted on either way
    if state.get("expected") == "down" or not fencing:
        return Membership.CLEAN
    return Membership.UNCLEAN


def _is_up(value: str | None) -> bool:
    if value is None:
        return False
    return value.lower() in ("true", "online") or (value.isdigit() and int(value) > 0)


def _role(state: etree._Element, resource: str) -> Role:
    """The role that the last finished operation left this resource in.

    A recurring monitor is no such operation: when it finds another role, Pacemaker first acts, and that is recorded.
    """
    role, last = Role.UNKNOWN, -1
    for history in state.iterfind("lrm/lrm_resources/lrm_resource"):
        if str(history.get("id")).partition(":")[0] != resource:
            continue
        for operation in history.iterfind("lrm_rsc_op"):
            found = _role_after(operation)
            call = int(operation.get("call-id", "-1"))
            if found is not None and call > last:
                role, last = found, call
    return role


def _role_after(operation: etree._Element) -> Role | None:
    if operation.get("op-status") == "-1" or operation.get("interval", "0") != "0":
        return None
    after = {
        ("start", "0"): Role.UNPROMOTED,
        ("promote", "0"): Role.PROMOTED,
        ("demote", "0"): Role.UNPROMOTED,
        ("stop", "0"): Role.STOPPED,
        ("monitor", "0"): Role.UNPROMOTED,
        ("monitor", "7"): Role.STOPPED,
        ("monitor", "8"): Role.PROMOTED,
    }
    return after.get((str(operation.get("operation")), str(operation.get("rc-code"))))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for Pacemaker's command line tools, run under their names (see stand_in.py, which installs it).

It is a program of its own: it reads and writes the files beside it, logs how it was called, and refuses every option
that the real tools would not understand or would misread. It runs hundreds of times, so it imports little.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = 64
NO_SUCH_DEVICE = 6
NOT_CONNECTED = 102
TIMER_EXPIRED = 124

KNOWN = {
    "crm_attribute": {"lifetime", "name", "node", "update"},
    "attrd_updater": {"name", "node", "update", "delete", "private", "query", "all", "refresh"},
    "cibadmin": {"query", "node", "timeout"},
    "crm_node": {"name"},
    "crm_resource": {"cleanup", "resource", "node"},
}


def main(program: str, arguments: list[str]) -> int:
    """Run one tool; returns its exit status."""
    folder, tool = os.path.split(program)
    with open(f"{folder}/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(f"{folder}/calls", "a", encoding="utf-8") as calls:
            calls.write(json.dumps([tool, *arguments]) + "\n")
        with open(f"{folder}/state.json", encoding="utf-8") as file:
            state = json.load(file)
        if tool not in state["hanging"] + state["broken"]:
            status = run(tool, arguments, state)
            with open(f"{folder}/state.new", "w", encoding="utf-8") as file:
                json.dump(state, file)
            os.replace(f"{folder}/state.new", f"{folder}/state.json")
            return status
    if tool in state["hanging"]:
        time.sleep(3600)
    print(f"{tool}: Connection to cluster failed: Transport endpoint is not connected", file=sys.stderr)
    return NOT_CONNECTED


def run(tool: str, arguments: list[str], state: dict[str, Any]) -> int:
    """What the tool of this name does with the cluster's state."""
    options = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    strange = [argument for argument in arguments if not argument.startswith("--")] + sorted(set(options) - KNOWN[tool])
    if strange:
        print(f"{tool}: does not understand {strange}", file=sys.stderr)
        return USAGE
    if tool == "cibadmin":
        if options.get("node") in state.get("cut_off", []):
            print("Call cib_query failed: Timer expired", file=sys.stderr)
            return TIMER_EXPIRED
        print(cib(state))
        return 0
    if tool == "crm_node":
        print(next(iter(state["nodes"])))
        return 0
    if tool == "crm_resource":
        state["nodes"][options["node"]]["operation"] = []
        return 0
    if "query" in options:
        return query(options["name"], options.get("node"), state["nodes"])
    if "refresh" in options:
        for facts in state["nodes"].values():
            facts["transient"] |= facts.get("attrd", {})
        return 0
    return write(tool, options, state["nodes"])


def write(tool: str, options: dict[str, str], nodes: dict[str, Any]) -> int:
    """Set or delete one attribute of one node."""
    if not options.get("name") or options.get("node") not in nodes:
        print(f"{tool}: no attribute or no such node: {options}", file=sys.stderr)
        return USAGE
    permanent = tool == "crm_attribute"
    if permanent and options.get("lifetime") != "forever":
        print("crm_attribute: only permanent attributes go this way", file=sys.stderr)
        return USAGE
    life = "permanent" if permanent else "private" if "private" in options else "transient"
    facts = nodes[options["node"]]
    values, name = facts[life], options["name"]
    # What attrd takes for no change never reaches the CIB, whatever is there.
    attrd = facts.setdefault("attrd", {}) if life == "transient" else {}
    if "delete" in options:
        values.pop(name, None)
        attrd.pop(name, None)
    elif attrd.get(name) != options["update"]:
        values[name] = attrd[name] = options["update"]
    return 0


def query(name: str, wanted: str | None, nodes: dict[str, Any]) -> int:
    """Print the values of an attribute, on all nodes or one, as attrd_updater does."""
    known = {node: facts["private"] | facts.get("attrd", {}) for node, facts in nodes.items()}
    found = [(node, values[name]) for node, values in known.items() if name in values and wanted in (None, node)]
    for node, value in found:
        print(f'name="{name}" host="{node}" value="{value}"')
    return 0 if found else NO_SUCH_DEVICE


def cib(state: dict[str, Any]) -> str:
    """The part of the CIB that the agent reads."""
    options = nvpairs({"stonith-enabled": "true", "no-quorum-policy": "stop"})
    nodes = "".join(
        f'<node id="{name}" uname="{name}"><instance_attributes>{nvpairs(facts["permanent"])}</instance_attributes>'
        "</node>"
        for name, facts in state["nodes"].items()
    )
    states = "".join(node_state(name, facts) for name, facts in state["nodes"].items())
    return (
        f'<cib admin_epoch="0" epoch="7" have-quorum="{int(state["quorum"])}"><configuration><crm_config>'
        f'<cluster_property_set id="cib-bootstrap-options">{options}</cluster_property_set></crm_config>'
        f'<resources><primitive id="pgsql"><instance_attributes>{nvpairs(state["parameters"])}</instance_attributes>'
        "</primitive></resources>"
        f"<nodes>{nodes}</nodes></configuration><status>{states}</status></cib>"
    )


def node_state(name: str, facts: dict[str, Any]) -> str:
    """One node as the status section shows it: a member, or offline and clean."""
    member = facts["member"]
    words = 'in_ccm="true" crmd="online" join="member"' if member else 'in_ccm="false" crmd="offline" join="down"'
    operation = ""
    if facts["operation"]:
        action, code = facts["operation"]
        operation = f'<lrm_rsc_op operation="{action}" rc-code="{code}" call-id="1" interval="0" op-status="0"/>'
    return (
        f'<node_state id="{name}" uname="{name}" {words} expected="{"member" if member else "down"}">'
        f'<lrm><lrm_resources><lrm_resource id="pgsql">{operation}</lrm_resource></lrm_resources></lrm>'
        f"<transient_attributes><instance_attributes>{nvpairs(facts['transient'])}</instance_attributes>"
        "</transient_attributes></node_state>"
    )


def nvpairs(values: dict[str, str]) -> str:
    """Attributes as the CIB writes them; none of theirs needs escaping."""
    return "".join(f'<nvpair name="{name}" value="{value}"/>' for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[0], sys.argv[1:]))

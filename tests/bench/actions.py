# SPDX-License-Identifier: GPL-2.0-or-later
"""What an action costs: wall and CPU seconds of the agent as Pacemaker calls it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench import stopwatch
from tests.bench.agents import Agent
from tests.bench.scenarios import nodes_of, redundant_lab
from tests.lab import Lab, Node
from tests.lab.cib_view import PROMOTED, UNPROMOTED
from tests.lab.crm import RESOURCE, Configuration, agent_parameters
from tests.lab.machine import RESOURCE_AGENTS
from tests.lab.processes import SYSTEM_PATH

RUNS = 21
WARM_UP = 4
PLAN_SECONDS = 300.0
PROMOTED_CODE = 8

PACEMAKER_ENVIRONMENT: Mapping[str, str] = {
    "HA_LOGFILE": "/var/log/pacemaker/pacemaker.log",
    "HA_cluster_type": "corosync",
    "HA_debug": "0",
    "HA_mcp": "true",
    "HA_quorum_type": "corosync",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C",
    "OCF_EXIT_REASON_PREFIX": "ocf-exit-reason:",
    "OCF_OUTPUT_FORMAT": "text",
    "OCF_RA_VERSION_MAJOR": "1",
    "OCF_RA_VERSION_MINOR": "1",
    "OCF_ROOT": "/usr/lib/ocf",
    "PATH": SYSTEM_PATH,
    "PCMK_cluster_type": "corosync",
    "PCMK_debug": "0",
    "PCMK_logfacility": "none",
    "PCMK_logfile": "/var/log/pacemaker/pacemaker.log",
    "PCMK_mcp": "true",
    "PCMK_quorum_type": "corosync",
    "PCMK_service": "pacemaker-execd",
    "PCMK_watchdog": "false",
}
"""What Pacemaker's executor gives to every agent."""

WORKING_DIRECTORY = "/var/lib/pacemaker/cores"


@dataclass(frozen=True)
class ActionCost:
    """Seconds of each measured run of an action, or why it could not be measured."""

    wall: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()
    error: str = ""


def measure_actions(agent: Agent, lab_name: str) -> dict[str, ActionCost]:
    """The costs of meta-data, of monitor on a primary and of monitor on its synchronous standby, in one lab.

    The cluster is in maintenance meanwhile, so that its own monitors do not run at the same time.
    """
    with redundant_lab(agent, lab_name) as (lab, seen, _):
        primary, standby = nodes_of(lab, seen)
        primary.run(["crm_attribute", "--name=maintenance-mode", "--update=true"])
        return {
            "meta-data": _cost(primary, agent, "meta-data", {}, 0),
            "monitor-primary": _cost(primary, agent, "monitor", _monitor(lab, primary, PROMOTED, 3000), PROMOTED_CODE),
            "monitor-standby": _cost(standby, agent, "monitor", _monitor(lab, standby, UNPROMOTED, 4000), 0),
        }


def _cost(node: Node, agent: Agent, action: str, environment: Mapping[str, str], expected: int) -> ActionCost:
    plan = {
        "argv": [str(RESOURCE_AGENTS / agent.provider / "pgsql"), action],
        "environment": {
            **PACEMAKER_ENVIRONMENT,
            "OCF_RESOURCE_INSTANCE": RESOURCE,
            "OCF_RESOURCE_PROVIDER": agent.provider,
            "OCF_RESOURCE_TYPE": "pgsql",
            **environment,
        },
        "directory": WORKING_DIRECTORY,
        "expected": expected,
        "warm_up": WARM_UP,
        "runs": RUNS,
    }
    done = node.run([sys.executable, "-I", stopwatch.__file__, json.dumps(plan)], check=False, timeout=PLAN_SECONDS)
    if done.returncode:
        return ActionCost(error=done.stderr.strip())
    times = json.loads(done.stdout)
    return ActionCost(tuple(times["wall"]), tuple(times["cpu"]))


def _monitor(lab: Lab, node: Node, role: str, interval_ms: int) -> dict[str, str]:
    """The parameters and meta attributes that a recurring monitor gets."""
    meta = {
        "clone": "0",
        "clone_max": str(len(lab.settings.nodes)),
        "clone_node_max": "1",
        "globally_unique": "false",
        "interval": str(interval_ms),
        "master_max": "1",
        "master_node_max": "1",
        "name": "monitor",
        "notify": "true",
        "on_node": node.name,
        "on_node_uuid": str(lab.settings.nodes.index(node.name) + 1),
        "promoted_max": "1",
        "promoted_node_max": "1",
        "timeout": "30000",
        **({"role": role} if role == PROMOTED else {}),
    }
    parameters = agent_parameters(lab.settings, Configuration(rep_mode=lab.settings.rep_mode))
    return {
        **{f"OCF_RESKEY_{name}": value for name, value in parameters.items()},
        **{f"OCF_RESKEY_CRM_meta_{name}": value for name, value in meta.items()},
        "OCF_RESKEY_crm_feature_set": "3.16.1",
    }

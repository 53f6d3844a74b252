# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in for the cluster: a folder with Pacemaker's tools under their names, and what the tests ask of it.

It holds attributes and answers a CIB, and decides nothing: what Pacemaker does with them is what the cluster tests are
about.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgsql_ra.postgres.endpoint import local_mark

TOOLS = ("crm_attribute", "attrd_updater", "cibadmin", "crm_node", "crm_resource")


class StandInCluster:
    """Two nodes: `n1`, on which the tests run the agent, and `n2`, which is down and known to be."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        folder.mkdir(parents=True)
        source = Path(__file__).with_name("cluster_tool.py").read_text()
        program = folder / "tool"
        program.write_text(f"#!/usr/bin/python3 -IS\n{source}")
        program.chmod(0o755)
        for name in TOOLS:
            # Copies: the program finds its files by the name it is called by.
            (folder / name).hardlink_to(program)
        (folder / "calls").touch()
        nodes = {name: _node(name == "n1") for name in ("n1", "n2")}
        self._write({"quorum": True, "broken": [], "hanging": [], "parameters": {}, "nodes": nodes})

    def calls(self) -> list[list[str]]:
        """How the tools were called so far, oldest first."""
        return [json.loads(line) for line in (self.path / "calls").read_text().splitlines()]

    def writes(self) -> list[list[str]]:
        """The calls that were to change something."""
        return [call for call in self.calls() if any(word.startswith(("--update", "--delete")) for word in call)]

    def attribute(self, node: str, name: str) -> str:
        """The value of an attribute, permanent or transient; "" if it is not set."""
        facts = self._read()["nodes"][node]
        return str((facts["permanent"] | facts["transient"]).get(name, ""))

    def private(self, node: str, name: str) -> str:
        """The value of a private attribute; "" if it is not set."""
        return str(self._read()["nodes"][node]["private"].get(name, ""))

    def set_permanent(self, node: str, name: str, value: str) -> None:
        """Set a permanent attribute as an administrator would."""
        state = self._read()
        state["nodes"][node]["permanent"][name] = value
        self._write(state)

    def cut_off(self, *nodes: str) -> None:
        """These nodes are cut off, and nobody has noticed: they are members still, and do not answer."""
        state = self._read()
        state["cut_off"] = list(nodes)
        self._write(state)

    def set_private(self, node: str, name: str, value: str) -> None:
        """Set a private attribute, as the agent on that node would."""
        state = self._read()
        state["nodes"][node]["private"][name] = value
        self._write(state)

    def receives_by_socket(self, node: str) -> None:
        """That node says that its WAL receiver connects to the primary by a socket of this machine."""
        self.set_private(node, "pgsql-receiver-from", local_mark())

    def set_score(self, node: str, score: str) -> None:
        """Set a node's promotion score as its primary would."""
        state = self._read()
        state["nodes"][node]["transient"]["master-pgsql"] = score
        self._write(state)

    def finished(self, node: str, action: str, code: int) -> None:
        """Record the result of an action, which is how a CIB knows the roles."""
        if action in ("start", "stop", "promote", "demote"):
            state = self._read()
            state["nodes"][node]["operation"] = [action, str(code)]
            self._write(state)

    def configure(self, parameters: Mapping[str, str]) -> None:
        """The cluster's configuration has a resource `pgsql` with these parameters."""
        self._write(self._read() | {"parameters": dict(parameters)})

    def run_primary(self, node: str, history: str) -> None:
        """That node is a member, and the primary."""
        state = self._read()
        facts = state["nodes"][node]
        facts["member"], facts["operation"] = True, ["promote", "0"]
        facts["permanent"] |= {"pgsql-data-status": "LATEST", "pgsql-timeline": history}
        facts["transient"] |= {"pgsql-status": "PRI", "master-pgsql": "1000"}
        self._write(state)

    def run_standby(self, node: str, private: Mapping[str, str]) -> None:
        """That node is a member, and a standby that has said this of itself."""
        state = self._read()
        facts = state["nodes"][node]
        facts["member"], facts["operation"] = True, ["start", "0"]
        facts["private"] |= private
        self._write(state)

    def join(self, node: str) -> None:
        """That node is a member."""
        state = self._read()
        state["nodes"][node]["member"] = True
        self._write(state)

    def stop_primary(self, node: str) -> None:
        """That node is no member any more."""
        state = self._read()
        state["nodes"][node] |= {"member": False, "operation": []}
        self._write(state)

    def forget_transient(self, node: str) -> None:
        """attrd was restarted."""
        state = self._read()
        state["nodes"][node] |= {"transient": {}, "private": {}, "attrd": {}}
        self._write(state)

    def wipe_transient(self, node: str) -> None:
        """The controller of that node was killed: the CIB has lost what attrd still knows."""
        state = self._read()
        state["nodes"][node]["transient"] = {}
        self._write(state)

    def go_down(self, *tools: str) -> None:
        """From now on these tools (all, if none is named) find no cluster."""
        self._write(self._read() | {"broken": list(tools or TOOLS)})

    def hang(self, *tools: str) -> None:
        """From now on these tools do not answer."""
        self._write(self._read() | {"hanging": list(tools)})

    def lose_quorum(self) -> None:
        """This partition has no quorum any more."""
        self._write(self._read() | {"quorum": False})

    def find_quorum(self) -> None:
        """This partition has quorum again."""
        self._write(self._read() | {"quorum": True})

    def _read(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.path / "state.json").read_text())
        return state

    def _write(self, state: dict[str, Any]) -> None:
        (self.path / "state.json").write_text(json.dumps(state))


def _node(member: bool) -> dict[str, object]:
    return {"member": member, "permanent": {}, "transient": {}, "private": {}, "operation": []}

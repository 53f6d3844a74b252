# SPDX-License-Identifier: GPL-2.0-or-later
"""The fence agent of the lab, `fence_lab` inside the nodes: it asks the lab's power supply to switch a node off.

A stand-alone program for the standard library only. Options arrive as key=value lines on stdin. It answers 0 only when
the power supply has confirmed that nothing of the victim runs any more.
"""

import json
import os
import socket
import sys

POWER_SOCKET = "@POWER_SOCKET@"
"""Filled in when a lab installs this program."""
POWER_SECONDS = 300.0
"""Longer than any timeout Pacemaker has for fencing: how long to wait is Pacemaker's decision."""
STATUS_OFF = 2

METADATA = """<?xml version="1.0"?>
<resource-agent name="fence_lab" shortdesc="Fence agent of the cluster lab">
  <longdesc>Switches a node of the cluster lab off through the lab's power supply.</longdesc>
  <vendor-url>https://clusterlabs.org</vendor-url>
  <parameters>
    <parameter name="action" unique="0" required="0">
      <content type="string" default="reboot"/>
      <shortdesc lang="en">Fencing action</shortdesc>
    </parameter>
    <parameter name="nodename" unique="0" required="0">
      <content type="string"/>
      <shortdesc lang="en">Node to fence</shortdesc>
    </parameter>
    <parameter name="port" unique="0" required="0">
      <content type="string"/>
      <shortdesc lang="en">Node to fence</shortdesc>
    </parameter>
  </parameters>
  <actions>
    <action name="on" automatic="0"/>
    <action name="off"/>
    <action name="reboot"/>
    <action name="status"/>
    <action name="list"/>
    <action name="monitor"/>
    <action name="metadata"/>
    <action name="validate-all"/>
  </actions>
</resource-agent>
"""


def ask(**request: str) -> dict[str, object]:
    """Send one request to the power supply and return its answer."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(POWER_SECONDS)
        link.connect(POWER_SOCKET)
        link.sendall(json.dumps(request).encode() + b"\n")
        with link.makefile() as answer:
            reply: dict[str, object] = json.loads(answer.readline())
    return reply


def main() -> int:
    """Do the requested action; the exit code."""
    options = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line) if not sys.stdin.isatty() else {}
    action = options.get("action", options.get("option", sys.argv[-1].removeprefix("--action=")))
    victim = options.get("port", options.get("nodename", options.get("plug", "")))
    if action in ("metadata", "meta-data"):
        sys.stdout.write(METADATA)
        return 0
    if action == "validate-all":
        return 0
    me = os.uname().nodename
    if action in ("monitor", "list"):
        reply = ask(do="list", by=me)
        nodes = reply.get("nodes", [])
        if action == "list" and isinstance(nodes, list):
            sys.stdout.write("".join(f"{node},\n" for node in nodes))
    elif action == "status":
        reply = ask(do="status", node=victim, by=me)
        if reply["ok"] and not reply["on"]:
            return STATUS_OFF
    elif action in ("off", "reboot", "on"):
        reply = ask(do="fence", action=action, node=victim, by=me)
    else:
        reply = {"ok": False, "error": f"unknown action {action!r}"}
    if not reply["ok"]:
        sys.stderr.write(f"fence_lab: {action} {victim}: {reply.get('error')}\n")
    return 0 if reply["ok"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.stderr.write(f"fence_lab: the power supply does not answer: {error}\n")
        sys.exit(1)

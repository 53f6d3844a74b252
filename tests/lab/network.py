# SPDX-License-Identifier: GPL-2.0-or-later
"""The network of a lab: a switch, the nodes and the clients, each in a network namespace of its own.

The bridge lives in the switch's namespace and every cable is laid from there, so nothing ever appears in the network of
the host, and all labs use the same addresses. A port is called after whoever is plugged in.
"""

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import delayer
from tests.lab.layout import CLIENT_ADDRESS, PREFIX_LENGTH, Layout, Settings
from tests.lab.processes import Identity, pids_in_namespace, run
from tests.lab.waiting import LabError, eventually

BRIDGE = "br0"
CLIENT = "client"
NETNS_DIRECTORY = Path("/run/netns")


def namespaces_of(lab: str) -> list[str]:
    """The network namespaces that exist for a lab."""
    prefix = f"pgra-{lab}-"
    try:
        return sorted(entry.name for entry in NETNS_DIRECTORY.iterdir() if entry.name.startswith(prefix))
    except FileNotFoundError:
        return []


def remove_namespaces(lab: str) -> None:
    """Every process in the lab's network namespaces is dead and the namespaces are gone, with all that was in them."""
    for namespace in namespaces_of(lab):
        path = NETNS_DIRECTORY / namespace

        def kill_all(path: Path = path) -> list[int]:
            pids = pids_in_namespace("net", path)
            for pid in pids:
                try:
                    identity = Identity.of(pid)
                except LabError:
                    continue
                identity.kill()
            return [pid for pid in pids if _is_alive(pid)]

        # In a loop, because a process may have been starting another one.
        eventually(f"no process is left in {namespace}", kill_all, lambda pids: not pids, within=30)
        run(["ip", "netns", "delete", namespace])


def _is_alive(pid: int) -> bool:
    try:
        return Identity.of(pid).alive
    except LabError:
        return False


@dataclass(frozen=True)
class Network:
    """Cables, addresses and their faults."""

    layout: Layout
    settings: Settings

    def namespace(self, who: str) -> str:
        """The network namespace of a node, of the "client" or of the "switch"."""
        return f"pgra-{self.settings.name}-{who}"

    def enter(self, who: str) -> list[str]:
        """The command prefix that runs something in a network namespace (for a node: without its mounts)."""
        return ["ip", "netns", "exec", self.namespace(who)]

    def create(self) -> None:
        """All namespaces exist and are plugged in."""
        switch = self.namespace("switch")
        run(["ip", "netns", "add", switch])
        self._ip("switch", "link", "add", BRIDGE, "type", "bridge")
        self._ip("switch", "link", "set", BRIDGE, "up")
        for who in (CLIENT, *self.settings.nodes):
            run(["ip", "netns", "add", self.namespace(who)])
            self._ip("switch", "link", "add", who, "type", "veth", "peer", "name", "eth0", "netns", self.namespace(who))
            self._ip("switch", "link", "set", who, "master", BRIDGE, "up")
            self._ip(who, "link", "set", "lo", "up")
        self._ip(CLIENT, "address", "add", f"{CLIENT_ADDRESS}/{PREFIX_LENGTH}", "dev", "eth0")
        self._ip(CLIENT, "link", "set", "eth0", "up")

    def plug_out(self, node: str) -> None:
        """The node's interface is down: what is in flight is lost."""
        self._ip(node, "link", "set", "eth0", "down")

    def clear_addresses(self, node: str) -> None:
        """The node's interface carries no address, in particular no virtual one of its last life."""
        self._ip(node, "address", "flush", "dev", "eth0")

    def plug_in(self, node: str) -> None:
        """The node's interface is up and carries only the node's own address."""
        self.clear_addresses(node)
        self._ip(node, "address", "add", f"{self.settings.address(node)}/{PREFIX_LENGTH}", "dev", "eth0")
        self._ip(node, "link", "set", "eth0", "up")

    def addresses(self, who: str) -> set[str]:
        """The IPv4 addresses that are on someone's interface."""
        found = json.loads(self._ip(who, "-json", "-4", "address", "show", "dev", "eth0") or "[]")
        return {address["local"] for link in found for address in link.get("addr_info", ())}

    def set_port(self, who: str, *, up: bool) -> None:
        """The switch's port to someone is up or down: a pulled cable."""
        self._ip("switch", "link", "set", who, "up" if up else "down")

    def lose(self, sender: str, receiver: str, percent: int) -> None:
        """The switch loses this share of the frames that go from sender to receiver ("*" is anybody); 0 heals."""
        losses = self._losses()
        losses.pop((sender, receiver), None)
        if percent:
            losses[sender, receiver] = percent
        self._apply_losses(losses)

    def close_port(self, one: str, other: str, port: int) -> None:
        """Nothing of TCP passes between these two to or from this port, as by a wrong rule of a firewall."""
        self._apply(self._losses(), self._closed() | {_closed_port(one, other, port)})

    def open_port(self, one: str, other: str, port: int) -> None:
        """What `close_port` did is undone."""
        self._apply(self._losses(), self._closed() - {_closed_port(one, other, port)})

    def heal(self, who: Iterable[str] | None = None) -> None:
        """Nothing gets lost any more, or nothing that these send or receive."""
        names = None if who is None else set(who)
        kept = {} if names is None else {pair: loss for pair, loss in self._losses().items() if not names & set(pair)}
        self._apply_losses(kept)

    def delay(self, who: str, milliseconds: int) -> None:
        """Whatever goes from the switch to someone is late by so much; 0 is the normal state.

        A process stands between the port and the bridge then. The bridge's end keeps the port's name, so that cuts and
        losses go on to work; changing the cable takes some milliseconds, in which frames are lost.
        """
        late, feed = f"{who}-late", f"{who}-feed"
        if (former := Identity.load(self._delayer_file(who))) is not None:
            former.kill()
            self._delayer_file(who).unlink()
            is_up = self._is_up(who)
            self._ip("switch", "link", "delete", who)
            self._plug_port(late, who, up=is_up)
        if not milliseconds:
            return
        is_up = self._is_up(who)
        self._ip("switch", "link", "set", who, "nomaster", "down")
        self._ip("switch", "link", "set", who, "name", late)
        self._ip("switch", "link", "add", feed, "type", "veth", "peer", "name", who)
        for link in (late, feed):
            self._ip("switch", "link", "set", link, "up")
        self._start_delayer(who, feed, late, milliseconds)
        self._plug_port(who, who, up=is_up)

    def _plug_port(self, link: str, who: str, *, up: bool) -> None:
        """An interface of the switch's namespace is the bridge's port to someone."""
        if link != who:
            self._ip("switch", "link", "set", link, "down")
            self._ip("switch", "link", "set", link, "name", who)
        self._ip("switch", "link", "set", who, "master", BRIDGE, "up" if up else "down")

    def _is_up(self, port: str) -> bool:
        return "UP" in json.loads(self._ip("switch", "-json", "link", "show", "dev", port))[0]["flags"]

    def _delayer_file(self, who: str) -> Path:
        return self.layout.processes / f"delayer-{who}"

    def _start_delayer(self, who: str, feed: str, port: str, milliseconds: int) -> None:
        program = [sys.executable, "-I", delayer.__file__, feed, port, str(milliseconds)]
        pid = run([*self.enter("switch"), *program]).stdout
        Identity.of(int(pid)).save(self._delayer_file(who))

    def _ip(self, who: str, *arguments: str) -> str:
        return run(["ip", "-n", self.namespace(who), *arguments]).stdout

    @property
    def _losses_file(self) -> Path:
        return self.layout.root / "losses.json"

    def _filter(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._losses_file.read_text())
        except FileNotFoundError:
            return {"losses": [], "closed": []}
        return found

    def _losses(self) -> dict[tuple[str, str], int]:
        return {(sender, receiver): percent for sender, receiver, percent in self._filter()["losses"]}

    def _closed(self) -> set[tuple[str, str, int]]:
        return {(one, other, port) for one, other, port in self._filter()["closed"]}

    def _apply_losses(self, losses: dict[tuple[str, str], int]) -> None:
        self._apply(losses, self._closed())

    def _apply(self, losses: dict[tuple[str, str], int], closed: set[tuple[str, str, int]]) -> None:
        """The switch's packet filter says exactly this; one transaction, so that no frame slips through in between."""
        if not losses and not closed and not self._losses_file.exists():
            return
        if shutil.which("nft") is None:
            raise LabError("losing packets needs nft: apt-get install nftables")
        rules = [*(_loss(*pair, percent) for pair, percent in losses.items())]
        for one, other, port in sorted(closed):
            for sender, receiver in ((one, other), (other, one)):
                where = f'iifname "{sender}" oifname "{receiver}" ether type ip'
                rules += [f"{where} tcp {end} {port} drop" for end in ("sport", "dport")]
        table = [
            "table bridge lab",
            "delete table bridge lab",
            "table bridge lab {",
            "  chain forward {",
            "    type filter hook forward priority 0; policy accept;",
            *(f"    {rule}" for rule in rules),
            "  }",
            "}",
        ]
        run([*self.enter("switch"), "nft", "-f", "-"], text="\n".join(table) + "\n")
        kept = {"losses": [[*pair, percent] for pair, percent in losses.items()], "closed": sorted(closed)}
        self._losses_file.write_text(json.dumps(kept))


def _loss(sender: str, receiver: str, percent: int) -> str:
    """The rule that loses this share of the frames between two ports."""
    where = ([] if sender == "*" else [f'iifname "{sender}"']) + ([] if receiver == "*" else [f'oifname "{receiver}"'])
    share = [] if percent >= 100 else [f"numgen random mod 100 < {percent}"]
    return " ".join([*where, *share, "drop"])


def _closed_port(one: str, other: str, port: int) -> tuple[str, str, int]:
    return (min(one, other), max(one, other), port)

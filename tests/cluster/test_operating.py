# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of docs/operating.md that change what the cluster consists of, as they stand there."""

import re
from pathlib import Path

from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, synchronous_standby, writing
from tests.lab import Configuration, Lab
from tests.lab.cib_view import Status
from tests.lab.layout import PGDATA, PORT, PROJECT, VIP
from tests.lab.node import Node

GUIDE = Path(__file__).parents[2] / "docs" / "operating.md"


def commands(heading: str) -> list[str]:
    """The commands below a heading of the guide, in order, without what stands for other places there."""
    text = GUIDE.read_text()
    section = re.split(r"^#+ ", text[text.index(f"## {heading}\n") + 3 :], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^    (?:# )?(\S.*)$", section, re.MULTILINE)
    assert found, f"no commands below {heading!r}"
    return [line.partition("   #")[0].strip() for line in found]


def follow(lab: Lab, node: Node, heading: str, words: dict[str, str]) -> None:
    """Run the commands of a section on `node`, with the places of this lab."""
    usual = {"DATA": str(PGDATA), "VIP": VIP, "PORT": str(PORT), "REPUSER": "postgres", "NODE": node.name}
    places = {**usual, "BIN": lab.settings.postgres_bin, **words}
    for command in commands(heading):
        here = re.sub(r"\b[A-Z_]{3,}\b", lambda word: places[word[0]], command)
        node.run(["sh", "-c", f"PATH={PROJECT}/.build/bin:$PATH; {here}"], timeout=120)


def test_a_node_gets_a_new_disk_another_one_comes_and_one_leaves(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    newcomer = lab.nodes[2]
    newcomer.standby()
    lab.configure(Configuration(parameters={"node_list": "node1 node2"}, meta={"clone-max": "2"}))
    lab.wait("two nodes run it", synchronous_standby, within=60)
    newcomer.run(["sh", "-c", f"rm -rf {PGDATA}"])
    victim = lab.node(synchronous_standby(lab.status()) or "")
    with writing(lab):
        follow(lab, victim, "A new disk", {})
        lab.wait("redundant again", lambda now: is_redundant_with(now, victim.name), within=90)

        follow(lab, newcomer, "A new node", {"ALL_NODES": "node1 node2 node3", "COUNT": "3"})
        lab.wait("it streams", lambda now: data_status(now.node(newcomer.name)).startswith("STREAMING"), within=90)
        lab.wait("redundant", is_redundant, within=60)

        leaver = lab.node(synchronous_standby(lab.status()) or "")
        rest = [node.name for node in lab.nodes if node != leaver]
        follow(lab, leaver, "A node leaves", {"ALL_NODES": " ".join(rest), "COUNT": "2"})
        # With another number of instances Pacemaker plans the primary's promotion anew, and shows that for a moment.
        seen = lab.wait(
            "the other standby is synchronous", lambda now: now.promoted and synchronous_standby(now) in rest, within=60
        )
        assert data_status(seen.node(leaver.name)) == ""
        assert leaver.postgres_processes() == []

        old, heir = lab.node(seen.promoted or ""), synchronous_standby(seen)
        follow(lab, old, "Move the primary", {})
        lab.wait("it has moved", lambda now: now.promoted == heir and synchronous_standby(now) == old.name, within=60)
    assert not lab.status().failures


def is_redundant_with(seen: Status, name: str) -> bool:
    return synchronous_standby(seen) == name and seen.promoted is not None

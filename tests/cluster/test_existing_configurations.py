# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations as people have them: two nodes, old words or new ones, crmsh or pcs, three virtual addresses; and a
live cluster of the shell agent that changes to this one in place.
"""

import re
import shlex
from pathlib import Path

import pytest

from tests.cluster import shell_agent
from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, synchronous_names, synchronous_standby, writing
from tests.lab import Configuration, Lab
from tests.lab.cib_view import Status
from tests.lab.crm import agent_parameters, crm_text
from tests.lab.layout import PGDATA, PREFIX_LENGTH, TMPDIR, VIP
from tests.lab.node import Node

REPLICATION_IP = "10.77.0.101"
READ_IP = "10.77.0.102"

OLD_WORDS = """
ms pgsql-clone pgsql meta master-max=1 master-node-max=1 clone-max=2 clone-node-max=1 notify=true
group primary-addresses vip vip-rep
primitive vip ocf:heartbeat:IPaddr2 params ip={vip} nic=eth0 cidr_netmask={prefix} op monitor interval=10s
primitive vip-rep ocf:heartbeat:IPaddr2 params ip={rep} nic=eth0 cidr_netmask={prefix} op monitor interval=10s
primitive vip-read ocf:heartbeat:IPaddr2 params ip={read} nic=eth0 cidr_netmask={prefix} op monitor interval=10s
location read-where-it-is-fresh vip-read \\
    rule 200: pgsql-status eq "HS:sync" \\
    rule 100: pgsql-status eq "PRI" \\
    rule -inf: not_defined pgsql-status \\
    rule -inf: pgsql-status ne "HS:sync" and pgsql-status ne "PRI"
colocation addresses-with-primary inf: primary-addresses pgsql-clone:Master
order addresses-after-promote 0: pgsql-clone:promote primary-addresses:start symmetrical=false
order no-addresses-after-demote 0: pgsql-clone:demote primary-addresses:stop symmetrical=false
"""


def fence_lines(lab: Lab) -> str:
    """The lab's usual configuration, up to the database: properties and fence devices."""
    usual = crm_text(lab.settings, Configuration(agent="ocf:pgsql-ra:pgsql"))
    return usual[: usual.index("primitive pgsql ")]


def read_address(seen: Status) -> str | None:
    """The node that has the address for reading."""
    return seen.location("vip-read")


def test_the_classic_two_nodes_with_three_addresses_in_old_words(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    parameters = agent_parameters(lab.settings, Configuration(parameters={"master_ip": REPLICATION_IP}))
    params = " ".join(f"{name}={shlex.quote(value)}" for name, value in parameters.items())
    operations = (
        "op start timeout=60s op stop timeout=60s op promote timeout=60s op demote timeout=60s op notify timeout=60s"
        " op monitor interval=4s timeout=30s op monitor interval=3s timeout=30s role=Master"
    )
    addresses = OLD_WORDS.strip().format(vip=VIP, rep=REPLICATION_IP, read=READ_IP, prefix=PREFIX_LENGTH)
    lines = addresses.replace("\\\n", " ").splitlines()
    primitives = [line for line in lines if line.startswith("primitive")]
    rest = [line for line in lines if not line.startswith("primitive")]
    database = f"primitive pgsql ocf:pgsql-ra:pgsql params {params} {operations}"
    lab.configure("\n".join([fence_lines(lab), database, *primitives, *sorted(rest, key=_groups_first)]) + "\n")

    seen = lab.wait("redundant", is_redundant, within=60)
    standby = synchronous_standby(seen)
    lab.wait("reads go to the synchronous standby", lambda now: read_address(now) == standby, within=30)
    assert lab.nodes[0].run(["crm_verify", "--live-check", "--verbose"]).stdout.strip() == ""
    with writing(lab):
        lab.node(standby or "").power_cut()
        lab.wait("reads go to the primary", lambda now: read_address(now) == now.promoted is not None, within=60)
        lab.node(standby or "").boot()
        lab.wait("reads go to the standby again", lambda now: read_address(now) == standby, within=60)


def _groups_first(line: str) -> bool:
    return not line.startswith(("ms ", "group "))


def test_a_configuration_made_by_pcs(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    lab.configure(fence_lines(lab))
    parameters = agent_parameters(lab.settings, Configuration())
    del parameters["psql"]
    options = [f"{name}={value}" for name, value in parameters.items()]
    monitors = "op monitor interval=4s timeout=30s monitor interval=3s timeout=30s role=Promoted"
    clone = "promotable promoted-max=1 notify=true interleave=true clone-max=2"
    commands = [
        ["resource", "create", "pgsql", "ocf:pgsql-ra:pgsql", *options, *monitors.split(), *clone.split()],
        shlex.split(f"resource create vip ocf:heartbeat:IPaddr2 ip={VIP} nic=eth0 cidr_netmask={PREFIX_LENGTH}"),
        shlex.split("constraint colocation add vip with Promoted pgsql-clone INFINITY"),
        shlex.split("constraint order promote pgsql-clone then start vip symmetrical=false"),
        shlex.split("constraint order demote pgsql-clone then stop vip kind=Optional symmetrical=false"),
    ]
    node = lab.nodes[0]
    for command in commands:
        done = node.run(["pcs", *command])
        assert "Warning" not in done.stderr, done.stderr
        assert "Error" not in done.stderr, done.stderr
    seen = lab.wait("redundant", is_redundant, within=60)
    with writing(lab):
        node.run(["pcs", "node", "standby", seen.promoted or ""])
        lab.wait("the other node took over", lambda now: now.promoted not in (None, seen.promoted), within=60)
        node.run(["pcs", "node", "unstandby", seen.promoted or ""])
        lab.wait("redundant again", is_redundant, within=60)


@pytest.mark.parametrize("rep_mode", ["sync", "async"])
def test_a_live_cluster_of_the_shell_agent_changes_in_place(cluster: Cluster, tmp_path: Path, rep_mode: str) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    is_complete = is_redundant if rep_mode == "sync" else streams_asynchronously
    agents = {shell_agent.PROVIDER: shell_agent.runnable_copy(tmp_path / "agents")}
    lab = cluster(nodes=2, rep_mode=rep_mode, providers=agents)
    lab.configure(Configuration(agent=shell_agent.AGENT, rep_mode=rep_mode))
    seen = lab.wait("the shell agent's cluster is complete", is_complete, within=120)
    primary, node = lab.primary(), lab.nodes[0]
    left = {each.name: leftovers(each) for each in lab.nodes}
    assert "PGSQL.lock" in left[primary.name]
    assert any(name.startswith("xlog_note.") for names in left.values() for name in names), left
    before = {each.name: each.postmasters() for each in lab.nodes}

    with writing(lab):
        # What the README says for this.
        node.run(["crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--update=true"])
        node.run(["crm_resource", "--wait"], timeout=60)
        node.run(["cibadmin", "--modify", "--xml-text", '<primitive id="pgsql" provider="pgsql-ra"/>'])
        node.run(["crm_resource", "--refresh", "--resource=pgsql-clone"])
        # Roles alone do not tell: for a moment they are those of the old agent's history, and Pacemaker restarts what
        # another provider started.
        lab.wait(
            "the servers were found by this agent in their roles",
            lambda now: found_by(node) == ["pgsql-ra"] * 2 and now.promoted == seen.promoted and now.unpromoted,
            within=30,
        )
        node.run(["crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--delete"])
        lab.wait("complete under this agent", lambda now: is_complete(now) and _has_record(now), within=60)
    assert {each.name: each.postmasters() for each in lab.nodes} == before, "no server was restarted"

    with writing(lab, "afterwards"):
        primary.standby()
        lab.wait("the standby took over", lambda now: now.promoted not in (None, primary.name), within=60)
        primary.unstandby()
        lab.wait("the former primary follows in spite of the old lock", is_complete, within=60)
    assert "PGSQL.lock" not in leftovers(primary)
    assert included(primary) == ["recovery.conf", "rep_mode.conf"], "each file once, whoever wrote the line"
    assert primary.sql("SHOW primary_conninfo").startswith(f"host={VIP} ")
    if rep_mode == "async":
        assert synchronous_names(lab) == ""


def found_by(node: Node) -> list[str]:
    """The providers whose agents have told the cluster about the database, one for each node."""
    told = node.run(["cibadmin", "--query", "--xpath=//lrm_resource[@id='pgsql']"], check=False).stdout
    return re.findall(r'provider="([^"]*)"', told)


def leftovers(node: Node) -> list[str]:
    """What lies in the agent's directory."""
    return node.run(["ls", str(TMPDIR)]).stdout.split()


def included(node: Node) -> list[str]:
    """The files of the agent's directory that the server's configuration includes, as often as it does."""
    lines = node.run(["cat", str(PGDATA / "postgresql.conf")]).stdout.splitlines()
    found = (re.match(rf"\s*include(?:_if_exists)? '{TMPDIR}/([^']*)'", line) for line in lines)
    return sorted(match[1] for match in found if match)


def streams_asynchronously(seen: Status) -> bool:
    """One primary that has the VIP, and a standby that streams and may be promoted."""
    standbys = [node for node in seen.nodes if node.name != seen.promoted]
    ready = all(data_status(node) == "STREAMING|ASYNC" and node.promotion_score == "100" for node in standbys)
    return seen.promoted is not None and seen.location() == seen.promoted and ready


def _has_record(seen: Status) -> bool:
    """Only this agent records the primary's timeline, and under which promotion each record was made."""
    primary = seen.node(seen.promoted or "")
    is_recorded = "pgsql-timeline" in primary.permanent and data_status(primary) == "LATEST"
    return is_recorded and all("pgsql-promotion" in node.permanent for node in seen.nodes)

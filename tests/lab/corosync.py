# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration files of Corosync and Pacemaker that must exist before a node boots."""

from lxml import etree

from tests.lab.layout import Settings
from tests.lab.processes import run

TOKEN_MILLISECONDS = 1000


def corosync_conf(settings: Settings) -> str:
    """corosync.conf for every node of the lab."""
    nodes = "".join(
        f"""
    node {{
        ring0_addr: {settings.address(name)}
        name: {name}
        nodeid: {number}
    }}"""
        for number, name in enumerate(settings.nodes, start=1)
    )
    two_node = "\n    two_node: 1" if len(settings.nodes) == 2 else ""
    return f"""totem {{
    version: 2
    cluster_name: {settings.name}
    transport: {settings.transport}
    token: {TOKEN_MILLISECONDS}
    crypto_cipher: none
    crypto_hash: none
}}
nodelist {{{nodes}
}}
quorum {{
    provider: corosync_votequorum{two_node}
}}
logging {{
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
    timestamp: hires
}}
system {{
    sched_rr: no
    move_to_root_cgroup: no
}}
"""


def hosts(settings: Settings) -> str:
    """/etc/hosts for every node of the lab."""
    lines = ["127.0.0.1 localhost", *(f"{settings.address(name)} {name}" for name in settings.nodes)]
    return "\n".join(lines) + "\n"


def first_cib(properties: dict[str, str]) -> bytes:
    """A CIB that holds only cluster properties, the same on all nodes, for the very first boot.

    It matters for dc-deadtime: with its default the first election of a cluster waits for 20 s.
    """
    cib = etree.fromstring(run(["cibadmin", "--empty"]).stdout.encode())
    crm_config = cib.find("configuration/crm_config")
    assert crm_config is not None
    bootstrap = etree.SubElement(crm_config, "cluster_property_set", id="cib-bootstrap-options")
    for name, value in properties.items():
        etree.SubElement(bootstrap, "nvpair", id=f"cib-bootstrap-options-{name}", name=name, value=value)
    return etree.tostring(cib)

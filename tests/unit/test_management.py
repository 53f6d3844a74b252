# SPDX-License-Identifier: GPL-2.0-or-later
"""What the CIB says of Pacemaker's own plans with a resource."""

import pytest
from lxml import etree

from pgsql_ra.ocf import Deadline
from pgsql_ra.pacemaker import management
from pgsql_ra.pacemaker.management import has_no_wait_for_all

CIB = """
<cib><configuration>
  <crm_config><cluster_property_set id="other">{property}</cluster_property_set></crm_config>
  <nodes>
    <node id="1" uname="Node1"><instance_attributes>{node}</instance_attributes></node>
    <node id="2" uname="node2"/>
  </nodes>
  <resources>
    <clone id="c"><meta_attributes>{clone}</meta_attributes>
      <primitive id="pgsql"><meta_attributes>{primitive}</meta_attributes></primitive></clone>
    <primitive id="vip"><meta_attributes><nvpair name="is-managed" value="false"/></meta_attributes></primitive>
  </resources></configuration>
  <status><node_state id="1" uname="Node1"><lrm><lrm_resources>
    <lrm_resource id="vip"><lrm_rsc_op operation="start" rc-code="1"/></lrm_resource>
    <lrm_resource id="pgsql">{operations}</lrm_resource></lrm_resources></lrm></node_state></status>
</cib>
"""
PLACES = ("property", "node", "clone", "primitive", "operations")


def cib(monkeypatch: pytest.MonkeyPatch, **parts: str) -> None:
    """Pacemaker answers with this CIB."""
    text = CIB.format(**dict.fromkeys(PLACES, "") | parts)
    monkeypatch.setattr(
        management, "run", lambda _arguments, _deadline: etree.tostring(etree.fromstring(text)).decode()
    )


def pair(name: str, value: str) -> str:
    """An attribute as the CIB writes it."""
    return f'<nvpair name="{name}" value="{value}"/>'


@pytest.mark.parametrize(
    ("parts", "managed"),
    [
        pytest.param({}, True, id="nothing said"),
        pytest.param({"property": pair("maintenance-mode", "true")}, False, id="the cluster"),
        pytest.param({"property": pair("maintenance-mode", "false")}, True, id="the cluster, no more"),
        pytest.param({"node": pair("maintenance", "on")}, False, id="the node"),
        pytest.param({"clone": pair("is-managed", "false")}, False, id="the clone"),
        pytest.param({"clone": pair("maintenance", "true")}, False, id="the clone, in other words"),
        pytest.param({"primitive": pair("is-managed", "no")}, False, id="the primitive"),
        pytest.param({"primitive": pair("is-managed", "true")}, True, id="the primitive, no more"),
    ],
)
def test_whether_it_is_managed(monkeypatch: pytest.MonkeyPatch, parts: dict[str, str], managed: bool) -> None:
    cib(monkeypatch, **parts)
    assert management.is_managed("pgsql", "node1", Deadline(5)) is managed


def test_another_nodes_maintenance_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cib(monkeypatch, node=pair("maintenance", "true"))
    assert management.is_managed("pgsql", "node2", Deadline(5))


@pytest.mark.parametrize(
    ("operations", "failed"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param('<lrm_rsc_op operation="start" rc-code="0"/>', False, id="it went well"),
        pytest.param('<lrm_rsc_op operation="start" rc-code="-1"/>', False, id="it is under way"),
        pytest.param('<lrm_rsc_op operation="stop" rc-code="1"/>', False, id="another operation"),
        pytest.param(
            '<lrm_rsc_op operation="stop" rc-code="0"/><lrm_rsc_op operation="start" rc-code="1"/>',
            True,
            id="it failed",
        ),
    ],
)
def test_whether_a_start_failed(monkeypatch: pytest.MonkeyPatch, operations: str, failed: bool) -> None:
    cib(monkeypatch, operations=operations)
    assert management.has_failed_start("pgsql", "node1", Deadline(5)) is failed
    assert not management.has_failed_start("pgsql", "node2", Deadline(5))


def test_a_resource_that_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    cib(monkeypatch)
    assert management.is_configured("pgsql", Deadline(1))
    assert not management.is_configured("other", Deadline(1))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("2Node Quorate WaitForAll", False),
        ("2Node WaitForAll", False),
        ("2Node Quorate", True),
        ("Quorate", False),
        ("Quorate Qdevice", False),
    ],
)
def test_whether_a_node_decides_alone(flags: str, expected: bool) -> None:
    said = f"Quorum information\n------------------\nNodes:            2\nFlags:            {flags} \n"
    assert has_no_wait_for_all(said) is expected


def test_a_corosync_that_says_nothing_is_not_blamed() -> None:
    assert not has_no_wait_for_all("")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read from a CIB: quorum, fencing, membership, roles and attributes."""

import pytest

from pgsql_ra.ocf import ClusterFailure
from pgsql_ra.pacemaker.cib import parse, parse_private
from pgsql_ra.replication.lsn import History, Position
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import ClusterState, Membership, NodeState, Role, Voters

MEMBER = 'in_ccm="true" crmd="online" join="member" expected="member"'
FENCED = 'in_ccm="false" crmd="offline" join="down" expected="down"'
LOST = 'in_ccm="false" crmd="offline" join="member" expected="member"'


def an_operation(
    operation: str, rc: str = "0", call: int = 1, interval: str = "0", status: str = "0", resource: str = "pgsql"
) -> str:
    """One entry of an operation history."""
    return (
        f'<lrm_rsc_op id="{resource}_last_0" operation_key="{resource}_{operation}_{interval}" operation="{operation}"'
        f' call-id="{call}" rc-code="{rc}" op-status="{status}" interval="{interval}" last-rc-change="1795459780"/>'
    )


def a_state(
    number: int, state: str = MEMBER, operations: str = "", transient: str = "", resource: str = "pgsql"
) -> str:
    """A node_state with the history of one resource."""
    return f"""
    <node_state id="{number}" uname="node{number}" {state}>
      <lrm id="{number}"><lrm_resources>
        <lrm_resource id="vip" type="IPaddr2" class="ocf" provider="heartbeat">
          {an_operation("start", call=99, resource="vip")}
        </lrm_resource>
        <lrm_resource id="{resource}" type="pgsql" class="ocf" provider="pgsql-ra">{operations}</lrm_resource>
      </lrm_resources></lrm>
      <transient_attributes id="{number}"><instance_attributes id="status-{number}">
        <nvpair id="status-{number}-f" name="#feature-set" value="3.16.1"/>{transient}
      </instance_attributes></transient_attributes>
    </node_state>"""


def a_pair(name: str, value: str) -> str:
    """One nvpair."""
    return f'<nvpair id="x-{name}" name="{name}" value="{value}"/>'


def a_cib(
    *states: str, quorum: str = 'have-quorum="1"', options: str = "", permanent: str = "", name: str = "node1"
) -> str:
    """A CIB with the nodes node1 to node3; `permanent` are attributes of the first."""
    return f"""<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" epoch="18" num_updates="8" admin_epoch="0"
      {quorum} dc-uuid="2">
  <configuration>
    <crm_config><cluster_property_set id="cib-bootstrap-options">
      {a_pair("cluster-name", "mine")}{options}
    </cluster_property_set></crm_config>
    <nodes>
      <node id="1" uname="{name}"><instance_attributes id="nodes-1">{permanent}</instance_attributes></node>
      <node id="2" uname="node2"/>
      <node id="3" uname="node3"/>
    </nodes>
    <resources/><constraints/>
  </configuration>
  <status>{"".join(states)}</status>
</cib>"""


def node1(text: str, resource: str = "pgsql") -> NodeState:
    """The first node of a CIB."""
    node = parse(text, resource).node("node1")
    assert node is not None
    return node


def test_a_healthy_cluster() -> None:
    transient = (
        a_pair("master-pgsql", "1000") + a_pair("pgsql-status", "PRI") + a_pair("pgsql-xlog-loc", "0000000000000080")
    )
    history = an_operation("promote", call=43) + an_operation("monitor", "8", 44, "3000")
    permanent = (
        a_pair("pgsql-data-status", "LATEST")
        + a_pair("pgsql-timeline", "2:1@0/40000A0")
        + a_pair("pgsql-promotion", "7@node1 0/40000A0 1:")
        + a_pair("pgsql-voters", "7: 2 of node2 node3")
        + a_pair("pgsql-priority", "5")
    )
    text = a_cib(a_state(1, operations=history, transient=transient), permanent=permanent)
    private = {
        "position": {"node1": "0/80 1:"},
        "election": {"node1": "1/3 waits for node2"},
        "known": {"node1": "7@node1"},
    }
    cluster = parse(text, "pgsql", private)
    assert (cluster.quorum, cluster.fencing, cluster.quorum_needed) == (True, True, True)
    assert cluster.nodes[0] == NodeState(
        name="node1",
        membership=Membership.MEMBER,
        role=Role.PROMOTED,
        data_status="LATEST",
        promotion=Promotion.parse("7@node1 0/40000A0 1:"),
        known=Promotion(7, "node1"),
        voters=Voters(7, 2, ("node2", "node3")),
        priority=5,
        status="PRI",
        score="1000",
        position=Position.parse("0/80 1:"),
        location="0000000000000080",
        record=History.parse("2:1@0/40000A0"),
        election="1/3 waits for node2",
    )
    assert [node.name for node in cluster.nodes] == ["node1", "node2", "node3"]


@pytest.mark.parametrize("text", ["", "<cib", "not xml", "Call failed: No such device"])
def test_what_is_no_cib_is_a_cluster_failure(text: str) -> None:
    with pytest.raises(ClusterFailure, match="not a CIB"):
        parse(text, "pgsql")


class TestOptions:
    """Quorum, fencing and what the administrator said about them."""

    @pytest.mark.parametrize(
        ("quorum", "expected"),
        [('have-quorum="1"', True), ('have-quorum="true"', True), ('have-quorum="0"', False), ("", False)],
    )
    def test_quorum(self, quorum: str, expected: bool) -> None:
        assert parse(a_cib(quorum=quorum), "pgsql").quorum is expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("true", True), ("1", True), ("Yes", True), ("on", True), ("false", False), ("0", False), ("off", False)],
    )
    def test_fencing(self, value: str, expected: bool) -> None:
        assert parse(a_cib(options=a_pair("stonith-enabled", value)), "pgsql").fencing is expected

    @pytest.mark.parametrize(
        ("values", "expected"),
        [(("true", "false"), True), (("false", "true"), True), (("false", "false"), False), (("false", ""), False)],
    )
    def test_fencing_by_its_present_and_its_former_name(self, values: tuple[str, str], expected: bool) -> None:
        names = ("fencing-enabled", "stonith-enabled")
        options = "".join(a_pair(name, value) for name, value in zip(names, values, strict=True) if value)
        assert parse(a_cib(options=options), "pgsql").fencing is expected

    def test_fencing_is_on_unless_it_is_switched_off(self) -> None:
        assert parse(a_cib(), "pgsql").fencing is True

    @pytest.mark.parametrize(
        ("options", "needed", "decides"),
        [
            ("", True, False),
            (a_pair("no-quorum-policy", "stop"), True, False),
            (a_pair("no-quorum-policy", "freeze"), True, False),
            (a_pair("no-quorum-policy", "ignore"), False, True),
        ],
    )
    def test_quorum_is_needed_unless_the_policy_is_to_ignore_it(
        self, options: str, needed: bool, decides: bool
    ) -> None:
        cluster = parse(a_cib(quorum='have-quorum="0"', options=options), "pgsql")
        assert cluster.quorum_needed is needed
        assert cluster.may_decide is decides


class TestMembership:
    """Never more optimistic than the scheduler."""

    @staticmethod
    def of(state: str, fencing: bool = True) -> Membership:
        options = a_pair("stonith-enabled", "true" if fencing else "false")
        return node1(a_cib(a_state(1, state), options=options)).membership

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            pytest.param(MEMBER, Membership.MEMBER, id="up to 2.1.6: a member"),
            pytest.param(
                'in_ccm="1795459780" crmd="1795459781" join="member" expected="member"',
                Membership.MEMBER,
                id="from 2.1.7: a member since then",
            ),
            pytest.param('in_ccm="0" crmd="0" join="down" expected="down"', Membership.CLEAN, id="from 2.1.7: down"),
            pytest.param('in_ccm="0" crmd="0" join="member" expected="member"', Membership.UNCLEAN, id="2.1.7: lost"),
            pytest.param(FENCED, Membership.CLEAN, id="fenced, or left properly"),
            pytest.param(LOST, Membership.UNCLEAN, id="lost"),
            pytest.param(
                'in_ccm="false" crmd="online" join="member" expected="member"',
                Membership.UNCLEAN,
                id="corosync lost it, Pacemaker has not noticed",
            ),
            pytest.param(
                'in_ccm="true" crmd="online" join="pending" expected="member"', Membership.UNCLEAN, id="it joins"
            ),
            pytest.param(
                'in_ccm="true" crmd="online" join="down" expected="down"',
                Membership.CLEAN,
                id="fenced, and boots again",
            ),
            pytest.param(
                'in_ccm="1795459780" crmd="1795459781" join="down" expected="down"',
                Membership.CLEAN,
                id="from 2.1.7: fenced, and boots again",
            ),
            pytest.param(
                'in_ccm="true" crmd="online" join="pending" expected="down"', Membership.UNCLEAN, id="it is let in"
            ),
            pytest.param(
                'in_ccm="true" crmd="online" join="banned" expected="member"', Membership.UNCLEAN, id="not let in"
            ),
            pytest.param(
                'in_ccm="true" crmd="offline" join="member" expected="member"',
                Membership.UNCLEAN,
                id="Pacemaker died on it",
            ),
            pytest.param(
                'in_ccm="true" crmd="offline" join="down" expected="down"',
                Membership.CLEAN,
                id="Pacemaker was stopped, corosync runs",
            ),
            pytest.param("", Membership.UNCLEAN, id="nothing is known"),
            pytest.param('in_ccm="junk" crmd="junk" join="member"', Membership.UNCLEAN, id="garbage"),
        ],
    )
    def test_with_fencing(self, state: str, expected: Membership) -> None:
        assert self.of(state) is expected

    @pytest.mark.parametrize(("state", "expected"), [(MEMBER, Membership.MEMBER), (LOST, Membership.CLEAN)])
    def test_without_fencing_a_lost_node_counts_as_down(self, state: str, expected: Membership) -> None:
        assert self.of(state, fencing=False) is expected

    def test_a_node_that_was_never_seen_may_be_anything(self) -> None:
        assert node1(a_cib()).membership is Membership.UNCLEAN

    def test_without_fencing_a_node_that_was_never_seen_counts_as_down(self) -> None:
        assert node1(a_cib(options=a_pair("stonith-enabled", "false"))).membership is Membership.CLEAN


class TestRole:
    """The role that the last finished operation left the resource in."""

    @pytest.mark.parametrize(
        ("history", "expected"),
        [
            pytest.param("", Role.UNKNOWN, id="nothing"),
            pytest.param(an_operation("start"), Role.UNPROMOTED, id="started"),
            pytest.param(an_operation("promote"), Role.PROMOTED, id="promoted"),
            pytest.param(an_operation("demote"), Role.UNPROMOTED, id="demoted"),
            pytest.param(an_operation("stop"), Role.STOPPED, id="stopped"),
            pytest.param(an_operation("monitor", "7"), Role.STOPPED, id="a probe found nothing"),
            pytest.param(an_operation("monitor", "0"), Role.UNPROMOTED, id="a probe found a standby"),
            pytest.param(an_operation("monitor", "8"), Role.PROMOTED, id="a probe found a primary"),
            pytest.param(an_operation("monitor", "5"), Role.UNKNOWN, id="a probe: not installed"),
            pytest.param(
                an_operation("promote", call=40) + an_operation("monitor", "8", 41, "3000"),
                Role.PROMOTED,
                id="a recurring monitor confirms it",
            ),
            pytest.param(
                an_operation("start", call=43) + an_operation("monitor", "8", 32, "3000"),
                Role.UNPROMOTED,
                id="a recurring monitor of an earlier role",
            ),
            pytest.param(
                an_operation("promote", call=40) + an_operation("monitor", "7", 41, "3000"),
                Role.PROMOTED,
                id="a recurring monitor failed: Pacemaker acts first",
            ),
            pytest.param(
                an_operation("start", call=40) + an_operation("promote", "1", 41),
                Role.UNPROMOTED,
                id="a promotion that failed",
            ),
            pytest.param(
                an_operation("promote", call=40) + an_operation("demote", "193", -1, status="-1"),
                Role.PROMOTED,
                id="a demotion under way",
            ),
            pytest.param(
                an_operation("stop", call=9) + an_operation("start", call=10),
                Role.UNPROMOTED,
                id="calls are compared as numbers",
            ),
            pytest.param(
                an_operation("start", call=10) + an_operation("stop", call=9),
                Role.UNPROMOTED,
                id="in whatever order they stand",
            ),
        ],
    )
    def test_by_its_history(self, history: str, expected: Role) -> None:
        assert node1(a_cib(a_state(1, operations=history))).role is expected

    def test_a_clone_instance_with_a_number(self) -> None:
        state = a_state(1, operations=an_operation("promote"), resource="pgsql:0")
        assert node1(a_cib(state)).role is Role.PROMOTED

    @pytest.mark.parametrize("resource", ["pgsql2", "my-pgsql", "PGSQL"])
    def test_another_resource_does_not_count(self, resource: str) -> None:
        state = a_state(1, operations=an_operation("promote"), resource=resource)
        assert node1(a_cib(state)).role is Role.UNKNOWN

    def test_the_virtual_address_does_not_count(self) -> None:
        """It was started later than anything else."""
        assert node1(a_cib(a_state(1, operations=an_operation("stop", call=3)))).role is Role.STOPPED


class TestAttributes:
    """Permanent ones of every node, transient ones of those that are there."""

    def test_permanent_ones_of_a_node_that_is_down(self) -> None:
        """What a failover is about, and what crm_mon leaves out."""
        text = a_cib(a_state(1, FENCED), permanent=a_pair("pgsql-data-status", "LATEST"))
        assert node1(text).data_status == "LATEST"

    def test_permanent_ones_of_a_node_without_a_state(self) -> None:
        assert node1(a_cib(permanent=a_pair("pgsql-data-status", "DISCONNECT"))).data_status == "DISCONNECT"

    def test_those_that_are_not_set_are_empty(self) -> None:
        node = node1(a_cib(a_state(1)))
        assert (node.data_status, node.status, node.score, node.location, node.election) == ("", "", "", "", "")
        assert (node.position, node.record) == (None, None)

    def test_another_resources_do_not_count(self) -> None:
        pairs = a_pair("pgsql2-data-status", "LATEST") + a_pair("master-pgsql2", "100")
        node = node1(a_cib(a_state(1, transient=pairs), permanent=pairs))
        assert (node.data_status, node.score) == ("", "")

    @pytest.mark.parametrize("value", ["junk", "2:x@y", ":"])
    def test_a_record_that_is_none_is_unknown(self, value: str) -> None:
        assert node1(a_cib(permanent=a_pair("pgsql-timeline", value))).record is None

    def test_positions_belong_to_nodes_whatever_their_case(self) -> None:
        cluster = parse(a_cib(name="Node1"), "pgsql", {"position": {"node1": "0/80 1:"}})
        assert cluster.nodes[0].name == "Node1"
        assert cluster.nodes[0].position == Position.parse("0/80 1:")


class TestPrivateAttributes:
    """What attrd_updater prints of values that are in no CIB."""

    TEXT = (
        'name="pgsql-position" host="node1" value="0/40 2:1@0/4"\n'
        'name="pgsql-position" host="Node2" value=""\n'
        'name="pgsql-position" host="node3" value="junk"\n'
    )

    def test_one_that_is_none_is_unknown(self) -> None:
        cluster = parse(a_cib(), "pgsql", {"position": parse_private(self.TEXT), "known": {"node1": "7 node1"}})
        positions = {node.name: node.position for node in cluster.nodes}
        assert positions["node1"] == Position.parse("0/40 2:1@0/4")
        assert all(position is None for name, position in positions.items() if name != "node1")
        assert cluster.nodes[0].known is None

    @pytest.mark.parametrize(("text", "number"), [("0/40 1:", 0), ("0/40 2:1@0/4 cut=8", 8)])
    def test_a_position_says_whether_it_is_the_last_word(self, text: str, number: int) -> None:
        node = parse(a_cib(), "pgsql", {"position": {"node1": text}}).nodes[0]
        assert node.position is not None
        assert (str(node.position), node.cut_for) == (text.partition(" cut")[0], number)

    @pytest.mark.parametrize("text", ["0/40 1: cut=", "0/40 1: cut=x", "0/40 1: 8", "cut=8"])
    def test_half_a_word_is_none(self, text: str) -> None:
        node = parse(a_cib(), "pgsql", {"position": {"node1": text}}).nodes[0]
        assert (node.position, node.cut_for) == (None, 0)

    def test_other_values(self) -> None:
        assert parse_private(self.TEXT) == {"node1": "0/40 2:1@0/4", "node2": "", "node3": "junk"}

    def test_none(self) -> None:
        assert parse_private("") == {}
        assert parse_private("Could not query value of x: attribute does not exist\n") == {}


def test_a_name_is_found_in_any_case() -> None:
    cluster: ClusterState = parse(a_cib(name="Node1"), "pgsql")
    node = cluster.node("NODE1")
    assert node is not None
    assert node.key == "node1"
    assert cluster.node("node9") is None

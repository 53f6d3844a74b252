# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster in memory: everything that may happen to it, and the promise."""

from collections.abc import Iterator
from dataclasses import replace

from pgsql_ra.replication.changes import (
    Change,
    Confirm,
    CountLowering,
    EndWalsender,
    Receive,
    RememberPromotion,
    SetSynchronousStandbys,
    StopReceiving,
)
from pgsql_ra.replication.election import freeze, watch
from pgsql_ra.replication.lsn import Order, furthest
from pgsql_ra.replication.policy import Method, Mode, Policy
from pgsql_ra.replication.primary import reconcile, remember
from pgsql_ra.replication.promotion import confirmation, decide_promotion, withdraw
from pgsql_ra.replication.record import Promotion, Published, newest
from pgsql_ra.replication.rejoin import Follow, LocalData, decide_rejoin
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Link,
    Membership,
    NodeState,
    ReplicationState,
    Role,
    ServerState,
    Snapshot,
    Standby,
    Stopped,
)
from pgsql_ra.replication.status import SCORE_NEVER, STATUS_ALONE, STATUS_STOPPED
from tests.unit.effects import on_node
from tests.unit.model.state import (
    Action,
    Cib,
    Decide,
    Node,
    Reconcile,
    Row,
    Server,
    Unkind,
    Violation,
    carry,
    permanent_part,
)
from tests.unit.wal import end_of, is_prefix, position_of

THREE = 3


def bare_knowledge(promotion: Promotion | None) -> Promotion | None:
    """What a node says of the newest promotion that it knows (`<resource>-known`)."""
    return replace(promotion, begin=None) if promotion else None


UNKIND = Unkind()


class Cluster:
    """Nodes, and everything that may happen to them. What cannot happen just now is passed over."""

    def __init__(
        self,
        size: int,
        synchronous: int = 1,
        reconcile_with: Reconcile = reconcile,
        decide_with: Decide = decide_promotion,
        unkind: Unkind = UNKIND,
        method: Method = Method.FIRST,
    ) -> None:
        self.names = tuple(f"n{number}" for number in range(1, size + 1))
        self.policies = {
            name: Policy(name, Mode.SYNC, self.names, synchronous_count=synchronous, method=method)
            for name in self.names
        }
        self.acked: set[int] = set()
        self.promotions = 0
        self.ignores_quorum = False
        """no-quorum-policy=ignore, and a node that boots alone fences the others."""
        self.restarts = False
        """restart_on_promote: the new primary stays on its timeline."""
        self._reconcile, self._decide, self._unkind = reconcile_with, decide_with, unkind
        self._numbers = iter(range(1, 1_000_000))
        cib = {name: NodeState(name, Membership.MEMBER) for name in self.names}
        self.nodes = {name: Node(name, cib) for name in self.names}
        for node in self.nodes.values():
            node.server.wal = ((1, 0),)
            self.start(node.name)

    # ---- what a node sees ------------------------------------------------------------------------------------------

    def side_of(self, node: Node) -> list[Node]:
        """The nodes in the same partition, this one among them."""
        return [one for one in self.nodes.values() if one.powered and one.side == node.side]

    def has_quorum(self, node: Node) -> bool:
        """Three nodes: two of them. Two nodes: always (corosync's two_node), fencing decides."""
        return node.unaware or len(self.nodes) < THREE or len(self.side_of(node)) * 2 > len(self.nodes)

    def membership(self, node: Node, other: Node) -> Membership:
        """What `node` knows of `other`."""
        if other in self.side_of(node) or node.unaware:
            return Membership.MEMBER
        return Membership.CLEAN if not other.powered and other.clean else Membership.UNCLEAN

    def cluster_seen_by(self, node: Node) -> ClusterState:
        """The cluster as the node's CIB shows it."""
        seen = (
            # Every connection is the node's own, and it has said so.
            replace(node.cib[name], membership=self.membership(node, self.nodes[name]), receives=f"{name}:1")
            for name in self.names
        )
        return ClusterState(self.has_quorum(node), True, tuple(seen), quorum_needed=not self.ignores_quorum)

    def snapshot(self, node: Node, server: ServerState) -> Snapshot:
        """A snapshot on this node."""
        cluster, policy = self.cluster_seen_by(node), self.policies[node.name]
        return Snapshot(server, cluster, policy, remembered=node.file, held=node.held)

    def primaries(self) -> list[Node]:
        """The nodes on which a server takes writes."""
        return [node for node in self.nodes.values() if node.powered and node.server.role == "primary"]

    # ---- the database ----------------------------------------------------------------------------------------------

    def commit(self, name: str) -> None:
        """A client commits, if there is a primary here."""
        server = self.nodes[name].server
        if self.nodes[name] not in self.primaries():
            return
        number = next(self._numbers)
        server.wal = (*server.wal, (server.wal[-1][0], number))
        # SyncRepWaitForLSN: whoever finds nobody defined in shared memory returns at once.
        if server.in_checkpointer.names:
            server.waiting.append(number)
        else:
            self.acked.add(number)

    def connect(self, name: str) -> None:
        """A standby connects to the primary, wherever that is; one that cannot follow is copied anew."""
        node = self.nodes[name]
        primary = next(iter(self.primaries()), None)
        if not node.powered or node.server.role != "standby" or primary is None or node.server.upstream:
            return
        if node.server.cut:
            return
        if not position_of(node.server.wal).leads_to(position_of(primary.server.wal).history):
            node.server.wal = primary.server.wal
        elif not is_prefix(node.server.wal, primary.server.wal):
            if not self.restarts:
                raise Violation(f"{name} was let to follow {primary.name}, which lacks some of its WAL")
            # Its timeline does not tell; its last record does, which is compared with the primary's.
            node.server.wal = primary.server.wal
        node.server.upstream = primary.name
        if not self._unkind.duplicate_rows and self.policies[primary.name].synchronous_count > 1:
            primary.server.end_rows(name)
        row = Row(name, next(self._numbers), ReplicationState.CATCHUP, end_of(node.server.wal))
        primary.server.rows.append(row)
        self._report(primary.server, node)

    def receive(self, name: str, records: int) -> None:
        """A standby receives and flushes some WAL, and says so."""
        node = self.nodes[name]
        primary = self.nodes.get(node.server.upstream)
        if primary is None or node.server.role != "standby":
            return
        node.server.wal = primary.server.wal[: len(node.server.wal) + records]
        self._report(primary.server, node)

    def disconnect(self, name: str, leaves_a_row: bool) -> None:
        """The connection breaks; the primary may not notice."""
        server = self.nodes[name].server
        if primary := self.nodes.get(server.upstream):
            if not leaves_a_row:
                primary.server.end_rows(name)
            server.upstream = ""

    def _end(self, server: Server, row: Row) -> None:
        """A walsender ends, and its connection with it if that still lived."""
        server.rows.remove(row)
        standby = self.nodes[row.node].server
        if standby.upstream and self.nodes[standby.upstream].server is server:
            has_newer = any(one.node == row.node and one.pid > row.pid for one in server.rows)
            standby.upstream = standby.upstream if has_newer else ""

    def reload(self, name: str) -> None:
        """Somebody reloads the configuration. The postmaster takes it before its next session."""
        server = self.nodes[name].server
        server.in_postmaster = server.in_file

    def take_setting(self, name: str, walsenders: bool, checkpointer: bool) -> None:
        """What was reloaded reaches the walsenders, or the checkpointer, or both."""
        server = self.nodes[name].server
        if walsenders:
            for row in server.rows:
                row.setting = server.in_postmaster
        if checkpointer:
            server.in_checkpointer = server.in_postmaster
            if not server.in_checkpointer.names:
                # SyncRepUpdateSyncStandbysDefined wakes everybody who waits.
                self._answer(server, server.waiting)

    def _report(self, server: Server, node: Node) -> None:
        """ProcessStandbyReplyMessage: the newest row of this standby, and whoever waits for it."""
        row = [row for row in server.rows if row.node == node.name][-1]
        row.flush, row.setting = end_of(node.server.wal), server.in_postmaster
        if row.flush == end_of(server.wal):
            row.state = ReplicationState.STREAMING
        flushed = server.flushed_by_enough(row)
        held = {number for _, number in server.wal[: flushed // end_of(server.wal[:1])]}
        self._answer(server, [number for number in server.waiting if number in held])

    def _answer(self, server: Server, numbers: list[int]) -> None:
        self.acked.update(numbers)
        server.waiting = [number for number in server.waiting if number not in numbers]

    # ---- the agent on a primary ------------------------------------------------------------------------------------

    def act(self, name: str, steps: int, leaving: frozenset[str] = frozenset()) -> None:
        """Some steps of a monitor, or of a notification that says who leaves; one under way is continued."""
        node = self.nodes[name]
        for _ in range(steps):
            if node not in self.primaries():
                node.action = None
                return
            if node.action is None:
                node.action = Action(leaving)
            if self._step(node, node.action):
                node.action = None
                return

    def kill_action(self, name: str) -> None:
        """The action is killed by its timeout."""
        self.nodes[name].action = None

    def _step(self, node: Node, action: Action) -> bool:
        """One step of actions.converge: a look at the server, one at the cluster, or one change. True: it is over."""
        if action.torn:
            self.reload(node.name)
            action.torn = False
        elif action.queue:
            change = action.queue.pop(0)
            if isinstance(change, Confirm) and not self.is_confirmed(node, change):
                return True  # the action ends with an error
            self._apply(node, change)
            action.torn = self._unkind.torn_reloads and isinstance(change, SetSynchronousStandbys)
        elif action.look is None:
            action.look = node.server.look()
            node.held = furthest(node.held, action.look.position)
            settled = action.look.synchronous if action.look.settled else None
            if action.settled is None or action.settled != settled:
                action.mark = None
            elif action.mark is None:
                action.mark = action.look.position.lsn
            action.settled = settled
            return False
        else:
            snapshot = self.snapshot(node, action.look)
            plan = self._reconcile(replace(snapshot, leaving=action.leaving, mark=action.mark), action.look)
            action.queue, action.waits = list(plan.changes), bool(plan.waiting_for) and not plan.refusal
        if action.queue or action.torn:
            return False
        action.look = None
        return not action.waits

    def _apply(self, node: Node, change: Change) -> None:
        match change:
            case RememberPromotion(promotion):
                node.file = promotion
            case CountLowering():
                node.file = newest((node.file, change.knowledge))
                hearers = tuple(name for name in change.hearers if self.nodes[name] in self.side_of(node))
                heard = replace(change, hearers=hearers)
                self._write(node, (on_node(node.cib[name], heard) for name in self.names))
            case StopReceiving():
                self.disconnect(node.name, leaves_a_row=True)
                node.server.cut = True
            case Receive():
                node.server.cut = False
            case SetSynchronousStandbys(standbys):
                node.server.in_file = standbys
                if not self._unkind.torn_reloads:
                    self.reload(node.name)
            case EndWalsender(pid):
                for row in [row for row in node.server.rows if row.pid == pid]:
                    self._end(node.server, row)
            case _:
                self._write(node, (on_node(node.cib[name], change) for name in self.names))

    def is_confirmed(self, node: Node, change: Confirm) -> bool:
        """Whether enough of these nodes share the CIB that was written."""
        reached = [self.nodes[name] for name in change.nodes if self.nodes[name] in self.side_of(node)]
        return len(reached) >= change.needed

    @staticmethod
    def _write(node: Node, states: Iterator[NodeState]) -> None:
        """Every write succeeds, with quorum or without; it reaches the partition's CIB."""
        node.cib.update({state.name: state for state in states})

    # ---- the agent on a standby ------------------------------------------------------------------------------------

    def standby(self, node: Node) -> Standby:
        """What SQL tells of a standby."""
        server = node.server
        link = Link.CUT if server.cut else Link.OPEN
        receiver = 1 if server.upstream else 0
        return Standby(1, position_of(server.wal), bool(server.upstream), link=link, receiver=receiver)

    def freeze(self, name: str, promoted: str) -> None:
        """pre-promote: the standby stops receiving, and says where its WAL ends."""
        node = self.nodes[name]
        if node.server.role == "standby":
            for _ in range(2):
                server = self.standby(node)
                for change in freeze(self.snapshot(node, server), server, promoted).changes:
                    self._apply(node, change)
        elif not self._unkind.stale_positions:
            node.cib[name] = replace(node.cib[name], position=None, cut_for=0)

    def hear(self, promoted: str) -> None:
        """post-promote: every other node of the partition whose agent runs keeps the promotion in its file."""
        for other in self.side_of(self.nodes[promoted]):
            if other.server.role == "standby" and other.name != promoted:
                snapshot = self.snapshot(other, self.standby(other))
                for change in remember(snapshot, snapshot.newest):
                    self._apply(other, change)

    def watch(self, name: str) -> None:
        """The standby's monitor."""
        node = self.nodes[name]
        if node.powered and node.server.role == "standby":
            server = self.standby(node)
            node.held = furthest(node.held, position_of(node.server.wal))
            for change in watch(self.snapshot(node, server), server).changes:
                self._apply(node, change)

    def promote(self, name: str, killed_after: int, deaf: str = "") -> None:
        """Pacemaker promotes this standby, whoever else would be better; it may be killed after some steps. The
        notification does not reach `deaf`: it hangs, or is killed, and Pacemaker goes on.
        """
        node = self.nodes[name]
        if not node.powered or node.server.role != "standby":
            return
        for other in self.side_of(node):
            if other.name != deaf:
                self.freeze(other.name, name)
        server = self.standby(node)
        plan = self._decide(self.snapshot(node, server), server)
        for change in plan.changes[:killed_after]:
            self._apply(node, change)
        self.disconnect(name, leaves_a_row=True)
        last = [each for each in confirmation(self.snapshot(node, server)).changes if isinstance(each, Confirm)]
        if not all(self.is_confirmed(node, each) for each in last):
            return
        if plan.refusal or plan.waiting_for or killed_after <= len(plan.changes):
            return
        self.hear(name)
        timeline = position_of(node.server.wal).timeline + (0 if self.restarts else 1)
        node.server = Server((*node.server.wal, (timeline, next(self._numbers))), "primary", was_primary=True)
        node.cib[name] = replace(node.cib[name], role=Role.PROMOTED, position=None)
        self.promotions += 1
        self.check_promoted(node)

    def promote_in_vain(self, name: str) -> None:
        """The records of its promotion stand, and its server dies before it has left recovery."""
        node = self.nodes[name]
        for other in self.side_of(node):
            self.freeze(other.name, name)
        for change in self._decide(self.snapshot(node, self.standby(node)), self.standby(node)).changes:
            self._apply(node, change)
        self.hear(name)
        self.stop(name)

    def withdraw(self, name: str) -> None:
        """It says that its promotion did not come about."""
        node = self.nodes[name]
        for change in withdraw(self.snapshot(node, Stopped())).changes:
            self._apply(node, change)

    # ---- faults and Pacemaker --------------------------------------------------------------------------------------

    def crash_server(self, name: str) -> None:
        """The server is gone, its WAL is not. Clients that wait get no answer, and nobody is told."""
        node = self.nodes[name]
        self.disconnect(name, leaves_a_row=True)
        for other in self.nodes.values():
            if other.server.upstream == name:
                other.server.upstream = ""
        node.server = Server(node.server.wal, was_primary=node.server.was_primary)
        node.action = None

    def stop(self, name: str) -> None:
        """Pacemaker stops the instance; the node says so (actions.stop)."""
        node = self.nodes[name]
        if node.powered:
            self.crash_server(name)
            node.cib[name] = replace(
                node.cib[name], role=Role.STOPPED, score=SCORE_NEVER, status=STATUS_STOPPED, position=None, election=""
            )

    def start(self, name: str) -> None:
        """Pacemaker starts it as a standby (after a stop, if it had died); data that may not follow is copied anew."""
        node = self.nodes[name]
        if not node.powered or node.server.role != "stopped":
            return
        self.stop(name)
        local = LocalData(node.server.was_primary, position_of(node.server.wal))
        if not isinstance(decide_rejoin(name, local, self.cluster_seen_by(node)), Follow):
            source = next((one for one in self.primaries() if one in self.side_of(node)), None)
            if source is None:
                return
            node.server.wal, node.held = source.server.wal, None
        node.server = Server(node.server.wal, "standby")
        node.cib[name] = replace(
            node.cib[name], role=Role.UNPROMOTED, status=STATUS_ALONE, known=bare_knowledge(node.file)
        )

    def isolate(self, name: str, unnoticed: bool = False) -> None:
        """The node is cut off from Pacemaker's network, not from the clients' or the standbys'. `unnoticed`: for now it
        takes the others for members, and its writes succeed.
        """
        node = self.nodes[name]
        if node.powered and len(self.side_of(node)) > 1:
            node.side = next(self._numbers)
            node.cib, node.unaware = dict(node.cib), unnoticed

    def notice(self, name: str) -> None:
        """corosync's token timeout is over."""
        self.nodes[name].unaware = False

    def power_cut(self, name: str) -> None:
        """The node is off; the others know only that it is lost. One node stays."""
        node = self.nodes[name]
        if sum(one.powered for one in self.nodes.values()) > 1:
            self.crash_server(name)
            node.powered, node.clean, node.cib, node.unaware = False, False, dict(node.cib), False
            node.on_disk = node.cib

    def fence(self, name: str, by: str) -> None:
        """A partition with quorum shoots a node that it has lost."""
        node, shooter = self.nodes[name], self.nodes[by]
        if not shooter.powered or not self.has_quorum(shooter):
            return
        if self.membership(shooter, node) is Membership.UNCLEAN:
            self.crash_server(name)
            node.on_disk = dict(node.cib) or node.on_disk
            node.powered, node.clean, node.side, node.cib, node.unaware = False, True, -1, {}, False
            shooter.cib[name] = permanent_part(shooter.cib[name], Membership.CLEAN)

    def boot(self, name: str, its_cib_wins: bool = False) -> None:
        """A node comes back and joins the largest partition."""
        node = self.nodes[name]
        if node.powered:
            return
        partner = max((one for one in self.nodes.values() if one.powered), key=lambda one: len(self.side_of(one)))
        if its_cib_wins and node.on_disk:
            self._take_back(partner, node.on_disk)
        node.powered, node.clean, node.side, node.cib = True, False, partner.side, partner.cib
        node.cib[name] = permanent_part(node.cib[name], Membership.MEMBER)
        self._say_anew()

    def boot_alone(self, name: str) -> None:
        """All nodes are off, and this one comes back first; it fences the others, if its quorum lets it."""
        for other in self.nodes.values():
            if other.powered:
                self.crash_server(other.name)
                other.on_disk = dict(other.cib)
            other.powered, other.unaware, other.clean, other.side, other.cib = False, False, False, -1, {}
        node = self.nodes[name]
        node.powered, node.side = True, next(self._numbers)
        disk = node.on_disk or {other: NodeState(other, Membership.MEMBER) for other in self.names}
        node.cib = {other: permanent_part(disk[other], Membership.UNCLEAN) for other in self.names}
        if self.ignores_quorum or self.has_quorum(node):
            for other in self.nodes.values():
                other.clean = other is not node

    def roll_back(self, name: str, records: int) -> None:
        """The data directory of a node that does not run is replaced by a copy from before its last monitor."""
        node = self.nodes[name]
        if node.server.role == "stopped" and node.held is not None:
            monitored = int(node.held.lsn) // end_of(node.server.wal[:1])
            node.server.wal = node.server.wal[: max(1, monitored - 1 - records)]

    def heal(self, minority_wins: bool = False) -> None:
        """The partitions meet before fencing was done: permanent values are those of the largest one, or of another."""
        powered = [node for node in self.nodes.values() if node.powered]
        ruling = max(powered, key=lambda one: len(self.side_of(one)) * (-1 if minority_wins else 1))
        merged = {name: carry(ruling.cib[name], self.nodes[name].cib.get(name)) for name in self.names}
        for node in powered:
            node.side, node.cib, node.unaware = 0, merged, False
        self._say_anew()

    def lose_attributes(self, name: str) -> None:
        """attrd of a node dies, and its values with it; the node says again what it remembers."""
        node = self.nodes[name]
        if node.powered:
            role = node.cib[name].role
            node.cib[name] = replace(
                permanent_part(node.cib[name], Membership.MEMBER), role=role, known=bare_knowledge(node.file)
            )

    def _take_back(self, partner: Node, older: Cib) -> None:
        for name in self.names:
            partner.cib[name] = carry(older[name], partner.cib[name])

    def _say_anew(self) -> None:
        """A monitor of the primary that lives."""
        for node in self.primaries():
            if self.has_quorum(node):
                node.action = None
                self.act(node.name, 40)
                node.action = None

    # ---- the promise -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Every acknowledged commit is on every node that could be promoted, and one server at most takes writes."""
        if len(self.primaries()) > 1:
            raise Violation(f"{', '.join(node.name for node in self.primaries())} take writes")
        for node in self.nodes.values():
            if node.powered and node.server.role == "standby" and self.cluster_seen_by(node).may_decide:
                for others_are_heard in (True, False):
                    self._check_heir(node, others_are_heard)

    def _check_heir(self, node: Node, others_are_heard: bool) -> None:
        """If the primary died now, everybody who is lost were fenced, and this node were asked."""
        server = self.standby(node)

        def after_the_failure(state: NodeState) -> NodeState:
            other = self.nodes[state.key]
            lives = other in self.side_of(node) and other.server.role == "standby"
            if lives and (others_are_heard or other is node):
                position, number = position_of(other.server.wal), self.snapshot(node, server).next_number
                is_older = other.held is not None and position.compare(other.held) is Order.OLDER
                said = Published(position, number, went_back=is_older)
                return replace(state, membership=Membership.MEMBER, **said._asdict())
            if lives:  # its server fails, too, and its node does not
                return replace(state, membership=Membership.MEMBER, role=Role.STOPPED, position=None)
            return permanent_part(state, Membership.CLEAN)

        cluster = ClusterState(True, True, tuple(after_the_failure(state) for state in node.cib.values()))
        snapshot = Snapshot(server, cluster, self.policies[node.name], remembered=node.file, held=node.held)
        plan = self._decide(snapshot, server)
        if not plan.refusal and not plan.waiting_for:
            self.check_promoted(node)

    def check_promoted(self, node: Node) -> None:
        """A node that is promoted, or could be, lacks nothing that was acknowledged."""
        missing = self.acked - {number for _, number in node.server.wal}
        if missing:
            raise Violation(f"{node.name} may be promoted, and lacks {len(missing)} acknowledged commits")

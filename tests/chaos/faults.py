# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fault as a verb, and beside it what heals it.

A verb acts on the nodes that the fault's target stands for at that moment, and returns soon. One that cannot be done
there and then (the node is off, there is no copy that may be destroyed) raises LabError, which is written down and
is no failure of the run. What could not be healed at its time is healed in the end (settle.py).
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos import disk_faults, network_faults, server_faults
from tests.chaos.kinds import Kind
from tests.chaos.stage import Stage
from tests.chaos.verbs import Verb, boot, chancy, cluster, each, nothing
from tests.lab import LabError, Node
from tests.lab.crm import CLONE
from tests.lab.layout import PGDATA
from tests.lab.processes import signal_all
from tests.lab.waiting import pause

SLOW_FENCING_SECONDS = 20.0
DELAY_MILLISECONDS = 200
MINORITY_FENCING_SECONDS = 8.0
"""A cut-off node lives so long that it can write."""
MINORITY_WRITES = 60
ATTRD, BASED, SCHEDULERD = "pacemaker-attrd", "pacemaker-based", "pacemaker-sched"
CONTROLD, EXECD = "pacemaker-contr", "pacemaker-execd"
MOVE_SECONDS = 40.0


@dataclass(frozen=True)
class Fault:
    """A verb and what undoes it."""

    inject: Verb
    heal: Verb


def kill_postmaster(node: Node) -> None:
    """kill -9 the postmaster alone: its children notice, and for a moment outlive it."""
    _kill(node.postmasters(), node)


def kill_server_process(title: str) -> Verb:
    """kill -9 one server process with this title. The postmaster restarts all others, too, if it is a backend."""
    return each(lambda node: _kill(node.postgres_children(title)[:1], node, title))


def _kill(pids: Sequence[int], node: Node, what: str = "postmaster") -> None:
    if not pids:
        raise LabError(f"no {what} runs on {node.name}")
    signal_all(pids, signal.SIGKILL)


def restart_pacemaker(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """In maintenance mode, Pacemaker restarts while the database goes on."""
    stage.administer("crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--update=true")
    for node in nodes:
        node.signal(signal.SIGTERM, "pacemakerd")


def end_maintenance(stage: Stage) -> None:
    """The cluster cares for its resources."""
    stage.administer("crm_attribute", "--type=crm_config", "--name=maintenance-mode", "--delete")


def move(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The primary is to run elsewhere."""
    for node in nodes:
        stage.administer("crm_resource", "--ban", "--promoted", f"--resource={CLONE}", f"--node={node.name}")


def clear_bans(stage: Stage) -> None:
    """The primary may run everywhere."""
    stage.administer("crm_resource", "--clear", f"--resource={CLONE}")


def standby(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The nodes are to run nothing."""
    for node in nodes:
        stage.administer("crm_standby", f"--node={node.name}", "--update=on")


def unstandby(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The nodes may run things."""
    for node in nodes:
        stage.administer("crm_standby", f"--node={node.name}", "--delete")


def kill_action(action: str, provoke: Verb = nothing) -> Verb:
    """The next such action of the agent is killed half way, with all that it started, as at a timeout."""

    def act(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
        stage.hunt(action, chance)
        provoke(stage, nodes, chance)

    return act


def hang_notify(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """The next notification hangs half way, while a node is to run nothing."""
    stage.hunt("notify", chance, signal.SIGSTOP)
    standby(stage, nodes, chance)


def end_hang(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """The notification goes on, if Pacemaker has not ended it."""
    stage.let_go_on()
    unstandby(stage, nodes, chance)


def restart_on_promote(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """The primary moves; as soon as the new one took writes, on the same timeline, all nodes lose power and boot."""
    former = [node.name for node in nodes]
    move(stage, nodes, chance)

    def cut_all() -> None:
        stage.until("another primary", lambda: stage.sampler.primary() not in former, within=MOVE_SECONDS)
        pause(3 * chance)
        for node in stage.lab.nodes:
            node.power_cut()
        stage.note("all nodes lost power after the move")
        for node in stage.lab.nodes:
            boot(node)

    stage.in_background("power cut after the move", cut_all)


def end_restart(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """All nodes have power, and the primary may run everywhere."""
    for node in nodes:
        boot(node)
    clear_bans(stage)


def write_in_minority(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The node is cut off and lives a while, in which an administrator writes permanent attributes there.

    So many that its CIB has the higher epoch and wins when it meets the others, or when it boots after its fencing.
    """
    stage.lab.fencing_delay = MINORITY_FENCING_SECONDS
    writing = "crm_attribute --lifetime=forever --node=$(uname -n) --name=site-note --update=$number"
    script = f"for number in $(seq {MINORITY_WRITES}); do {writing}; done"
    for node in nodes:
        node.cut_network(fencing=False)
        stage.in_background(f"writes on {node.name}", lambda node=node: node.run(["sh", "-c", script], timeout=40))  # type: ignore[misc]


def end_minority(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The parts of the cluster meet again."""
    stage.lab.fencing_delay = 0
    for node in nodes:
        node.reconnect()


def _jump(node: Node, chance: float) -> None:
    """The clock jumps by 15 minutes to an hour, forward or back."""
    node.shift_clock(int((chance - 0.5) * 7200) + (900 if chance >= 0.5 else -900))


def _stop(name: str) -> Verb:
    return each(lambda node: node.signal(signal.SIGSTOP, name))


def _continue(name: str) -> Verb:
    return each(lambda node: node.signal(signal.SIGCONT, name))


def _kill_daemon(name: str) -> Verb:
    return each(lambda node: node.kill(name))


def _fencing_fails(stage: Stage, _nodes: Sequence[Node], chance: float) -> None:
    stage.lab.fencing_fails(1 + int(3 * chance))


def _set_fencing_delay(seconds: float) -> Verb:
    return cluster(lambda stage: setattr(stage.lab, "fencing_delay", seconds))


def _resource_command(option: str) -> Verb:
    return cluster(lambda stage: stage.administer("crm_resource", option, f"--resource={CLONE}"))


_clear = cluster(clear_bans)
_reconnect = each(Node.reconnect)
_heal_losses = each(lambda node: node.network.heal([node.name]))

FAULTS: dict[Kind, Fault] = {
    Kind.KILL_POSTMASTER: Fault(each(kill_postmaster), nothing),
    Kind.KILL_BACKEND: Fault(kill_server_process("postgres postgres "), nothing),
    Kind.KILL_WALRECEIVER: Fault(kill_server_process("walreceiver"), nothing),
    Kind.KILL_WALSENDER: Fault(kill_server_process("walsender"), nothing),
    Kind.FREEZE_POSTMASTER: Fault(each(Node.freeze), each(Node.thaw)),
    Kind.FREEZE_NODE: Fault(each(lambda node: node.freeze("node")), each(lambda node: node.thaw("node"))),
    Kind.POWER_CUT: Fault(each(Node.power_cut), each(boot)),
    Kind.NETWORK_CUT: Fault(each(Node.cut_network), _reconnect),
    Kind.ISOLATION: Fault(each(lambda node: node.cut_network(fencing=False)), _reconnect),
    Kind.ONE_WAY_LOSS: Fault(chancy(network_faults.lose_one_way), _heal_losses),
    Kind.PARTIAL_LOSS: Fault(chancy(network_faults.lose_some), _heal_losses),
    Kind.DELAY: Fault(each(lambda node: node.delay(DELAY_MILLISECONDS)), each(lambda node: node.delay(0))),
    Kind.SLOW_FENCING: Fault(_set_fencing_delay(SLOW_FENCING_SECONDS), _set_fencing_delay(0)),
    Kind.FAILING_FENCING: Fault(_fencing_fails, cluster(lambda stage: stage.lab.fencing_fails(0))),
    Kind.DISK_FULL: Fault(each(Node.fill_disk), each(Node.free_disk)),
    Kind.EMPTY_DATA: Fault(disk_faults.empty_data, nothing),
    Kind.CORRUPT_DATA: Fault(disk_faults.corrupt_data, nothing),
    Kind.WRONG_PERMISSIONS: Fault(
        each(disk_faults.open_permissions), each(lambda node: node.run(["chmod", "0700", str(PGDATA)]))
    ),
    Kind.KILL_COROSYNC: Fault(_kill_daemon("corosync"), nothing),
    Kind.KILL_PACEMAKERD: Fault(_kill_daemon("pacemakerd"), nothing),
    Kind.KILL_ATTRD: Fault(_kill_daemon(ATTRD), nothing),
    Kind.KILL_BASED: Fault(_kill_daemon(BASED), nothing),
    Kind.KILL_SCHEDULERD: Fault(_kill_daemon(SCHEDULERD), nothing),
    Kind.RESTART_PACEMAKER: Fault(restart_pacemaker, cluster(end_maintenance)),
    Kind.CLOCK_JUMP: Fault(chancy(_jump), each(lambda node: node.shift_clock(0))),
    Kind.MOVE: Fault(move, _clear),
    Kind.NODE_STANDBY: Fault(standby, unstandby),
    Kind.CLEANUP: Fault(_resource_command("--cleanup"), nothing),
    Kind.REFRESH: Fault(_resource_command("--refresh"), nothing),
    Kind.KILL_MONITOR: Fault(kill_action("monitor"), nothing),
    Kind.KILL_START: Fault(kill_action("start", each(Node.crash_postgres)), nothing),
    Kind.KILL_STOP: Fault(kill_action("stop", standby), unstandby),
    Kind.KILL_PROMOTE: Fault(kill_action("promote", move), _clear),
    Kind.REFUSED_ATTRIBUTES: Fault(_stop(ATTRD), _continue(ATTRD)),
    Kind.REFUSED_CIB: Fault(_stop(BASED), _continue(BASED)),
    Kind.MINORITY_WRITES: Fault(write_in_minority, end_minority),
    Kind.KILL_NOTIFY: Fault(kill_action("notify", standby), unstandby),
    Kind.HANG_NOTIFY: Fault(hang_notify, end_hang),
    Kind.KILL_CONTROLD: Fault(_kill_daemon(CONTROLD), nothing),
    Kind.KILL_EXECD: Fault(_kill_daemon(EXECD), nothing),
    Kind.CONNECTIONS_EXHAUSTED: Fault(server_faults.exhaust_connections, server_faults.free_connections),
    Kind.WRONG_HBA: Fault(chancy(server_faults.refuse_connections), each(server_faults.mend_files)),
    Kind.WRONG_CONFIGURATION: Fault(chancy(server_faults.break_configuration), each(server_faults.mend_files)),
    Kind.FOREIGN_NAME: Fault(server_faults.connect_stranger, server_faults.end_stranger),
    Kind.REPLAY_DELAY: Fault(chancy(server_faults.delay_replay), each(server_faults.mend_files)),
    Kind.CANCELLED_COMMITS: Fault(server_faults.cancel_commits, each(server_faults.let_receive)),
    Kind.DATABASE_PORT_CUT: Fault(network_faults.cut_database_port, network_faults.open_database_port),
    Kind.RING: Fault(network_faults.cut_ring, network_faults.heal_all_losses),
    Kind.FLAPPING_DELAY: Fault(network_faults.flap_delay, network_faults.end_flapping),
    Kind.FROZEN_FILESYSTEM: Fault(each(Node.freeze_disk), each(Node.thaw_disk)),
    Kind.OLD_DISK: Fault(disk_faults.back_up, disk_faults.restore),
    Kind.RESTART_ON_PROMOTE: Fault(restart_on_promote, end_restart),
}

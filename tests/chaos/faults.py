# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fault as a verb, and beside it what heals it.

A verb acts on the nodes that the fault's target stands for at that moment, and returns soon. One that cannot be done
there and then (the node is off, there is no copy that may be destroyed) raises LabError, which is written down and
is no failure of the run. What could not be healed at its time is healed in the end (settle.py).
"""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.schedule import Kind
from tests.chaos.stage import Stage
from tests.lab import LabError, Node
from tests.lab.crm import CLONE
from tests.lab.layout import PGDATA
from tests.lab.processes import signal_all

Verb = Callable[[Stage, Sequence[Node], float], None]
"""What is done to some nodes; the number is the step's chance."""

SLOW_FENCING_SECONDS = 20.0
DELAY_MILLISECONDS = 200
MINORITY_FENCING_SECONDS = 8.0
"""A cut-off node lives so long that it can write."""
MINORITY_WRITES = 60
ATTRD, BASED, SCHEDULERD = "pacemaker-attrd", "pacemaker-based", "pacemaker-sched"


@dataclass(frozen=True)
class Fault:
    """A verb and what undoes it."""

    inject: Verb
    heal: Verb


def _each(verb: Callable[[Node], object]) -> Verb:
    """The verb for every node."""

    def act(_stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
        for node in nodes:
            verb(node)

    return act


def _chancy(verb: Callable[[Node, float], object]) -> Verb:
    """The verb for every node, with the chance."""

    def act(_stage: Stage, nodes: Sequence[Node], chance: float) -> None:
        for node in nodes:
            verb(node, chance)

    return act


def _cluster(verb: Callable[[Stage], object]) -> Verb:
    """The verb for the cluster as a whole."""

    def act(stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
        verb(stage)

    return act


def _nothing(_stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
    """It ends by itself."""


def kill_postmaster(node: Node) -> None:
    """kill -9 the postmaster alone: its children notice, and for a moment outlive it."""
    _kill(node.postmasters(), node)


def kill_server_process(title: str) -> Verb:
    """kill -9 one server process with this title. The postmaster restarts all others, too, if it is a backend."""
    return _each(lambda node: _kill(node.postgres_children(title)[:1], node, title))


def _kill(pids: Sequence[int], node: Node, what: str = "postmaster") -> None:
    if not pids:
        raise LabError(f"no {what} runs on {node.name}")
    signal_all(pids, signal.SIGKILL)


def boot(node: Node) -> None:
    """The node has power; fencing may have booted it already."""
    if node.is_on:
        return
    try:
        node.boot()
    except LabError:
        if not node.is_on:
            raise


def lose_one_way(node: Node, chance: float) -> None:
    """Everything in one direction is lost, by chance that which comes in or that which goes out."""
    node.one_way_loss("in" if chance < 0.5 else "out")


def lose_some(node: Node, chance: float) -> None:
    """20 to 50 percent of the frames are lost, in both directions."""
    for direction in ("in", "out"):
        node.one_way_loss(direction, 20 + int(30 * chance))


def empty_data(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The server crashes, and its data directory is empty."""
    for node in nodes:
        stage.claim_destruction(node)
        node.crash_postgres()
        lost = f"{PGDATA}.lost"
        make = f"rm -rf {lost}; mv {PGDATA} {lost} && install -d -m 0700 -o postgres -g postgres {PGDATA}"
        node.run(["sh", "-c", make])


def corrupt_data(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """The server crashes, and a file that it cannot do without is full of zeros, or gone."""
    commands = (
        f"dd if=/dev/zero of={PGDATA}/global/pg_control bs=8192 count=1 conv=notrunc status=none",
        f"rm {PGDATA}/PG_VERSION",
        f"rm {PGDATA}/global/pg_filenode.map",
        f"rm -rf {PGDATA}/pg_wal",
    )
    for node in nodes:
        stage.claim_destruction(node)
        node.crash_postgres()
        node.run(["sh", "-c", commands[int(chance * len(commands))]])


def open_permissions(node: Node) -> None:
    """The data directory is open for all, and the server crashes, so that it has to start like that."""
    node.run(["chmod", "0777", str(PGDATA)])
    node.crash_postgres()


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


def kill_action(action: str, provoke: Verb = _nothing) -> Verb:
    """The next such action of the agent is killed half way, with all that it started, as at a timeout."""

    def act(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
        stage.hunt(action, chance)
        provoke(stage, nodes, chance)

    return act


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
    return _each(lambda node: node.signal(signal.SIGSTOP, name))


def _continue(name: str) -> Verb:
    return _each(lambda node: node.signal(signal.SIGCONT, name))


def _kill_daemon(name: str) -> Verb:
    return _each(lambda node: node.kill(name))


def _fencing_fails(stage: Stage, _nodes: Sequence[Node], chance: float) -> None:
    stage.lab.fencing_fails(1 + int(3 * chance))


def _set_fencing_delay(seconds: float) -> Verb:
    return _cluster(lambda stage: setattr(stage.lab, "fencing_delay", seconds))


def _resource_command(option: str) -> Verb:
    return _cluster(lambda stage: stage.administer("crm_resource", option, f"--resource={CLONE}"))


_clear = _cluster(clear_bans)
_reconnect = _each(Node.reconnect)
_heal_losses = _each(lambda node: node.network.heal([node.name]))

FAULTS: dict[Kind, Fault] = {
    Kind.KILL_POSTMASTER: Fault(_each(kill_postmaster), _nothing),
    Kind.KILL_BACKEND: Fault(kill_server_process("postgres postgres "), _nothing),
    Kind.KILL_WALRECEIVER: Fault(kill_server_process("walreceiver"), _nothing),
    Kind.KILL_WALSENDER: Fault(kill_server_process("walsender"), _nothing),
    Kind.FREEZE_POSTMASTER: Fault(_each(Node.freeze), _each(Node.thaw)),
    Kind.FREEZE_NODE: Fault(_each(lambda node: node.freeze("node")), _each(lambda node: node.thaw("node"))),
    Kind.POWER_CUT: Fault(_each(Node.power_cut), _each(boot)),
    Kind.NETWORK_CUT: Fault(_each(Node.cut_network), _reconnect),
    Kind.ISOLATION: Fault(_each(lambda node: node.cut_network(fencing=False)), _reconnect),
    Kind.ONE_WAY_LOSS: Fault(_chancy(lose_one_way), _heal_losses),
    Kind.PARTIAL_LOSS: Fault(_chancy(lose_some), _heal_losses),
    Kind.DELAY: Fault(_each(lambda node: node.delay(DELAY_MILLISECONDS)), _each(lambda node: node.delay(0))),
    Kind.SLOW_FENCING: Fault(_set_fencing_delay(SLOW_FENCING_SECONDS), _set_fencing_delay(0)),
    Kind.FAILING_FENCING: Fault(_fencing_fails, _cluster(lambda stage: stage.lab.fencing_fails(0))),
    Kind.DISK_FULL: Fault(_each(Node.fill_disk), _each(Node.free_disk)),
    Kind.EMPTY_DATA: Fault(empty_data, _nothing),
    Kind.CORRUPT_DATA: Fault(corrupt_data, _nothing),
    Kind.WRONG_PERMISSIONS: Fault(
        _each(open_permissions), _each(lambda node: node.run(["chmod", "0700", str(PGDATA)]))
    ),
    Kind.KILL_COROSYNC: Fault(_kill_daemon("corosync"), _nothing),
    Kind.KILL_PACEMAKERD: Fault(_kill_daemon("pacemakerd"), _nothing),
    Kind.KILL_ATTRD: Fault(_kill_daemon(ATTRD), _nothing),
    Kind.KILL_BASED: Fault(_kill_daemon(BASED), _nothing),
    Kind.KILL_SCHEDULERD: Fault(_kill_daemon(SCHEDULERD), _nothing),
    Kind.RESTART_PACEMAKER: Fault(restart_pacemaker, _cluster(end_maintenance)),
    Kind.CLOCK_JUMP: Fault(_chancy(_jump), _each(lambda node: node.shift_clock(0))),
    Kind.MOVE: Fault(move, _clear),
    Kind.NODE_STANDBY: Fault(standby, unstandby),
    Kind.CLEANUP: Fault(_resource_command("--cleanup"), _nothing),
    Kind.REFRESH: Fault(_resource_command("--refresh"), _nothing),
    Kind.KILL_MONITOR: Fault(kill_action("monitor"), _nothing),
    Kind.KILL_START: Fault(kill_action("start", _each(Node.crash_postgres)), _nothing),
    Kind.KILL_STOP: Fault(kill_action("stop", standby), unstandby),
    Kind.KILL_PROMOTE: Fault(kill_action("promote", move), _clear),
    Kind.REFUSED_ATTRIBUTES: Fault(_stop(ATTRD), _continue(ATTRD)),
    Kind.REFUSED_CIB: Fault(_stop(BASED), _continue(BASED)),
    Kind.MINORITY_WRITES: Fault(write_in_minority, end_minority),
}

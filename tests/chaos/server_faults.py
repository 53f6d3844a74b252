# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults that a server has from its configuration, its clients and those who say that they are its standbys."""

import signal
import subprocess
from collections.abc import Sequence

from tests.chaos.stage import Stage
from tests.chaos.verbs import boot
from tests.lab import LabError, Node
from tests.lab.layout import DATABASE_USER, PGDATA, PORT, SOCKETDIR, VIP
from tests.lab.network import CLIENT
from tests.lab.processes import CLEAN_ENVIRONMENT, Identity, signal_all
from tests.lab.session import NotConnected, Session

MARK = "# chaos"
"""At the end of every line that a fault adds to a file."""
FILES = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf")
MOST_CONNECTIONS = 200
CONNECT_SECONDS = 2.0
CANCEL_MILLISECONDS = 300


def exhaust_connections(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The servers let nobody in any more: all connections are taken, those for superusers too."""
    for node in nodes:
        if (init := node.init) is None:
            raise LabError(f"{node.name} is off")
        conninfo = f"host=/proc/{init.pid}/root{SOCKETDIR} port={PORT} user={DATABASE_USER} dbname=postgres"
        for number in range(MOST_CONNECTIONS):
            try:
                stage.held.append(Session.connect(f"{conninfo} application_name=chaos", CONNECT_SECONDS))
            except NotConnected as error:
                if "too many clients" not in str(error):
                    raise LabError(f"{node.name}: {error}") from error
                stage.note(f"{node.name} lets nobody in after {number} more: {error}")
                break


def free_connections(stage: Stage, _nodes: Sequence[Node], _chance: float) -> None:
    """The connections are free."""
    while stage.held:
        stage.held.pop().close()


def refuse_connections(node: Node, chance: float) -> None:
    """pg_hba.conf keeps out the standbys, everybody who comes by TCP, or the agent itself; replication starts anew."""
    everybody = "host all,replication all 0.0.0.0/0 reject"
    choices = (["host replication all 0.0.0.0/0 reject"], [everybody], ["local all all reject", everybody])
    insert = [word for rule in choices[int(chance * len(choices))] for word in ("-e", f"1i {rule} {MARK}")]
    node.run(["sed", "-i", *insert, f"{PGDATA}/pg_hba.conf"])
    _reload(node)
    signal_all([*node.postgres_children("walsender"), *node.postgres_children("walreceiver")], signal.SIGTERM)


def break_configuration(node: Node, chance: float) -> None:
    """The server crashes, and its configuration holds something that it does not start with, or not well."""
    lines = (
        "shared_buffers = nonsense",
        "no_such_parameter = on",
        "include 'no_such_file.conf'",
        "max_connections = 20",
        "max_wal_senders = 0",
    )
    _append(node, "postgresql.conf", lines[int(chance * len(lines))])
    node.crash_postgres()


def delay_replay(node: Node, chance: float) -> None:
    """The standby receives, and replays late, or pauses."""
    if chance < 0.5:
        _append(node, "postgresql.auto.conf", "recovery_min_apply_delay = '30s'")
        _reload(node)
    else:
        node.sql("SELECT pg_wal_replay_pause()")


def mend_files(node: Node) -> None:
    """What faults added to the server's files is gone, and replay goes on."""
    files = " ".join(f"{PGDATA}/{name}" for name in FILES)
    node.run(["sh", "-c", f"for file in {files}; do [ ! -e $file ] || sed -i '/{MARK}$/d' $file; done"])
    if node.postmasters():
        _reload(node)
        resume = "SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery() AND pg_is_wal_replay_paused()"
        # A server that does not answer yet, or has just become a primary, has no pause.
        node.run(["psql", "-XAtqh", str(SOCKETDIR), "-U", DATABASE_USER, "-c", resume, "postgres"], check=False)


def connect_stranger(stage: Stage, nodes: Sequence[Node], chance: float) -> None:
    """A program that calls itself like the node's standby receives WAL through the VIP, and says that it flushes it.

    By chance the node itself has no power meanwhile.
    """
    for node in nodes:
        folder = stage.lab.layout.clients / f"stranger-{node.name}"
        folder.mkdir(exist_ok=True)
        name = f"application_name={node.name}"
        program = [f"{node.settings.postgres_bin}/pg_receivewal", "--synchronous", "--status-interval=1", f"-D{folder}"]
        with (stage.lab.layout.clients / f"stranger-{node.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *stage.lab.network.enter(CLIENT),
                    *program,
                    "-d",
                    f"host={VIP} port={PORT} user={DATABASE_USER} {name}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(CLEAN_ENVIRONMENT),
                cwd="/",
                start_new_session=True,
            )
        Identity.of(process.pid).save(stage.lab.layout.processes / f"stranger-{node.name}")
        stage.strangers.append((node.name, process))
        if chance >= 0.5:
            stage.note(f"{node.name} has no power meanwhile")
            node.power_cut()


def end_stranger(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The programs are gone, and the nodes have power."""
    while stage.strangers:
        name, process = stage.strangers.pop()
        process.kill()
        process.wait()
        log = (stage.lab.layout.clients / f"stranger-{name}.log").read_text()
        stage.note(f"the stranger that called itself {name} ended: {log[-200:]}")
    for node in nodes:
        boot(node)


def cancel_commits(stage: Stage, nodes: Sequence[Node], _chance: float) -> None:
    """The standby's receiver stands still, so that commits wait, and a client cancels those that wait."""
    for node in nodes:
        receivers = node.postgres_children("walreceiver")
        if not receivers:
            raise LabError(f"no walreceiver runs on {node.name}")
        signal_all(receivers, signal.SIGSTOP)
    stage.add_client("canceller", cancel_ms=CANCEL_MILLISECONDS)


def let_receive(node: Node) -> None:
    """The standby's receiver goes on."""
    signal_all(node.postgres_children("walreceiver"), signal.SIGCONT)


def _append(node: Node, file: str, line: str) -> None:
    node.run(["sh", "-c", f'echo "{line} {MARK}" >> {PGDATA}/{file}'])


def _reload(node: Node) -> None:
    signal_all(node.postmasters(), signal.SIGHUP)

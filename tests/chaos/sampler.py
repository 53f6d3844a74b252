# SPDX-License-Identifier: GPL-2.0-or-later
"""What the servers (twice a second) and the cluster (once) look like, as JSON lines; and who is the primary now.

Servers are asked through their own sockets, which are reached from outside through the node's root directory: sessions
that stay, so that looking costs next to nothing and works whatever the network and the cluster do.
"""

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.lab import Lab, LabError, Node, Status
from tests.lab.crm import RESOURCE
from tests.lab.layout import DATABASE_USER, PORT, SOCKETDIR
from tests.lab.session import NotConnected, OutcomeUnknown, Refused, Session

INTERVAL_SECONDS = 0.5
CLUSTER_EVERY = 2
"""The cluster's own programs cost a hundred times more than a query: they are asked in every second look."""
CONNECT_SECONDS = 0.5
QUERY_SECONDS = 0.5
PRIVATE_ATTRIBUTE = f"{RESOURCE}-position"

# Positions as numbers, in bytes.
STATE = """
SELECT pg_is_in_recovery(),
    CASE WHEN pg_is_in_recovery()
        THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), 0)
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
    (CASE WHEN pg_is_in_recovery()
        THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::bigint
"""


@dataclass(frozen=True)
class ServerSample:
    """What a server said. `asked` and `answered` by the monotonic clock, in seconds."""

    node: str
    asked: float
    answered: float
    writable: bool
    timeline: int
    """0 for a standby that nobody streams to."""
    position: int
    """Where its WAL ends, in bytes: received or replayed by a standby, flushed by a primary."""


@dataclass(frozen=True)
class Sample:
    """One look. `monotonic` in seconds, when it began."""

    monotonic: float
    wall: float
    servers: tuple[ServerSample, ...]
    """Those that answered."""
    status: Status | None
    """The cluster as the asked node sees it; None if it was not asked, or did not answer."""
    private: Mapping[str, str] = field(default_factory=dict)
    """Positions that nodes published for an election."""

    def line(self) -> str:
        """The sample as a JSON line."""
        values = {
            "monotonic": self.monotonic,
            "wall": self.wall,
            "servers": [asdict(server) for server in self.servers],
            "status": None if self.status is None else asdict(self.status),
            "private": dict(self.private),
        }
        return json.dumps(values) + "\n"


class Sampler:
    """Looks from `start` until `stop`."""

    def __init__(self, lab: Lab, output: Path) -> None:
        self._lab = lab
        self._output = output
        self._sessions: dict[str, tuple[str, Session]] = {}
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"sampler {lab.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No session is left."""
        self._ended.set()
        self._thread.join()
        for _, session in self._sessions.values():
            session.close()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What was seen until now."""
        return tuple(self._samples)

    def primary(self) -> str | None:
        """The node whose server took writes when one last did."""
        found = (server.node for sample in reversed(self._samples) for server in sample.servers if server.writable)
        return next(found, None)

    def status(self) -> Status | None:
        """The cluster in the eyes of a node with quorum, when one was last asked."""
        seen = (sample.status for sample in reversed(self._samples) if sample.status is not None)
        return next((status for status in seen if status.quorum), None)

    def _work(self) -> None:
        with self._output.open("a") as output:
            while not self._ended.is_set():
                begin = time.monotonic()
                sample = self._look(len(self._samples))
                self._samples.append(sample)
                output.write(sample.line())
                output.flush()
                self._ended.wait(max(0.0, begin + INTERVAL_SECONDS - time.monotonic()))

    def _look(self, number: int) -> Sample:
        begin, wall = time.monotonic(), time.time()
        servers = [server for node in self._lab.nodes if (server := self._ask(node)) is not None]
        status, private = self._ask_cluster(number // CLUSTER_EVERY) if number % CLUSTER_EVERY == 0 else (None, {})
        return Sample(begin, wall, tuple(servers), status, private)

    def _ask(self, node: Node) -> ServerSample | None:
        init = node.init
        if init is None:
            return None
        # The number of the node's init is part of the path: after a boot it is another one.
        host = f"/proc/{init.pid}/root{SOCKETDIR}"
        asked = time.monotonic()
        try:
            session = self._session(node.name, host)
            recovery, timeline, position = session.execute(STATE, [], QUERY_SECONDS)
        except (NotConnected, OutcomeUnknown, Refused, ValueError):
            _, dead = self._sessions.pop(node.name, ("", None))
            if dead is not None:
                dead.close()
            return None
        return ServerSample(node.name, asked, time.monotonic(), recovery == "f", int(timeline or 0), int(position or 0))

    def _session(self, node: str, host: str) -> Session:
        known, session = self._sessions.get(node, ("", None))
        if session is not None and known == host:
            return session
        conninfo = f"host={host} port={PORT} user={DATABASE_USER} dbname=postgres application_name=sampler"
        session = Session.connect(conninfo, CONNECT_SECONDS)
        self._sessions[node] = (host, session)
        return session

    def _ask_cluster(self, number: int) -> tuple[Status | None, dict[str, str]]:
        """In turn every node that runs is asked, since partitions see different clusters."""
        awake = [node for node in self._lab.nodes if node.is_on and not node.is_frozen]
        if not awake:
            return None, {}
        node = awake[number % len(awake)]
        try:
            status = self._lab.status(node.name)
            query = ["attrd_updater", "--query", "--all", f"--name={PRIVATE_ATTRIBUTE}"]
            told = node.run(query, check=False, timeout=2).stdout
        except LabError:
            return None, {}
        return status, dict(re.findall(r'host="([^"]*)" value="([^"]*)"', told))

# SPDX-License-Identifier: GPL-2.0-or-later
"""What hypothesis draws: positions, WAL, nodes and whole snapshots, as wild as a cluster can show them."""

from hypothesis import strategies as st

from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.policy import Degrading, Method, Mode, Policy
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.recovery import Recovery, Replay
from pgsql_ra.replication.snapshot import (
    ClusterState,
    Membership,
    NodeState,
    Primary,
    ReplicationState,
    Role,
    Snapshot,
    Standby,
    SynchronousStandbys,
    SyncState,
    Voters,
    Walsender,
)
from pgsql_ra.replication.status import DISCONNECT, LATEST, STREAMING_ASYNC, STREAMING_SYNC
from tests.unit.builders import NODES
from tests.unit.wal import Record, Wal

HIGHEST_LSN = 2**64 - 1

lsns = st.integers(0, HIGHEST_LSN).map(Lsn)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A history as PostgreSQL writes them: timelines and positions never go back."""
    timelines = sorted(draw(st.sets(st.integers(1, 9), min_size=1, max_size=5)))
    places = sorted(draw(st.lists(lsns, min_size=len(timelines) - 1, max_size=len(timelines) - 1)))
    return History(timelines[-1], tuple(zip(timelines[:-1], places, strict=True)))


positions = st.builds(Position, lsns, histories())

FEW_LSNS = (0x40, 0x80, 0x100, 0x180, 0x200, 0x280)
near_positions = st.builds(
    Position,
    st.sampled_from(FEW_LSNS).map(Lsn),
    st.sampled_from(
        [
            History(1),
            History(2, ((1, Lsn(0x100)),)),
            History(2, ((1, Lsn(0x80)),)),
            History(3, ((1, Lsn(0x100)), (2, Lsn(0x200)))),
        ]
    ),
)
"""Positions so close to each other that every order between two of them occurs often."""


@st.composite
def copies(draw: st.DrawFn) -> tuple[Wal, Wal]:
    """Two copies of one cluster's WAL after any number of promotions, each of which takes a timeline of its own."""
    branches: list[Wal] = [((1, 0),)]
    for number in range(1, draw(st.integers(1, 12))):
        origin = branches[draw(st.integers(0, len(branches) - 1))]
        cut = origin[: draw(st.integers(1, len(origin)))]
        record: Record = (cut[-1][0], number)
        if draw(st.booleans()):
            record = (number + 1, number)
            branches.append((*cut, record))
        else:
            # Only the one who writes a timeline extends it; everybody else holds a part of it.
            branches = [(*wal, record) if wal is origin and len(cut) == len(origin) else wal for wal in branches]
    first, second = (branches[draw(st.integers(0, len(branches) - 1))] for _ in range(2))
    return first[: draw(st.integers(1, len(first)))], second[: draw(st.integers(1, len(second)))]


promotions = st.builds(
    Promotion, number=st.integers(1, 3), node=st.sampled_from(NODES), begin=st.none() | near_positions
)
voters = st.builds(
    Voters,
    number=st.integers(1, 3),
    needed=st.integers(1, 3),
    names=st.sets(st.sampled_from(NODES), max_size=3).map(lambda names: tuple(sorted(names))),
)
settings_of_standbys = st.builds(
    SynchronousStandbys,
    names=st.sets(st.sampled_from(NODES[1:]), max_size=2).map(tuple),
    any_of=st.sampled_from([0, 0, 1]),
).filter(lambda setting: bool(setting.names) or not setting.any_of)


def nodes(name: str) -> st.SearchStrategy[NodeState]:
    """A node of this name in any state."""
    return st.builds(
        NodeState,
        name=st.just(name),
        membership=st.sampled_from(Membership),
        role=st.sampled_from(Role),
        data_status=st.sampled_from(["", LATEST, DISCONNECT, STREAMING_SYNC, STREAMING_ASYNC, "junk"]),
        status=st.sampled_from(["", "PRI", "STOP", "UNKNOWN", "HS:alone", "HS:sync", "HS:async"]),
        score=st.sampled_from(["", "-INFINITY", "0", "100", "1000"]),
        position=st.none() | near_positions,
        location=st.sampled_from(["", "0000000000000080"]),
        record=st.none() | near_positions.map(lambda position: position.history),
        election=st.sampled_from(["", "1/3 waits", "3/3 waits"]),
        promotion=st.none() | promotions,
        known=st.none() | promotions,
        voters=st.none() | voters,
        priority=st.sampled_from([0, 1, 1, 1, 2]),
        receives=st.sampled_from([f"{name}:1", f"{name}:1", f"{name}:2", "else:1", "none", ""]),
        unfit=st.sampled_from(["", "", "restart it"]),
    )


walsenders = st.builds(
    Walsender,
    node=st.sampled_from([*NODES, "somebody"]),
    client=st.sampled_from([*(f"{name}:1" for name in NODES), "beta:1", "beta:1", "beta:2", "else:1", ""]),
    pid=st.integers(1, 9),
    state=st.sampled_from(ReplicationState),
    sync_state=st.sampled_from(SyncState),
    flush=st.none() | st.sampled_from(FEW_LSNS).map(Lsn),
)

primaries = st.builds(
    Primary,
    pid=st.just(100),
    position=near_positions,
    synchronous=settings_of_standbys,
    settled=st.booleans(),
    walsenders=st.lists(walsenders, max_size=3, unique_by=lambda row: row.pid).map(tuple),
)

recoveries = st.builds(
    Recovery,
    targets=st.sampled_from([(), (), (("recovery_target_xid", "5"),)]),
    replay=st.sampled_from(Replay),
    delay=st.sampled_from([0.0, 3600.0]),
)
standbys = st.builds(
    Standby,
    pid=st.just(100),
    position=st.none() | near_positions,
    streaming=st.booleans(),
    recovery=st.just(Recovery()) | recoveries,
)


@st.composite
def snapshots(draw: st.DrawFn, server: st.SearchStrategy[Primary | Standby]) -> Snapshot:
    """Anything that the first of two or three nodes could see, with a server like this."""
    names = NODES[: draw(st.integers(2, 3))]
    return Snapshot(
        server=draw(server),
        cluster=ClusterState(
            quorum=draw(st.booleans()),
            fencing=draw(st.booleans()),
            nodes=tuple(draw(nodes(name)) for name in names),
            quorum_needed=draw(st.booleans()),
        ),
        policy=Policy(
            names[0],
            draw(st.sampled_from(Mode)),
            names,
            draw(st.integers(0, 3)),
            synchronous_count=draw(st.sampled_from([1, 1, 2])),
            method=draw(st.sampled_from(Method)),
            degrading=draw(st.sampled_from(Degrading)),
            max_lag=draw(st.sampled_from([0, 0, 0x40])),
        ),
        remembered=draw(st.none() | promotions),
        leaving=frozenset(draw(st.sets(st.sampled_from(names[1:]), max_size=1))),
        mark=draw(st.none() | st.sampled_from(FEW_LSNS).map(Lsn)),
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of faults, whom each may hit, and for how long."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The faults to survive (SAFETY: "Faults to survive")."""

    KILL_POSTMASTER = "kill-postmaster"
    KILL_BACKEND = "kill-backend"
    KILL_WALRECEIVER = "kill-walreceiver"
    KILL_WALSENDER = "kill-walsender"
    FREEZE_POSTMASTER = "freeze-postmaster"
    FREEZE_NODE = "freeze-node"
    POWER_CUT = "power-cut"
    NETWORK_CUT = "network-cut"
    ISOLATION = "isolation"
    ONE_WAY_LOSS = "one-way-loss"
    PARTIAL_LOSS = "partial-loss"
    DELAY = "delay"
    SLOW_FENCING = "slow-fencing"
    FAILING_FENCING = "failing-fencing"
    DISK_FULL = "disk-full"
    EMPTY_DATA = "empty-data"
    CORRUPT_DATA = "corrupt-data"
    WRONG_PERMISSIONS = "wrong-permissions"
    KILL_COROSYNC = "kill-corosync"
    KILL_PACEMAKERD = "kill-pacemakerd"
    KILL_ATTRD = "kill-attrd"
    KILL_BASED = "kill-based"
    KILL_SCHEDULERD = "kill-schedulerd"
    RESTART_PACEMAKER = "restart-pacemaker"
    CLOCK_JUMP = "clock-jump"
    MOVE = "move"
    NODE_STANDBY = "node-standby"
    CLEANUP = "cleanup"
    REFRESH = "refresh"
    KILL_MONITOR = "kill-monitor"
    KILL_START = "kill-start"
    KILL_STOP = "kill-stop"
    KILL_PROMOTE = "kill-promote"
    REFUSED_ATTRIBUTES = "refused-attributes"
    REFUSED_CIB = "refused-cib"
    MINORITY_WRITES = "minority-writes"
    KILL_NOTIFY = "kill-notify"
    HANG_NOTIFY = "hang-notify"
    KILL_CONTROLD = "kill-controld"
    KILL_EXECD = "kill-execd"
    CONNECTIONS_EXHAUSTED = "connections-exhausted"
    WRONG_HBA = "wrong-hba"
    WRONG_CONFIGURATION = "wrong-configuration"
    FOREIGN_NAME = "foreign-name"
    REPLAY_DELAY = "replay-delay"
    CANCELLED_COMMITS = "cancelled-commits"
    DATABASE_PORT_CUT = "database-port-cut"
    RING = "ring"
    FLAPPING_DELAY = "flapping-delay"
    FROZEN_FILESYSTEM = "frozen-filesystem"
    OLD_DISK = "old-disk"
    RESTART_ON_PROMOTE = "restart-on-promote"


class Target(StrEnum):
    """Whom a fault hits, by what they are when it comes."""

    PRIMARY = "the primary"
    STANDBY = "the synchronous standby"
    """In async mode, or while none is synchronous, the first standby."""
    OTHER = "the other standby"
    BOTH = "the primary and a standby"
    ALL = "all nodes"
    CLUSTER = "the cluster"


@dataclass(frozen=True)
class Traits:
    """How a kind of fault is drawn: whom it may hit, for how long (seconds), and how often beside the others."""

    targets: tuple[Target, ...]
    seconds: tuple[float, float] = (0.0, 0.0)
    """0: it ends by itself, or by what the cluster does about it."""
    weight: int = 2
    may_stay: bool = False
    """May it last until everything is healed?"""


_ONE = (Target.PRIMARY, Target.STANDBY, Target.OTHER)
_STANDBYS = (Target.STANDBY, Target.OTHER)
_ANY = (*_ONE, Target.BOTH, Target.ALL)

TRAITS: dict[Kind, Traits] = {
    Kind.KILL_POSTMASTER: Traits(_ONE, weight=4),
    Kind.KILL_BACKEND: Traits((Target.PRIMARY,)),
    Kind.KILL_WALRECEIVER: Traits(_STANDBYS),
    Kind.KILL_WALSENDER: Traits((Target.PRIMARY,)),
    Kind.FREEZE_POSTMASTER: Traits(_ONE, (2, 15), may_stay=True),
    Kind.FREEZE_NODE: Traits(_ONE, (1, 12)),
    Kind.POWER_CUT: Traits(_ANY, (4, 20), weight=6, may_stay=True),
    Kind.NETWORK_CUT: Traits(_ONE, (2, 20), weight=4, may_stay=True),
    Kind.ISOLATION: Traits(_ONE, (2, 20), weight=4, may_stay=True),
    Kind.ONE_WAY_LOSS: Traits(_ONE, (2, 15)),
    Kind.PARTIAL_LOSS: Traits(_ONE, (4, 15)),
    Kind.DELAY: Traits(_ONE, (4, 15)),
    Kind.SLOW_FENCING: Traits((Target.CLUSTER,), (20, 30), weight=4),
    Kind.FAILING_FENCING: Traits((Target.CLUSTER,), (20, 30), weight=4),
    Kind.DISK_FULL: Traits((Target.PRIMARY, Target.STANDBY), (4, 15), weight=3, may_stay=True),
    Kind.EMPTY_DATA: Traits(_STANDBYS, may_stay=True),
    Kind.CORRUPT_DATA: Traits(_STANDBYS, may_stay=True),
    Kind.WRONG_PERMISSIONS: Traits(_STANDBYS, (4, 12), may_stay=True),
    Kind.KILL_COROSYNC: Traits(_ONE),
    Kind.KILL_PACEMAKERD: Traits(_ONE),
    Kind.KILL_ATTRD: Traits(_ONE),
    Kind.KILL_BASED: Traits(_ONE),
    Kind.KILL_SCHEDULERD: Traits((Target.CLUSTER,), weight=1),
    Kind.RESTART_PACEMAKER: Traits(_ONE, (8, 15)),
    Kind.CLOCK_JUMP: Traits(_ONE, (5, 20)),
    Kind.MOVE: Traits((Target.PRIMARY,), (3, 12), weight=4),
    Kind.NODE_STANDBY: Traits(_ONE, (3, 15), weight=3),
    Kind.CLEANUP: Traits((Target.CLUSTER,), weight=1),
    Kind.REFRESH: Traits((Target.CLUSTER,), weight=1),
    Kind.KILL_MONITOR: Traits(_ONE, (8, 8)),
    Kind.KILL_START: Traits(_STANDBYS, (12, 12)),
    Kind.KILL_STOP: Traits(_ONE, (12, 12)),
    Kind.KILL_PROMOTE: Traits((Target.PRIMARY,), (12, 12), weight=3),
    Kind.REFUSED_ATTRIBUTES: Traits(_ONE, (2, 8)),
    Kind.REFUSED_CIB: Traits(_ONE, (2, 8)),
    Kind.MINORITY_WRITES: Traits(_ONE, (3, 12), weight=3),
    Kind.KILL_NOTIFY: Traits(_ONE, (12, 12)),
    Kind.HANG_NOTIFY: Traits(_ONE, (8, 20)),
    Kind.KILL_CONTROLD: Traits(_ONE),
    Kind.KILL_EXECD: Traits(_ONE),
    Kind.CONNECTIONS_EXHAUSTED: Traits(_ONE, (5, 20)),
    Kind.WRONG_HBA: Traits(_ONE, (5, 15), may_stay=True),
    Kind.WRONG_CONFIGURATION: Traits(_ONE, (5, 15), may_stay=True),
    Kind.FOREIGN_NAME: Traits(_STANDBYS, (8, 20)),
    Kind.REPLAY_DELAY: Traits(_STANDBYS, (8, 20)),
    Kind.CANCELLED_COMMITS: Traits((Target.STANDBY,), (4, 10)),
    Kind.DATABASE_PORT_CUT: Traits(_ONE, (8, 20), weight=3),
    Kind.RING: Traits((Target.CLUSTER,), (3, 12)),
    Kind.FLAPPING_DELAY: Traits(_ONE, (6, 15)),
    Kind.FROZEN_FILESYSTEM: Traits(_ONE, (3, 20)),
    Kind.OLD_DISK: Traits(_STANDBYS, (3, 12), weight=3),
    Kind.RESTART_ON_PROMOTE: Traits((Target.PRIMARY,), (20, 25), weight=3),
}

DESTRUCTIVE = frozenset({Kind.EMPTY_DATA, Kind.CORRUPT_DATA, Kind.OLD_DISK})
"""They destroy a copy: the promise holds as long as one copy of the newest data survives, so one of them is enough."""
LIMITED_DISKS = frozenset({Kind.DISK_FULL})
"""They need disks of a limited size."""
OWN_CLOCKS = frozenset({Kind.CLOCK_JUMP})
"""They need nodes with clocks of their own."""
RESTARTING = frozenset({Kind.RESTART_ON_PROMOTE})
"""They need an agent with `restart_on_promote`."""
ADMINISTRATIVE = frozenset(
    {
        Kind.MOVE,
        Kind.NODE_STANDBY,
        Kind.KILL_STOP,
        Kind.KILL_PROMOTE,
        Kind.KILL_NOTIFY,
        Kind.HANG_NOTIFY,
        Kind.RESTART_PACEMAKER,
        Kind.RESTART_ON_PROMOTE,
    },
)
"""They write to the CIB, and so does what heals them; when parts of a cluster meet, the older CIB may win."""
FIRST = frozenset({Kind.SLOW_FENCING, Kind.FAILING_FENCING})
"""They do nothing by themselves: they come before the others."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""The few parameters that decisions depend on."""

from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """The replicating values of the parameter rep_mode."""

    SYNC = "sync"
    ASYNC = "async"


class Method(Enum):
    """How commits wait for several synchronous standbys."""

    FIRST = "first"
    """For every one of a few that are chosen: each of them holds every acknowledged commit."""
    QUORUM = "quorum"
    """For any so many of all that stream: each acknowledged commit is on so many of them, nobody knows on which."""


class Degrading(Enum):
    """Whether a primary goes on with fewer synchronous standbys than it should have."""

    ALLOWED = "allowed"
    NEVER = "never"
    """Commits wait until there are enough standbys again (the parameter strict)."""


class ReceiverDisplay(Enum):
    """Whether the state of the WAL receiver is shown as a node attribute."""

    HIDDEN = "hidden"
    SHOWN = "shown"


@dataclass(frozen=True)
class Policy:
    """The parameters that decisions depend on. Names are in lower case."""

    node: str
    mode: Mode
    members: tuple[str, ...]
    """node_list: every node that holds a copy, this one among them."""
    election_rounds: int = 3
    """xlog_check_count: how many looks an election waits for nodes that say nothing."""
    synchronous_count: int = 1
    """How many members are to be synchronous (with the quorum method: on how many a commit is to be flushed)."""
    method: Method = Method.FIRST
    degrading: Degrading = Degrading.ALLOWED
    max_lag: int = 0
    """In async mode: a standby that is more bytes behind is not promotable; 0: no limit."""
    external_standbys: tuple[str, ...] = ()
    """external_standby_node_list: standbys outside of the cluster that commits wait for as well while they stream."""
    slots: tuple[tuple[str, str], ...] = ()
    """The replication slot of each member, as (node, slot); empty if no slots are wanted."""
    slot_prefix: str = ""
    """What the names of the agent's slots begin with."""
    receiver: ReceiverDisplay = ReceiverDisplay.HIDDEN
    """check_wal_receiver."""

    @property
    def peers(self) -> tuple[str, ...]:
        """The members without this node."""
        return tuple(member for member in self.members if member != self.node)

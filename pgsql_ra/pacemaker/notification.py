# SPDX-License-Identifier: GPL-2.0-or-later
"""What Pacemaker says of the transition under way, in the environment of notify, start, stop, promote and demote.

The variables are a plan made at one moment: every action of a transition sees the same lists, and a change of the plan
comes as another transition. Empty lists are one blank. Pacemaker before 2.1 writes master_/slave_ only, later ones
write promoted_/unpromoted_ beside them.
"""

from collections.abc import Mapping
from typing import NamedTuple

_PREFIX = "OCF_RESKEY_CRM_meta_notify_"


class Notification(NamedTuple):
    """Node names in lower case. `kind` is pre or post, `operation` what all instances are about to do or have done."""

    kind: str
    operation: str
    start: frozenset[str]
    stop: frozenset[str]
    promote: frozenset[str]
    demote: frozenset[str]
    promoted: frozenset[str]
    unpromoted: frozenset[str]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Notification":
        """Read the variables; those that are missing are empty."""

        def names(*spellings: str) -> frozenset[str]:
            texts = (environ.get(f"{_PREFIX}{spelling}_uname", "") for spelling in spellings)
            found = next((text for text in texts if text.strip()), "")
            return frozenset(found.lower().split())

        return cls(
            kind=environ.get(f"{_PREFIX}type", ""),
            operation=environ.get(f"{_PREFIX}operation", ""),
            start=names("start"),
            stop=names("stop"),
            promote=names("promote"),
            demote=names("demote"),
            promoted=names("promoted", "master"),
            unpromoted=names("unpromoted", "slave"),
        )

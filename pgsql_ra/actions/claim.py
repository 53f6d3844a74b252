# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose tmpdir and data directory these are: two resources that share one undo each other's settings.

The default of tmpdir is the same for all resources, and the start of one would write into its files that commits wait
for nobody, which the other's server reads at its next reload, while its records say otherwise. So each resource notes
in its state what it uses, and does not start while another one that still exists uses the same.
"""

import json
import os
from dataclasses import dataclass

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import FAILURES, NotInstalled, NotPermitted, reason_of
from pgsql_ra.parameters import PREFIX, Parameters
from pgsql_ra.postgres.process import postmaster
from pgsql_ra.state import StateDirectory

FILE = "claim"


@dataclass(frozen=True)
class Claim:
    """The directories that a resource uses, whatever links lead there; `tmpdir` is "" if it writes nothing there."""

    pgdata: str
    tmpdir: str

    @classmethod
    def of(cls, parameters: Parameters) -> "Claim":
        """What these parameters say."""
        tmpdir = "" if parameters.rep_mode == "none" else os.path.realpath(parameters.tmpdir)
        return cls(os.path.realpath(parameters.pgdata), tmpdir)

    @classmethod
    def read(cls, state: StateDirectory) -> "Claim | None":
        """What a resource has noted; None if that is nothing, or nothing readable."""
        try:
            known = json.loads(state.read(FILE) or "{}")
            return cls(str(known["pgdata"]), str(known["tmpdir"]))
        except (*FAILURES, ValueError, KeyError, TypeError):
            return None

    def write(self, state: StateDirectory) -> None:
        """Note it."""
        state.write(FILE, json.dumps({"pgdata": self.pgdata, "tmpdir": self.tmpdir}))

    def shared_with(self, other: "Claim | None") -> str:
        """What both use, as a parameter; "" if that is nothing."""
        if other is None:
            return ""
        if self.pgdata == other.pgdata:
            return f"pgdata={self.pgdata}"
        return f"tmpdir={self.tmpdir}" if self.tmpdir and self.tmpdir == other.tmpdir else ""


def claim_places(context: Context) -> None:
    """This resource uses its directories from now on. NotInstalled if another one does.

    A single instance keeps no state otherwise, and starts if that cannot be noted.
    """
    try:
        _claim(context)
    except NotPermitted as error:
        if context.parameters.rep_mode != "none":
            raise
        context.log.warning(f"whether another resource uses {context.pgdata} is not known: {error}")


def _claim(context: Context) -> None:
    own = Claim.of(context.parameters)
    with context.state.alone(context.deadline):
        for other in context.state.others():
            theirs = Claim.read(other)
            if theirs is None or not (shared := own.shared_with(theirs)):
                continue
            if because := _still_uses(context, own, other.resource, theirs):
                raise NotInstalled(
                    f"the resource {other.resource} uses {shared} too, {because}: give each of them its own"
                    f" {shared.partition('=')[0]}"
                )
            context.log.info(f"{shared} was used by the resource {other.resource}, which does not use it any more")
            other.remove(FILE)
        if Claim.read(context.state) != own:
            own.write(context.state)


def _still_uses(context: Context, own: Claim, resource: str, theirs: Claim) -> str:
    """How it is known that the other resource still uses what it has noted; "" if it does not."""
    if theirs.pgdata != own.pgdata and postmaster(theirs.pgdata) is not None:
        return f"and its server runs in {theirs.pgdata}"
    from pgsql_ra.pacemaker.management import configured_parameters

    try:
        given = configured_parameters(resource, context.deadline)
    except FAILURES as error:
        return f"as far as is known ({reason_of(error)})"
    if given is None:
        return ""
    now = Claim.of(Parameters({f"{PREFIX}{name}": value for name, value in given.items()}))
    return "by its configuration" if own.shared_with(now) else ""


def watch_places(context: Context) -> None:
    """Say so if a running server's directories are another one's too: both were started by an earlier version."""
    try:
        own = Claim.of(context.parameters)
        if Claim.read(context.state) is None:
            own.write(context.state)
        for other in context.state.others():
            theirs = Claim.read(other)
            shared = own.shared_with(theirs)
            if shared and theirs and theirs.pgdata != own.pgdata and postmaster(theirs.pgdata) is not None:
                context.log.warning(f"the resource {other.resource} uses {shared} too: each of them needs its own")
    except FAILURES as error:
        context.log.warning(f"whether another resource uses the same directories is not known: {reason_of(error)}")

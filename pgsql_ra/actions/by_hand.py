# SPDX-License-Identifier: GPL-2.0-or-later
"""What people do on a node without Pacemaker's environment: the resource's parameters come from the cluster's
configuration.
"""

import os
from collections.abc import Callable

from lxml import etree

from pgsql_ra.actions.context import Context
from pgsql_ra.actions.observe import describe, observe_server
from pgsql_ra.actions.rejoin import begin, examine, finish_swap, job_file
from pgsql_ra.ocf import ClusterFailure, Deadline, NotSafe
from pgsql_ra.pacemaker.command import run
from pgsql_ra.parameters import PREFIX
from pgsql_ra.postgres.job import JobState
from pgsql_ra.postgres.rewind import count_commits
from pgsql_ra.replication.rejoin import AwaitPrimary, Copy, Follow, Refuse, Rejoin, Rewind, Verdict
from pgsql_ra.replication.snapshot import Standby, Stopped
from pgsql_ra.state import PLACE_VARIABLE


def primitive(resource: str, deadline: Deadline) -> "etree._Element":
    """The resource in the cluster's configuration. ClusterFailure if there is none."""
    cib = etree.fromstring(run(["cibadmin", "--query"], deadline).encode())
    for each in cib.iterfind("configuration/resources//primitive"):
        if each.get("id") == resource:
            return each
    raise ClusterFailure(f"the cluster has no resource {resource!r} (the name of the primitive, not of its clone)")


def context_of(resource: str, seconds: float) -> Context:
    """The context of an action of this resource on this node. ClusterFailure if the cluster has no such resource."""
    found = primitive(resource, Deadline(seconds))
    environ = {
        f"{PREFIX}{pair.get('name')}": str(pair.get("value", ""))
        for pair in found.iterfind("instance_attributes/nvpair")
    }
    place = {name: value for name, value in os.environ.items() if name == PLACE_VARIABLE}
    context = Context("by-hand", {**environ, **place, "OCF_RESOURCE_INSTANCE": resource, "OCF_RESOURCE_TYPE": "pgsql"})
    context.deadline = Deadline(seconds)
    if not context.replicates:
        raise ClusterFailure(f"{resource} has rep_mode={context.parameters.rep_mode}: there are no copies to speak of")
    return context


def find_out(context: Context, policy: Rejoin) -> Verdict:
    """What would be done to the data of this node, by this policy. NotSafe if its server is no standby."""
    finish_swap(context)
    server = observe_server(context, context.deadline)
    if not isinstance(server, Stopped | Standby):
        raise NotSafe(f"{describe(server)}: only a standby, or a server that does not run, can rejoin")
    running = server if isinstance(server, Standby) else None
    if running and running.streaming:
        return Follow("it is a standby that streams")
    return examine(context, policy, running)


def explain(context: Context, verdict: Verdict) -> list[str]:
    """The verdict in lines for people, with how much it would throw away."""
    heads = {
        Follow: "follows as it is",
        Rewind: "pg_rewind",
        Copy: "new copy of the primary",
        AwaitPrimary: "nothing yet",
        Refuse: "nothing",
    }
    lines = [f"data:   {context.pgdata}", f"to do:  {heads[type(verdict)]}", f"reason: {verdict.because}"]
    if not isinstance(verdict, Follow | AwaitPrimary) and verdict.lost:
        commits = count_commits(context.pgdata, verdict.lost, context.programs, context.deadline)
        number = "an unknown number of" if commits is None else commits
        lines.append(f"lost:   {verdict.lost}: {number} transactions that the primary does not have")
    return lines


def repair_in_foreground(context: Context, verdict: Rewind | Copy, tell: Callable[[JobState], None]) -> None:
    """Do it and tell how far it is meanwhile. NotSafe with the reason if it fails.

    The work goes on if this process ends; Pacemaker then starts the server when it is done.
    """
    file = job_file(context)
    if not begin(context, verdict, Rejoin.ASKED):
        raise NotSafe("another repair is under way: pgsql-ra rejoin --cancel ends it")
    patience = Deadline(20 * 86400.0)
    while (job := file.running()) is not None:
        tell(job)
        patience.pause("the repair", 0.2)
    if failed := file.read().result:
        raise NotSafe(failed)


def cancel(context: Context) -> bool:
    """No repair is under way on this node; False if there was none."""
    file = job_file(context)
    if file.running() is None:
        return False
    file.end(context.deadline)
    return True

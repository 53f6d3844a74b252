# SPDX-License-Identifier: GPL-2.0-or-later
"""What people do on a node without Pacemaker's environment: the resource's parameters come from the cluster's
configuration.
"""

from lxml import etree

from pgsql_ra.actions.context import Context
from pgsql_ra.ocf import ClusterFailure, Deadline
from pgsql_ra.pacemaker.command import run
from pgsql_ra.parameters import PREFIX


def context_of(resource: str, seconds: float) -> Context:
    """The context of an action of this resource on this node. ClusterFailure if the cluster has no such resource."""
    cib = etree.fromstring(run(["cibadmin", "--query"], Deadline(seconds)).encode())
    found = next(
        (each for each in cib.iterfind("configuration/resources//primitive") if each.get("id") == resource), None
    )
    if found is None:
        raise ClusterFailure(f"the cluster has no resource {resource!r} (the name of the primitive, not of its clone)")
    environ = {
        f"{PREFIX}{pair.get('name')}": str(pair.get("value", ""))
        for pair in found.iterfind("instance_attributes/nvpair")
    }
    context = Context("by-hand", {**environ, "OCF_RESOURCE_INSTANCE": resource, "OCF_RESOURCE_TYPE": "pgsql"})
    context.deadline = Deadline(seconds)
    if not context.replicates:
        raise ClusterFailure(f"{resource} has rep_mode={context.parameters.rep_mode}: there are no copies to speak of")
    return context

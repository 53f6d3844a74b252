# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading back from other nodes what was written here.

Every member has a replica of the CIB. `cibadmin --query --node` is answered by the named node from its own (measured
with Pacemaker 2.1.5: 20 ms; a node that is cut off and not yet missed does not answer, while `crm_attribute` beside it
returns 0). Replicas are compared by their version: an acknowledged write of a permanent attribute raises the epoch.
"""

import re
from collections.abc import Sequence
from typing import Final

from pgsql_ra.ocf import ClusterFailure, Deadline, DeadlineExceeded
from pgsql_ra.pacemaker.command import Ended, execute, run

CONFIRM_SECONDS: Final = 5.0
"""How long a member may take to answer; a cut network is noticed in less (corosync's token timeout)."""
_HEAD: Final = re.compile(r"<cib\b[^>]*>")

Version = tuple[int, int]


def confirm(nodes: Sequence[str], needed: int, deadline: Deadline) -> None:
    """At least `needed` of these nodes hold every permanent attribute that this node's own CIB holds now.

    ClusterFailure, naming those that do not answer or are behind, if they are fewer.
    """
    own = version(run(["cibadmin", "--query"], deadline))
    limit = deadline.within(CONFIRM_SECONDS)
    seconds = max(1, int(limit.remaining()))
    queries = [["cibadmin", "--query", f"--node={node}", f"--timeout={seconds}"] for node in nodes]
    try:
        answers = execute(queries, deadline)
    except DeadlineExceeded as error:
        raise ClusterFailure(f"not every member has what was written here: {error}") from error
    missing = [node for node, answer in zip(nodes, answers, strict=True) if not _holds(answer, own)]
    if len(nodes) - len(missing) < needed:
        raise ClusterFailure(
            f"{', '.join(missing)} did not confirm what was written here: it may be cut off, and not missed yet"
        )


def _holds(answer: Ended, own: Version) -> bool:
    return answer.status == 0 and version(answer.out) >= own


def version(cib: str) -> Version:
    """`admin_epoch` and `epoch` of a CIB. ClusterFailure if it has none.

    >>> version('<cib crm_feature_set="3.16.1" epoch="7" num_updates="64" admin_epoch="1" have-quorum="1">')
    (1, 7)
    """
    head = _HEAD.search(cib)
    found = {name: re.search(rf'\b{name}="([0-9]+)"', head[0]) if head else None for name in ("admin_epoch", "epoch")}
    numbers = [int(match[1]) for match in found.values() if match]
    if len(numbers) != len(found):
        raise ClusterFailure("cibadmin printed something that is not a CIB")
    return numbers[0], numbers[1]

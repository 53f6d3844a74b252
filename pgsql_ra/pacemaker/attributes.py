# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing node attributes and promotion scores, one acknowledged write at a time.

Two lives: *transient* values are attrd's (lost when the node leaves), *permanent* ones are in the CIB. Options are
spelled `--name=value` throughout: `-v -INFINITY` is misread by Pacemaker before 2.1.6. Transient values go through
attrd_updater, because crm_attribute silently writes the CIB's status section when attrd cannot be reached, and attrd
then wipes it out.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

from pgsql_ra.ocf import Deadline, DeadlineExceeded
from pgsql_ra.pacemaker.command import execute, run, run_together


class Life(Enum):
    """How long an attribute's value lives."""

    REBOOT = "reboot"
    FOREVER = "forever"


class Attributes:
    """The node attributes of one resource."""

    def __init__(self, resource: str, deadline: Deadline, permanent_seconds: float) -> None:
        """`permanent_seconds` is how long one write of a permanent attribute may take before it is tried again."""
        self._resource = resource
        self._deadline = deadline
        self._permanent_seconds = permanent_seconds

    def set_score(self, node: str, score: str) -> None:
        """Set a node's promotion score."""
        self._write(f"master-{self._resource}", node, score, Life.REBOOT)

    def set(self, name: str, node: str, value: str, life: Life) -> None:
        """Set `<resource>-<name>` of a node. Returns when Pacemaker has acknowledged it; ClusterFailure if it does
        not.
        """
        self._write(f"{self._resource}-{name}", node, value, life)

    def set_transient(self, node: str, values: Mapping[str, str]) -> None:
        """Set several transient `<resource>-<name>` of a node at once; in no particular order."""
        self._update(node, {f"{self._resource}-{name}": value for name, value in values.items()})

    def set_private(self, name: str, node: str, value: str) -> None:
        """Set `<resource>-<name>` of a node as a *private* attribute: attrd alone knows it, on every node.

        A value in the CIB would make Pacemaker abort the promotion under way and begin it again.
        """
        run([*self._private(name, node), f"--update={value}"], self._deadline)

    def set_privates(self, name: str, nodes: Sequence[str], value: str) -> None:
        """The same for several nodes at once. attrd keeps what is said of a node as long as it runs *there*, also when
        the node that said it is gone.
        """
        run_together([[*self._private(name, node), f"--update={value}"] for node in nodes], self._deadline)

    def empty_private(self, node: str, *names: str) -> None:
        """Empty private attributes of a node (attrd keeps their names)."""
        run_together([[*self._private(name, node), "--delete"] for name in names], self._deadline)

    def _private(self, name: str, node: str) -> list[str]:
        return ["attrd_updater", "--private", f"--name={self._resource}-{name}", f"--node={node}"]

    def delete(self, node: str, *names: str) -> None:
        """Delete transient `<resource>-<name>` of a node; those that are not there are fine."""
        deletions = ([f"--name={self._resource}-{name}", "--delete"] for name in names)
        run_together([["attrd_updater", f"--node={node}", *deletion] for deletion in deletions], self._deadline)

    def _update(self, node: str, values: Mapping[str, str]) -> None:
        """Set transient attributes of a node; they are in the CIB afterwards.

        When a node's pacemaker-controld was killed, the controller that follows it, or its peer, wipes the node's
        attributes out of the CIB, and attrd knows nothing of it: it takes an update to the value that it has for no
        change, and writes nothing (attrd_peer_update, Pacemaker 2.1.5). It writes all that it has when it is told to.
        """
        asked = [["attrd_updater", "--query", f"--name={name}", f"--node={node}"] for name in values]
        # A value that is not there is a failure, and so is an attrd that does not answer; the update will say so.
        known = execute(asked, self._deadline)
        if any(f'value="{value}"' in answer.out for value, answer in zip(values.values(), known, strict=True)):
            run(["attrd_updater", "--refresh"], self._deadline)
        updates = ([f"--name={name}", f"--update={value}"] for name, value in values.items())
        run_together([["attrd_updater", f"--node={node}", *update] for update in updates], self._deadline)

    def _write(self, attribute: str, node: str, value: str, life: Life) -> None:
        change = [f"--name={attribute}", f"--node={node}", f"--update={value}"]
        if life is Life.REBOOT:
            self._update(node, {attribute: value})
            return
        while True:
            limit = self._deadline.within(self._permanent_seconds)
            try:
                run(["crm_attribute", "--lifetime=forever", *change], limit)
            except DeadlineExceeded:
                # The cluster may be between two memberships. Writing the same value twice does no harm.
                self._deadline.pause(f"Pacemaker to take {attribute} of {node}")
            else:
                return


def local_node_name(deadline: Deadline) -> str:
    """This node's name in the cluster; only for callers that Pacemaker did not tell it
    (OCF_RESKEY_CRM_meta_on_node).
    """
    return run(["crm_node", "--name"], deadline).strip()

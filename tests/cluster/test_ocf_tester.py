# SPDX-License-Identifier: GPL-2.0-or-later
"""ocf-tester of resource-agents passes without a warning, as a promotable clone and as a single instance."""

import pytest

from tests.cluster.conftest import Cluster
from tests.lab import Lab
from tests.lab.layout import PGDATA, PGLOG, TMPDIR, VIP

AGENT = "/usr/lib/ocf/resource.d/pgsql-ra/pgsql"
# What ocf-tester does not set, and Pacemaker would for a promotable clone.
CLONE_ENVIRONMENT = (
    "OCF_RESKEY_CRM_meta_on_node=node1",
    "OCF_RESKEY_CRM_meta_promoted_max=1",
    "OCF_RESKEY_CRM_meta_clone_max=1",
    "OCF_RESKEY_CRM_meta_notify=true",
)


def call(lab: Lab, rep_mode: str) -> list[str]:
    """The exact call."""
    parameters = {
        "pgctl": f"{lab.settings.postgres_bin}/pg_ctl",
        "pgdata": str(PGDATA),
        "logfile": str(PGLOG),
        "tmpdir": str(TMPDIR),
        "rep_mode": rep_mode,
        "node_list": "node1",
        "master_ip": VIP,
    }
    options = [word for name, value in parameters.items() for word in ("-o", f"{name}={value}")]
    return ["env", *CLONE_ENVIRONMENT, "ocf-tester", "-n", "pgsql", *options, AGENT]


@pytest.mark.parametrize("rep_mode", ["async", "sync", "none"])
def test_ocf_tester_passes_without_a_warning(cluster: Cluster, rep_mode: str) -> None:
    lab = cluster(nodes=1)
    done = lab.node("node1").run(call(lab, rep_mode), check=False, timeout=300)
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert f"{AGENT} passed all tests" in said
    # What it calls optional: Pacemaker does not use `reload` (OCF 1.1), and a single instance has no roles.
    told = {line for line in done.stdout.splitlines() if line.startswith("*")}
    optional = {"reload action"} if rep_mode != "none" else {"reload action", "demote action", "promote action"}
    roles = set() if rep_mode != "none" else {"* Your agent does not support promotable clones (optional)"}
    assert told == {f"* Your agent does not support the {name} (optional)" for name in optional} | roles, said
    assert "WARNING" not in said, said

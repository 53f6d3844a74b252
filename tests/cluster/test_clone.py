# SPDX-License-Identifier: GPL-2.0-or-later
"""A clone that was started as a primary of its own once, by systemd say: it is on the cluster's timeline, and ends
before the primary does, but holds other WAL.
"""

from functools import partial

from tests.cluster.conftest import COMMAND, Cluster
from tests.cluster.support import is_redundant, start, synchronous_standby, writing
from tests.lab import Configuration, Lab
from tests.lab.cib_view import Status
from tests.lab.layout import PGDATA
from tests.lab.node import Node
from tests.lab.waiting import eventually

REASON = "under the same numbers"


def run_as_primary(lab: Lab, node: Node, rows: int = 1) -> None:
    """Somebody starts the node's server as a primary, and stops it again. Afterwards it is made a standby's again."""
    pg_ctl = f"{lab.settings.postgres_bin}/pg_ctl -w -D {PGDATA} -l /tmp/by-hand.log"
    as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    node.run(["rm", "-f", f"{PGDATA}/standby.signal"])
    node.run([*as_owner, "sh", "-c", f"{pg_ctl} start"])
    node.sql(f"SET synchronous_commit = local; CREATE TABLE own AS SELECT generate_series(1, {rows}) AS n")
    node.run([*as_owner, "sh", "-c", f"{pg_ctl} stop"])
    node.run([*as_owner, "touch", f"{PGDATA}/standby.signal"])
    node.run([*as_owner, "sh", "-c", f"{pg_ctl} -o '-c primary_conninfo=' start"])
    node.run([*as_owner, "sh", "-c", f"{pg_ctl} stop"])


def is_refused(node: str, seen: Status) -> bool:
    """The resource is stopped there, and says why."""
    if seen.node(node).role != "Stopped":
        return False
    return any(failure.node == node and REASON in failure.reason for failure in seen.failures)


def test_it_is_not_served_and_is_copied_anew(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    seen = start(lab)
    clone = lab.node(synchronous_standby(seen) or "")
    with writing(lab) as client:
        clone.standby()
        lab.wait("it is stopped", lambda now: now.node(clone.name).role == "Stopped")
        run_as_primary(lab, clone)
        client.wait_for(500)
        clone.unstandby()
        lab.wait("its start fails and says why", partial(is_refused, clone.name), within=60)
        assert clone.postgres_processes() == [], "nobody reads from it"
        shown = clone.run([COMMAND, "rejoin", "--dry-run"]).stdout
        assert "to do:  new copy of the primary" in shown
        assert REASON in shown
        other = lab.primary()
        other.run(["crm_resource", "--resource=pgsql", "--set-parameter=rejoin", "--parameter-value=copy"])
        other.run(["crm_resource", "--cleanup", "--resource=pgsql", f"--node={clone.name}"])
        lab.wait("redundant again", is_redundant, within=120)
    assert clone.sql("SELECT count(*) FROM pg_class WHERE relname = 'own'") == "0"


def test_in_a_new_cluster_it_is_not_promoted_and_the_original_is_when_somebody_says_so(cluster: Cluster) -> None:
    """The clone goes further than the original. Nothing is recorded of either."""
    lab = cluster(nodes=2)
    original, clone = lab.nodes
    run_as_primary(lab, clone, rows=100_000)
    run_more(lab, original)
    lab.configure(Configuration(parameters={"rejoin": "copy"}))

    def why() -> str:
        return " ".join(node.transient.get("pgsql-not-promoted", "") for node in lab.status().nodes)

    eventually("somebody says why nobody is promoted", why, lambda text: "choose one of" in text, within=90)
    assert lab.status().promoted is None
    original.run([COMMAND, "allow", original.name, "--yes"])
    lab.wait("the chosen one is the primary", lambda now: now.promoted == original.name, within=60)
    refused = "ERROR: start: promotion 1 was an administrator's word"
    # What the other one holds may have been acknowledged: a person says that it may go, whatever rejoin says.
    eventually("it says so", clone.log_text, lambda text: refused in text, within=90)
    clone.run(["crm_resource", "--wait", "--timeout=60"], timeout=90)  # the stop after the failed start ends repairs
    clone.run([COMMAND, "rejoin", "--yes"], timeout=180)
    lab.wait("the chosen one is the primary, and the other one its copy", is_redundant, within=120)
    assert lab.primary().name == original.name
    assert original.sql("SELECT count(*) FROM theirs") == "1"
    assert clone.sql("SELECT count(*) FROM pg_class WHERE relname = 'own'") == "0"


def run_more(lab: Lab, original: Node) -> None:
    """The original goes on, less than the clone did."""
    pg_ctl = f"{lab.settings.postgres_bin}/pg_ctl -w -D {PGDATA} -l /tmp/by-hand.log"
    as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    original.run([*as_owner, "sh", "-c", f"{pg_ctl} start"])
    original.sql("CREATE TABLE theirs AS SELECT 1 AS n")
    original.run([*as_owner, "sh", "-c", f"{pg_ctl} stop"])

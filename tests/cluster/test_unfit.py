# SPDX-License-Identifier: GPL-2.0-or-later
"""Standbys that stream and do not replay: what a restore tool left in their configuration, and a primary that has
become larger than they are.
"""

import time
from functools import partial

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.support import data_status, is_redundant, start, synchronous_standby, writing
from tests.cluster.test_operating import follow
from tests.lab import Lab
from tests.lab.cib_view import Status
from tests.lab.crm import Configuration
from tests.lab.layout import DATABASE_USER, PGDATA
from tests.lab.node import Node

MAINTENANCE = ("crm_attribute", "--type=crm_config", "--name=maintenance-mode")
SOON = 8
"""Seconds until a recovery target is reached: the standby is started before."""


def add_line(node: Node, file: str, line: str) -> None:
    """Add a line to a file of the data directory."""
    node.run(["sh", "-c", f"cat >> {PGDATA}/{file}"], text=f"{line}\n")


def restart_larger(lab: Lab, node: Node) -> None:
    """The primary is restarted by hand, with a higher max_connections, as in an administrator's maintenance."""
    node.run([*MAINTENANCE, "--update=true"])
    add_line(node, "postgresql.conf", "max_connections = 70")
    command = f"{lab.settings.postgres_bin}/pg_ctl -D {PGDATA} -m fast -w restart"
    node.run(["su", DATABASE_USER, "-c", f"{command} > /dev/null 2>&1"])
    node.run([*MAINTENANCE, "--delete"])
    assert node.sql("SHOW max_connections") == "70"


def says_too_small(name: str, seen: Status) -> bool:
    node = seen.node(name)
    return (
        "raise max_connections to 70" in node.transient.get("pgsql-unfit", "") and node.promotion_score == "-INFINITY"
    )


def took_over(former: str, seen: Status) -> bool:
    return seen.promoted not in (None, former) and seen.location() == seen.promoted


def restart(lab: Lab, node: Node) -> None:
    """Stop the server of a node, and start it again."""
    node.standby()
    lab.wait("it is stopped", lambda now: now.node(node.name).role == "Stopped", within=30)
    node.unstandby()
    lab.wait("redundant again", is_redundant, within=60)


def test_a_recovery_target_that_a_restore_left_loses_no_commit(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    heir = lab.node(synchronous_standby(start(lab)) or "")
    victim = lab.primary()
    target = time.time() + SOON
    when = time.strftime("%F %T+00", time.gmtime(target))
    add_line(heir, "postgresql.auto.conf", f"recovery_target_time = '{when}'")
    restart(lab, heir)
    with writing(lab) as client:
        lab.wait("the target is behind us", lambda _: time.time() > target + 2, within=30)
        client.wait_for(50, within=30)
        victim.power_cut()
        lab.wait("the standby took over", partial(took_over, victim.name), within=60)


def test_the_only_standby_is_smaller_than_the_primary(cluster: Cluster) -> None:
    """It would end when it is promoted; the agent restarts it first."""
    lab = cluster(nodes=2)
    # A primary that crashes under load holds WAL that nobody has received.
    heir = lab.node(synchronous_standby(start(lab, Configuration(parameters={"rejoin": "copy"}))) or "")
    victim = lab.primary()
    with writing(lab) as client:
        restart_larger(lab, victim)
        lab.wait("the standby says so", partial(says_too_small, heir.name), within=60)
        assert data_status(lab.status().node(heir.name)) == "STREAMING|SYNC", "it holds what was acknowledged"
        client.wait_for(20, within=30)
        victim.power_cut()
        lab.wait("it took over", partial(took_over, victim.name), within=60)
        assert heir.sql("SHOW max_connections") == "70"
        assert "pgsql-unfit" not in lab.status().node(heir.name).transient
        victim.boot()
        lab.wait("redundant again", is_redundant, within=90)
    assert not any(failure.node == heir.name for failure in lab.status().failures)


@pytest.mark.parametrize("small", ["the synchronous one", "the other one"])
def test_of_two_standbys_the_one_that_fits_takes_over(cluster: Cluster, small: str) -> None:
    lab = cluster(nodes=3)
    synchronous = synchronous_standby(start(lab)) or ""
    victim = lab.primary()
    others = [node for node in lab.nodes if node.name not in (victim.name, synchronous)]
    unfit, heir = (
        (lab.node(synchronous), others[0]) if small == "the synchronous one" else (others[0], lab.node(synchronous))
    )
    add_line(heir, "postgresql.conf", "max_connections = 70")
    restart(lab, heir)
    with writing(lab) as client:
        restart_larger(lab, victim)
        lab.wait("the small one says so", partial(says_too_small, unfit.name), within=60)
        lab.wait("the other one is synchronous", lambda now: synchronous_standby(now) == heir.name, within=60)
        client.wait_for(20, within=30)
        victim.power_cut()
        lab.wait("it took over", lambda now: now.promoted == heir.name and now.location() == heir.name, within=60)
    assert not any(failure.node == heir.name for failure in lab.status().failures)


def test_a_setting_is_lowered_as_the_guide_says(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    heir = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()
    for node in lab.nodes:
        add_line(node, "postgresql.conf", "max_connections = 40")
    restart(lab, heir)
    assert heir.sql("SHOW max_connections") == "50", "its WAL is that of a larger primary"
    with writing(lab):
        primary.run([*MAINTENANCE, "--update=true"])
        primary.run(["crm_resource", "--wait"])
        follow(lab, primary, "A standby that is unfit", {"CONFIG": f"{PGDATA}/postgresql.conf", "LOG": "/tmp/log"})
        primary.run([*MAINTENANCE, "--delete"])
        lab.wait("redundant again", is_redundant, within=60)
        assert lab.primary().name == primary.name
        restart(lab, heir)
    assert [node.sql("SHOW max_connections") for node in lab.nodes] == ["40", "40"]
    assert not lab.status().failures

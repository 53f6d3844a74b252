# SPDX-License-Identifier: GPL-2.0-or-later
"""notify: always success, whatever is said and whatever runs; Pacemaker waits for it and ignores its answer."""

import itertools

import pytest

from tests.server.agent import Agent
from tests.server.database import Database
from tests.server.stand_in import StandInCluster

KINDS = list(itertools.product(("pre", "post"), ("start", "stop", "promote", "demote")))
LISTS = ("start", "stop", "promote", "demote", "active", "master", "slave", "promoted", "unpromoted")


def told(kind: str, operation: str, **nodes: str) -> dict[str, str]:
    """A notification; empty lists are one blank, as Pacemaker sends them."""
    lists = {f"notify_{name}_uname": nodes.get(name, " ") for name in LISTS}
    return {"notify_type": kind, "notify_operation": operation, **lists}


def test_a_notification_without_variables(agent: Agent) -> None:
    answer = agent.run("notify")
    assert (answer.code, answer.err) == (0, "")


def test_every_notification_succeeds_with_empty_lists(agent: Agent, standby: Database) -> None:
    for kind, operation in KINDS:
        assert agent.run("notify", meta=told(kind, operation)).code == 0, f"{kind}-{operation}"
    assert standby.is_standby()


@pytest.mark.parametrize("role", ["stopped", "standby", "crashed", "primary"])
def test_every_notification_succeeds(agent: Agent, database: Database, role: str) -> None:
    match role:
        case "standby":
            agent.become_standby()
        case "primary":
            agent.become_primary()
        case "crashed":
            agent.become_primary()
            database.crash()
    for kind, operation in KINDS:
        answer = agent.run("notify", meta=told(kind, operation, **{operation: "n1 n2", "unpromoted": "n1 n2"}))
        assert (answer.code, answer.out) == (0, ""), f"{kind}-{operation}: {answer}"
    assert database.is_running() == (role in ("standby", "primary"))


def test_notifications_succeed_without_a_cluster(agent: Agent, primary: Database, cluster: StandInCluster) -> None:
    cluster.go_down()
    for kind, operation in KINDS:
        assert agent.run("notify", meta=told(kind, operation, stop="n2", start="n2", promote="n2")).code == 0
    assert primary.is_running()


def test_a_notification_with_a_hanging_server_ends_in_time(agent: Agent, primary: Database) -> None:
    with primary.frozen(primary.postmaster):
        answer = agent.run("notify", timeout=8, meta=told("post", "stop", stop="n2"))
    assert answer.code == 0, answer


def test_a_notification_with_bad_parameters(agent: Agent, standby: Database) -> None:
    assert agent.run("notify", meta=told("pre", "promote", promote="n1"), pgport="x").code == 0
    assert standby.is_running()


def test_a_primary_that_is_to_be_demoted_because_its_score_was_lost_says_it_again(
    agent: Agent, primary: Database, cluster: StandInCluster
) -> None:
    """Pacemaker was restarted under it."""
    notification = told("pre", "demote", demote="n1", promoted="n1")
    writes = cluster.writes()
    assert agent.run("notify", meta=notification).code == 0
    assert cluster.writes() == writes, "with a score it is moved on purpose"
    assert "pre-demote:" not in agent.logged(), "and nothing holds that up"
    cluster.forget_transient("n1")
    assert agent.run("notify", meta=told("pre", "demote", demote="n2", promoted="n1")).code == 0
    assert cluster.attribute("n1", "master-pgsql") == "", "it is not meant"
    assert agent.run("notify", meta=notification).code == 0
    assert cluster.attribute("n1", "master-pgsql") == "1000"
    cluster.forget_transient("n1")
    cluster.lose_quorum()
    assert agent.run("notify", meta=notification).code == 0
    assert cluster.attribute("n1", "master-pgsql") == ""
    assert "pre-demote:" not in agent.logged(), "what cannot be said is not waited for"
    assert primary.is_running()


def test_a_standby_whose_score_was_lost_says_nothing(agent: Agent, standby: Database, cluster: StandInCluster) -> None:
    cluster.forget_transient("n1")
    assert agent.run("notify", meta=told("pre", "demote", demote="n1")).code == 0
    assert cluster.attribute("n1", "master-pgsql") == ""
    assert standby.is_standby()


def test_old_and_new_names_mean_the_same(agent: Agent, standby: Database, cluster: StandInCluster) -> None:
    """Pacemaker before 2.1 says master and slave only."""
    cluster.run_primary("n2", history="1:")
    agent.parameters["xlog_check_count"] = "0"
    for spelling in ("master", "promoted"):
        assert agent.run("notify", meta=told("post", "start", start="n1", **{spelling: "n2"})).code == 0
    assert cluster.attribute("n1", "master-pgsql") == "-INFINITY", "with a primary in place nobody is elected"
    assert standby.is_standby()

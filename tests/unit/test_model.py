# SPDX-License-Identifier: GPL-2.0-or-later
"""SAFETY's promise, tried on a cluster in memory with everything that may happen, in any order; and with wrong variants
of the decisions, which have to be found out: a model that catches nothing proves nothing.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from pgsql_ra.replication.status import STREAMING_SYNC
from tests.unit.model.cluster import Cluster
from tests.unit.model.machine import (
    NEVER_KILLED,
    STEPS,
    Decisions,
    Machine,
    calm_down,
    play,
    walk,
    without_the_irrelevant,
)
from tests.unit.model.state import Violation
from tests.unit.model.wrong_rules import (
    WRONG,
    degrades_without_fencing,
    records_after_the_names,
    upgrades_before_it_is_in_force,
    upgrades_without_a_mark,
)

WALKS = 1000
"""Random walks for the right decisions. The wrong ones are found out within a few hundred."""
MOST_WALKS = 4000
FOUND_OUT_BY = (4, 5, 52, 90, 123, 305, 330, 468, 565, 620, 905)
"""Walks that have found out one of the wrong rules: tried first, because that saves time."""


def cut_off_the_standby(cluster: Cluster) -> None:
    """The primary acts and commits while the standby's side could still promote it."""
    calm_down(cluster, "n1")
    cluster.isolate("n2")
    cluster.disconnect("n2", leaves_a_row=False)
    cluster.act("n1", 20)
    cluster.take_setting("n1", walsenders=True, checkpointer=True)
    cluster.commit("n1")


def commit_before_the_checkpointer_knows(cluster: Cluster) -> None:
    """A standby becomes a synchronous one, and the checkpointer is slow."""
    cluster.watch("n2")
    cluster.connect("n2")
    cluster.receive("n2", 99)
    cluster.act("n1", 20)
    cluster.take_setting("n1", walsenders=True, checkpointer=False)
    cluster.act("n1", 20)
    cluster.commit("n1")


def name_a_standby_that_is_behind(cluster: Cluster) -> None:
    """Commits from before are still on their way to the standby when the setting is in force."""
    cluster.watch("n2")
    cluster.connect("n2")
    cluster.receive("n2", 99)
    for _ in range(3):
        cluster.commit("n1")
    cluster.act("n1", 20)
    cluster.take_setting("n1", walsenders=True, checkpointer=True)
    cluster.act("n1", 20)


def lose_the_standby_and_be_killed(cluster: Cluster) -> None:
    """The primary's action is killed after every possible number of steps, one after the other."""
    for steps in range(1, 12):
        calm_down(cluster, "n1")
        cluster.disconnect("n2", leaves_a_row=False)
        cluster.act("n1", steps)
        cluster.kill_action("n1")
        cluster.take_setting("n1", walsenders=True, checkpointer=True)
        cluster.commit("n1")
        cluster.check()


SCHEDULES = {
    "degrade although the node is unclean": (cut_off_the_standby, Decisions(degrades_without_fencing)),
    "upgrade before the setting is in force": (
        commit_before_the_checkpointer_knows,
        Decisions(upgrades_before_it_is_in_force),
    ),
    "upgrade without a mark": (name_a_standby_that_is_behind, Decisions(upgrades_without_a_mark)),
    "the record after the names": (lose_the_standby_and_be_killed, Decisions(records_after_the_names)),
}


@pytest.mark.parametrize(("schedule", "wrong"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_breaks_the_wrong_rule_and_not_the_right_one(
    schedule: Callable[[Cluster], None], wrong: Decisions
) -> None:
    def run(decisions: Decisions) -> None:
        cluster = Cluster(2, 1, decisions.reconcile, decisions.decide)
        cluster.promote("n1", NEVER_KILLED)
        schedule(cluster)
        cluster.check()

    run(Decisions())
    with pytest.raises(Violation):
        run(wrong)


def test_the_promise_holds_whatever_happens() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=60, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck)),
    )


def test_the_promise_holds_on_random_walks() -> None:
    for seed in range(WALKS):
        start, events = walk(seed)
        if (violation := play(Decisions(), start, events)) is not None:
            steps = without_the_irrelevant(Decisions(), start, events)
            pytest.fail(f"{violation} (walk {seed})\n{start}\n" + "\n".join(str(step) for step in steps))


@pytest.mark.parametrize("decisions", WRONG.values(), ids=WRONG.keys())
def test_a_broken_rule_is_found_out(decisions: Decisions) -> None:
    seeds = (*FOUND_OUT_BY, *range(MOST_WALKS))
    assert any(play(decisions, *walk(seed)) for seed in seeds)


class TestTheModelItself:
    """That it does what it says, so that the promise is not kept because nothing happens."""

    @staticmethod
    def running(size: int) -> Cluster:
        cluster = Cluster(size)
        cluster.promote("n1", NEVER_KILLED)
        calm_down(cluster, "n1")
        return cluster

    @pytest.mark.parametrize("size", [2, 3])
    def test_a_calm_cluster_becomes_synchronous(self, size: int) -> None:
        cluster = self.running(size)
        assert cluster.nodes["n1"].server.in_checkpointer.names == ("n2",)
        assert cluster.nodes["n1"].cib["n2"].data_status == STREAMING_SYNC
        assert cluster.nodes["n1"].cib["n2"].score == "100"

    def test_a_commit_is_answered_when_the_synchronous_standby_has_it(self) -> None:
        cluster = self.running(2)
        before = len(cluster.acked)
        cluster.commit("n1")
        assert len(cluster.acked) == before
        cluster.receive("n2", 1)
        assert len(cluster.acked) == before + 1

    def test_a_lost_standby_holds_up_commits_until_it_is_fenced(self) -> None:
        cluster = self.running(2)
        cluster.power_cut("n2")
        cluster.commit("n1")
        calm_down(cluster, "n1")
        assert cluster.nodes["n1"].server.waiting
        cluster.fence("n2", by="n1")
        calm_down(cluster, "n1")
        assert not cluster.nodes["n1"].server.waiting
        cluster.check()

    def test_after_a_failover_the_old_primary_comes_back_as_a_synchronous_standby(self) -> None:
        cluster = self.running(2)
        cluster.commit("n1")
        calm_down(cluster, "n1")
        cluster.power_cut("n1")
        cluster.promote("n2", NEVER_KILLED)
        assert cluster.primaries() == []
        cluster.fence("n1", by="n2")
        cluster.promote("n2", NEVER_KILLED)
        assert [node.name for node in cluster.primaries()] == ["n2"]
        cluster.boot("n1")
        cluster.start("n1")
        calm_down(cluster, "n2")
        assert cluster.nodes["n2"].server.in_checkpointer.names == ("n1",)
        assert cluster.nodes["n2"].cib["n1"].data_status == STREAMING_SYNC
        cluster.check()

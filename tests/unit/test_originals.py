# SPDX-License-Identifier: GPL-2.0-or-later
"""A new cluster in which two copies have a life of their own: nobody is promoted before a person has chosen."""

from dataclasses import replace

import pytest

from pgsql_ra.replication.lsn import LastRecord, Lsn
from pgsql_ra.replication.policy import Mode
from pgsql_ra.replication.record import Promotion
from pgsql_ra.replication.snapshot import Snapshot
from pgsql_ra.replication.status import LATEST, SCORE_NEVER, SCORE_PRIMARY, score_value
from tests.unit.builders import ALPHA, BETA, GAMMA
from tests.unit.effects import after, bare
from tests.unit.standby_cases import MODES, decided, elected, seen, waiting

LAST = LastRecord(Lsn(0x78), "00000001")
THEIRS = LastRecord(Lsn(0x38), "00000002")


def new_cluster(*unlike: str, mode: Mode = Mode.SYNC) -> Snapshot:
    """`alpha` goes furthest; of these nodes it has other WAL where theirs ends."""
    others = (replace(waiting(name, 0x40), last=THEIRS) for name in (BETA, GAMMA))
    own = replace(waiting(ALPHA, 0x80), last=LAST)
    return replace(seen(own, *others, lsn=0x80, mode=mode), last=LAST, unlike=unlike)


@MODES
def test_the_copy_that_holds_all_of_the_others_is_promoted(mode: Mode) -> None:
    snapshot = new_cluster(mode=mode)
    assert ("score", ALPHA, SCORE_PRIMARY) in map(bare, elected(snapshot).changes)
    plan = decided(snapshot)
    assert not plan.refusal
    assert not plan.waiting_for


@MODES
def test_nobody_is_promoted_beside_a_copy_with_other_wal(mode: Mode) -> None:
    snapshot = new_cluster(BETA, mode=mode)
    plan = elected(replace(snapshot))
    assert "pgsql-ra allow NODE" in plan.stalled[:127], "the part of it that Pacemaker shows"
    assert "choose one of alpha, beta" in plan.stalled[:127]
    assert score_value(after(snapshot, plan.changes).own.score) < 0
    assert after(snapshot, plan.changes).own.why == plan.stalled
    refused = decided(snapshot)
    assert refused.refusal == plan.stalled
    assert ("score", ALPHA, SCORE_NEVER) in map(bare, refused.changes), "or Pacemaker would try again and again"


def test_what_was_shown_goes_when_it_is_over() -> None:
    snapshot = new_cluster(BETA)
    explained = after(snapshot, elected(snapshot).changes)
    over = replace(explained, unlike=())
    assert after(over, elected(over).changes).own.why == ""


def test_whoever_has_not_said_its_last_record_is_waited_for() -> None:
    snapshot = new_cluster()
    nodes = tuple(replace(node, last=None) if node.name == GAMMA else node for node in snapshot.cluster.nodes)
    silent = replace(snapshot, cluster=replace(snapshot.cluster, nodes=nodes))
    assert elected(silent).waiting_for == "the last record of gamma"
    assert decided(silent).waiting_for == "the last record of gamma"


def test_the_last_record_is_said_before_the_position() -> None:
    own, *others = new_cluster().cluster.nodes
    snapshot = new_cluster()
    fresh = replace(own, last=None, position=None)
    plan = elected(replace(snapshot, cluster=replace(snapshot.cluster, nodes=(fresh, *others))))
    said = [bare(change)[0] for change in plan.changes]
    assert said.index("last") < said.index("position")


@pytest.mark.parametrize("known", ["an administrator's word", "LATEST"])
def test_the_rule_ends_with_the_first_primary(known: str) -> None:
    """After `pgsql-ra allow`, or where the shell agent had a primary, the records say who is promoted."""
    snapshot = new_cluster(BETA)
    own, *others = snapshot.cluster.nodes
    if known == LATEST:
        own = replace(own, data_status=LATEST)
    else:
        own = replace(own, promotion=Promotion(1, ALPHA, own.position), data_status=LATEST)
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, nodes=(own, *others)))
    assert ("score", ALPHA, SCORE_PRIMARY) in map(bare, elected(snapshot).changes)
    assert not decided(snapshot).refusal


def test_a_record_in_words() -> None:
    for record in (LAST, LastRecord(Lsn(0), ""), LastRecord(Lsn(0x78), "5a1bc90e", was_primary=True)):
        assert LastRecord.parse(str(record)) == record
    with pytest.raises(ValueError, match="unpack"):
        LastRecord.parse(str(Promotion(7, ALPHA)))


def test_a_lowered_score_stays_as_it_is() -> None:
    snapshot = new_cluster(BETA)
    lowered = after(snapshot, elected(snapshot).changes)
    assert lowered.own.score == SCORE_NEVER
    assert elected(lowered).changes == ()

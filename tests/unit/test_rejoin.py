# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a data directory may follow the primary that runs now."""

import pytest
from hypothesis import given

from pgsql_ra.replication.lsn import History, Lsn, Position
from pgsql_ra.replication.rejoin import Follow, LocalData, Refuse, decide_rejoin
from pgsql_ra.replication.snapshot import Membership, NodeState
from tests.unit.builders import ALPHA, BETA, GAMMA, a_cluster, a_node, at, the_primary_node
from tests.unit.strategies import copies
from tests.unit.wal import Wal, is_prefix, position_of

FORMER = LocalData(was_primary=True, end=at(0x100))
NO_RECORD = a_node(BETA, role=the_primary_node().role)


@pytest.mark.parametrize(
    ("local", "primary"),
    [
        pytest.param(FORMER, the_primary_node(BETA, 2), id="a former primary that ends at the fork"),
        pytest.param(LocalData(True, at(0x80)), the_primary_node(BETA, 2), id="a former primary that ends before"),
        pytest.param(LocalData(True, at(0x80)), the_primary_node(BETA, 3), id="two promotions later"),
        pytest.param(LocalData(False), the_primary_node(BETA, 2), id="a standby whose end is not known"),
        pytest.param(LocalData(False, at(0x80)), the_primary_node(BETA, 1), id="a standby on the same timeline"),
        pytest.param(LocalData(False, at(0x100)), the_primary_node(BETA, 2), id="a standby that ends at the fork"),
        pytest.param(LocalData(False, at(0x900)), NO_RECORD, id="a standby, and no record of the primary"),
        pytest.param(FORMER, a_node(BETA), id="no primary"),
        pytest.param(LocalData(True), a_node(BETA), id="no primary, and the end is not known"),
        pytest.param(
            LocalData(True, at(0x900)),
            a_node(BETA, Membership.UNCLEAN, role=the_primary_node().role),
            id="a lost primary: the election decides",
        ),
    ],
)
def test_it_follows(local: LocalData, primary: NodeState) -> None:
    verdict = decide_rejoin(ALPHA, local, a_cluster(a_node(ALPHA), primary))
    assert isinstance(verdict, Follow), verdict.because


@pytest.mark.parametrize(
    ("local", "primary", "words"),
    [
        pytest.param(LocalData(True, at(0x110)), the_primary_node(BETA, 2), "16 bytes", id="past the fork"),
        pytest.param(
            LocalData(True, at(0x80)), the_primary_node(BETA, 1), "same timeline 1", id="the primary did not branch off"
        ),
        pytest.param(
            LocalData(True, at(0x80, 2)),
            the_primary_node(BETA, 1),
            "never was",
            id="a timeline the primary never was on",
        ),
        pytest.param(
            LocalData(True, Position(Lsn(0x180), History(2, ((1, Lsn(0x40)),)))),
            the_primary_node(BETA, 2),
            "same timeline 2",
            id="two promotions to the same number",
        ),
        pytest.param(LocalData(True), the_primary_node(BETA, 2), "end of its WAL", id="the end is not known"),
        pytest.param(FORMER, NO_RECORD, "not recorded", id="the primary has no record"),
        pytest.param(LocalData(False, at(0x110)), the_primary_node(BETA, 2), "16 bytes", id="a standby past the fork"),
    ],
)
def test_it_is_refused(local: LocalData, primary: NodeState, words: str) -> None:
    verdict = decide_rejoin(ALPHA, local, a_cluster(a_node(ALPHA), primary))
    assert isinstance(verdict, Refuse), verdict.because
    assert words in verdict.because


def test_two_primaries_are_nothing_to_choose_from() -> None:
    cluster = a_cluster(a_node(ALPHA), the_primary_node(BETA, 2), the_primary_node(GAMMA, 2))
    verdict = decide_rejoin(ALPHA, LocalData(False), cluster)
    assert isinstance(verdict, Refuse)
    assert BETA in verdict.because
    assert GAMMA in verdict.because


def test_a_refusal_says_what_to_do() -> None:
    verdict = decide_rejoin(ALPHA, LocalData(True), a_cluster(the_primary_node(BETA, 2)))
    assert "pg_rewind" in verdict.because
    assert "--cleanup" in verdict.because


def test_this_nodes_own_record_is_not_another_primary() -> None:
    """It may still be shown as promoted while its own server starts again."""
    verdict = decide_rejoin("Alpha", LocalData(True, at(0x80)), a_cluster(the_primary_node(ALPHA)))
    assert isinstance(verdict, Follow)


@given(copies())
def test_no_wal_of_a_former_primary_is_thrown_away(pair: tuple[Wal, Wal]) -> None:
    own, primary = pair
    node = NodeState(BETA, Membership.MEMBER, role=the_primary_node().role, record=position_of(primary).history)
    verdict = decide_rejoin(ALPHA, LocalData(True, position_of(own)), a_cluster(a_node(ALPHA), node))
    if isinstance(verdict, Follow):
        assert is_prefix(own, primary)

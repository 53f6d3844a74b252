# SPDX-License-Identifier: GPL-2.0-or-later
"""WAL positions: written, read, and compared as places on a tree of timelines."""

import pytest
from hypothesis import given

from pgsql_ra.replication.lsn import History, Lsn, Order, Position
from tests.unit.builders import at
from tests.unit.strategies import copies, histories, lsns, positions
from tests.unit.wal import Wal, is_prefix, position_of

MIRRORED = {
    Order.OLDER: Order.NEWER,
    Order.NEWER: Order.OLDER,
    Order.EQUAL: Order.EQUAL,
    Order.DIVERGED: Order.DIVERGED,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("0/0", 0, id="zero"),
        pytest.param("0/3000060", 0x3000060, id="low half"),
        pytest.param("16/B374D848", 0x16_B374D848, id="both halves"),
        pytest.param("FFFFFFFF/FFFFFFFF", 2**64 - 1, id="the highest"),
        pytest.param("a/b", 0xA_0000000B, id="small letters"),
        pytest.param(" 1/A \n", 0x1_0000000A, id="blanks around"),
    ],
)
def test_an_lsn_is_read(text: str, value: int) -> None:
    assert Lsn.parse(text) == value


@pytest.mark.parametrize("text", ["", "/", "1", "1/", "/1", "1/2/3", "x/1", "1/x", "123456789/0", "0/123456789"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Lsn.parse(text)


def test_lsns_compare_as_numbers_where_their_texts_would_not() -> None:
    assert Lsn.parse("10/0") > Lsn.parse("9/FFFFFFFF")
    assert Lsn.parse("0/10000000") > Lsn.parse("0/9000000")


def test_an_lsn_is_shown_as_postgresql_shows_it() -> None:
    assert str(Lsn(0x16_B374D848)) == "16/B374D848"
    assert repr(Lsn(0x10)) == "Lsn(0/10)"
    assert f"{Lsn(0x10)}" == "0/10"


def test_the_shell_agents_form_has_16_digits_and_sorts_as_text() -> None:
    assert Lsn(0x9_FFFFFFFF).padded() == "00000009FFFFFFFF"
    assert Lsn(0x9_FFFFFFFF).padded() < Lsn(0x10_00000000).padded()


@given(lsns)
def test_an_lsn_survives_being_written(lsn: Lsn) -> None:
    assert Lsn.parse(str(lsn)) == lsn


@given(histories())
def test_a_history_survives_being_written(history: History) -> None:
    assert History.parse(str(history)) == history


@given(positions)
def test_a_position_survives_being_written(position: Position) -> None:
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "0/10", "0/10 x", "0/10 2:1", "0/10 2:1@", "junk 1:", "0/10 2:1@0/1,x@0/2"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Position.parse(text)


def test_a_history_file_is_read() -> None:
    text = (
        "# a comment\n1\t0/3000060\tno recovery target specified\n\n2\t0/5000110\tbefore 2000-01-01 00:00:00+00 # why\n"
    )
    assert str(History.parse_file(3, text)) == "3:1@0/3000060,2@0/5000110"


def test_a_history_file_without_lines_is_a_timeline_without_a_past() -> None:
    assert History.parse_file(1, "") == History(1)


@pytest.mark.parametrize("text", ["1\n", "one 0/1 because\n", "1 elsewhere because\n"])
def test_what_is_no_history_file_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        History.parse_file(2, text)


def test_where_a_history_left_a_timeline() -> None:
    history = History.parse("3:1@0/100,2@0/200")
    assert history.left(1) == Lsn(0x100)
    assert history.left(2) == Lsn(0x200)
    assert history.left(3) is None
    assert history.left(4) is None


ANOTHER_2 = Position(Lsn(0x180), History(2, ((1, Lsn(0x80)),)))
"""On a timeline 2 that left timeline 1 elsewhere: a promotion that did not know of the other one."""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(at(0x80), at(0x80), Order.EQUAL, id="the same place"),
        pytest.param(at(0x80), at(0x81), Order.OLDER, id="the same timeline, lower"),
        pytest.param(at(0x10_00000000), at(0x9_FFFFFFFF), Order.NEWER, id="compared as numbers, not as text"),
        pytest.param(at(0x180, 2), at(0x80), Order.NEWER, id="the later timeline, and higher"),
        pytest.param(at(0x100, 2), at(0x100), Order.NEWER, id="the other one ends exactly at the fork"),
        pytest.param(at(0x110, 2), at(0x101), Order.DIVERGED, id="the other one went past the fork"),
        pytest.param(at(0x110, 2), at(0x900), Order.DIVERGED, id="a higher LSN on the branch that was given up"),
        pytest.param(at(0x210, 3), at(0x80), Order.NEWER, id="two promotions later"),
        pytest.param(at(0x210, 3), at(0x180, 2), Order.NEWER, id="one promotion later"),
        pytest.param(at(0x210, 3), at(0x201, 2), Order.DIVERGED, id="past the second fork"),
        pytest.param(at(0x180, 2), ANOTHER_2, Order.DIVERGED, id="the same number, another past"),
        pytest.param(at(0x210, 3), Position(Lsn(0x10), History(4)), Order.DIVERGED, id="an unknown past"),
        pytest.param(
            at(0x180, 2), Position(Lsn(0x190), History(2)), Order.OLDER, id="an empty past contradicts nothing"
        ),
    ],
)
def test_compare(first: Position, second: Position, expected: Order) -> None:
    assert first.compare(second) is expected
    assert second.compare(first) is MIRRORED[expected]


@given(positions, positions)
def test_compare_is_antisymmetric(first: Position, second: Position) -> None:
    assert second.compare(first) is MIRRORED[first.compare(second)]


@given(positions)
def test_a_position_equals_itself(position: Position) -> None:
    assert position.compare(position) is Order.EQUAL


@given(copies())
def test_compare_says_what_the_wal_itself_says(pair: tuple[Wal, Wal]) -> None:
    first, second = pair
    order = position_of(first).compare(position_of(second))
    assert (order in (Order.NEWER, Order.EQUAL)) == is_prefix(second, first)
    assert (order in (Order.OLDER, Order.EQUAL)) == is_prefix(first, second)


@pytest.mark.parametrize(
    ("position", "history", "expected"),
    [
        pytest.param(at(0x80), at(0, 1).history, True, id="the same timeline"),
        pytest.param(at(0x100), at(0, 2).history, True, id="ends at the fork"),
        pytest.param(at(0x101), at(0, 2).history, False, id="ends past the fork"),
        pytest.param(at(0x80), at(0, 3).history, True, id="two promotions later"),
        pytest.param(at(0x180, 2), at(0, 1).history, False, id="ahead of it"),
        pytest.param(at(0x180, 2), ANOTHER_2.history, False, id="the same number, another past"),
        pytest.param(at(0x180, 2), History(4), False, id="an unknown past"),
    ],
)
def test_leads_to(position: Position, history: History, expected: bool) -> None:
    assert position.leads_to(history) is expected


@given(copies())
def test_what_leads_to_a_history_is_a_part_of_it(pair: tuple[Wal, Wal]) -> None:
    """Whoever follows throws nothing away; on the same timeline the follower may only be ahead of what was heard."""
    first, second = pair
    if position_of(first).leads_to(position_of(second).history):
        assert is_prefix(first, second) or is_prefix(second, first)

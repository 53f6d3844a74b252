# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what OCF and Pacemaker demand is complete, and what it names exists."""

import ast
from pathlib import Path

import pytest

from tests.ocf_checklist import ITEMS, Item

TESTS = Path(__file__).parents[1]
LAST = 63


def names_of_tests(file: Path) -> set[str]:
    """The tests of a file, those of a class with and without its name; read, not imported."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
            found |= names | {f"{node.name}::{name}" for name in names}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_every_item_is_there_once_and_in_order() -> None:
    assert [item.number for item in ITEMS] == list(range(1, LAST + 1))


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: str(item.number))
def test_every_item_has_tests_that_exist(item: Item) -> None:
    assert item.demand
    assert item.tests or item.differs, "neither a test nor a reason for having none"
    for name in item.tests:
        file, _, test = name.partition("::")
        assert (TESTS / file).is_file(), name
        assert test in names_of_tests(TESTS / file), name


def test_a_test_that_does_not_exist_is_noticed() -> None:
    here = names_of_tests(Path(__file__))
    assert "test_every_item_has_tests_that_exist" in here
    assert not here & {"names_of_tests", "test_that_is_not_here"}

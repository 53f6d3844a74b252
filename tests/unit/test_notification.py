# SPDX-License-Identifier: GPL-2.0-or-later
"""What Pacemaker says of a transition, in the spellings of its versions."""

import pytest

from pgsql_ra.pacemaker.notification import Notification

PREFIX = "OCF_RESKEY_CRM_meta_notify_"
NOBODY: frozenset[str] = frozenset()


def told(**values: str) -> Notification:
    """What an action with these notify variables understands."""
    return Notification.from_environ({PREFIX + name: value for name, value in values.items()})


def test_nothing_is_said() -> None:
    assert Notification.from_environ({}) == Notification("", "", *[NOBODY] * 6)


def test_a_failover() -> None:
    notification = told(
        type="pre",
        operation="promote",
        start_uname=" ",
        stop_uname="node1 ",
        promote_uname="node2 ",
        demote_uname="node1 ",
        promoted_uname="node1 ",
        unpromoted_uname="node2 node3 ",
    )
    assert notification == Notification(
        kind="pre",
        operation="promote",
        start=NOBODY,
        stop=frozenset({"node1"}),
        promote=frozenset({"node2"}),
        demote=frozenset({"node1"}),
        promoted=frozenset({"node1"}),
        unpromoted=frozenset({"node2", "node3"}),
    )


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"master_uname": "a", "slave_uname": "b c"}, id="before 2.1: the old names"),
        pytest.param({"promoted_uname": "a", "unpromoted_uname": "b c"}, id="the new names"),
        pytest.param(
            {"master_uname": "a", "slave_uname": "b c", "promoted_uname": "a", "unpromoted_uname": "b c"}, id="both"
        ),
        pytest.param(
            {"master_uname": "a", "slave_uname": "b c", "promoted_uname": " ", "unpromoted_uname": ""},
            id="the new ones empty",
        ),
    ],
)
def test_old_and_new_names_mean_the_same(values: dict[str, str]) -> None:
    notification = told(**values)
    assert notification.promoted == {"a"}
    assert notification.unpromoted == {"b", "c"}


@pytest.mark.parametrize("text", ["", " ", "  ", "\t"])
def test_an_empty_list_is_a_blank(text: str) -> None:
    assert told(stop_uname=text, promoted_uname=text).stop == NOBODY
    assert told(stop_uname=text, promoted_uname=text).promoted == NOBODY


def test_names_are_in_lower_case() -> None:
    assert told(stop_uname="Node1 NODE2").stop == {"node1", "node2"}


def test_the_lists_of_resources_do_not_count() -> None:
    assert told(stop_resource="pgsql:0 pgsql:1").stop == NOBODY

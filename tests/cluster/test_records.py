# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cluster remembers of promotions when its CIB does not, and what commits wait for besides one standby."""

from functools import partial

from tests.cluster.conftest import COMMAND, Cluster
from tests.cluster.support import (
    DISCONNECT,
    LATEST,
    SYNC,
    audit,
    data_status,
    is_degraded,
    is_redundant,
    start,
    synchronous_names,
    synchronous_standby,
    writing,
)
from tests.lab import Configuration, Lab
from tests.lab.cib_view import NodeView, Status
from tests.lab.layout import STATEDIR
from tests.lab.node import Node

WRITES_THAT_WIN = 60
"""More than a cluster of three makes in its life of a minute: the CIB with the highest epoch rules."""


def why(node: NodeView) -> str:
    """Why it is not promoted, as it says itself."""
    return node.transient.get("pgsql-not-promoted", "")


def took_over(former: str, seen: Status) -> bool:
    """Another node is the primary, and has the VIP."""
    return seen.promoted not in (None, former) and seen.location() == seen.promoted


def waits_for_a_standby(primary: Node) -> bool:
    """Whether a commit on this server waits for synchronous replication."""
    return primary.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "t"


def write_in_the_minority(node: Node) -> None:
    """An administrator's permanent writes on a node without quorum: all succeed, and make its CIB the one that wins."""
    for number in range(WRITES_THAT_WIN):
        node.run(["crm_attribute", "--lifetime=forever", f"--node={node.name}", "--name=note", f"--update={number}"])


def test_a_stale_node_is_not_promoted_although_its_cib_wins(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    start(lab)
    stale = lab.primary()
    client = lab.client()
    client.wait_for(20)
    stale.power_cut()
    seen = lab.wait("another node took over", partial(took_over, stale.name), within=60)
    newest = lab.node(seen.promoted or "")
    third = next(node for node in lab.nodes if node.name not in (stale.name, newest.name))
    client.wait_for(50)
    lab.wait("the third node remembers the promotion", lambda _: newest.name in promotion_file(third), within=30)
    for node in (newest, third):
        node.power_cut()
    client.stop()

    stale.boot()
    lab.wait("it runs alone", lambda now: now.online == (stale.name,) and not now.quorum, within=60, seen_by=stale.name)
    write_in_the_minority(stale)
    third.boot()
    seen = lab.wait("both say why they are not promoted", partial(_both_explain, stale.name, third.name), within=120)
    assert data_status(seen.node(stale.name)) == LATEST, "its CIB has won"
    assert data_status(seen.node(newest.name)) == SYNC, "and what the majority had recorded is gone"
    assert f"older than promotion 2, which {newest.name} had" in why(seen.node(stale.name))
    assert seen.promoted is None

    newest.boot()
    lab.wait("the node with the newest data is promoted", lambda now: now.promoted == newest.name, within=120)
    audit(lab, client)
    lab.wait("nothing is left to explain", lambda now: not any(why(node) for node in now.nodes), within=30)


def promotion_file(node: Node) -> str:
    """What the node remembers; empty if nothing."""
    return node.run(["cat", str(STATEDIR / "pgsql" / "promotion")], check=False).stdout


def _both_explain(first: str, second: str, seen: Status) -> bool:
    return seen.quorum and bool(why(seen.node(first)) and why(seen.node(second)))


def test_any_one_of_two_by_quorum(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    lab.configure(Configuration(parameters={"synchronous_method": "quorum", "rejoin": "copy"}))
    seen = lab.wait("two standbys vote", partial(_voters, 2, 2), within=90)
    first = lab.primary()
    names = [node.name for node in seen.nodes if node.name != first.name]
    assert synchronous_names(lab) == f'ANY 1 ("{names[0]}", "{names[1]}")'
    with writing(lab) as client:
        first.power_cut()
        lab.wait("one of them took over", partial(took_over, first.name), within=60)
        lab.wait("the other one votes", partial(_voters, 1, 1), within=60)
        slow = lab.standbys()[0]
        first.boot()
        lab.wait("both vote", partial(_voters, 2, 2), within=120)
        # With one of them stopped, commits go on at once: the other one is enough.
        slow.freeze("postgres")
        client.wait_for(20, within=20)
        slow.thaw("postgres")
    assert not any(node.promotion_score == "100" and data_status(node) == SYNC for node in lab.status().nodes)


def _voters(needed: int, count: int, seen: Status) -> bool:
    """Whether the primary has recorded so many voters."""
    if seen.promoted is None or seen.location() != seen.promoted:
        return False
    _, _, recorded = seen.node(seen.promoted).permanent.get("pgsql-voters", "").partition(": ")
    number, _, names = recorded.partition(" of ")
    return number == str(needed) and len(names.split()) == count


def test_another_standby_is_synchronous_before_the_first_one_stops(cluster: Cluster) -> None:
    lab = cluster(nodes=3)
    leaving = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()
    other = next(node for node in lab.nodes if node.name not in (leaving.name, primary.name))
    with writing(lab) as client:
        leaving.standby()
        lab.wait("the other one is synchronous", lambda now: synchronous_standby(now) == other.name, within=60)
        lines = primary.log_text().splitlines()
        raised = _first(lines, f"data-status of {other.name} = {SYNC}")
        lowered = _first(lines, f"data-status of {leaving.name} = {DISCONNECT}:")
        assert raised < lowered, "there was a moment in which only the primary held what was acknowledged"
        client.wait_for(20)
        leaving.unstandby()
        lab.wait("redundant", is_redundant, within=60)


def _first(lines: list[str], text: str) -> int:
    """The number of the first line with this text after the start of the cluster, which disconnects everybody."""
    since = next(number for number, line in enumerate(lines) if f"= {SYNC}" in line)
    return next(number for number, line in enumerate(lines) if number > since and text in line)


def test_strict_never_goes_on_alone(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    standby = lab.node(synchronous_standby(start(lab, Configuration(parameters={"strict": "true"}))) or "")
    primary = lab.primary()
    with writing(lab) as client:
        standby.standby()
        lab.wait("a commit waits for it", lambda _: waits_for_a_standby(primary), within=60)
        before = len(client.acknowledged())
        assert synchronous_names(lab) == f'"{standby.name}"'
        standby.unstandby()
        lab.wait("it is back", is_redundant, within=60)
        client.wait_for(20)
        assert len(client.acknowledged()) >= before + 20


def test_nobody_is_promoted_until_a_person_says_so(cluster: Cluster) -> None:
    lab = cluster(nodes=2)
    standby = lab.node(synchronous_standby(start(lab)) or "")
    primary = lab.primary()
    with_client(lab)
    standby.standby()
    lab.wait("the primary goes on alone", is_degraded, within=60)
    primary.power_cut()
    standby.unstandby()
    seen = lab.wait("it says why it is not promoted", lambda now: why(now.node(standby.name)), within=90)
    assert "pgsql-ra allow" in why(seen.node(standby.name))
    assert seen.promoted is None

    said = standby.run([COMMAND, "why"]).stdout
    assert standby.name in said
    assert DISCONNECT in said
    standby.run([COMMAND, "allow", standby.name, "--yes"])
    lab.wait("it is promoted now", lambda now: now.promoted == standby.name, within=60)


def with_client(lab: Lab) -> None:
    """Something is committed that only the primary will have."""
    client = lab.client()
    client.wait_for(20)
    client.stop()

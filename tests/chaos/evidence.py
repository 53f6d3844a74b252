# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known when a run is over: histories, rows, copies, timelines, and what the agent said about itself."""

from collections import defaultdict

from tests.chaos.checker import Ack, Evidence, Fork, acks_of
from tests.chaos.sampler import Sample
from tests.lab import Client, Lab, LabError, Node, WaitError, eventually

CATCH_UP_SECONDS = 60.0
QUERY_SECONDS = 60.0
BUG = "report it as a BUG"

# No index: a duplicate would be one that the index does not know of.
ROWS = """
SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;
SELECT client, seq FROM lab_commits
"""
FINGERPRINT = "SELECT count(*), coalesce(sum(hashtextextended(client || ':' || seq, 0)), 0) FROM lab_commits"


def gather(
    lab: Lab, clients: list[Client], samples: tuple[Sample, ...], unsettled: str, *, keeps_timeline: bool = False
) -> Evidence:
    """All of it; asked of the primary once the clients have stopped. `keeps_timeline` if a promotion is a restart."""
    acks: list[Ack] = [ack for client in clients for ack in acks_of(client.name, client.lines())]
    mode = lab.settings.rep_mode
    bugs = tuple(line for node in lab.nodes for line in _bugs(node))
    known = {
        "acks": acks,
        "samples": samples,
        "unexpected": bugs,
        "rep_mode": mode,
        "keeps_timeline": keeps_timeline,
    }
    try:
        primary = lab.primary()
    except LabError as error:
        return Evidence(rows=None, unsettled=unsettled or f"there is no primary to ask: {error}", **known)  # type: ignore[arg-type]
    rows = _rows(primary)
    timeline, forks = _history(primary)
    try:
        copies = _copies(lab, primary)
    except (LabError, WaitError) as error:
        copies, unsettled = {}, unsettled or f"the standbys do not catch up: {error}"
    return Evidence(rows=rows, timeline=timeline, forks=forks, copies=copies, unsettled=unsettled, **known)  # type: ignore[arg-type]


def _rows(primary: Node) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for line in primary.sql(ROWS, timeout=QUERY_SECONDS).splitlines():
        client, seq = line.split("|")
        rows[client].append(int(seq))
    return dict(rows)


def _history(primary: Node) -> tuple[int, tuple[Fork, ...]]:
    """The primary's timeline and where its history left the earlier ones (pg_wal/*.history)."""
    name = primary.sql("SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)")
    if int(name, 16) == 1:
        return 1, ()
    text = primary.sql(f"SELECT pg_read_file('pg_wal/{name}.history')")
    left = [line.split()[:2] for line in text.splitlines() if line[:1].isdigit()]
    successors = [*(int(timeline) for timeline, _ in left[1:]), int(name, 16)]
    forks = (Fork(int(one[0]), _bytes(one[1]), after) for one, after in zip(left, successors, strict=True))
    return int(name, 16), tuple(forks)


def _bytes(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _copies(lab: Lab, primary: Node) -> dict[str, str]:
    """The fingerprint of every running copy, once it has replayed what the primary has now."""
    end = primary.sql("SELECT pg_current_wal_flush_lsn()")
    standbys = lab.standbys()
    for node in standbys:
        eventually(
            f"{node.name} has replayed up to {end}",
            lambda node=node: node.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'"),  # type: ignore[misc]
            lambda answer: answer == "t",
            within=CATCH_UP_SECONDS,
        )
    return {node.name: node.sql(FINGERPRINT, timeout=QUERY_SECONDS) for node in (primary, *standbys)}


def _bugs(node: Node) -> list[str]:
    lines = [line for line in node.log_text().splitlines() if BUG in line]
    return [f"{node.name}: {line[-300:]}" for line in dict.fromkeys(lines)][:3]

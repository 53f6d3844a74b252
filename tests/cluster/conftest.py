# SPDX-License-Identifier: GPL-2.0-or-later
"""Clusters for tests: started when asked for, taken down in any case, their logs kept when the test failed."""

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab

PROJECT = Path(__file__).resolve().parents[2]
ARTIFACTS = PROJECT / "tests" / ".artifacts"
INSTALLED_AGENT = Path(os.environ.get("PGSQL_RA_AGENT", PROJECT / ".build" / "ocf"))
"""Where `make` installs the agent inside the checkout."""
COMMAND = str(INSTALLED_AGENT.parent / "bin" / "pgsql-ra")
"""And the command for people; the nodes see the checkout at its place."""

Cluster = Callable[..., Lab]
PHASES = pytest.StashKey[dict[str, pytest.TestReport]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder is a cluster test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the outcome of each phase of a test where its fixtures can read it, and say where the logs will be."""
    report = yield
    item.stash.setdefault(PHASES, {})[report.when] = report
    if report.failed and "cluster" in getattr(item, "fixturenames", ()):
        report.sections.append(("cluster", f"logs of all nodes are in {artifacts_of(item)}"))
    return report


def artifacts_of(item: pytest.Item) -> Path:
    """The folder for the logs of a failed test."""
    return ARTIFACTS / re.sub(r"[^A-Za-z0-9_.-]+", "_", item.nodeid)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Start clusters: `cluster(nodes=3, rep_mode="sync", ...)`, options as for Lab; by default the installed agent.

    Names are made up so that test runs side by side do not meet.
    """
    labs: list[Lab] = []

    def start(nodes: int | Iterable[str] = 3, **options: Any) -> Lab:
        options.setdefault("agent", INSTALLED_AGENT)
        name = options.pop("name", f"t{os.getpid()}_{len(labs) + 1}")
        lab = Lab(name, nodes, failed_start_logs=artifacts_of(request.node) / name, **options)
        labs.append(lab)
        lab.up()
        return lab

    try:
        yield start
    finally:
        phases = request.node.stash.get(PHASES, {})
        failed = any(report.failed for report in phases.values()) or "call" not in phases
        for lab in labs:
            try:
                if failed and lab.layout.root.exists():
                    lab.collect(artifacts_of(request.node) / lab.name)
            finally:
                lab.down()

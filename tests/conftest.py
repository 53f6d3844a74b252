# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for all tests."""

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from tests.promises import BROKEN_PROMISE, BrokenPromise

# How long one example takes says nothing on a machine that runs clusters at the same time.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

BROKEN = "broken promise"


def pytest_configure(config: pytest.Config) -> None:
    """Look for broken promises in what the processes that run the tests report to this one."""
    config.pluginmanager.register(Promises(), "promises")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[Any]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write a broken promise into the report, which is all that another process gets."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(BrokenPromise):
        report.user_properties.append((BROKEN, str(call.excinfo.value)))
    return report


class Promises:
    """Gives a test run its own exit code if a promise was broken in it."""

    def __init__(self) -> None:
        self.broken = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Once for each phase of a test, in the process that was started by hand, and in the one that ran it."""
        self.broken = self.broken or BROKEN in dict(report.user_properties)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The exit code is read after this."""
        if self.broken:
            session.exitstatus = BROKEN_PROMISE

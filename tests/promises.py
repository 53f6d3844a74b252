# SPDX-License-Identifier: GPL-2.0-or-later
"""What is promised whatever happens, however loaded the machine is: a test that sees it broken gets no second try."""

BROKEN_PROMISE = 9
"""The exit code of a test run in which one was broken (pytest's own are 0 to 5)."""


class BrokenPromise(AssertionError):
    """An acknowledged row is gone, two servers take writes, or the agent met a fault in itself."""


def promise(holds: object, otherwise: str) -> None:
    """Raise BrokenPromise with the text `otherwise` unless it `holds`."""
    if not holds:
        raise BrokenPromise(otherwise)

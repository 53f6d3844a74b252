# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for all tests."""

from hypothesis import settings

# How long one example takes says nothing on a machine that runs clusters at the same time.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

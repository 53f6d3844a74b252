# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that need neither a server nor a cluster."""

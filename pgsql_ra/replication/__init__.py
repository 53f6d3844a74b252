# SPDX-License-Identifier: GPL-2.0-or-later
"""Decisions about replication: pure functions from what was seen to what should follow. No I/O, clock or log in
here.
"""

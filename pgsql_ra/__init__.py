# SPDX-License-Identifier: GPL-2.0-or-later
"""Pacemaker resource agent for PostgreSQL with streaming replication."""

__version__ = "0.1.0"

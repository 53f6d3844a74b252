# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests: unit (pure), server (one PostgreSQL), cluster (Pacemaker in namespaces), and the lab they run in."""

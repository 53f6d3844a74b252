# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent and one real PostgreSQL server on this machine, without a cluster."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""The PostgreSQL server on this node: its processes, its files, its sessions."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""The OCF actions: each observes, asks `replication` what follows, applies it, and answers with an exit code."""

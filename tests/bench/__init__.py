# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: what actions cost and how long commits stop, beside the shell agent `ocf:heartbeat:pgsql`.

It measures and prints; it is no test, and no figure makes it fail.
"""

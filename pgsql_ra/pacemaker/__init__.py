# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster: reading its CIB, writing node attributes, understanding notifications."""

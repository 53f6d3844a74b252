# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster in memory: copies of the WAL, commits and who was told that they are done, a CIB per partition, and the
agent's real decisions, whose changes are applied one at a time.

As unkind as the real thing where safety depends on it: a reload reaches the checkpointer at any time later, or never (a
walsender takes it before it looks at the next reply: WalSndLoop); a dead connection's row stays; an action may be
killed between any two of its steps, and the world goes on between them; a partition has a CIB of its own, whose writes
succeed and are lost.

A CIB may go back: when partitions meet, or a fenced node boots with its own copy, the older one may win (really, the
one with the highest epoch, and an administrator's writes raise it anywhere); attrd may lose its values.

Kinder than the real thing: a primary that lives says anew what such a CIB has taken back before it dies (its monitor
does, within seconds); a promotion's look, its records and the promotion itself happen in one step, after all standbys
of the partition have published their positions; and what `Unkind` lists.
"""

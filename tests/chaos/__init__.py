# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults by the dozen: schedules drawn by seed, played on real clusters under load, and a check that nothing was lost.

schedule.py    what happens when, a pure function of the seed
faults.py      each fault as a verb, and what heals it
load.py        the clients: through the virtual address, and on every node
sampler.py     what the cluster and its servers looked like meanwhile
play.py        the faults at their times
settle.py      everything healed, as an administrator would, until the cluster is whole
evidence.py    what is known when it is over
checker.py     the verdict on it, pure
run.py         all of this for one schedule
summary.py     the figures of many
"""

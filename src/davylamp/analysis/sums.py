"""What an interval adds to the sums that a check of latency keeps for each bucket bound (`latency`), by numpy's arrays.

`loops` has the same, to be compiled, for simulations; that both say the same is tested.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from davylamp.analysis import blocks, once
from davylamp.analysis.shares import Array

CHI = len(blocks.WORSE)  # the columns before it: log capital for each alternative
FREEDOM, MORE, LESS, SLOW, ASKED, YOUNG, BESIDE = range(CHI + 1, CHI + 8)
"""Sums of the dispersion between stable's pods; the Mantel-Haenszel sums (`duel.Tally`); stable's slow requests and all
of them, lately; slow requests of young pods of the canary, and of stable's at the same time."""
WIDTH = BESIDE + 1
KEPT = 0.9
"""What an interval counts for in what is expected of stable, compared with the next."""


class Interval(NamedTuple):
    """Requests slower than each of the bounds, and, last, all of them."""

    old: Array
    """Of each of stable's pods (rows), of which there is one at least, and each had requests."""
    new: Array
    """Of the canary."""
    warm: Array
    """Of those of its pods that are known to be warm; the same array as `new` if all are."""


class Sums(NamedTuple):
    """After the interval; a row for each bound."""

    table: Array
    """The columns above."""
    own: Array
    """Log capital for each alternative, as it was before, after the bets on warm pods only."""
    spread: Array
    """What the warm pods' account has spread over the alternatives."""
    logs: tuple[float, float]
    """Of the means of the last two over all alternatives and bounds."""
    against: Array
    """The log factors of all pods, for each alternative to "no slower than tolerated", and"""
    in_favour: Array
    """at one bound those to "slower than is good enough"; all 0 where none was asked for, or a pod is young."""
    rate: Array
    """What was expected of stable, and"""
    power: Array
    """by what evidence was tempered."""


def after(table: Array, spread: Array, made: Interval, place: int, tolerate: float, good_enough: float) -> Sums:
    """The sums after an interval. `place` is the bound at which to bet that the canary is good enough; -1 for none."""
    together = np.add.reduce(made.old)
    k0, k1, n0, n1 = together[:-1], made.new[:-1], float(together[-1]), float(made.new[-1])
    found = table.copy()
    column = found.T
    chi, freedom = once.dispersion(made.old[:, :-1], made.old[:, -1], together)
    column[CHI] += chi
    column[FREEDOM] += freedom
    rate, power = expected(column), blocks.tempering(column[CHI], column[FREEDOM])
    against = own = once.blocks_at(k0, k1, n0, n1, tolerate, rate, power)
    found[:, :CHI] += against
    column[MORE] += k1 * (n0 / (n0 + n1))
    column[LESS] += k0 * (n1 / (n0 + n1))
    column[SLOW : ASKED + 1] *= KEPT
    column[SLOW] += k0
    column[ASKED] += n0
    if made.warm is not made.new:
        column[YOUNG] += k1 - made.warm[:-1]
        column[BESIDE] += k0
        own = once.blocks_at(k0, made.warm[:-1], n0, float(made.warm[-1]), tolerate, rate, power)
    mine, spread = table[:, :CHI] + own, spread + own
    in_favour = np.zeros(CHI)
    if place >= 0 and made.warm is made.new:
        counts = (int(k0[place]), int(k1[place]), n0, n1, good_enough)
        in_favour[:] = once.block(*counts, float(rate[place]), float(power[place]), once.BLOCKS_BETTER)
    return Sums(found, mine, spread, (once.log_mean(mine), once.log_mean(spread)), against, in_favour, rate, power)


def expected(column: Array) -> Array:
    """Stable's rate of slow requests, from the intervals before; NaN at the first. `column` is a table, transposed."""
    asked = column[ASKED]
    rate = (column[SLOW] + 0.5) / (asked + 1)
    return rate if np.minimum.reduce(asked) > 0 else np.where(asked > 0, rate, np.nan)

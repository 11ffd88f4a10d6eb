"""What an interval adds to the log factors about common events, such as being slower than a bound: the formulas of
`blocks` by plain numbers, at each of several bounds.

As in `rare`: a look brings few numbers, and numba compiles this for simulations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from davylamp.analysis import blocks
from davylamp.analysis.rare import log_mean
from davylamp.analysis.shares import Array

WORSE, BETTER = (tuple(each.tolist()) for each in (blocks.WORSE, blocks.BETTER))
CHI = len(WORSE)  # the columns before it: log factors for each alternative
FREEDOM, MORE, LESS, SLOW, ASKED, YOUNG, BESIDE = range(CHI + 1, CHI + 8)
"""Sums of the dispersion between stable's pods; the Mantel-Haenszel sums (`duel.Tally`); stable's slow requests and all
of them, lately; slow requests of young pods of the canary, and of stable's at the same time."""
WIDTH = BESIDE + 1
KEPT = 0.9
"""What an interval counts for in what is expected of stable, compared with the next."""
_MOST, _LEAST, _MOST_EXPECTED = blocks.MOST, blocks.LEAST, blocks.MOST_EXPECTED
_PRIOR, _UNSEEN = blocks.PRIOR, blocks.UNSEEN
_NUMBERS = 12


class Interval(NamedTuple):
    """What was counted."""

    slower: Array
    """Requests slower than each of some bounds (columns), and, last, all of them, for each pod (rows), which had some;
    stable's pods come first, and there is one at least."""
    stable: int
    """How many rows are stable's."""
    warm: NDArray[np.bool_]
    """For each row, whether that pod is known to be warm."""
    columns: NDArray[np.int64]
    """For each bound that is followed its column; -1 where it has none."""
    place: int
    """Which of these bounds is that at the quantile; -1 where that is not known yet."""


class Sums(msgspec.Struct, frozen=True):
    """At all bounds that are followed (rows)."""

    table: Array
    """The columns above."""
    spread: Array
    """What the warm pods' account has spread over the alternatives."""
    duel: Array
    """Log factors against "it is no slower than tolerated" and (second row) "slower than is good enough", both at the
    bound at the quantile."""


class Found(msgspec.Struct, frozen=True):
    """What `interval` says beside the sums; the logs are of means over all alternatives (and bounds)."""

    table: float
    own: float
    """Of the table's log factors, and of what these, as they were before, have become by bets on warm pods only."""
    spread: float
    worse: float
    better: float
    """Both rows of `duel`."""
    n0: float
    n1: float
    n: float
    """Requests of stable, of the canary, and of its pods that are known to be warm; and at the bound at the quantile"""
    k0: float
    k1: float
    """slow ones of stable and canary,"""
    rate: float
    """what was expected of stable, and"""
    power: float
    """by what evidence was tempered."""


Kernel = Callable[[Sums, Interval, float, float], tuple[Sums, Found]]


def after(before: Sums, made: Interval, tolerate: float, good_enough: float) -> tuple[Sums, Found]:
    """The sums after an interval, and what is to be said of it."""
    return _kernel[0](before, made, tolerate, good_enough)


def plain(before: Sums, made: Interval, tolerate: float, good_enough: float) -> tuple[Sums, Found]:
    table, spread, duel, numbers = before.table.tolist(), before.spread.tolist(), before.duel.tolist(), [0.0] * _NUMBERS
    slower, warm, columns = made.slower.tolist(), made.warm.tolist(), made.columns.tolist()
    interval(table, spread, duel, numbers, slower, made.stable, warm, columns, made.place, tolerate, good_enough)
    return Sums(np.array(table), np.array(spread), np.array(duel)), Found(*numbers)


def calling(inner: Callable[..., None]) -> Kernel:
    """As `plain`, by `inner`: `interval`, compiled."""

    def kernel(before: Sums, made: Interval, tolerate: float, good_enough: float) -> tuple[Sums, Found]:
        table, spread, duel, numbers = before.table.copy(), before.spread.copy(), before.duel.copy(), np.empty(_NUMBERS)
        inner(table, spread, duel, numbers, *made, tolerate, good_enough)
        return Sums(table, spread, duel), Found(*numbers.tolist())

    return kernel


_kernel: list[Kernel] = [plain]


def set_kernel(kernel: Kernel) -> None:
    """What computes the sums from now on, in this process."""
    _kernel[:] = [kernel]


def interval(
    table: Sequence[MutableSequence[float]],
    spread: Sequence[MutableSequence[float]],
    duel: Sequence[MutableSequence[float]],
    numbers: MutableSequence[float],
    slower: Sequence[Sequence[float]],
    stable: int,
    warm: Sequence[bool],
    columns: Sequence[int],
    place: int,
    tolerate: float,
    good_enough: float,
) -> None:
    """Add an `Interval` to `Sums`; `numbers` become those of `Found`."""
    n0, n1, n = totals(slower, stable, warm, -1)
    slow0, slow1, rate_there, power_there = 0.0, 0.0, math.nan, _UNSEEN
    own = [0.0] * (CHI * len(columns))
    for at in range(len(columns)):
        row, column = table[at], columns[at]
        if column < 0:
            for i in range(CHI):
                own[at * CHI + i] = row[i]
            continue
        k0, k1, k = totals(slower, stable, warm, column)
        chi, freedom = dispersion(slower, stable, column, k0 / n0)
        row[CHI] += chi
        row[FREEDOM] += freedom
        rate, power = expected(row[SLOW], row[ASKED]), tempering(row[CHI], row[FREEDOM])
        every = block(k0, k1, n0, n1, tolerate, rate, power, WORSE)
        sure = every if n == n1 else block(k0, k, n0, n, tolerate, rate, power, WORSE)
        for i in range(CHI):
            own[at * CHI + i] = row[i] + sure[i]
            row[i] += every[i]
            spread[at][i] += sure[i]
        row[MORE] += k1 * (n0 / (n0 + n1))
        row[LESS] += k0 * (n1 / (n0 + n1))
        row[SLOW] = KEPT * row[SLOW] + k0
        row[ASKED] = KEPT * row[ASKED] + n0
        if n < n1:
            row[YOUNG] += k1 - k
            row[BESIDE] += k0
        if at == place:
            slow0, slow1, rate_there, power_there = k0, k1, rate, power
            fine = block(k0, k1, n0, n1, good_enough, rate, power, BETTER) if n == n1 else [0.0] * CHI
            for i in range(CHI):
                duel[0][i] += every[i]
                duel[1][i] += fine[i]
    numbers[1], numbers[2] = log_mean(own), log_mean_of(spread)
    numbers[0] = numbers[1] if n == n1 else log_mean_of(table)
    numbers[3], numbers[4] = log_mean(duel[0]), log_mean(duel[1])
    numbers[5], numbers[6], numbers[7] = n0, n1, n
    numbers[8], numbers[9], numbers[10], numbers[11] = slow0, slow1, rate_there, power_there


def block(
    k0: float, k1: float, n0: float, n1: float, tau: float, rate: float, power: float, against: Sequence[float]
) -> list[float]:
    """As `blocks.logs`."""
    expected = tau * rate
    if not (n0 > 0 and n1 > 0) or expected >= _MOST_EXPECTED:
        return [0.0] * len(against)
    if math.isnan(rate):  # nothing is known yet
        theta = n1 * tau / (n0 + n1 * tau)
        return [min((k1 * math.log(rho) - (k0 + k1) * math.log1p(theta * (rho - 1))) / power, _MOST) for rho in against]
    null = max(expected, _LEAST)
    odds, slow0, twice = null / (1 - null), n0 * rate, 4 * n0 * n1 * (tau - 1)
    most, away0 = tau * slow0 + n0 + n1 * tau, n0 * (1 - expected) + n1 * tau
    found = [0.0] * len(against)
    for at in range(len(against)):
        rho = against[at]
        canary = odds * rho / (1 + odds * rho)
        slow1 = n1 * canary
        away = away0 - slow1
        square = away * away - twice * (canary - expected)
        near = 2 * (slow0 + slow1) / (most + slow1 + (math.sqrt(square) if square > 0 else 0.0))
        likely = k1 * math.log(canary / (tau * near)) + (n1 - k1) * math.log((1 - canary) / (1 - tau * near))
        likely += k0 * math.log(rate / near) + (n0 - k0) * math.log((1 - rate) / (1 - near))
        found[at] = min(likely / power, _MOST)
    return found


def log_mean_of(rows: Sequence[Sequence[float]]) -> float:
    """As `shares.log_mean`, of the log factors that several rows begin with."""
    top, total = rows[0][0], 0.0
    for row in rows:
        for i in range(CHI):
            top = max(top, row[i])
    for row in rows:
        for i in range(CHI):
            total += math.exp(row[i] - top)
    return top + math.log(total / (CHI * len(rows)))


def totals(
    slower: Sequence[Sequence[float]], stable: int, warm: Sequence[bool], column: int
) -> tuple[float, float, float]:
    """Of a column: of stable, of the canary, and of its pods that are known to be warm."""
    old, new, sure = 0.0, 0.0, 0.0
    for pod in range(len(slower)):
        if pod < stable:
            old += slower[pod][column]
        else:
            new, sure = new + slower[pod][column], sure + slower[pod][column] * warm[pod]
    return old, new, sure


def dispersion(slower: Sequence[Sequence[float]], stable: int, column: int, rate: float) -> tuple[float, float]:
    """As `blocks.dispersion`, between stable's pods at one bound; `rate` is the share of slow ones of all of theirs."""
    if stable < 2:
        return 0.0, 0.0
    each, chi = rate * (1 - rate), 0.0
    for pod in range(stable):
        slow, asked = slower[pod][column], slower[pod][-1]
        if asked * each < 1:
            return 0.0, 0.0
        chi += (slow - asked * rate) ** 2 / (asked * each)
    return chi, stable - 1.0


def tempering(chi: float, freedom: float) -> float:
    """As `blocks.tempering`."""
    return max((chi + _PRIOR) / (freedom + _PRIOR), 1.0) if freedom > 0 else _UNSEEN


def expected(slow: float, asked: float) -> float:
    """Stable's rate of slow requests, from the intervals before; NaN at the first."""
    return (slow + 0.5) / (asked + 1) if asked > 0 else math.nan

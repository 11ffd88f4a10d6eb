"""`sums.after` by plain loops, which numba compiles: a tenth of the time, since an interval has few numbers and each of
numpy's calls costs more than it computes. For simulations, which make hundreds of thousands of looks; a controller
spends its time elsewhere, and starts without a compiler. Why the formulas are right is said in `blocks` and `once`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from davylamp.analysis import blocks, latency, sums
from davylamp.analysis.shares import Array
from davylamp.analysis.sums import ASKED, BESIDE, CHI, FREEDOM, KEPT, LESS, MORE, SLOW, YOUNG

_LEAST, _MOST, _MOST_EXPECTED = blocks.LEAST, blocks.MOST, blocks.MOST_EXPECTED
_PRIOR, _UNSEEN = blocks.PRIOR, blocks.UNSEEN
Made = tuple[Array, Array, Array, float, float, Array, Array, Array, Array]


@functools.cache
def use() -> bool:
    """Have latency compared by these from now on, in this process and those that are forked from it; False, and all as
    before, where there is no numba."""
    try:
        import numba
    except ImportError:
        return False
    for inner in (_log_factor, _log_mean):
        numba.extending.register_jitable(inner)
    njit: Any = numba.njit
    try:
        compiled = njit(loops, cache=True)
    except RuntimeError:  # there is nowhere to keep what was compiled
        compiled = njit(loops)
    arithmetic = calling(compiled)
    nothing = np.ones((1, 2))
    arithmetic(
        np.zeros((1, sums.WIDTH)), np.zeros((1, CHI)), sums.Interval(nothing, nothing[0], nothing[0]), -1, 1.0, 2.0
    )
    latency.set_arithmetic(arithmetic)
    return True


def calling(inner: Callable[..., Made]) -> latency.Arithmetic:
    """As `sums.after`, by `inner`: `loops`, compiled or as they are."""

    def after(
        table: Array, spread: Array, made: sums.Interval, place: int, tolerate: float, good_enough: float
    ) -> sums.Sums:
        young = made.warm is not made.new
        found = inner(table, spread, *made, young, place, tolerate, good_enough, blocks.WORSE, blocks.BETTER)
        return sums.Sums(*found[:3], found[3:5], *found[5:])

    return after


def loops(
    table: Array,
    spread: Array,
    old: Array,
    new: Array,
    warm: Array,
    young: bool,
    place: int,
    tolerate: float,
    good_enough: float,
    worse: Array,
    better: Array,
) -> Made:
    """What `sums.Sums` holds, one after the other."""
    found, own, spread = table.copy(), table[:, :CHI].copy(), spread.copy()
    pods, bounds = old.shape[0], table.shape[0]
    against, in_favour = np.zeros((bounds, CHI)), np.zeros(CHI)
    rates, powers = np.zeros(bounds), np.zeros(bounds)
    n0, fewest = 0.0, float(old[0, bounds])
    for pod in range(pods):
        n0 += old[pod, bounds]
        fewest = min(fewest, old[pod, bounds])
    n1, n = float(new[bounds]), float(warm[bounds])
    for at in range(bounds):
        row, k1, k0, squares = found[at], float(new[at]), 0.0, 0.0
        for pod in range(pods):
            k0 += old[pod, at]
            squares += old[pod, at] * old[pod, at] / old[pod, bounds]
        part = k0 / n0
        each = part * (1 - part)
        if pods > 1 and fewest * each >= 1:
            row[CHI] += max((squares - part * k0) / max(each, 1e-9), 0.0)
            row[FREEDOM] += pods - 1.0
        rate = (row[SLOW] + 0.5) / (row[ASKED] + 1) if row[ASKED] > 0 else np.nan
        power = max((row[CHI] + _PRIOR) / (row[FREEDOM] + _PRIOR), 1.0) if row[FREEDOM] > 0 else _UNSEEN
        rates[at], powers[at] = rate, power
        for i in range(CHI):
            factor = _log_factor(k0, k1, n0, n1, tolerate, rate, power, float(worse[i]))
            against[at, i] = factor
            row[i] += factor
            if young:
                factor = _log_factor(k0, float(warm[at]), n0, n, tolerate, rate, power, float(worse[i]))
            own[at, i] += factor
            spread[at, i] += factor
            if at == place:
                in_favour[i] = _log_factor(k0, k1, n0, n1, good_enough, rate, power, float(better[i]))
        row[MORE] += k1 * (n0 / (n0 + n1))
        row[LESS] += k0 * (n1 / (n0 + n1))
        row[SLOW] = KEPT * row[SLOW] + k0
        row[ASKED] = KEPT * row[ASKED] + n0
        if young:
            row[YOUNG] += k1 - warm[at]
            row[BESIDE] += k0
    return found, own, spread, _log_mean(own), _log_mean(spread), against, in_favour, rates, powers


def _log_factor(k0: float, k1: float, n0: float, n1: float, tau: float, rate: float, power: float, rho: float) -> float:
    """As `once.block`, against one alternative."""
    expected = tau * rate
    if not (n0 > 0 and n1 > 0) or expected >= _MOST_EXPECTED:
        return 0.0
    if math.isnan(rate):
        theta = n1 * tau / (n0 + n1 * tau)
        return min((k1 * math.log(rho) - (k0 + k1) * math.log1p(theta * (rho - 1))) / power, _MOST)
    null = max(expected, _LEAST)
    canary = null / (1 - null) * rho
    canary = canary / (1 + canary)
    slow0, slow1 = n0 * rate, n1 * canary
    away = n0 * (1 - expected) + n1 * tau - slow1
    square = away * away - 4 * n0 * n1 * (tau - 1) * (canary - expected)
    near = 2 * (slow0 + slow1) / (tau * slow0 + n0 + n1 * tau + slow1 + math.sqrt(max(square, 0.0)))
    likely = k1 * math.log(canary / (tau * near)) + (n1 - k1) * math.log((1 - canary) / (1 - tau * near))
    likely += k0 * math.log(rate / near) + (n0 - k0) * math.log((1 - rate) / (1 - near))
    return min(likely / power, _MOST)


def _log_mean(logs: Array) -> float:
    """As `once.log_mean`."""
    top, total = logs.max(), 0.0
    for each in logs.flat:
        total += math.exp(each - top)
    return float(top + math.log(total / logs.size))

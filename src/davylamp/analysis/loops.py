"""`sums.after` by plain loops, which numba compiles: a tenth of the time, since an interval has few numbers and each of
numpy's calls costs more than it computes. For simulations, which make hundreds of thousands of looks; a controller
spends its time elsewhere, and starts without a compiler. Why the formulas are right is said in `blocks` and `once`.
"""

from __future__ import annotations

import contextlib
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
    for kept in (True, False):
        with contextlib.suppress(RuntimeError):  # there is nowhere to keep what was compiled
            arithmetic = calling(njit(loops, cache=kept))
            if _right(arithmetic):
                latency.set_arithmetic(arithmetic)
                return True
    return False


def _right(compiled: latency.Arithmetic) -> bool:
    """Whether it says what the loops say: what was kept may be of another version, with other constants than these."""
    found, wanted = compiled(*_sample()), calling(loops)(*_sample())
    return all(
        np.allclose(np.asarray(one), np.asarray(other), rtol=1e-9, equal_nan=True)
        for one, other in zip(found, wanted, strict=True)
    )


def _sample() -> tuple[Array, Array, sums.Interval, int, float, float]:
    """Sums and an interval on which each of the constants has a say."""
    table = np.zeros((5, sums.WIDTH))
    table[:, ASKED], table[:, SLOW] = (0, 1000, 1000, 1000, 1e9), (0, 999, 500, 20, 0)
    table[:, FREEDOM], table[:, CHI] = (0, 0, 30, 30, 30), (0, 0, 60, 60, 60)
    old = np.array([[200, 199, 120, 9, 1, 200], [200, 198, 90, 2, 0, 200.0]])
    made = sums.Interval(old, np.array([300, 300, 290, 40, 9, 300.0]), np.array([200, 200, 180, 20, 5, 200.0]))
    return table, np.zeros((5, CHI)), made, 3, 1.25, 2.0


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
            if at == place and not young:
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

"""What one interval adds to a few running sums, by plain numbers: the formulas of `shares` and `blocks`.

A look brings one interval, and numpy's calls would cost several times what they compute for so little: a simulation
makes hundreds of thousands of looks, a controller with 1,000 releases 100 a second. Why the formulas are right is said
there; that these are the same is tested.
"""

from __future__ import annotations

import functools
import math
import operator
import struct
from collections.abc import Sequence

import numpy as np

from davylamp.analysis import blocks, shares
from davylamp.analysis.shares import Array

WORSE, BETTER = (tuple(each.tolist()) for each in (shares.WORSE, shares.BETTER))
BLOCKS_WORSE, BLOCKS_BETTER = (tuple(each.tolist()) for each in (blocks.WORSE, blocks.BETTER))
_SMALLER = tuple(shares.SMALLER.tolist())
_LOST = tuple(max(math.log(part), shares.MOST_LOST) if part else shares.MOST_LOST for part in _SMALLER)


def worse(k0: int, k1: int, n0: float, n1: float, tau: float) -> list[float]:
    """As `shares.worse`."""
    stable, canary = max(n0 - max(tau - 1, 0), 0), n1 * tau
    return _bets(k1, k0 + k1, canary, stable, WORSE)


def better(k0: int, k1: int, n0: float, n1: float, tau: float) -> list[float]:
    """As `shares.better`."""
    return _bets(k0, k0 + k1, n0, n1 * tau, BETTER)


def _bets(k: int, failures: int, mine: float, others: float, against: Sequence[float]) -> list[float]:
    """On the share of the failures of one side, of which so many requests (the other's weighted) are `mine`."""
    if not (failures > 0 and mine > 0 and others > 0):
        return [0.0] * len(against)
    theta = mine / (mine + others)
    away, rest, most = k / failures - theta, 1 - theta, shares.MOST_STAKED
    return [
        math.log1p(min(1 - (1 - theta * (rho - 1) / (rest + theta * rho)) ** failures, most) / theta * away)
        for rho in against
    ]


def below(k: int, n: float, limit: float, cluster: float) -> list[float]:
    """As `shares.below`."""
    return [(lost * k + (n - k) * passed) / cluster for lost, passed in zip(_LOST, _passed(limit), strict=True)]


def above(k: int, n: float, limit: float, cluster: float) -> list[float]:
    """As `shares.above`."""
    larger = [limit * rho / (1 - limit + limit * rho) for rho in WORSE]
    return [(k * math.log(share / limit) + (n - k) * math.log((1 - share) / (1 - limit))) / cluster for share in larger]


@functools.lru_cache(maxsize=64)
def _passed(limit: float) -> tuple[float, ...]:
    return tuple(math.log((1 - limit * part) / (1 - limit)) for part in _SMALLER)


def block(
    k0: int, k1: int, n0: float, n1: float, tau: float, rate: float, power: float, against: Sequence[float]
) -> list[float]:
    """As `blocks.logs`."""
    expected = tau * rate
    if not (n0 > 0 and n1 > 0) or expected >= blocks.MOST_EXPECTED:
        return [0.0] * len(against)
    found = []
    if expected != expected:  # NaN: nothing is known yet
        theta = n1 * tau / (n0 + n1 * tau)
        found = [k1 * math.log(rho) - (k0 + k1) * math.log1p(theta * (rho - 1)) for rho in against]
    else:
        null = max(expected, blocks.LEAST)
        odds, slow0, twice = null / (1 - null), n0 * rate, 4 * n0 * n1 * (tau - 1)
        most, away0 = tau * slow0 + n0 + n1 * tau, n0 * (1 - expected) + n1 * tau
        fine0, fine1, log = n0 - k0, n1 - k1, math.log
        for rho in against:
            canary = odds * rho / (1 + odds * rho)
            slow1 = n1 * canary
            away = away0 - slow1
            square = away * away - twice * (canary - expected)
            near = 2 * (slow0 + slow1) / (most + slow1 + (math.sqrt(square) if square > 0 else 0.0))
            likely = k1 * log(canary / (tau * near)) + fine1 * log((1 - canary) / (1 - tau * near))
            found.append(likely + k0 * log(rate / near) + fine0 * log((1 - rate) / (1 - near)))
    return [min(each / power, blocks.MOST) for each in found]


def blocks_at(
    k0: Array, k1: Array, n0: float, n1: float, tau: float, rate: Array, power: Array, against: Array = blocks.WORSE
) -> Array:
    """As `blocks.logs`, of one interval and events at several bounds: by numpy, with half of its calls."""
    most = tau * np.maximum.reduce(rate)
    if not (n0 > 0 and n1 > 0) or math.isnan(most):
        return blocks.logs(k0, k1, n0, n1, tau, rate, power, against)
    stable = np.minimum(rate, blocks.MOST_EXPECTED / tau)[:, None]
    expected = tau * stable
    null = np.maximum(expected, blocks.LEAST)
    odds = null / (1 - null) * against
    canary = odds / (1 + odds)
    slow0, slow1 = n0 * stable, n1 * canary
    away = (n0 * (1 - expected) + n1 * tau) - slow1
    root = np.sqrt(np.maximum(away * away - (4 * n0 * n1 * (tau - 1)) * (canary - expected), 0))
    near = 2 * (slow0 + slow1) / ((tau * slow0 + (n0 + n1 * tau)) + slow1 + root)
    worst = tau * near
    likely, counts = np.empty((4, *odds.shape)), np.empty((4, len(rate)))
    np.divide(canary, worst, likely[0])
    np.divide(1 - canary, 1 - worst, likely[1])
    np.divide(stable, near, likely[2])
    np.divide(1 - stable, 1 - near, likely[3])
    counts[0], counts[1], counts[2], counts[3] = k1, n1 - k1, k0, n0 - k0
    counts /= power
    found = np.minimum(np.add.reduce(np.log(likely, likely) * counts[:, :, None]), blocks.MOST)
    return np.asarray(found if most < blocks.MOST_EXPECTED else found * (tau * rate < blocks.MOST_EXPECTED)[:, None])


def dispersion(slow: Array, asked: Array, together: Array) -> tuple[Array, Array]:
    """As `blocks.dispersion`, of one interval: of each of several pods, so many of the requests that were `asked` were
    `slow` (a column for each kind); `together` are the slow ones of all pods, and, last, all requests."""
    rate = together[:-1] / together[-1]
    each = rate * (1 - rate)
    # The sum of (slow - asked*rate)^2/asked is that of slow^2/asked, less rate times the sum of slow.
    chi = ((1 / asked) @ (slow * slow) - rate * together[:-1]) / np.maximum(each, 1e-9)
    usable = np.minimum.reduce(asked) * each >= 1 if len(asked) > 1 else np.zeros(len(rate), bool)
    return np.maximum(chi, 0) * usable, usable * (len(asked) - 1.0)


def added(raw: bytes, logs: Sequence[float]) -> bytes:
    """Packed numbers (`shares.pack`) with `logs` added to them."""
    if not any(logs):
        return raw
    layout = _layout(len(raw))
    return layout.pack(*map(operator.add, layout.unpack(raw), logs))


@functools.lru_cache(maxsize=1024)
def capital(raw: bytes) -> float:
    """As `shares.log_mean`, of a few packed numbers."""
    logs = _layout(len(raw)).unpack(raw)
    top = max(logs)
    return float(top) + math.log(sum([math.exp(each - top) for each in logs]) / len(logs))


def log_mean(logs: Array) -> float:
    """As `shares.log_mean`, of all of many."""
    top = float(np.maximum.reduce(logs, None))
    return top + math.log(float(np.add.reduce(np.exp(logs - top), None)) / logs.size)


@functools.cache
def _layout(size: int) -> struct.Struct:
    return struct.Struct(f"<{size // 8}d")


def either(one: float, other: float) -> float:
    """Log of the sum of two numbers whose logs these are."""
    top, least = max(one, other), min(one, other)
    return top + math.log1p(math.exp(least - top))

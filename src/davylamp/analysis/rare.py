"""What an interval adds to the log factors about rare events: the formulas of `shares` by plain numbers.

A look brings one interval, and numpy's calls would cost several times what they compute for so little: a controller
with 1,000 releases makes 100 looks a second, a simulation hundreds of thousands. Why the formulas are right is said in
`shares`; that these are the same is tested. Numba compiles them for simulations (`compiled`), so that what `interval`
calls is kept to what it understands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from davylamp.analysis import shares

WORSE, BETTER = (tuple(each.tolist()) for each in (shares.WORSE, shares.BETTER))
CLUSTER = 5.0
"""Failures that come together in the claim that a share is harmless."""
_MOST = shares.MOST_STAKED
_SMALLER = tuple(
    (part, max(math.log(part), shares.MOST_LOST) if part else shares.MOST_LOST) for part in shares.SMALLER.tolist()
)
_KINDS = len(WORSE)
_HARMLESS, _SPREAD, ALL = 2 * _KINDS, 2 * _KINDS + len(_SMALLER), 3 * _KINDS + len(_SMALLER)
"""Where they begin among the numbers of `interval`, and how many these are."""


class Interval(NamedTuple):
    """Failures and requests of stable (0), of the canary (1), and of those of its pods that are known to be warm."""

    k0: int
    k1: int
    n0: float
    n1: float
    k: int
    n: float
    settled: bool
    """Whether no pod is warming up; unless so nothing speaks for the canary."""
    alone: bool = False
    """The canary was given all of the requests, and is compared with what stable did before:"""
    limit: float = 0.0
    """the share of failures that is tolerated; 0 where that can't be said."""


class Claims(NamedTuple):
    """What is bet against: the canary fails at most `tolerate` times, at least `good_enough` times as often as
    stable, at least the share `harmless` (0: no share is harmless) of its requests."""

    tolerate: float
    good_enough: float
    harmless: float


class Sums(msgspec.Struct, frozen=True):
    """Of log factors against the claims, packed (`shares.pack`)."""

    worse: bytes
    better: bytes
    harmless: bytes
    logs: tuple[float, float, float]
    """Of the means of these."""


class Account(msgspec.Struct, frozen=True):
    """The warm pods' (`warmup`)."""

    spread: bytes
    """What it has spread over the alternatives; and the log"""
    log: float
    """of the mean of that, and"""
    worse: float
    """of that of the log factors of all pods as they were before, after the bets on warm ones only."""


Kernel = Callable[[bytes, Interval, Claims], tuple[bytes, list[float]]]
"""`interval` of packed sums; the result and its `logs`."""


def after(
    worse: bytes, better: bytes, harmless: bytes, spread: bytes, made: Interval, claims: Claims
) -> tuple[Sums, Account]:
    """The sums after an interval in which both versions served, or the canary had all of the requests."""
    raw, (one, other, third, aside, own) = _kernel[0](b"".join((worse, better, harmless, spread)), made, claims)
    a, b, c = 8 * _KINDS, 8 * _HARMLESS, 8 * _SPREAD
    return Sums(raw[:a], raw[a:b], raw[b:c], (one, other, third)), Account(raw[c:], aside, own)


def plain(before: bytes, made: Interval, claims: Claims) -> tuple[bytes, list[float]]:
    sums, logs = shares.unpack(before).tolist(), [0.0] * 5
    interval(sums, logs, *made, *claims)
    return shares.pack(np.array(sums)), logs


def calling(inner: Callable[..., None]) -> Kernel:
    """As `plain`, by `inner`: `interval`, compiled."""

    def kernel(before: bytes, made: Interval, claims: Claims) -> tuple[bytes, list[float]]:
        sums, logs = shares.unpack(before), np.empty(5)
        inner(sums, logs, *made, *claims)
        return shares.pack(sums), logs.tolist()

    return kernel


_kernel: list[Kernel] = [plain]


def set_kernel(kernel: Kernel) -> None:
    """What computes the sums from now on, in this process."""
    _kernel[:] = [kernel]


def interval(
    sums: MutableSequence[float],
    logs: MutableSequence[float],
    k0: float,
    k1: float,
    n0: float,
    n1: float,
    k: float,
    n: float,
    settled: bool,
    alone: bool,
    limit: float,
    tolerate: float,
    good_enough: float,
    harmless: float,
) -> None:
    """Add to the sums, here all four one after the other; `logs` become those of `Sums` and of `Account`."""
    same = k == k1 and n == n1
    if alone:
        every = above(k1, n1, limit)
        own = every if same else above(k, n, limit)
    else:
        every = worse(k0, k1, n0, n1, tolerate)
        own = every if same else worse(k0, k, n0, n, tolerate)
    in_favour = settled and not alone
    fine = better(k0, k1, n0, n1, good_enough) if in_favour else [0.0] * _KINDS
    few = below(k1, n1, harmless) if in_favour else [0.0] * len(_SMALLER)
    logs[4] = log_mean([sums[at] + own[at] for at in range(_KINDS)])
    found = [each + more for each, more in zip(sums, every + fine + few + own)]  # noqa: B905 (numba knows no `strict`)
    for at in range(ALL):
        sums[at] = found[at]
    logs[0], logs[1] = log_mean(found[:_KINDS]), log_mean(found[_KINDS:_HARMLESS])
    logs[2], logs[3] = log_mean(found[_HARMLESS:_SPREAD]), log_mean(found[_SPREAD:])


def worse(k0: float, k1: float, n0: float, n1: float, tau: float) -> list[float]:
    """As `shares.worse`."""
    return bets(k1, k0 + k1, n1 * tau, max(n0 - max(tau - 1, 0.0), 0.0), WORSE)


def better(k0: float, k1: float, n0: float, n1: float, tau: float) -> list[float]:
    """As `shares.better`."""
    return bets(k0, k0 + k1, n0, n1 * tau, BETTER)


def bets(k: float, failures: float, mine: float, others: float, against: Sequence[float]) -> list[float]:
    """On the share of the failures of one side, of which so many requests (the other's weighted) are `mine`."""
    if not (failures > 0 and mine > 0 and others > 0):
        return [0.0] * len(against)
    theta = mine / (mine + others)
    away, rest = k / failures - theta, 1 - theta
    return [
        math.log1p(min(1 - (1 - theta * (rho - 1) / (rest + theta * rho)) ** failures, _MOST) / theta * away)
        for rho in against
    ]


def below(k: float, n: float, limit: float) -> list[float]:
    """As `shares.below`; nothing where the limit is 0."""
    if not limit:
        return [0.0] * len(_SMALLER)
    return [(lost * k + (n - k) * math.log((1 - limit * part) / (1 - limit))) / CLUSTER for part, lost in _SMALLER]


def above(k: float, n: float, limit: float) -> list[float]:
    """As `shares.above`; nothing where the limit is 0."""
    if not limit:
        return [0.0] * len(WORSE)
    larger = [limit * rho / (1 - limit + limit * rho) for rho in WORSE]
    return [(k * math.log(share / limit) + (n - k) * math.log((1 - share) / (1 - limit))) / CLUSTER for share in larger]


def log_mean(logs: Sequence[float]) -> float:
    """As `shares.log_mean`, of a few numbers."""
    top, total = logs[0], 0.0
    for each in logs:
        top = max(top, each)
    for each in logs:
        total += math.exp(each - top)
    return top + math.log(total / len(logs))


def either(one: float, other: float) -> float:
    """Log of the sum of two numbers whose logs these are."""
    top, least = max(one, other), min(one, other)
    return top + math.log1p(math.exp(least - top))

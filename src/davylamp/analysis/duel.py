"""Stable against canary over one kind of event: evidence in both directions, a confidence interval, the pace.

Everything is a running sum of log factors (`shares`), so one interval is one step and the whole is of constant size.
The numbers are kept as bytes (little-endian IEEE doubles; the limits' floats), so that a state that was written to JSON
and read back goes on bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from davylamp.analysis import blocks, once, shares
from davylamp.analysis.shares import Array, pack

TAUS = np.geomspace(0.05, 50, 29)
"""The ratios whose e-processes are kept; the limits of a confidence interval lie between two of them."""
CLUSTER = 5.0
"""Failures that come together in the claim that a share is harmless."""
MEANINGLESS = 0.5
"""A share of failures that stable may have had, for all that is known: nothing is compared with that."""
_FRESH = 0.3
"""Weight of the newest interval in the pace."""


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """What was counted, for stable and canary. `expected` are the Mantel-Haenszel sums of k1*n0/n and k0*n1/n: their
    quotient is the ratio of rates over intervals whose base rate and split differ (Mantel & Haenszel 1959)."""

    requests: tuple[int, int] = (0, 0)
    failures: tuple[int, int] = (0, 0)
    expected: tuple[float, float] = (0.0, 0.0)
    pace: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Requests of stable, of the canary, and failures of stable, per second, lately; and"""
    seconds: float = 0.0
    """the length of the last interval."""
    alone: tuple[int, int] = (0, 0)
    """Failures and requests of the canary since it has all of the traffic."""


class Duel(msgspec.Struct, frozen=True, array_like=True):
    worse: bytes
    better: bytes
    harmless: bytes
    low: bytes
    high: bytes
    tally: Tally = Tally()


def begin(opening: bytes = shares.OPENING) -> Duel:
    """Nothing is known yet; `opening` holds the log factors of the alternatives to begin with."""
    limits = np.zeros((len(TAUS), len(shares.COARSE_WORSE)), "<f4").tobytes()
    return Duel(opening, pack(np.zeros(8)), pack(np.zeros(4)), limits, limits)


def without_limits(duel: Duel) -> Duel:
    """The same without what the confidence interval rests on: half of the work where nobody is told of it."""
    return msgspec.structs.replace(duel, low=b"", high=b"")


class Common(msgspec.Struct, frozen=True):
    """How to bet on common events (`blocks`): what is expected of stable, and by what evidence is tempered."""

    rate: float
    dispersion: float


class Round(msgspec.Struct, frozen=True):
    """One interval: requests and failures of stable (0) and canary (1)."""

    n0: float
    n1: float
    k0: int
    k1: int
    seconds: float
    common: Common | None = None
    """None for rare events, whatever their correlation (`shares`)."""
    alone: bool = False
    """The canary had all of the requests, so it is compared with stable before."""


class Claims(msgspec.Struct, frozen=True):
    """What is bet against: the canary fails at most `tolerate` times, at least `good_enough` times as often as
    stable, at least the share `harmless` (None: there is no harmless share) of its requests."""

    tolerate: float
    good_enough: float
    harmless: float | None


def meet(
    duel: Duel,
    now: Round,
    claims: Claims,
    *,
    settled: bool,
    against: Sequence[float] | None = None,
    in_favour: Sequence[float] | None = None,
) -> Duel:
    """The duel after one more interval. Nothing speaks for the canary unless `settled` (no pod is warming up).
    `against` are the log factors against what is tolerated, `in_favour` those against what is not good enough, where
    they are known already.

    Where one of the versions served nothing, nothing changes but the pace; except that a canary to which all of the
    traffic was given is compared with what stable did before, in one direction: that it is worse.
    """
    tally = count(duel.tally, now)
    if now.alone and now.n1 > 0:
        found = speaks_alone(duel, now.k1, now.n1, claims) if against is None else against
        return msgspec.structs.replace(duel, worse=once.added(duel.worse, found), tally=tally)
    if not (now.n0 > 0 and now.n1 > 0):
        return msgspec.structs.replace(duel, tally=tally)
    counts = (now.k0, now.k1, now.n0, now.n1)
    better, harmless, high = duel.better, duel.harmless, duel.high
    if settled:
        better = once.added(better, _for(now, claims.good_enough) if in_favour is None else in_favour)
        if high:
            high = _limits(high, speaks_for(*counts, TAUS, now.common, coarse=True))
        if claims.harmless is not None:
            harmless = once.added(harmless, once.below(now.k1, now.n1, claims.harmless, CLUSTER))
    low = _limits(duel.low, speaks_against(*counts, TAUS, now.common, coarse=True)) if duel.low else duel.low
    worse = once.added(duel.worse, _against(now, claims.tolerate) if against is None else against)
    return Duel(worse, better, harmless, low, high, tally)


def _against(now: Round, tau: float) -> list[float]:
    """As `speaks_against`, of one interval."""
    counts, common = (now.k0, now.k1, now.n0, now.n1), now.common
    if common is None:
        return once.worse(*counts, tau)
    return once.block(*counts, tau, common.rate, common.dispersion, once.BLOCKS_WORSE)


def _for(now: Round, tau: float) -> list[float]:
    """As `speaks_for`, of one interval."""
    counts, common = (now.k0, now.k1, now.n0, now.n1), now.common
    if common is None:
        return once.better(*counts, tau)
    return once.block(*counts, tau, common.rate, common.dispersion, once.BLOCKS_BETTER)


def speaks_alone(duel: Duel, k1: int, n1: float, claims: Claims) -> list[float]:
    """Log factors against "the canary fails at most `tolerate` times as often as stable did before"."""
    limit = claims.tolerate * shares.upper(duel.tally.failures[0], duel.tally.requests[0], CLUSTER)
    return once.above(k1, n1, limit, CLUSTER) if limit < MEANINGLESS else [0.0] * len(once.WORSE)


def speaks_against(
    k0: ArrayLike,
    k1: ArrayLike,
    n0: ArrayLike,
    n1: ArrayLike,
    tau: ArrayLike,
    common: Common | None,
    *,
    coarse: bool = False,
) -> Array:
    """Log factors against "the canary fails at most `tau` times as often"; fewer alternatives if `coarse`."""
    if common is None:
        return shares.worse(k0, k1, n0, n1, tau, shares.COARSE_WORSE if coarse else shares.WORSE)
    against = blocks.COARSE_WORSE if coarse else blocks.WORSE
    return blocks.logs(k0, k1, n0, n1, tau, common.rate, common.dispersion, against)


def speaks_for(
    k0: ArrayLike,
    k1: ArrayLike,
    n0: ArrayLike,
    n1: ArrayLike,
    tau: ArrayLike,
    common: Common | None,
    *,
    coarse: bool = False,
) -> Array:
    """Log factors against "the canary fails at least `tau` times as often"."""
    if common is None:
        return shares.better(k0, k1, n0, n1, tau, shares.COARSE_BETTER if coarse else shares.BETTER)
    against = blocks.COARSE_BETTER if coarse else blocks.BETTER
    return blocks.logs(k0, k1, n0, n1, tau, common.rate, common.dispersion, against)


def _limits(raw: bytes, logs: Array) -> bytes:
    return (np.frombuffer(raw, "<f4").reshape(logs.shape) + logs).astype("<f4").tobytes()


def count(tally: Tally, now: Round) -> Tally:
    fresh = (now.n0 / now.seconds, now.n1 / now.seconds, now.k0 / now.seconds)
    first = tally.seconds == 0
    slow, quick, failing = (
        (new if first else old + _FRESH * (new - old)) for old, new in zip(tally.pace, fresh, strict=True)
    )
    both = now.n0 > 0 and now.n1 > 0
    total = now.n0 + now.n1
    return Tally(
        (tally.requests[0] + round(now.n0), tally.requests[1] + round(now.n1)),
        (tally.failures[0] + now.k0, tally.failures[1] + now.k1),
        (tally.expected[0] + now.k1 * now.n0 / total, tally.expected[1] + now.k0 * now.n1 / total)
        if both
        else tally.expected,
        (slow, quick, failing),
        now.seconds,
        (tally.alone[0] + now.k1 * now.alone, tally.alone[1] + round(now.n1) * now.alone),
    )


def against(duel: Duel) -> float:
    """Log evidence that the canary is worse than tolerated."""
    return once.capital(duel.worse)


def in_favour(duel: Duel, claims: Claims) -> float:
    """Log evidence that the canary is good enough: that its ratio is below `good_enough`, or its share of failures
    harmless. The mean of two e-values is one against "neither" (Vovk & Wang 2021)."""
    ratio = once.capital(duel.better)
    if claims.harmless is None:
        return ratio
    return once.either(ratio, once.capital(duel.harmless)) - math.log(2)


def ratio(tally: Tally) -> float | None:
    """How many times as often as stable the canary fails; infinite if only the canary does, None if neither does."""
    canary, stable = tally.expected
    if stable > 0:
        return canary / stable
    return math.inf if canary > 0 else None


def interval(duel: Duel, error: float) -> tuple[float, float]:
    """A confidence interval for the ratio that holds at all times at once with probability 1 - `error`: those ratios
    against which there is no evidence of 2/error, on either side. 0 and infinity stand for no limit."""
    if not (duel.low and duel.high):
        return 0.0, math.inf
    needed = math.log(2 / error)
    shape = (len(TAUS), -1)
    low = shares.log_mean(np.frombuffer(duel.low, "<f4").reshape(shape).astype(float))
    high = shares.log_mean(np.frombuffer(duel.high, "<f4").reshape(shape).astype(float))
    return _crossing(low, needed, 0.0), _crossing(high[::-1], needed, math.inf, TAUS[::-1])


def _crossing(logs: Array, needed: float, none: float, taus: Array = TAUS) -> float:
    """Where `logs`, followed from the end of `taus` that is refuted first, falls below `needed` for the last time;
    between two of the `taus` it is taken to be straight (over the log of the ratio)."""
    refuted = np.flatnonzero(logs >= needed)
    if not len(refuted):
        return none
    last = int(refuted[-1])
    if last + 1 == len(taus):
        return float(taus[-1])
    part = (logs[last] - needed) / (logs[last] - logs[last + 1])
    return float(taus[last] * (taus[last + 1] / taus[last]) ** part)

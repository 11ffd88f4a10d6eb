"""Stable against canary over one kind of event: evidence in both directions, a confidence interval, the pace.

Everything is a running sum of log factors (`shares`), so one interval is one step and the whole is of constant size.
The numbers are kept as bytes (little-endian IEEE doubles; the limits' floats), so that a state that was written to JSON
and read back goes on bit for bit.
"""

from __future__ import annotations

import functools
import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from davylamp.analysis import blocks, rare, shares
from davylamp.analysis.rare import CLUSTER, Claims, Interval, Sums
from davylamp.analysis.shares import Array, pack, unpack

TAUS = np.geomspace(0.05, 50, 29)
"""The ratios whose e-processes are kept; the limits of a confidence interval lie between two of them."""
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


class Duel(msgspec.Struct, frozen=True, array_like=True, dict=True):
    worse: bytes
    better: bytes
    harmless: bytes
    low: bytes
    high: bytes
    tally: Tally = Tally()

    @functools.cached_property
    def logs(self) -> tuple[float, float, float]:
        """Of what all bets on each of the first three have made of a stake of 1."""
        sides = (self.worse, self.better, self.harmless)
        worse, better, harmless = (rare.log_mean(unpack(each).tolist()) for each in sides)
        return worse, better, harmless


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


def meet(duel: Duel, now: Round, claims: Claims, *, settled: bool, sums: Sums | None = None) -> Duel:
    """The duel after one more interval. Nothing speaks for the canary unless `settled` (no pod is warming up).
    `sums` are those after it where they are known already, as they must be of common events.

    Where one of the versions served nothing, nothing changes but the pace; except that a canary to which all of the
    traffic was given is compared with what stable did before, in one direction: that it is worse.
    """
    tally = count(duel.tally, now)
    if not (now.n1 > 0 and (now.n0 > 0 or now.alone)):
        after = msgspec.structs.replace(duel, tally=tally)
        after.__dict__.update(duel.__dict__)  # the same sums
        return after
    if sums is None:
        assert now.common is None
        made = Interval(now.k0, now.k1, now.n0, now.n1, now.k1, now.n1, settled, now.alone, limit(duel.tally, claims))
        sums, _ = rare.after(duel.worse, duel.better, duel.harmless, duel.worse, made, claims)
    counts, low, high = (now.k0, now.k1, now.n0, now.n1), duel.low, duel.high
    if low and not now.alone:
        low = _limits(low, speaks_against(*counts, TAUS, now.common, coarse=True))
    if high and settled and not now.alone:
        high = _limits(high, speaks_for(*counts, TAUS, now.common, coarse=True))
    after = Duel(sums.worse, sums.better, sums.harmless, low, high, tally)
    after.__dict__["logs"] = sums.logs  # need not be computed again
    return after


def limit(tally: Tally, claims: Claims) -> float:
    """The share of failures that is tolerated of a canary that has all of the traffic: `tolerate` times what stable
    may have had before. 0 where so little is known of stable that nothing can be compared with it."""
    share = claims.tolerate * shares.upper(tally.failures[0], tally.requests[0], CLUSTER)
    return share if share < MEANINGLESS else 0.0


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
    n0, n1, k0, k1, seconds = now.n0, now.n1, now.k0, now.k1, now.seconds
    (slow, quick, failing), (asked0, asked1), (failed0, failed1) = tally.pace, tally.requests, tally.failures
    fresh = _FRESH if tally.seconds else 1.0
    pace = (
        slow + fresh * (n0 / seconds - slow),
        quick + fresh * (n1 / seconds - quick),
        failing + fresh * (k0 / seconds - failing),
    )
    expected, alone = tally.expected, tally.alone
    if n0 > 0 and n1 > 0:
        expected = expected[0] + k1 * n0 / (n0 + n1), expected[1] + k0 * n1 / (n0 + n1)
    if now.alone:
        alone = alone[0] + k1, alone[1] + round(n1)
    return Tally((asked0 + round(n0), asked1 + round(n1)), (failed0 + k0, failed1 + k1), expected, pace, seconds, alone)


def against(duel: Duel) -> float:
    """Log evidence that the canary is worse than tolerated."""
    return duel.logs[0]


def in_favour(duel: Duel, claims: Claims) -> float:
    """Log evidence that the canary is good enough: that its ratio is below `good_enough`, or its share of failures
    harmless. The mean of two e-values is one against "neither" (Vovk & Wang 2021)."""
    _, ratio, harmless = duel.logs
    return rare.either(ratio, harmless) - math.log(2) if claims.harmless else ratio


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

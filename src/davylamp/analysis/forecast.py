"""How much more is needed for a verdict: the evidence grows by so much per interval, if things go on like this.

The growth is the mean over simulated intervals with the recent numbers of requests, so that it is right also where
failures are few. The forecast is for the evidence's middle course: about half of all releases need longer.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from davylamp.analysis import shares
from davylamp.analysis.duel import Common, Duel, speaks_against, speaks_for
from davylamp.analysis.rare import CLUSTER, Claims
from davylamp.analysis.shares import Array, unpack

_DRAWS = 200
_AHEAD = np.unique(np.geomspace(1, 1e6, 400).round())
"""Intervals looked ahead."""


class Needed(msgspec.Struct, frozen=True):
    """What is still missing."""

    requests: int
    """Of the canary."""
    seconds: float


def until_good(duel: Duel, claims: Claims, error: float, common: Common | None = None) -> Needed | None:
    """Until the canary is known to be good enough, if it is as good as stable.

    None if that can't be said: one of the versions gets no requests, or nothing fails and there is no harmless share.
    """
    pace = _pace(duel)
    if pace is None:
        return None
    n0, n1 = pace
    rate = duel.tally.failures[0] / duel.tally.requests[0]
    draw = np.random.default_rng(1)
    k0, k1 = draw.poisson(n0 * rate, _DRAWS), draw.poisson(n1 * rate, _DRAWS)
    course = _course(unpack(duel.better), speaks_for(k0, k1, n0, n1, claims.good_enough, common).mean(0))
    if claims.harmless:
        growth = shares.below(np.minimum(k1, n1), n1, claims.harmless, CLUSTER).mean(0)
        course = shares.log_mean(np.stack([course, _course(unpack(duel.harmless), growth)], -1))
    return _reach(course, error, duel, n1)


def until_worse(duel: Duel, claims: Claims, error: float, common: Common | None = None) -> Needed | None:
    """Until the canary is known to be worse, if it goes on as it has been; None if that won't be."""
    pace = _pace(duel)
    (asked0, asked1), (failed0, failed1) = duel.tally.requests, duel.tally.failures
    if pace is None or not failed1:
        return None
    n0, n1 = pace
    draw = np.random.default_rng(1)
    k0, k1 = draw.poisson(n0 * failed0 / asked0, _DRAWS), draw.poisson(n1 * failed1 / asked1, _DRAWS)
    growth = speaks_against(k0, k1, n0, n1, claims.tolerate, common).mean(0)
    return _reach(_course(unpack(duel.worse), growth), error, duel, n1)


def _pace(duel: Duel) -> tuple[float, float] | None:
    """Requests of stable and canary in an interval, lately."""
    n0, n1 = (per_second * duel.tally.seconds for per_second in duel.tally.pace[:2])
    return (n0, n1) if n0 > 0.01 and n1 > 0.01 and all(duel.tally.requests) else None


def _course(now: Array, growth: Array) -> Array:
    return shares.log_mean(now + _AHEAD[:, None] * growth)


def _reach(course: Array, error: float, duel: Duel, n1: float) -> Needed | None:
    reached = np.flatnonzero(course >= -math.log(error))
    if not len(reached):
        return None
    intervals = float(_AHEAD[reached[0]])
    return Needed(math.ceil(intervals * n1), intervals * duel.tally.seconds)

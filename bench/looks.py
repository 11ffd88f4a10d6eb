"""Whole releases as the controller looks at them: twice an interval in the first minute and where the next look may
decide (`controller.analyst`), with a part of the stake for errors and with young pods' evidence kept aside.

Second by second, since when a look comes depends on what was seen. Pods may have storms of failures.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.methods import OPENING, Ints
from davylamp.analysis import shares, warmup
from davylamp.analysis.shares import Array
from davylamp.controller.underway import EARLY

WARM_UP, FIRST = 60.0, 20.0
TO_ZERO = 2.0
"""Seconds from the look that decides to the canary's last answer: a write, and Traefik's taking it up."""
STABLE, CANARY = 4, 2
"""Pods."""


class Case(msgspec.Struct, frozen=True):
    p0: float = 0.001
    p1: float = 0.001
    part: float = 5 / 7
    """Of the stake, for errors: 5 of 7 beside latency."""
    interval: float = 10.0
    early: int = 2
    tense: int = 2
    """Looks in an interval, in the first minute and where the next may decide."""
    storms: float = 0.0
    """Chance of a storm in any 10 s of a pod: 30 % of its requests fail."""
    aside: bool = True
    """What young pods show waits until they, warm, confirm it."""
    seconds: int = 900


class _Runs:
    """Many releases at once, each with its accounts and the counts since its last look."""

    def __init__(self, runs: int) -> None:
        self.every = np.tile(OPENING, (runs, 1))
        self.spread = self.every.copy()
        self.learned, self.young_k, self.young_n = np.zeros(runs), np.zeros(runs), np.zeros(runs)
        self.counted = np.zeros((4, runs))
        self.met = np.full(runs, np.inf)
        self.found = np.full(runs, np.inf)


def found(case: Case, runs: int, seed: int = 30) -> Array:
    """Seconds of the canary's traffic until each release is taken back; infinite for those that aren't."""
    draw = np.random.default_rng(seed)
    of = _Runs(runs)
    due = np.floor(draw.uniform(0, 2, runs)) + 1
    begins = draw.integers(0, 10, (runs, STABLE + CANARY))
    storm = draw.random(begins.shape) < case.storms
    rates = np.repeat([case.p0, case.p1], [STABLE, CANARY])
    for at in range(1, case.seconds + 1):
        storm = np.where((at + begins) % 10 == 0, draw.random(begins.shape) < case.storms, storm)
        asked = draw.poisson(np.repeat([90 / STABLE, 10 / CANARY], [STABLE, CANARY]), begins.shape)
        failed = draw.binomial(asked, np.where(storm, 0.3, rates))
        sides = (slice(None, STABLE), slice(STABLE, None))
        of.counted += np.stack([part[:, side].sum(1) for part in (asked, failed) for side in sides])
        looked = np.flatnonzero((due <= at) & np.isinf(of.found))
        if len(looked):
            due[looked] = at + _look(of, looked, at, case)
    return of.found + TO_ZERO


def _look(of: _Runs, at: Ints, now: float, case: Case) -> Array:
    """One look at the runs `at`; the seconds to the next."""
    n0, n1, k0, k1 = of.counted[:, at]
    of.counted[:, at] = 0
    logs = shares.worse(k0, k1, n0, n1, 1.25)
    before = shares.log_mean(of.every[at])
    of.every[at] += logs
    total = shares.log_mean(of.every[at])
    age = np.where(np.isinf(of.met[at]), 0, now - of.met[at])
    of.met[at] = np.minimum(of.met[at], np.where(n1 > 0, now, np.inf))
    young = age < WARM_UP
    warm = ~young | ((age >= FIRST) & (_most(of.young_k[at], of.young_n[at]) < warmup.RARE))
    of.learned[at] += np.where(warm, total - before, 0)
    of.spread[at] += np.where(warm[:, None], logs, 0)
    of.young_k[at] += np.where(young, k1, 0)
    of.young_n[at] += np.where(young, n1, 0)
    own = warmup.confirmed(of.learned[at], shares.log_mean(of.spread[at]))
    few = (of.young_k[at] == 0) | (_most(of.young_k[at], of.young_n[at]) < warmup.FEW)
    broken = of.young_k[at] >= np.maximum(0.5 * of.young_n[at], 1)
    counts = np.where(((own >= math.log(warmup.CONFIRMED)) & few) | broken, total, np.minimum(total, own))
    counts = counts if case.aside else total
    of.found[at] = np.where(counts >= math.log(100 / case.part), now, np.inf)
    waits = np.where((total > counts + 1e-9) & (counts > -math.log(3)), total, counts)
    often = np.where(now - of.met[at] < EARLY, case.early, np.where(waits >= math.log(3), case.tense, 1))
    return np.asarray(case.interval / often)


def _most(k: Array, n: Array) -> Array:
    return np.asarray(np.vectorize(lambda failed, asked: warmup.at_most(int(failed), int(asked)))(k, n))

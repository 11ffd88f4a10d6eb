"""Evidence about events that are common, such as being slower than the median: a likelihood ratio for each interval.

Betting on the canary's share (`shares`) can't use what makes common events informative: that out of hundreds, far from
all belong to one version. The price is an assumption: within an interval, requests are slow independently of each
other. Where they aren't (a pause makes many slow at once) the ratio is taken to the power 1/dispersion, with the
dispersion as seen between stable's pods. Since that is not known before the first pause is seen, no interval counts for
more than a factor of 20: an e-value may always be made smaller, and no single interval should decide.

An interval is a block of n0 and n1 Bernoulli trials with rates p0, p1. Against the null hypothesis p1 <= tau*p0 the
e-variable for an alternative (q0, q1) is its likelihood over that of the null's point p* nearest to it, with respect
to n0*KL(q0, p0) + n1*KL(q1, p1) (Turner, Ly & Grunwald, JSPI 230, 2024, arXiv:2106.02693; for such nulls Turner &
Grunwald, "Exact anytime-valid confidence intervals for contingency tables and beyond", 2023). Its expectation under
(p0, p1) is (p0*q0/p0* + (1-p0)*(1-q0)/(1-p0*))^n0 times the same for 1; the logarithm is concave in (p0, p1), is 0 at
p*, and its gradient there points out of the null, which is convex: so it is at most 0 in all of it.

q0 is stable's rate in the intervals before; q1 has odds of a multiple of tau times that rate. A factor of 1 where that
is impossible, or nearly so. As the rates go to 0 the factor becomes rho^k1 / (1 - theta + theta*rho)^K, which
needs no rate: it is used in the first interval, and is an e-variable for Bernoulli trials, too.

Functions take arrays of any one shape (or numbers) and add a last axis for the alternatives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from davylamp.analysis.shares import Array, share

WORSE = np.geomspace(1.25, 16, 8)
BETTER = 1 / np.geomspace(1.25, 8, 8)
COARSE_WORSE = np.geomspace(1.5, 8, 4)
COARSE_BETTER = 1 / COARSE_WORSE
"""Alternatives: odds of the canary's rate, relative to those of tau times stable's."""

MOST = float(np.log(20))
LEAST = 1e-9
"""The smallest rate that is computed with, and"""
MOST_EXPECTED = 1 - 1e-4
"""the rate of the null hypothesis from which there is no bet: hardly anything can be worse, and next to 1 the
logarithms' small differences are lost."""
PRIOR = 20.0
UNSEEN = 2.0


def logs(
    k0: ArrayLike,
    k1: ArrayLike,
    n0: ArrayLike,
    n1: ArrayLike,
    tau: ArrayLike,
    rate: ArrayLike,
    power: ArrayLike,
    against: Array,
) -> Array:
    """Log factors against p1 <= tau*p0 (`against` above 1) or p1 >= tau*p0 (below 1). `rate` is stable's as expected
    from before, in (0, 1), or NaN if nothing is known; `power` is what `tempering` says."""
    fail0, fail1, asked0, asked1, ratio, rates = (np.asarray(x, float)[..., None] for x in (k0, k1, n0, n1, tau, rate))
    stable = np.minimum(rates, MOST_EXPECTED / ratio)
    null = np.maximum(ratio * stable, LEAST)
    odds = null / (1 - null) * against
    canary = odds / (1 + odds)
    near = _nearest(asked0, asked1, stable, canary, ratio)
    with np.errstate(invalid="ignore", divide="ignore"):  # where nobody asked anything
        found = fail1 * np.log(canary / (ratio * near)) + (asked1 - fail1) * np.log((1 - canary) / (1 - ratio * near))
        found += fail0 * np.log(stable / near) + (asked0 - fail0) * np.log((1 - stable) / (1 - near))
    factors = np.where(ratio * rates < MOST_EXPECTED, found, 0.0)
    if (first := np.isnan(rates)).any():
        theta = share(asked0, asked1, ratio)
        unknown = fail1 * np.log(against) - (fail0 + fail1) * np.log1p(theta * (against - 1))
        factors = np.where(first, unknown, factors)
    possible = (asked0 > 0) & (asked1 > 0)
    tempered = factors / np.asarray(power)[..., None]
    return np.asarray(np.where(possible, np.minimum(tempered, MOST), 0.0))


def _nearest(n0: Array, n1: Array, q0: Array, q1: Array, tau: Array) -> Array:
    """p with (p, tau*p) nearest to (q0, q1): the smaller root of the quadratic that the derivative leads to. Its
    discriminant is written so that little is lost where tau*q0 and q1 are next to 1 (for tau = 1 it is a square)."""
    s = n0 * q0 + n1 * q1
    middle = (tau * n0 * q0 + n0 + n1 * tau) + n1 * q1
    away = n0 * (1 - tau * q0) + n1 * (tau - q1)
    root = np.sqrt(np.maximum(away * away - 4 * n0 * n1 * (tau - 1) * (q1 - tau * q0), 0))
    return np.asarray(2 * s / np.maximum(middle + root, 1e-300))


def dispersion(failures: Array, requests: Array) -> tuple[Array, Array]:
    """How far the shares of pods differ: the chi-square of homogeneity and its degrees of freedom.

    `failures` has the axes (..., pods, kinds of failure), `requests` (..., pods); the results (..., kinds). 0 and 0
    where numbers say nothing (one pod, or fewer than 1 failure expected of some pod).
    """
    asked = np.asarray(requests, float)[..., None]
    pods = requests.shape[-1]
    rate = np.add.reduce(failures, -2, keepdims=True) / np.maximum(np.add.reduce(asked, -2, keepdims=True), 1)
    failing = asked * rate
    expected = failing * (1 - rate)
    usable = (np.minimum.reduce(expected, -2) >= 1) & (pods > 1)
    away = failures - failing
    chi = np.add.reduce(away * away / np.maximum(expected, 1e-9), -2)
    return np.where(usable, chi, 0.0), np.where(usable, pods - 1.0, 0.0)


def tempering(chi: ArrayLike, freedom: ArrayLike) -> Array:
    """The power to which evidence is taken, as a divisor, from sums of `dispersion`: chi-square by degree of freedom,
    at least 1, drawn towards 1 while little is known; 2 where nothing is (one stable pod)."""
    seen = np.maximum((np.asarray(chi) + PRIOR) / (np.asarray(freedom) + PRIOR), 1.0)
    return np.where(np.asarray(freedom) > 0, seen, UNSEEN)

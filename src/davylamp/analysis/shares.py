"""The e-process that everything rests on: betting on the canary's share of the failures.

In an interval with n0 and n1 requests of stable and canary and K = k0 + k1 failures, f = k1 / K has, given K, the
expectation theta = n1*tau / (n0 + n1*tau) where the canary fails tau times as often as stable, and at most that
where it fails less. The base rate cancels out, so it may change as it likes; n0 and n1 are those of this interval,
so the split may, too; and since only the expectation of f is used, failures may be correlated within the interval
in any way (retries, bursts). So a gambler who starts with 1 and stakes the fraction c of it gets the factor
1 + (c/theta) * (f - theta), which has expectation <= 1 for any c in [0, 1) chosen before f is known. The product M of
the factors reaches 1/alpha, at any of however many looks, with a probability of at most alpha (Ville 1939; the capital
process is that of Waudby-Smith & Ramdas, JRSS B 2024, arXiv:2010.09686).

How much to stake may depend on K, since the expectation holds given K. Against the alternative that the ratio is
rho*tau, Kelly's stake for a single failure is c = (theta' - theta) / (1 - theta), with theta' the share under the
alternative. With K failures f is less noisy and the best stake rises towards 1; c_K = 1 - (1-c)^K does that. M is
the mean over eight alternatives. Against fixed stakes whatever K is (and against their mean with a likelihood ratio
tempered for clusters) this needs a fifth to a third less time at the same guarantee: see docs/analysis.md. The mean is
weighted: a little more for ratios that bad versions often have, which saves some time where that matters.

All this takes the requests to be alike. Where failures come by pod and a pod of the canary gets fewer requests than one
of stable's, f exceeds theta on average (many small storms against few large ones); docs/analysis.md says how much that
matters.

Where failures are common and tau > 1, E[f] exceeds theta by a little, since K varies less than for rare events. At the
worst every request of the canary fails; then f = n1/(n1+X) with X binomial(n0, 1/tau), and since E[1/(X+1)] is below
tau/(n0+1) and 1/(n1-1+1/y) is concave in y, E[f] <= n1*tau/(n1*tau + n0+1-tau). So theta is taken as if stable had
tau-1 requests less; where it has not even those, there is no bet. (That the factors then have expectation <= 1 at all
other rates as well, with stakes that rise with K, is checked by enumeration in the tests.)

All functions take arrays of any one shape (or numbers) and add a last axis for the alternatives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

WORSE = np.geomspace(1.25, 40, 8)
"""Alternatives to "at most tau times as many": this many times tau."""
PARTS = np.array([0.1, 0.1375, 0.175, 0.1875, 0.175, 0.125, 0.0625, 0.0375])
"""Of the stake, on each of them."""
BETTER = np.geomspace(1.25, 10, 8)
"""Alternatives to "at least tau times as many": tau divided by this."""
COARSE_WORSE = np.geomspace(1.5, 25, 4)
COARSE_BETTER = np.geomspace(1.5, 8, 4)
"""Fewer of both, for confidence limits."""
MOST_STAKED = 0.98
"""The largest stake: what is lost if f = 0 is then the factor 50, not everything."""


_DOUBLES = np.dtype("<f8")


def pack(logs: Array) -> bytes:
    """Numbers as a state keeps them: bit for bit."""
    return logs.astype(_DOUBLES, copy=False).tobytes()


def unpack(raw: bytes) -> Array:
    return np.frombuffer(raw, _DOUBLES).astype(float)


SMALLER = np.array([0.0, 0.125, 0.25, 0.5])
"""Alternatives to "at least so large a share": so much of it."""
MOST_LOST = -50.0
"""The log of the share that is taken for 0."""
OPENING = pack(np.log(PARTS * len(PARTS)))
"""Log factors to begin with, so that their plain mean is the weighted one."""


def share(n0: ArrayLike, n1: ArrayLike, tau: ArrayLike) -> Array:
    """The share of the failures that a canary has which fails `tau` times as often; 0 where nobody asked anything."""
    stable, canary = np.asarray(n0, float), np.asarray(n1, float) * tau
    total = stable + canary
    return np.divide(canary, total, out=np.zeros(np.broadcast(total, canary).shape), where=total > 0)


def worse(k0: ArrayLike, k1: ArrayLike, n0: ArrayLike, n1: ArrayLike, tau: ArrayLike, against: Array = WORSE) -> Array:
    """Log factors against "the canary fails at most `tau` times as often", one for each alternative (last axis).

    0 (no evidence) where nothing failed or where one of the versions served nothing.
    """
    fewer = np.maximum(np.asarray(n0) - np.maximum(np.asarray(tau) - 1, 0), 0)
    return _bets(k1, np.add(k0, k1), share(fewer, n1, tau), against)


def better(
    k0: ArrayLike, k1: ArrayLike, n0: ArrayLike, n1: ArrayLike, tau: ArrayLike, against: Array = BETTER
) -> Array:
    """Log factors against "the canary fails at least `tau` times as often": the bet is on stable's share."""
    return _bets(k0, np.add(k0, k1), 1 - share(n0, n1, tau), against)


def staked(f: ArrayLike, failures: ArrayLike, theta: ArrayLike, single: ArrayLike) -> Array:
    """Log of 1 + (c/theta)*(f - theta) with c = 1 - (1 - single)^failures; theta in (0, 1)."""
    stake = np.minimum(1 - (1 - np.asarray(single)) ** np.asarray(failures), MOST_STAKED)
    return np.asarray(np.log1p(stake / theta * (np.asarray(f) - theta)))


def _bets(k: ArrayLike, failures: ArrayLike, theta: Array, against: Array) -> Array:
    total = np.asarray(failures, float)
    usable = (total > 0) & (theta > 0) & (theta < 1)
    null = np.where(usable, theta, 0.5)[..., None]
    f = np.where(usable, np.divide(k, np.maximum(total, 1)), 0.5)[..., None]
    single = null * (against - 1) / (1 - null + null * against)  # (theta' - theta) / (1 - theta), theta' of odds * rho
    return staked(f, np.where(usable, total, 0.0)[..., None], null, single)


def below(k: ArrayLike, n: ArrayLike, limit: float, cluster: float) -> Array:
    """Log factors against "at least the share `limit` of the canary's requests fails", whatever stable's does.

    Likelihood ratios of Bernoulli trials with smaller shares, to the power 1/cluster: by Hölder's inequality their
    expectation stays <= 1 where up to `cluster` failures come together. Four alternatives (last axis).
    """
    failed, asked = np.asarray(k, float)[..., None], np.asarray(n, float)[..., None]
    shares = limit * SMALLER
    with np.errstate(divide="ignore"):
        lost = np.where(failed > 0, np.maximum(np.log(shares / limit), MOST_LOST) * failed, 0.0)
    return np.asarray((lost + (asked - failed) * np.log((1 - shares) / (1 - limit))) / cluster)


def above(k: ArrayLike, n: ArrayLike, limit: float, cluster: float) -> Array:
    """Log factors against "at most the share `limit` of the canary's requests fails": as `below`, with larger shares,
    of odds that are as many times those of the limit as `WORSE` says."""
    failed, asked = np.asarray(k, float)[..., None], np.asarray(n, float)[..., None]
    shares = limit * WORSE / (1 - limit + limit * WORSE)
    passed = np.log((1 - shares) / (1 - limit))
    return np.asarray((failed * np.log(shares / limit) + (asked - failed) * passed) / cluster)


def upper(k: float, n: float, cluster: float) -> float:
    """An upper limit of the share that k of n show, exceeded by the truth with a probability of about 0.5 % where up
    to `cluster` failures come together: the one for a Poisson count of k/cluster (Wilson & Hilferty 1931)."""
    if n <= 0:
        return 1.0
    some = k / cluster + 1
    return float(min(1.0, cluster * some * (1 - 1 / (9 * some) + _FAR / (3 * some**0.5)) ** 3 / n))


_FAR = 2.576
"""Standard deviations that a normal number exceeds with a probability of 0.5 %."""


def log_mean(logs: Array, weights: ArrayLike | None = None) -> Array:
    """Log of the (weighted) mean of exp(logs) over the last axis, without overflow."""
    top = logs.max(-1, keepdims=True)
    scaled = np.exp(logs - top)
    if weights is None:
        mean = np.add.reduce(scaled, -1) / scaled.shape[-1]  # as scaled.mean(-1), without its overhead: called often
    else:
        mean = (scaled * weights).sum(-1) / np.sum(weights)
    return np.asarray(top[..., 0] + np.log(mean))

"""Ways to decide whether a canary is worse, for comparison: each takes counts of many runs and says when it decides.

Arrays are (runs, intervals); a result is the interval (from 1) of the first rejection of each run, infinite for none.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from davylamp.analysis import kayenta, shares, warmup
from davylamp.analysis.shares import Array

Ints = NDArray[np.int64]
RATIOS = np.geomspace(1.25, 100, 12)
OPENING = np.log(shares.PARTS * len(shares.PARTS))
STAKES = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])


class Counts(msgspec.Struct, frozen=True):
    n0: Ints
    n1: Ints
    k0: Ints
    k1: Ints


def first(rejected: NDArray[np.bool_]) -> Array:
    """The first interval (from 1) in which each run is rejected."""
    return np.where(rejected.any(1), rejected.argmax(1) + 1.0, np.inf)


def crossing(evidence: Array, alpha: float) -> Array:
    return first(evidence >= -np.log(alpha))


def ours(c: Counts, tau: float) -> Array:
    """Log evidence over time."""
    return shares.log_mean(OPENING + np.cumsum(shares.worse(c.k0, c.k1, c.n0, c.n1, tau), 1))


def even(c: Counts, tau: float) -> Array:
    """The same with equal parts of the stake on all alternatives."""
    return shares.log_mean(np.cumsum(shares.worse(c.k0, c.k1, c.n0, c.n1, tau), 1))


def kept_aside(c: Counts, tau: float, ages: NDArray[np.floating[Any]], *, fast: bool) -> Array:
    """The same where the canary's pods are of these `ages` in seconds: see `davylamp.analysis.warmup`. `fast`: they are
    seen to be no slower than stable's."""
    logs = shares.worse(c.k0, c.k1, c.n0, c.n1, tau)
    everything = OPENING + np.cumsum(logs, 1)
    total = shares.log_mean(everything)
    young = np.broadcast_to(ages < 60, total.shape)
    failed, asked = (np.cumsum(np.where(young, x, 0), 1) for x in (c.k1, c.n1))
    most = np.vectorize(lambda k, n: warmup.at_most(int(k), int(n)))
    rare = most(_shifted(failed), _shifted(asked)) < warmup.RARE
    warm = ~young | (rare & (ages >= 20) if fast else np.zeros_like(young))
    learned = np.cumsum(np.where(warm, total - _shifted(total), 0), 1)
    spread = shares.log_mean(OPENING + np.cumsum(np.where(warm[..., None], logs, 0), 1))
    found = warmup.confirmed(learned, spread)
    enough = (found >= np.log(warmup.CONFIRMED)) & ((failed == 0) | (most(failed, asked) < warmup.FEW))
    return np.where(enough | (failed >= np.maximum(0.5 * asked, 1)), total, np.minimum(total, found))


def _shifted(x: Array | Ints) -> Array:
    """Each interval's value before it."""
    return np.concatenate([np.zeros((len(x), 1)), x[:, :-1]], 1)


def left_out(c: Counts, tau: float, ages: NDArray[np.floating[Any]]) -> Array:
    """Another way: intervals are left out in which young pods are plainly worse than stable (2.5 standard errors)."""
    pooled = (c.k0 + c.k1) / (c.n0 + c.n1)
    error = np.sqrt(pooled * (1 - pooled) * (1 / c.n0 + 1 / c.n1))
    cold = (ages < 60) & (c.k1 > 1) & (c.k1 / c.n1 - c.k0 / c.n0 > 2.5 * error)
    logs = shares.worse(c.k0, c.k1, c.n0, c.n1, tau)
    return shares.log_mean(OPENING + np.cumsum(np.where(cold[..., None], 0, logs), 1))


def ratio_logs(k0: Array | Ints, k1: Array | Ints, theta: Array) -> Array:
    """Log likelihood ratios of the canary's share for 12 alternatives, per interval (Lindon & Malek 2022)."""
    theta, k1 = theta[..., None], k1[..., None]
    return np.asarray(k1 * np.log(RATIOS) - (k0[..., None] + k1) * np.log1p(theta * (RATIOS - 1)))


def plain(c: Counts, tau: float, theta: Array | None = None) -> Array:
    """A: the mixture of likelihood ratios; `theta` replaces the realised split."""
    theta = shares.share(c.n0, c.n1, tau) if theta is None else theta
    return shares.log_mean(np.cumsum(ratio_logs(c.k0, c.k1, theta), 1))


def tempered(c: Counts, tau: float) -> Array:
    """C: A's factors to the power 1/5."""
    return shares.log_mean(np.cumsum(ratio_logs(c.k0, c.k1, shares.share(c.n0, c.n1, tau)), 1) / 5)


def fixed_stakes(c: Counts, tau: float) -> Array:
    """B: betting on the share with stakes that don't depend on the number of failures."""
    theta = shares.share(c.n0, c.n1, tau)
    failures = c.k0 + c.k1
    usable = (failures > 0) & (theta > 0) & (theta < 1)
    null = np.where(usable, theta, 0.5)
    gain = np.where(usable, c.k1 / np.maximum(failures, 1) / null - 1, 0.0)
    return shares.log_mean(np.cumsum(np.log1p(STAKES * gain[..., None]), 1))


def mixed(c: Counts, tau: float) -> Array:
    """(B + C) / 2."""
    return shares.log_mean(np.stack([fixed_stakes(c, tau), tempered(c, tau)], -1))


def z_scores(c: Counts) -> Array:
    """Two proportions, pooled over all intervals so far."""
    n0, n1, k0, k1 = (np.cumsum(x, 1).astype(float) for x in (c.n0, c.n1, c.k0, c.k1))
    rate = (k0 + k1) / np.maximum(n0 + n1, 1)
    error = np.sqrt(rate * (1 - rate) * (1 / np.maximum(n0, 1) + 1 / np.maximum(n1, 1)))
    return np.asarray((k1 / np.maximum(n1, 1) - k0 / np.maximum(n0, 1)) / np.where(error > 0, error, np.inf))


def naive(c: Counts, quantile: float) -> Array:
    """A one-sided z-test at each look."""
    return first(z_scores(c) > quantile)


def loop(bad: NDArray[np.bool_], per_check: int, limit: int = 5, passes: int = 5) -> Array:
    """Flagger's loop: a check a minute, rolled back at the 5th that failed, promoted at the 5th that passed."""
    failed = np.cumsum(bad, 1)
    passed = np.cumsum(~bad, 1)
    over = (failed >= limit) & (passed < passes)
    return first(over) * per_check


def success_rate(c: Counts, per_check: int = 6, least: float = 0.99) -> NDArray[np.bool_]:
    """Whether the canary's success rate is below `least`, in each minute."""
    shape = (len(c.n1), -1, per_check)
    n1, k1 = c.n1.reshape(shape).sum(-1), c.k1.reshape(shape).sum(-1)
    return np.asarray(k1 > (1 - least) * n1)


def judge(stable: Array, canary: Array, window: int = 60) -> Array:
    """The Kayenta-compatible judge every `window` samples on those of the window, with its own defaults."""
    settings = kayenta.Settings(direction=kayenta.Direction.INCREASE)
    out = np.full(len(stable), np.inf)
    for run, (before, after) in enumerate(zip(stable, canary, strict=True)):
        for end in range(window, len(before) + 1, window):
            part = slice(end - window, end)
            if kayenta.classify(before[part], after[part], settings).label == kayenta.Label.HIGH:
                out[run] = end
                break
    return out

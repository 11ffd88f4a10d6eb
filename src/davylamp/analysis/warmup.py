"""Which intervals of young pods are left out: those in which they are seen to be cold.

A pod's first requests fill caches, open connections and compile code; they are slower and fail more, whatever the
version. Nobody knows how long that takes, so it is looked at: an interval of the canary's pods that served their first
request less than `warm_up` seconds ago is left out if they, together, are plainly worse in it than stable at the same
time. That needs nothing but this interval, so there is nothing to remember or to lose. It can only hide evidence
against the canary, and only for that long: a version that is plainly worse is found right after. Pods of which half
the requests fail are not cold but broken, and count from their first request. Stable's pods are never left out: that
would make stable look better than it is.
"""

from __future__ import annotations

import math

PLAINLY = 2.5
"""Standard errors. Little is lost where a harmless interval is left out, so less than usual is asked for."""
_FEW = 2
"""Failures below which nothing is plain."""
_BROKEN = 0.5


def young(age: float | None, warm_up: float) -> bool:
    """Whether a pod of this `age` may still be warming up."""
    return age is not None and age < warm_up


def cold(k: int, n: int, stable_k: int, stable_n: int, plainly: float = PLAINLY) -> bool:
    """Whether young pods with k failures of n requests are plainly worse than stable (two proportions)."""
    if n <= 0 or stable_n <= 0 or k < _FEW or k >= _BROKEN * n:
        return False
    pooled = (k + stable_k) / (n + stable_n)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / stable_n))
    return error > 0 and k / n - stable_k / stable_n > plainly * error

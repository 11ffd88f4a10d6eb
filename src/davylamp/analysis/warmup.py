"""Which intervals of a young pod are left out: those in which it is seen to be cold.

A pod's first requests fill caches, open connections and compile code; they are slower and fail more, whatever the
version. Nobody knows how long that takes, so it is looked at: in the first `warm_up` seconds after its first request an
interval of a pod is left out if the pod is plainly (z > 4) worse in it than stable at the same time. That needs nothing
but this interval, so there is nothing to remember or to lose. It can only hide evidence against the canary, and only
for that long: a version that is plainly worse is found right after. A pod of which half the requests fail is not
cold but broken, and counts from its first request. Stable's pods are never left out: that would make stable look
better than it is.
"""

from __future__ import annotations

import math

from davylamp.analysis.counts import Pod

_PLAINLY = 4.0
_FEW = 3
"""Failures below which nothing is plain."""
_BROKEN = 0.5


def young(age: float | None, warm_up: float) -> bool:
    """Whether a pod of this `age` may still be warming up."""
    return age is not None and age < warm_up


def plainly_more(k: int, n: int, stable_k: int, stable_n: int) -> bool:
    """Whether k of n is a plainly larger share than stable's (two proportions, z > 4)."""
    if n <= 0 or stable_n <= 0 or k < _FEW:
        return False
    pooled = (k + stable_k) / (n + stable_n)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / stable_n))
    return error > 0 and k / n - stable_k / stable_n > _PLAINLY * error


def failing_while_cold(pod: Pod, stable_k: int, stable_n: int, warm_up: float) -> bool:
    """Whether this interval of a canary's pod is left out of its errors."""
    if not young(pod.age, warm_up) or pod.failures >= _BROKEN * pod.requests:
        return False
    return plainly_more(pod.failures, pod.requests, stable_k, stable_n)

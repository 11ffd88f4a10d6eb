"""Users' complaints, a metric of the user's own, thresholds, and what others have decided."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from davylamp.analysis import duel as d
from davylamp.analysis import shares
from davylamp.analysis.counts import Feedback, Outcome, Sample, Samples, Value
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.shares import Array

_HASH = 5
_USERS = 200
"""Users who are remembered, at most: evidence from so many is overwhelming, or there is none."""


class Complaints(msgspec.Struct, frozen=True, tag="feedback"):
    """Complaints are failures of requests, at most one for each user."""

    duel: d.Duel
    users: bytes = b""
    """Hashes of those who have complained."""


class Metric(msgspec.Struct, frozen=True, tag="metric"):
    """Log capital against "the canary's values are no worse" and "much worse", and the sums of what was seen."""

    worse: bytes
    better: bytes
    intervals: int = 0
    ahead: float = 0.0
    """Sum over the intervals of the share of pairs of pods in which the canary's is worse than tolerated."""
    stable: float = 0.0
    canary: float = 0.0
    """Sums over the intervals of the mean values."""


class Threshold(msgspec.Struct, frozen=True, tag="threshold"):
    value: float | None = None
    outside: int = 0
    inside: int = 0
    """Intervals in a row."""


class Judged(msgspec.Struct, frozen=True, tag="outcome"):
    passed: bool | None = None
    message: str = ""


def complain(state: Complaints, counts: Feedback, rules: Rules, began: float) -> Complaints:
    """Count new users' complaints about sessions begun after `began`, the canary's start."""
    known = {state.users[i : i + _HASH] for i in range(0, len(state.users), _HASH)}
    k = [0, 0]
    for vote in counts.votes:
        user = hashlib.blake2b(vote.user.encode(), digest_size=_HASH).digest()
        if vote.began < began or user in known or len(known) >= _USERS:
            continue
        known.add(user)
        k[vote.canary] += 1
    now = d.Round(counts.stable_requests, counts.canary_requests, k[0], k[1], counts.end - counts.start)
    return Complaints(d.meet(state.duel, now, rules.ratios, settled=True), b"".join(sorted(known)))


def in_favour(state: Metric) -> float:
    """Log evidence that the canary's values are not as bad as `good_enough` times stable's."""
    return float(shares.log_mean(shares.unpack(state.better)))


def begin_metric() -> Metric:
    zeros = shares.pack(np.zeros(len(shares.WORSE)))
    return Metric(zeros, zeros)


def measure(state: Metric, counts: Samples, check: Check, rules: Rules) -> Metric:
    """Compare each of the canary's pods with each of stable's (Mann & Whitney 1947: the share of pairs has expectation
    1/2 whatever the distribution, if both versions have the same; ties count half), once an interval. What counts as
    worse is worse by more than is tolerated.

    Holds if, given the past, the versions could be exchanged. With few pods whose values keep (a bigger node), they
    can't.
    """
    if not (counts.stable and counts.canary):
        return state
    sign = 1.0 if check.bad == "up" else -1.0
    stable, canary = (sign * _values(side) for side in (counts.stable, counts.canary))
    much = 1.0 if check.bad == "up" else -1.0
    tolerated, bad = (_margin(stable, ratio, much) for ratio in (rules.tolerate, rules.good_enough))
    pairs = min(len(stable), len(canary))
    worse = _ahead(canary, tolerated)
    fine = 1 - _ahead(canary, bad)
    return Metric(
        shares.pack(shares.unpack(state.worse) + _even(worse, pairs)),
        shares.pack(shares.unpack(state.better) + _even(fine, pairs)),
        state.intervals + 1,
        state.ahead + worse,
        state.stable + sign * float(stable.mean()),
        state.canary + sign * float(canary.mean()),
    )


def _values(samples: tuple[Sample, ...]) -> Array:
    return np.array([sample.value for sample in samples])


def _margin(stable: Array, ratio: float, direction: float) -> Array:
    """Stable's values made worse by `ratio`: larger is worse here, so values that must not fall are negative."""
    room = ratio - 1 if direction > 0 else 1 - 1 / ratio
    return stable + room * np.abs(stable)


def _ahead(canary: Array, stable: Array) -> float:
    pairs = np.sign(canary[:, None] - stable[None, :])
    return float((pairs.mean() + 1) / 2)


def _even(f: float, pairs: int) -> Array:
    single = 0.5 * (shares.WORSE - 1) / (0.5 + 0.5 * shares.WORSE)
    return shares.staked(f, pairs, 0.5, single)


def compare(state: Threshold, counts: Value, check: Check) -> Threshold:
    low = check.least is not None and counts.value < check.least
    high = check.most is not None and counts.value > check.most
    out = low or high
    return Threshold(counts.value, state.outside + 1 if out else 0, 0 if out else state.inside + 1)


def hear(counts: Outcome) -> Judged:
    return Judged(counts.passed, counts.message[:500])

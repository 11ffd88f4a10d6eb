"""The requests that nobody sends: how many each version gets, how many fail, how long they take.

`Flow` follows the exposure in effect and draws Poisson requests and binomial failures for each stretch of time in
which nothing changes. What people are hit by and what the analysis measures are the same requests.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from davylamp.analysis import counts as c
from davylamp.embedded.simulate.scenario import Latency, Moment, Scenario

Chances = NDArray[np.float64]
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets in seconds: the defaults of Prometheus' client libraries."""


class Served(msgspec.Struct, frozen=True, rename="camel"):
    """Requests of stable and of the canary, and those that failed."""

    stable: int = 0
    canary: int = 0
    stable_failed: int = 0
    canary_failed: int = 0

    def minus(self, other: Served) -> Served:
        return Served(
            self.stable - other.stable,
            self.canary - other.canary,
            self.stable_failed - other.stable_failed,
            self.canary_failed - other.canary_failed,
        )


class Flow:
    """Requests since the release began. `advance` before each change of `share` or `mirrored`."""

    def __init__(self, scenario: Scenario, draw: np.random.Generator, now: float) -> None:
        """`now` in seconds of any clock; the scenario begins then."""
        self.share = 0.0
        """Of the requests, that reach the canary; 0 to 1."""
        self.mirrored = 0.0
        """Of those that reach stable, that are copied to the canary; 0 to 1."""
        self.copies = 0.0
        """Copies since the release began; they count as requests of nobody."""
        self.total = Served()
        self.draw = draw
        self._moments = scenario.moments
        self._starts = [moment.at for moment in scenario.moments]
        self._began = now
        self._until = now

    def advance(self, now: float) -> None:
        """Let the requests come until `now`."""
        while self._until < now:
            index = bisect.bisect_right(self._starts, self._until - self._began) - 1
            moment = self._moments[index]
            following = self._starts[index + 1] if index + 1 < len(self._starts) else None
            end = now if following is None else min(now, self._began + following)
            if end <= self._until:
                break  # a moment so short that it is lost in rounding
            self._let_come(moment, end - self._until)
            self._until = end

    def _let_come(self, moment: Moment, seconds: float) -> None:
        """The requests of a stretch of time, and those of them that fail."""
        draw, total, expected = self.draw, self.total, moment.rps * seconds
        stable = int(draw.poisson(expected * (1 - self.share)))
        canary = int(draw.poisson(expected * self.share))
        stable_failed = int(draw.binomial(stable, moment.stable_errors)) if stable and moment.stable_errors else 0
        canary_failed = int(draw.binomial(canary, moment.canary_errors)) if canary and moment.canary_errors else 0
        self.copies += stable * self.mirrored
        self.total = Served(
            total.stable + stable,
            total.canary + canary,
            total.stable_failed + stable_failed,
            total.canary_failed + canary_failed,
        )


def chances(latency: Latency) -> Chances:
    """The share of the requests in each bucket of BOUNDS, and above them."""
    normal = NormalDist()
    below = [normal.cdf(float(np.log(bound / latency.median)) / latency.sigma) for bound in BOUNDS]
    found: Chances = np.diff([0.0, *below, 1.0])
    return found


def by_pod(draw: np.random.Generator, total: int, pods: int) -> list[int]:
    """`total` things that happened, each at one of the pods."""
    if not (total and pods):
        return [0] * pods  # as it would be drawn, without the call
    found: list[int] = draw.multinomial(total, _even(pods)).tolist()
    return found


@functools.cache
def _even(pods: int) -> Chances:
    return np.full(pods, 1 / pods)


def events(
    draw: np.random.Generator, requests: int, failures: int, pods: Sequence[str], ages: Sequence[float | None]
) -> tuple[c.Pod, ...]:
    """One version's requests and failures on its pods; `ages` as `davylamp.analysis.counts.Pod` has them."""
    good, bad = by_pod(draw, requests - failures, len(pods)), by_pod(draw, failures, len(pods))
    return tuple([c.Pod(pod, g + b, b, age) for pod, g, b, age in zip(pods, good, bad, ages, strict=True)])


def histograms(draw: np.random.Generator, asked: Sequence[c.Pod], in_bucket: Chances) -> tuple[c.Histogram, ...]:
    """The durations of the same requests."""
    shared = draw.multinomial  # one call a pod: numpy takes longer for all of them at once
    return tuple(
        [c.Histogram(pod.pod, BOUNDS, tuple(shared(pod.requests, in_bucket).tolist()), pod.age) for pod in asked]
    )

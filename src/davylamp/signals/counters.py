"""Counters of pods at two moments, turned into what happened between them.

The rules, so that no wrong number comes out of a counter that does odd things:
- A pod counts in an interval if it was seen at its beginning and at its end. After a gap it starts anew.
- A counter that goes back means a restart only if Kubernetes counted one or the process says that it began since;
  then everything since the restart counts. Otherwise the pod is left out of the interval, and named: its /metrics may
  be answered by several processes in turn, and their numbers must not be mixed.
- A series that appears counts from 0: a counter of failures does not exist before the first failure.
- Histograms are compared at bounds that both moments have; cumulative counts are exact there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import msgspec

from davylamp.analysis.counts import Events, Histogram, Latencies, Pod
from davylamp.signals.conventions import Counts

SKEW = 5.0
"""Seconds by which the clocks of two machines may differ."""
DISTRUST = 3
"""After so many counters that went back without a restart, a pod is left out for good."""


class Seen(msgspec.Struct, frozen=True):
    """A pod's counters at one moment."""

    at: float
    """Seconds since the epoch."""
    counts: Counts
    started: float | None = None
    """When the process says that it began; None if it does not."""
    restarts: int = 0
    """Restarts of its containers that Kubernetes counted."""
    ready_at: float | None = None
    """When the pod became ready; None: long ago."""
    first: float | None = None
    """When it served its first request, as far as known; -inf: long ago; None: not yet."""
    back: int = 0
    """How often counters went back without a restart."""


class Difference(msgspec.Struct, frozen=True):
    """What happened in a pod between two moments; None where that can't be told, and why in `problem`."""

    pod: Pod | None = None
    histogram: Histogram | None = None
    problem: str = ""


def advance(before: Mapping[str, Seen], now: Mapping[str, Seen]) -> tuple[dict[str, Seen], dict[str, Difference]]:
    """What to keep for the next look, and the differences of the pods that were seen in both.

    `before` is what the last look kept; a pod that is new, or was not seen then, has no difference yet.
    """
    kept: dict[str, Seen] = {}
    differences: dict[str, Difference] = {}
    for pod, new in now.items():
        old = before.get(pod)
        if old is None:
            kept[pod] = msgspec.structs.replace(new, first=_first_ever(new))
            continue
        restarted = _restarted(old, new)
        base = Seen(old.at, Counts()) if restarted else old
        other = _other_process(old, new, restarted)
        back = old.back + bool(_went_back(base, new))
        if other or back >= DISTRUST:
            differences[pod] = Difference(problem=other or _several(back))
        else:
            differences[pod] = difference(pod, base, new)
        first = base.first
        if first is None and any(new.counts.requests.values()):
            first = new.at
        kept[pod] = msgspec.structs.replace(new, first=first, back=back)
    return kept, differences


def _first_ever(new: Seen) -> float | None:
    """When a pod that was never seen before served its first request: not before it was ready."""
    if new.ready_at is None:
        return -math.inf
    return new.ready_at if any(new.counts.requests.values()) else None


def _restarted(old: Seen, new: Seen) -> bool:
    began = new.started is not None and old.started is not None and new.started > old.started + 1
    return new.restarts > old.restarts or (began and (new.started or 0) > old.at - SKEW)


def _other_process(old: Seen, new: Seen, restarted: bool) -> str:
    if restarted or old.started is None or new.started is None or abs(new.started - old.started) <= 1:
        return ""
    return "another process than before answered /metrics, and it did not begin since; export one set for all of them"


def _several(back: int) -> str:
    return f"its counters went back {back} times without a restart; do several processes answer /metrics in turn?"


def _went_back(old: Seen, new: Seen) -> str:
    """The first counter of requests or failures that is lower than before, and by how much."""
    for was, now in ((old.counts.requests, new.counts.requests), (old.counts.failures, new.counts.failures)):
        for key, value in was.items():
            if (later := now.get(key)) is not None and later < value:
                return f"the counter {key or '(without labels)'} went from {value:g} back to {later:g}"
        gone = [key for key in was if key not in now and was[key]]
        if gone:
            return f"the counter {gone[0] or '(without labels)'} is gone"
    return ""


def difference(pod: str, old: Seen, new: Seen) -> Difference:
    """What happened from `old` to `new` of one process. Counts of the first request's age are as of `old.at`."""
    if problem := _went_back(old, new):
        return Difference(problem=f"{problem} without a restart")
    requests = sum(new.counts.requests.values()) - sum(old.counts.requests.values())
    failures = sum(new.counts.failures.values()) - sum(old.counts.failures.values())
    if failures > requests and new.counts.requests:
        told = f"{failures:g} failures of {requests:g} requests"
        return Difference(problem=f"{told}: the two counters don't belong together")
    age = None if old.first == -math.inf else 0.0 if old.first is None else max(0.0, old.at - old.first)
    histogram, problem = _histogram(pod, old, new, age)
    counted = Pod(pod, round(requests), round(failures), age) if new.counts.requests else None
    return Difference(counted, histogram, problem)


def _histogram(pod: str, old: Seen, new: Seen, age: float | None) -> tuple[Histogram | None, str]:
    if not new.counts.buckets:
        return None, ""
    if old.counts.buckets.keys() - new.counts.buckets.keys():
        return None, "a series of its histogram is gone"
    bounds = _common([*old.counts.buckets.values(), *new.counts.buckets.values()])
    if not bounds or bounds[-1] != math.inf:
        return None, 'its histogram has no bucket le="+Inf" in all of its series, now and before'
    cumulative = [
        sum(one[bound] for one in new.counts.buckets.values()) - sum(one[bound] for one in old.counts.buckets.values())
        for bound in bounds
    ]
    counts = [round(high - low) for low, high in zip([0.0, *cumulative], cumulative, strict=False)]
    if any(count < 0 for count in counts):
        return None, "its histogram went back, or its buckets are not cumulative"
    return Histogram(pod, bounds[:-1], tuple(counts), age), ""


def interval(
    start: float, end: float, differences: Mapping[str, Difference], canary: Collection[str]
) -> tuple[Events, Latencies, tuple[str, ...]]:
    """The differences of all pods as what the statistics take, and a sentence for each pod that has a problem.

    `canary` are the pods of the canary; all others are stable's.
    """
    sides: tuple[list[Difference], list[Difference]] = ([], [])
    for pod, found in sorted(differences.items()):
        sides[pod in canary].append(found)
    stable, other = (tuple(one.pod for one in side if one.pod is not None) for side in sides)
    events = Events(start, end, stable, other)
    old, new = (tuple(one.histogram for one in side if one.histogram is not None) for side in sides)
    problems = tuple(f"pod {pod}: {one.problem}" for pod, one in sorted(differences.items()) if one.problem)
    return events, Latencies(start, end, old, new), problems


def _common(series: Iterable[Mapping[float, float]]) -> tuple[float, ...]:
    sets = [set(one) for one in series]
    return tuple(sorted(set.intersection(*sets))) if sets else ()

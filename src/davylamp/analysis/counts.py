"""What the statistics take: counts of one check in one interval of time, per pod, for stable and canary.

All counts are differences over [start, end), never running totals: whoever measures turns counters into differences
and leaves out a pod whose counter went backwards. The split between the versions is the one realised in these
counts; a configured weight occurs nowhere. A version without pods, or with pods that served nothing, is simply no
data. Times are seconds since the epoch. `validate` says what is wrong with an input.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable

import msgspec


class Pod(msgspec.Struct, frozen=True, omit_defaults=True):
    """Requests of one pod in the interval."""

    pod: str
    requests: int
    failures: int = 0
    """Of the requests."""
    age: float | None = None
    """Seconds from the first request that this pod served to the start of the interval; warm-up is judged by it.
    None for a pod that has long been serving."""


class Histogram(msgspec.Struct, frozen=True, omit_defaults=True):
    """Durations of one pod's requests in the interval."""

    pod: str
    bounds: tuple[float, ...]
    """Upper bounds of the buckets, rising, in seconds; without +Inf."""
    counts: tuple[int, ...]
    """Requests in each bucket (not cumulative); one more than there are bounds, the last for what is above them all."""
    age: float | None = None
    """As in `Pod`."""


class Template(msgspec.Struct, frozen=True):
    """A log message with its variable parts removed, of a severity that tells of harm (errors, stack traces)."""

    id: str
    """The same for the same template in the whole release; at most 16 characters (a hash)."""
    known: bool
    """Whether stable pods wrote it before the canary started."""
    stable: int
    """How many of the stable pods wrote it in this interval, however often."""
    canary: int
    """How many of the canary's pods did."""


class Sample(msgspec.Struct, frozen=True):
    """One pod's (or, with `pod` empty, a version's) value of a metric in the interval, for example a mean."""

    value: float
    pod: str = ""


class Vote(msgspec.Struct, frozen=True):
    """A user's complaint."""

    user: str
    """A key that is the same for the same user; only a hash of it is kept."""
    canary: bool
    """Whether the user was served by the canary."""
    began: float
    """When the user's session began. Sessions from before the canary's start don't count."""


class Events(msgspec.Struct, frozen=True, tag="events", omit_defaults=True):
    """Requests and those that failed."""

    start: float
    end: float
    stable: tuple[Pod, ...]
    canary: tuple[Pod, ...]
    alone: bool = False
    """The canary was given all of the requests, so that stable's come from before (a health check doesn't count)."""


class Latencies(msgspec.Struct, frozen=True, tag="latencies", omit_defaults=True):
    """Histograms of durations. Versions and pods may have different buckets: bounds in common are compared."""

    start: float
    end: float
    stable: tuple[Histogram, ...]
    canary: tuple[Histogram, ...]
    alone: bool = False
    """As in `Events`."""


class Logs(msgspec.Struct, frozen=True, tag="logs"):
    """Which templates were written by how many of the pods whose logs were read for the whole interval.

    A canary's pod counts from when it has warmed up: what it writes at its start, stable's pods wrote long ago.
    """

    start: float
    end: float
    stable_pods: int
    canary_pods: int
    templates: tuple[Template, ...]
    """Those that occurred, in the order of first appearance."""
    stable_requests: int = 0
    """Served by those stable pods in the interval; 0 for both if unknown."""
    canary_requests: int = 0


class Feedback(msgspec.Struct, frozen=True, tag="feedback"):
    """Complaints, beside how many requests (or sessions) each version served, from which they may come."""

    start: float
    end: float
    stable_requests: int
    canary_requests: int
    votes: tuple[Vote, ...]


class Samples(msgspec.Struct, frozen=True, tag="samples"):
    """Values of a metric that are comparable between the versions whatever the split (a mean, a share, a gauge)."""

    start: float
    end: float
    stable: tuple[Sample, ...]
    canary: tuple[Sample, ...]


class Value(msgspec.Struct, frozen=True, tag="value"):
    """The one value that a threshold is compared with."""

    start: float
    end: float
    value: float


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """What somebody else's check said: a webhook, a Job, the Kayenta-compatible judge."""

    start: float
    end: float
    passed: bool | None
    """None: it is at work, and has yet to say. That is no outage, and no verdict either."""
    message: str = ""


Counts = Events | Latencies | Logs | Feedback | Samples | Value | Outcome


def sides(counts: Counts) -> tuple[bool, bool]:
    """Whether both versions were measured, and whether there is something to compare: both served, say."""
    match counts:
        case Events() | Latencies():
            stable, canary = _served(counts.stable), _served(counts.canary)
            return bool(counts.stable and counts.canary), canary and (stable or counts.alone)
        case Logs():
            both = counts.stable_pods > 0 and counts.canary_pods > 0
        case Samples():
            both = bool(counts.stable and counts.canary)
        case _:
            both = True
    return both, both


def _served(pods: tuple[Pod, ...] | tuple[Histogram, ...]) -> bool:
    return any(map(_asked, pods))


def _asked(pod: Pod | Histogram) -> bool:
    return pod.requests > 0 if isinstance(pod, Pod) else any(pod.counts)


def validate(counts: Counts) -> None:
    """ValueError with the field, what was found and what would be right; nothing if `counts` can be used."""
    if not (math.isfinite(counts.start) and math.isfinite(counts.end)):
        raise ValueError(f"start, end: {counts.start}, {counts.end} are not times: finite seconds are needed")
    if counts.end <= counts.start:
        raise ValueError(f"end: {counts.end} is not after start {counts.start}")
    match counts:
        case Events():
            if not (_plain_events(counts.stable) and _plain_events(counts.canary)):
                _each("stable", counts.stable)
                _each("canary", counts.canary)
        case Latencies():
            if not (_plain_latencies(counts.stable) and _plain_latencies(counts.canary)):
                _each("stable", counts.stable)
                _each("canary", counts.canary)
        case Logs():
            _numbers(counts, "stable_pods", "canary_pods", "stable_requests", "canary_requests")
            _unique("templates", (template.id for template in counts.templates))
            for index, template in enumerate(counts.templates):
                _template(f"templates[{index}]", template, counts)
        case Feedback():
            _numbers(counts, "stable_requests", "canary_requests")
            for index, vote in enumerate(counts.votes):
                if not vote.user:
                    raise ValueError(f"votes[{index}].user: empty; a key is needed to count each user once")
                if not math.isfinite(vote.began):
                    raise ValueError(f"votes[{index}].began: {vote.began} is not a time")
        case Samples():
            for side in ("stable", "canary"):
                samples: tuple[Sample, ...] = getattr(counts, side)
                _unique(side, (sample.pod for sample in samples))
                for index, sample in enumerate(samples):
                    _finite(f"{side}[{index}].value", sample.value)
        case Value():
            _finite("value", counts.value)
        case Outcome():
            pass


def _each(side: str, pods: tuple[Pod | Histogram, ...]) -> None:
    _unique(side, (pod.pod for pod in pods))
    for index, pod in enumerate(pods):
        where = f"{side}[{index}] ({pod.pod})"
        if pod.age is not None and not pod.age >= 0:
            raise ValueError(f"{where}.age: {pod.age} must be at least 0 seconds")
        if isinstance(pod, Pod):
            _pod(where, pod)
        else:
            _histogram(where, pod)


def _plain_events(pods: tuple[Pod, ...]) -> bool:
    """Whether all are in order at first sight, as they nearly always are."""
    names = set()
    for pod in pods:
        age, requests, failures = pod.age, pod.requests, pod.failures
        if not (type(requests) is type(failures) is int and 0 <= failures <= requests and (age is None or age >= 0)):
            return False
        names.add(pod.pod)
    return len(names) == len(pods)


def _plain_latencies(pods: tuple[Histogram, ...]) -> bool:
    """As `_plain_events`."""
    names, bounds, buckets = set(), None, 0
    for pod in pods:
        age, counts = pod.age, pod.counts
        if pod.bounds is not bounds:
            bounds = pod.bounds
            buckets = len(bounds) + 1
            if not _rising(bounds):
                return False
        in_order = len(counts) == buckets and min(counts) >= 0 and type(sum(counts)) is int
        if not (in_order and (age is None or age >= 0)):
            return False
        names.add(pod.pod)
    return len(names) == len(pods)


@functools.lru_cache(maxsize=256)
def _rising(bounds: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, bounds)) and all(a < b for a, b in itertools.pairwise(bounds))


def _pod(where: str, pod: Pod) -> None:
    _count(f"{where}.requests", pod.requests)
    _count(f"{where}.failures", pod.failures)
    if pod.failures > pod.requests:
        raise ValueError(f"{where}.failures: {pod.failures} are more than the {pod.requests} requests")


def _histogram(where: str, pod: Histogram) -> None:
    for bound in pod.bounds:
        _finite(f"{where}.bounds", bound)
    if any(a >= b for a, b in zip(pod.bounds, pod.bounds[1:], strict=False)):
        raise ValueError(f"{where}.bounds: {list(pod.bounds)} must rise")
    if len(pod.counts) != len(pod.bounds) + 1:
        raise ValueError(
            f"{where}.counts: {len(pod.counts)} counts for {len(pod.bounds)} bounds; one more than bounds is needed"
        )
    for count in pod.counts:
        _count(f"{where}.counts", count)


def _template(where: str, template: Template, logs: Logs) -> None:
    if not 0 < len(template.id) <= 16:
        raise ValueError(f"{where}.id: {template.id!r} must have 1 to 16 characters")
    for side, pods in (("stable", logs.stable_pods), ("canary", logs.canary_pods)):
        wrote = getattr(template, side)
        _count(f"{where}.{side}", wrote)
        if wrote > pods:
            raise ValueError(f"{where}.{side}: {wrote} pods wrote it, more than the {pods} that were read")


def _numbers(counts: Counts, *fields: str) -> None:
    for field in fields:
        _count(field, getattr(counts, field))


def _count(where: str, count: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool):
        raise ValueError(f"{where}: {count!r} is not a whole number")
    if count < 0:
        raise ValueError(f"{where}: {count} is negative; a counter that went backwards gives no count")


def _finite(where: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not a finite number")


def _unique(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{where}: {name!r} occurs twice")
        seen.add(name)

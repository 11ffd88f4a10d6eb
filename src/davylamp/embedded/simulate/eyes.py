"""What the controller sees of imagined traffic, where otherwise metrics are scraped: see `controller.analyst.Opens`."""

from __future__ import annotations

from collections.abc import Callable

from davylamp.analysis import counts as c
from davylamp.analysis.effect import Interval
from davylamp.api.analysis import Analysis, Check, Threshold
from davylamp.api.types import Release
from davylamp.controller.looker import Looker
from davylamp.controller.observer import Counter
from davylamp.embedded.simulate import traffic
from davylamp.embedded.simulate.scenario import Scenario
from davylamp.embedded.simulate.traffic import Flow, Served
from davylamp.signals.feedback import Box
from davylamp.signals.gather import Look, Pods
from davylamp.signals.requests import Pods as Counted

SILENT = ("logs", "feedback")
CONTENT = ("metric", "threshold", "webhook", "job", "kayenta")
_SPREAD = 0.05


def not_imagined(analysis: Analysis | None) -> tuple[str, ...]:
    """Sentences about the checks that say nothing bad in a simulation, whatever the new version is like."""
    checks = analysis.checks if analysis is not None else ()
    silent = [check.title for check in checks if check.kinds[0] in SILENT]
    content = [check.title for check in checks if check.kinds[0] in CONTENT]
    said = []
    if silent:
        said.append(f"nothing is imagined for {', '.join(silent)}: nobody complains, no error is logged")
    if content:
        said.append(f"nothing is imagined for {', '.join(content)}: it always passes")
    return tuple(said)


class Imagination:
    """Opens eyes on the flow of requests. `until_now` lets the flow come up to this moment."""

    def __init__(self, scenario: Scenario, flow: Flow, until_now: Callable[[], None]) -> None:
        self._flow = flow
        self._until_now = until_now
        self._chances = (traffic.chances(scenario.stable), traffic.chances(scenario.canary))

    async def open(self, release: Release, pods: Pods, container: str, now: float) -> Looker:
        """From now on what happens counts."""
        assert release.spec.analysis is not None
        self._until_now()
        return _Eyes(release.spec.analysis, self._flow, self._until_now, self._chances, now)

    async def close(self) -> None:
        """There is nothing to close."""


class Counting:
    """Opens counters on the flow of requests: `controller.observer.Counters`."""

    def __init__(self, flow: Flow, until_now: Callable[[], None]) -> None:
        self._flow = flow
        self._until_now = until_now

    def open(self, release: Release) -> Counter:
        """From the first look on."""
        return _Counter(self._flow, self._until_now)

    async def close(self) -> None:
        """There is nothing to close."""


class _Counter:
    """Implements `controller.observer.Counter`."""

    blind = False
    known = True

    def __init__(self, flow: Flow, until_now: Callable[[], None]) -> None:
        self._flow = flow
        self._until_now = until_now
        self._before: tuple[float, Served, float] | None = None

    async def look(self, now: float, pods: Counted) -> Interval | None:
        self._until_now()
        before, self._before = self._before, (now, self._flow.total, self._flow.copies)
        if before is None:
            return None
        new, copies = self._flow.total.minus(before[1]), round(self._flow.copies - before[2])
        return Interval(now - before[0], new.stable, new.canary + copies)


class _Eyes:
    """Implements `controller.looker.Looker`."""

    box: Box | None = None

    def __init__(
        self,
        analysis: Analysis,
        flow: Flow,
        until_now: Callable[[], None],
        chances: tuple[traffic.Chances, traffic.Chances],
        now: float,
    ) -> None:
        self._checks = [(check.title, check) for check in analysis.checks]
        self._flow = flow
        self._until_now = until_now
        self._chances = chances
        self._until = now
        self._seen = flow.total
        self._first: dict[str, float] = {}
        """By pod of the canary: when it served its first request, as far as looks can tell."""

    async def look(self, release: Release, pods: Pods, now: float) -> Look:
        if now <= self._until:
            return Look((), (), frozenset(title for title, _ in self._checks))
        self._until_now()
        start, new = self._until, self._flow.total.minus(self._seen)
        self._until, self._seen = now, self._flow.total
        both = self._events(start, now, new, pods)
        return Look(tuple([(title, self._counts(check, both)) for title, check in self._checks]), ())

    def explained(self, message: str) -> str:
        return message

    async def close(self) -> None:
        """There is nothing to close."""

    def _events(self, start: float, end: float, new: Served, pods: Pods) -> c.Events:
        draw, first = self._flow.draw, self._first
        old_names = [target.pod for target in pods.stable]
        new_names = [target.pod for target in pods.canary]
        if new.canary:
            for name in new_names:
                first.setdefault(name, start)
        ages = [start - first.get(name, start) for name in new_names]
        stable = traffic.events(draw, new.stable, new.stable_failed, old_names, [None] * len(old_names))
        canary = traffic.events(draw, new.canary, new.canary_failed, new_names, ages)
        return c.Events(start, end, stable, canary)

    def _counts(self, check: Check, both: c.Events) -> c.Counts:
        start, end, draw = both.start, both.end, self._flow.draw
        if check.errors is not None:
            return both
        if check.latency is not None:
            old, new = self._chances
            stable, canary = traffic.histograms(draw, both.stable, old), traffic.histograms(draw, both.canary, new)
            return c.Latencies(start, end, stable, canary)
        requests = (sum(pod.requests for pod in both.stable), sum(pod.requests for pod in both.canary))
        if check.logs is not None:
            return c.Logs(start, end, len(both.stable), len(both.canary), (), *requests)
        if check.feedback is not None:
            return c.Feedback(start, end, *requests, ())
        if check.metric is not None:
            values = (
                tuple(c.Sample(float(draw.normal(1, _SPREAD)), p.pod) for p in side)
                for side in (both.stable, both.canary)
            )
            return c.Samples(start, end, *values)
        if check.threshold is not None:
            return c.Value(start, end, _within(check.threshold))
        return c.Outcome(start, end, True)


def _within(limits: Threshold) -> float:
    given = [limit for limit in (limits.min, limits.max) if limit is not None]
    return sum(given) / len(given)

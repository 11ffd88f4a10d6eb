"""Counts the requests that clients would send in a chaos test: they are split as the objects say at that moment."""

from __future__ import annotations

from collections.abc import Callable

from davylamp.analysis.effect import Interval
from davylamp.api.types import Release
from davylamp.core.actions import Ref
from davylamp.core.case import case_of
from davylamp.core.world import World
from davylamp.embedded.simulate.exposed import share_of
from davylamp.signals.requests import Pods

RPS = 100


class Seeing:
    """Opens counters: `controller.observer.Counters`."""

    def __init__(self) -> None:
        self.world: Callable[[Ref], World] | None = None

    def open(self, release: Release) -> _Counter:
        assert self.world is not None
        return _Counter(self.world, Ref("Deployment", release.metadata.namespace, release.spec.deployment))

    async def close(self) -> None: ...


class _Counter:
    blind = False
    known = True

    def __init__(self, world: Callable[[Ref], World], key: Ref) -> None:
        self._world = world
        self._key = key
        self._before: float | None = None

    async def look(self, now: float, pods: Pods) -> Interval | None:
        before, self._before = self._before, now
        case = case_of(self._world(self._key))
        if before is None or case is None:
            return None
        total = round(RPS * (now - before))
        canary = round(total * share_of(case, 0.0))
        return Interval(now - before, total - canary, canary)

"""Sees whether what was written of a release's routes has taken effect: counts requests while a plan waits for that.

A plan that waits says for what (`core.world.Awaited`). From then on the pods are asked how many requests they have
answered, about every half second, until the plan waits no longer; the key of the release goes into the queue when what
is known changes. The counters as they stood at the end are kept: they tell how the requests were split before the
next change. Nothing is written, and nothing that is kept here must not be lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import msgspec

from davylamp.analysis import effect
from davylamp.analysis.effect import Claim, Interval
from davylamp.api.types import Release
from davylamp.controller.addressed import Addressed
from davylamp.controller.metrics import Metrics
from davylamp.controller.within import within
from davylamp.core.actions import Ref
from davylamp.core.effect import about
from davylamp.core.world import Awaited, Learned, Observation
from davylamp.kube.clock import Clock, Timer
from davylamp.signals.requests import Pods

EVERY = 0.5
"""Seconds between two looks at a release."""
A_SECOND = 20
"""Looks at all releases together; where more wait, each is looked at less often."""
LONGEST = 5.0
"""Seconds that a look may take."""
REMEMBERED = 20
"""Changes of one kind from whose times is learned."""
ENOUGH = 5
"""Changes from which anything is learned."""
TIMES = 2.0
"""The settling time that is learned, by the longest of them."""
LEAST, MOST = 2.0, 60.0
"""Seconds between which it lies."""

MIXED = 0.05
"""Of what was counted before a change, the part that may have been after it."""

log = logging.getLogger(__name__)


class Counter(Protocol):
    """Counts the requests of one release: `signals.requests.Requests`, or a simulation's."""

    @property
    def blind(self) -> bool:
        """There is nothing to count by."""

    @property
    def known(self) -> bool:
        """Whether the canary's pods are known to count: else nothing follows from nothing."""

    async def look(self, now: float, pods: Pods) -> Interval | None:
        """What was counted since the last look, in seconds since the epoch; None where that can't be told."""


class Counters(Protocol):
    """Opens counters."""

    def open(self, release: Release) -> Counter: ...

    async def close(self) -> None: ...


class _Watched:
    """One release under way. `since` is when the change that is waited for was there to be taken."""

    def __init__(self, uid: str, counter: Counter) -> None:
        self.uid = uid
        self.counter = counter
        self.observation: Observation | None = None
        self.waiting = False
        self.state = effect.State()
        self.claim: Claim | None = None
        self.first = True
        """The next interval began before the change."""
        self.before = False
        """And all of it was of one split."""
        self.step = 0
        """That was in effect when the change was made."""
        self.pending = False
        """It is not known yet how that ends."""
        self.timer: Timer | None = None
        self.task: asyncio.Task[None] | None = None


class Observer:
    """To be told after each plan what it waits for (`follow`), and asked what is known of that.

    `wake` is called with the key of a release of which something else is known than before.
    """

    def __init__(
        self, clock: Clock, addressed: Addressed, counters: Counters, metrics: Metrics, wake: Callable[[Ref], None]
    ) -> None:
        self._clock = clock
        self._addressed = addressed
        self._counters = counters
        self._metrics = metrics
        self._wake = wake
        self._watched: dict[Ref, _Watched] = {}
        self._waiting = 0
        self._took: dict[str, deque[float]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def observation(self, release: Release) -> Observation | None:
        """What is known of the change that was last waited for."""
        found = self._watched.get(_key_of(release))
        return found.observation if found is not None and found.uid == release.metadata.uid else None

    def learned(self) -> dict[str, Learned]:
        """How long changes take, by kind of object, where enough were seen."""
        return {
            kind: Learned(min(max(TIMES * max(took) + 1, LEAST), MOST), len(took))
            for kind, took in self._took.items()
            if len(took) >= ENOUGH
        }

    def follow(self, key: Ref, release: Release | None, awaited: Awaited | None) -> None:
        """`awaited` is what the last plan for `key` waits for, and `release` the one under way."""
        found = self._watched.get(key)
        if found is not None and (release is None or found.uid != release.metadata.uid):
            self._end(key, found)
            found = None
        if found is None and release is not None and awaited is not None:
            found = self._watched[key] = _Watched(release.metadata.uid, self._counters.open(release))
        if found is None or release is None:
            return
        if found.pending and release.status.step != found.step:
            self._assumed(found)
        if awaited is None:
            self._rest(found)
            return
        if not about(found.observation, awaited):
            self._begin(key, release, found, awaited)
        elif not found.waiting and found.observation is not None and found.observation.answer != "blind":
            self._resume(key, release, found)

    async def close(self) -> None:
        for key, found in tuple(self._watched.items()):
            self._end(key, found)
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._counters.close()

    # --- one change ---

    def _begin(self, key: Ref, release: Release, found: _Watched, awaited: Awaited) -> None:
        blind = found.counter.blind
        # What was counted until now tells how it was before, if the change before this one was in effect then.
        found.before = found.step != release.status.step and "@" not in awaited.key
        found.step, found.pending = release.status.step, True
        found.observation = Observation(awaited, self._clock.now(), "blind" if blind else "unclear")
        found.state, found.claim, found.first = effect.State(), None, True
        if blind:
            self._rest(found)
        else:
            self._resume(key, release, found)

    def _resume(self, key: Ref, release: Release, found: _Watched) -> None:
        if not found.waiting:
            found.waiting = True
            self._waiting += 1
            self._tick(key, release, found)

    def _rest(self, found: _Watched) -> None:
        """Nothing is waited for. What the counters show at the next look was before the next change."""
        if found.waiting:
            found.waiting = False
            self._waiting -= 1
        if found.timer is not None:
            found.timer.cancel()
            found.timer = None

    def _end(self, key: Ref, found: _Watched) -> None:
        self._rest(found)
        del self._watched[key]
        self._addressed.forget(found.uid)
        if found.task is not None and not found.task.done():
            found.task.cancel()
            self._ending.add(found.task)
            found.task.add_done_callback(self._ending.discard)

    def _tick(self, key: Ref, release: Release, found: _Watched) -> None:
        if found.task is None or found.task.done():
            found.task = asyncio.create_task(self._look(key, release, found), name=f"effect of {key}")
        found.timer = self._clock.call_later(
            max(EVERY, self._waiting / A_SECOND), lambda: self._tick(key, release, found)
        )

    async def _look(self, key: Ref, release: Release, found: _Watched) -> None:
        pods = self._addressed.of(release)
        if pods is None:
            return
        began = found.observation
        try:
            counted = await within(LONGEST, found.counter.look(self._clock.now().timestamp(), pods))
        except TimeoutError:
            return
        except Exception:
            log.exception("the requests of %s could not be counted", key, extra={"namespace": key.namespace})
            return
        self._metrics.effect_looks.inc()
        before = found.observation
        if began is None or not found.waiting or not about(before, began.awaited):
            return
        after = found.observation = self._known(found, began, counted)
        if after.answer == "blind":
            self._rest(found)
        if before is None or (before.answer, before.moved) != (after.answer, after.moved):
            self._wake(key)

    def _known(self, found: _Watched, began: Observation, counted: Interval | None) -> Observation:
        awaited, first = began.awaited, found.first
        if began.answer == "seen":
            return began
        if found.counter.blind:
            return msgspec.structs.replace(began, answer="blind")
        found.first = False
        if first:
            late = (self._clock.now() - began.asked).total_seconds()
            pure = counted is not None and found.before and late <= MIXED * counted.seconds
            found.claim = _claim(awaited, counted if pure else None)
            return began
        if counted is None:
            return began
        if found.claim is None:
            # No share could tell: what is counted is shown all the same.
            stable, canary = began.stable + counted.stable, began.canary + counted.canary
            return msgspec.structs.replace(began, stable=stable, canary=canary)
        found.state = effect.take(found.state, found.claim, counted)
        known = _observed(found.state, found.claim, began, self._clock.now(), found.counter.known)
        if known.answer == "seen":
            self._seen(known, found.state)
        return known

    # --- learning ---

    def _seen(self, observation: Observation, state: effect.State) -> None:
        """A change was seen in effect; it came before enough requests did to see it."""
        came = max(observation.seconds - state.seconds, 0.0)
        for kind in observation.awaited.kinds:
            self._metrics.effect_seconds.labels(kind, "seen").observe(observation.seconds)
            self._took.setdefault(kind, deque(maxlen=REMEMBERED)).append(came)

    def _assumed(self, found: _Watched) -> None:
        """A change that was not seen counts as in effect."""
        found.pending = False
        if found.observation is not None and found.observation.answer != "seen":
            seconds = (self._clock.now() - found.observation.asked).total_seconds()
            for kind in found.observation.awaited.kinds:
                self._metrics.effect_seconds.labels(kind, "assumed").observe(seconds)


def _claim(awaited: Awaited, counted: Interval | None) -> Claim | None:
    """What is to be tested; what was counted until now was before the change."""
    if awaited.after is None:
        return None
    measured = None
    if counted is not None:
        # Of pods that were not asked there were as many.
        measured = (round(counted.stable / counted.of_stable), round(counted.canary / counted.of_canary))
    return effect.claim(awaited.before, awaited.after, measured, sure=awaited.sure, all_of_it=awaited.all_of_it)


def _observed(state: effect.State, claim: Claim, began: Observation, now: datetime, canary_counts: bool) -> Observation:
    window = began.awaited.settle / 2
    answer = effect.answer(state, window)
    if answer == "seen" and not claim.sure:
        answer = "unclear"
    if answer == "seen":
        seconds = (now - began.asked).total_seconds()
        return msgspec.structs.replace(
            began, answer=answer, seconds=seconds, stable=state.stable, canary=state.canary, moved=True
        )
    stable, canary = effect.lately(state, began.awaited.settle)
    moved = effect.moved(state, claim, began.awaited.settle)
    return msgspec.structs.replace(
        began, answer=answer, stable=stable, canary=canary, moved=moved, counts=canary_counts
    )


def _key_of(release: Release) -> Ref:
    return Ref("Deployment", release.metadata.namespace, release.spec.workload)

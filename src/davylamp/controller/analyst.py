"""Compares the two versions of each release that has an analysis, from its first ready canary pod to its decision.

The first look is made before the canary gets requests, so that all of them are counted. Then there is one every
`interval`, and in half the time where the next may decide and in the first minute of the canary's requests, in which
most bad versions show; more often until the first of these has been seen, since its pods' age counts from there. Not
always so often: failures that come in a burst are taken for what they are only within one interval. Where many releases
are under way, each is looked at less often, down to `interval`. A look is, on the controller's clock: measurements,
statistics, a judgement. The workers never wait for any of it; the key of a release is added to the queue only when its
judgement changes. What has been found is written into the Release's status when the verdict changes and otherwise once
a minute, so that a process that begins anew goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from davylamp.api.types import Release
from davylamp.api.units import seconds
from davylamp.controller.canaries import CanaryPods
from davylamp.controller.findings import Findings, decided
from davylamp.controller.known import Known
from davylamp.controller.looker import Blocked, Looker
from davylamp.controller.measured import YOUNG, container_of, measured
from davylamp.controller.metrics import Metrics
from davylamp.controller.underway import UnderWay, pause
from davylamp.controller.within import within
from davylamp.core.actions import Patch, Ref
from davylamp.core.case import case_of
from davylamp.core.world import Judgement, World
from davylamp.kube.clock import Clock
from davylamp.kube.errors import ApiError
from davylamp.signals.feedback import Box
from davylamp.signals.gather import Look, Pods

PARALLEL = 32
"""Looks at once."""
WRITTEN_EVERY = 60.0
"""Seconds between two writes of what has been found, where the verdict stays the same."""
SOON = 1.0
"""Seconds until the next look where the pods aren't known yet."""
SLOW = 10.0
"""Seconds after which a look that goes on is one without data so far."""
LONGEST = 60.0
"""Seconds that a look may take."""

log = logging.getLogger(__name__)

Write = Callable[[Patch], Awaitable[None]]


class Opens(Protocol):
    """Opens the eyes on a release: `looker.Lookers`, or a test's."""

    async def open(self, release: Release, pods: Pods, container: str, now: float) -> Looker: ...

    async def close(self) -> None: ...


class Analyst:
    """To be told of each world that is looked at (`follow`), and asked for the judgement of a release.

    `wake` is called with the key of a release whose judgement has changed. `told_every` is after how many seconds what
    has been found is written again where the verdict stays the same; where that is infinite nobody reads it.
    """

    def __init__(
        self,
        clock: Clock,
        known: Known,
        pods: CanaryPods,
        lookers: Opens,
        metrics: Metrics,
        *,
        write: Write,
        wake: Callable[[Ref], None],
        told_every: float = WRITTEN_EVERY,
    ) -> None:
        self._clock = clock
        self._told_every = told_every
        self._known = known
        self._pods = pods
        self._lookers = lookers
        self._metrics = metrics
        self._write = write
        self._wake = wake
        self._under_way: dict[Ref, UnderWay] = {}
        self._gate = asyncio.Semaphore(PARALLEL)
        self._closing: set[asyncio.Task[None]] = set()

    def judgement(self, release: Release) -> Judgement | None:
        """What is known now; None for a release that isn't analysed (yet)."""
        found = self._under_way.get(_key_of(release))
        return found.findings.judgement if found is not None and found.uid == release.metadata.uid else None

    def box(self, namespace: str, deployment: str) -> Box | None:
        """The votes of the release under way for a Deployment, if it takes some."""
        found = self._under_way.get(Ref("Deployment", namespace, deployment))
        return found.looker.box if found is not None and found.looker is not None else None

    def follow(self, key: Ref, world: World) -> None:
        """Begin with the release of this world, or end with the one before."""
        wanted = _wanted(world)
        found = self._under_way.get(key)
        if found is not None and (wanted is None or wanted.metadata.uid != found.uid):
            self._end(key)
            found = None
        if wanted is not None and found is None:
            self._begin(key, wanted)

    async def close(self) -> None:
        """End all of it; what was found since it was last written is lost."""
        for key in tuple(self._under_way):
            self._end(key)
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._lookers.close()

    def _begin(self, key: Ref, release: Release) -> None:
        analysis = release.spec.analysis
        assert analysis is not None
        kept = math.isfinite(self._told_every)
        findings = Findings(analysis, release.status.analysis, self._now, kept=kept)
        self._under_way[key] = found = UnderWay(release, seconds(analysis.interval), findings)
        self._metrics.analyses.inc()
        self._tick(key, found)
        self._wake(key)

    def _end(self, key: Ref) -> None:
        found = self._under_way.pop(key)
        self._metrics.analyses.dec()
        if found.timer is not None:
            found.timer.cancel()
        closing = asyncio.create_task(self._closed(found))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._pods.drop(found.stable)

    async def _closed(self, found: UnderWay) -> None:
        for task in filter(None, (found.task, found.aside)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if found.looker is not None:
            await found.looker.close()

    @property
    def _now(self) -> float:
        return self._clock.now().timestamp()

    # --- looks ---

    def _tick(self, key: Ref, found: UnderWay) -> None:
        """One look now, unless the last one is still going on; the next one an interval later."""
        at, found.timer = self._clock.time(), None
        idle = found.task is None or found.task.done()
        pods = self._of(found)
        self._wind(key, found, self._pause(found, at) if pods is not None else min(SOON, found.interval))
        if idle and pods is not None:
            found.since = at
            found.task = asyncio.create_task(self._look(key, found, pods), name=found.title)
        elif not idle and (taken := at - found.since) >= SLOW:
            # Whatever it will bring, until then there is no data.
            before = found.findings.judgement
            found.findings.take(Look((), (f"the look has taken {taken:.0f} s so far",)), self._now)
            found.tense = found.findings.tense
            if found.aside is None or found.aside.done():
                found.aside = asyncio.create_task(self._follow_up(key, found, before, write=False))

    def _pause(self, found: UnderWay, at: float) -> float:
        return pause(found.interval, found.wanted(at), len(self._under_way))

    def _wind(self, key: Ref, found: UnderWay, wait: float) -> None:
        if found.timer is not None:
            found.timer.cancel()
        found.timer = self._clock.call_later(wait, lambda: self._tick(key, found))

    def _of(self, found: UnderWay) -> Pods | None:
        """The pods of both versions that can be asked; None while they aren't known, or none of the canary's
        can be yet."""
        namespace, known = found.canary[0], self._known
        release = self._release(namespace, found.name)
        stable = self._pods.of(found.stable) if found.stable[1] else ()
        canary = self._pods.of(found.canary) if found.canary[1] else ()
        if release is None or release.spec.analysis is None or stable is None or canary is None:
            return None
        service = known.services.get(namespace, release.spec.service)
        old = known.replica_sets.get(namespace, found.versions[0])
        new = known.replica_sets.get(namespace, found.versions[1])
        scraping = release.spec.analysis.sources.pods
        source, now = (stable, canary, old, new, service, scraping), self._now
        if found.asked is not None and found.asked[0] == source and now < found.asked[2]:
            return found.asked[1] if found.asked[1].canary or release.status.step > 0 else None
        containers = (container_of(old, service), container_of(new, service))
        pods = measured(namespace, stable, canary, containers=containers, scraping=scraping, now=now)
        pods = msgspec.structs.replace(pods, versions=(found.stable[1], found.canary[1]))
        young = [target.ready_at for target in (*pods.stable, *pods.canary) if target.ready_at is not None]
        found.asked = (source, pods, min(young, default=math.inf) + YOUNG.total_seconds())
        return pods if pods.canary or release.status.step > 0 else None

    def _release(self, namespace: str, name: str) -> Release | None:
        release = self._known.releases.get(namespace, name)
        return self._known.resolved(release) if release is not None else None

    async def _look(self, key: Ref, found: UnderWay, pods: Pods) -> None:
        release = self._release(key.namespace, found.name)
        if release is None:
            return
        began = self._clock.time()
        found.began = began if found.began is None else found.began
        async with self._gate:
            seen, outcome = await self._seen(found, release, pods)
        before, tense = found.findings.judgement, found.tense
        explained = found.looker.explained if found.looker is not None else str
        due = found.written is None or self._clock.time() - found.written >= self._told_every - found.interval / 2
        write = due and release.status.step > 0
        found.findings.take(seen, self._now, explained, told=write, alone=_alone(release))
        found.tense = found.findings.tense
        ended = self._clock.time()
        self._metrics.looked(outcome, ended - began)
        if found.tense and not tense and self._under_way.get(key) is found:
            self._wind(key, found, self._pause(found, ended))
        if write or found.findings.judgement is not before:
            await self._follow_up(key, found, before, write=write)

    async def _follow_up(self, key: Ref, found: UnderWay, before: Judgement, *, write: bool) -> None:
        """What is to be done about a judgement that was another one `before`."""
        after = found.findings.judgement
        changed = decided(before) != decided(after)
        if changed:
            log.info("%s", after.message, extra={"namespace": key.namespace, "release": found.name})
        release = self._release(key.namespace, found.name) if changed else None
        if write or (release is not None and release.status.step > 0):
            await self._tell(key, found)
        if changed or before.missed != after.missed:
            self._wake(key)

    async def _seen(self, found: UnderWay, release: Release, pods: Pods) -> tuple[Look, str]:
        """What a look sees, and how it went. Whatever hinders it is a sentence, and no measurement."""
        try:
            seen = await within(LONGEST, self._opened(found, release, pods))
        except (ApiError, Blocked) as error:
            return Look((), (str(error),)), "blocked"
        except TimeoutError:
            return Look((), (f"the look took more than {LONGEST:g} s, and was given up",)), "late"
        except Exception as error:
            log.exception("release %s could not be looked at", found.name, extra={"namespace": pods.namespace})
            return Look((), (f"{type(error).__name__}: {error}",)), "failed"
        return seen, "partial" if seen.problems else "whole"

    async def _opened(self, found: UnderWay, release: Release, pods: Pods) -> Look:
        """Look, and before the first look open the eyes."""
        if found.looker is None:
            container = container_of(
                self._known.replica_sets.get(pods.namespace, release.spec.stable.replica_set), None
            )
            found.looker = await self._lookers.open(release, pods, container.name, self._now)
        return await found.looker.look(release, pods, self._now)

    async def _tell(self, key: Ref, found: UnderWay) -> None:
        """Write what was found. A failure costs nothing but that a restart would go on from an earlier moment."""
        ref = Ref("Release", key.namespace, found.name)
        try:
            await self._write(Patch(ref, {"status": {"analysis": found.findings.patch()}}, subresource="status"))
        except ApiError as error:
            log.info("what was found of release %s was not written: %s", found.name, error)
            return
        found.written = self._clock.time()


def _wanted(world: World) -> Release | None:
    """The release to be analysed: one whose canary gets requests, or soon will, and that isn't decided yet."""
    case = case_of(world)
    if case is None or case.release.spec.analysis is None:
        return None
    return None if case.adopted or case.release.status.end is not None or case.release.keeping else case.release


def _alone(release: Release) -> float | None:
    """Since when all of the traffic reaches the canary, None while it doesn't."""
    number, since = release.status.step, release.status.step_since
    if not number or since is None or release.spec.steps[number - 1].weight < 100:
        return None
    return since.timestamp()


def _key_of(release: Release) -> Ref:
    return Ref("Deployment", release.metadata.namespace, release.spec.workload)

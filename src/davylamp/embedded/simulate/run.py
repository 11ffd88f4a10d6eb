"""One release, from the write that begins it to its end, in virtual time."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from davylamp.api.crd import crds
from davylamp.api.types import Phase, Release, ReleasePolicy, Transition
from davylamp.api.units import seconds
from davylamp.controller.analyst import WRITTEN_EVERY
from davylamp.controller.loop import Controller
from davylamp.core.actions import Ref
from davylamp.core.case import case_of
from davylamp.embedded import clock as virtual
from davylamp.embedded.client import Local
from davylamp.embedded.clock import LoopClock
from davylamp.embedded.cluster import Cluster
from davylamp.embedded.kubelet.imagined import Course
from davylamp.embedded.simulate import proxies, unread
from davylamp.embedded.simulate.exposed import mirrored_of, share_of
from davylamp.embedded.simulate.eyes import Counting, Imagination
from davylamp.embedded.simulate.scenario import Scenario
from davylamp.embedded.simulate.stage import Stage
from davylamp.embedded.simulate.traffic import Flow, Served
from davylamp.embedded.store import Object
from davylamp.kube import gate

USER = "system:serviceaccount:davylamp-system:davylamp"
PEOPLE = "somebody"
WORKERS = 2
"""Of the controller: there is one workload, and its policy."""
READY_WITHIN = 3600.0
"""Seconds within which the old version's pods must be available."""
MORE = 3600.0
"""Seconds that a release may take beyond twice its holds and approvals."""
AT_REST = 0.001
"""Seconds after which everybody has seen a change."""


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """Something that happened."""

    at: float
    """Seconds since the new template was applied."""
    what: str
    """In a word: a phase, a reason, a verdict."""
    message: str


class Point(msgspec.Struct, frozen=True, rename="camel"):
    at: float
    weight: float
    """Percent of the requests that reach the new version from then on."""


class Evidence(msgspec.Struct, frozen=True, rename="camel"):
    at: float
    answer: str
    evidence: float
    """Of the check that has most of what it needs: 1 suffices to take the release back."""


class Outcome(msgspec.Struct, frozen=True, rename="camel"):
    """How one release went."""

    number: int
    phase: Phase | None
    """None: it had not ended when it was given up watching."""
    reason: str
    """In a word."""
    message: str
    seconds: float
    """From the write that began it to its end."""
    exposed: float
    """Seconds in which the new version got requests, until the end."""
    served: Served
    """Until the end."""
    verdict: str = ""
    """The last verdict's answer; "" without an analysis."""
    timeline: tuple[Entry, ...] = ()
    weights: tuple[Point, ...] = ()
    verdicts: tuple[Evidence, ...] = ()


def run(stage: Stage, scenario: Scenario, seed: int, number: int = 0, *, brief: bool = False) -> Outcome:
    """One release. The same arguments give the same outcome, whatever else is run. A `brief` one goes the same way, and
    has no timeline: what a verdict rests on is only told when it changes, not once a minute."""
    outcome = virtual.run(lambda clock: _run(clock, stage, scenario, seed, number, brief))
    return msgspec.structs.replace(outcome, timeline=(), weights=(), verdicts=()) if brief else outcome


def patience(policy: ReleasePolicy, scenario: Scenario) -> float:
    """Seconds after which a release is given up watching."""
    if scenario.limit is not None:
        return scenario.limit
    holds = sum(seconds(step.hold) for step in policy.spec.steps if step.hold)
    people = sum(scenario.approve_after for step in policy.spec.steps if step.approve)
    return 2 * (holds + people) + MORE


async def _run(clock: LoopClock, stage: Stage, scenario: Scenario, seed: int, number: int, brief: bool) -> Outcome:
    draw = np.random.default_rng([seed, number])
    cluster = Cluster(
        clock, behave=_courses(stage, scenario), seed=int(draw.integers(2**62)), events=False, managed=False
    )
    async with cluster:
        proxies.serve(cluster.store, clock)
        for manifest in (*_installed(), *_namespaces(stage), *_definitions(stage), *stage.objects):
            cluster.store.create(manifest)
        await _until_available(cluster, stage)
        flow = Flow(scenario, draw, clock.time())
        lookers = Imagination(scenario, flow, lambda: flow.advance(clock.time()))
        api = cluster.api(USER)
        controller = Controller(
            api,
            clock,
            unread.METRICS,
            gate="admission",
            workers=WORKERS,
            lookers=lookers,
            told_every=math.inf if brief else WRITTEN_EVERY,
            counters=Counting(flow, lambda: flow.advance(clock.time())),
        )
        tasks = [asyncio.create_task(controller.watch()), asyncio.create_task(controller.work())]
        try:
            await controller.synced.wait()
            await asyncio.sleep(AT_REST)
            watching = _Watching(clock, cluster, api, controller, stage, scenario, flow)
            return await watching.release(number)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@functools.cache
def _installed() -> tuple[Object, ...]:
    return (*crds(), *gate.manifests(USER))


def _namespaces(stage: Stage) -> tuple[Object, ...]:
    if stage.namespace == "default":
        return ()
    return ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.namespace}},)


def _definitions(stage: Stage) -> Iterator[Object]:
    there = {obj["kind"] for obj in stage.objects}
    if "VirtualService" in there:
        there.add("DestinationRule")  # the release makes some, also where there is none yet
    for kind in proxies.KINDS:
        if kind in there:
            yield proxies.definition(kind)


def _courses(stage: Stage, scenario: Scenario) -> Any:
    def behave(pod: Object) -> Course:
        new = pod["spec"]["containers"][0]["image"] == stage.image
        return Course(crash=scenario.crash if new else None, log="imagined crash" if new else "")

    return behave


async def _until_available(cluster: Cluster, stage: Stage) -> None:
    """Until the old version runs, as it does before a release."""
    changed = asyncio.Event()
    unsubscribe = cluster.store.subscribe(lambda *_: changed.set(), "Deployment")
    try:
        async with asyncio.timeout(READY_WITHIN):
            while True:
                found = cluster.store.get("Deployment", stage.namespace, stage.serving or stage.deployment)
                assert found is not None
                if (found.get("status") or {}).get("availableReplicas", 0) == stage.replicas:
                    return
                changed.clear()
                await changed.wait()
    finally:
        unsubscribe()


class _Watching:
    """Somebody who sees everything of one release, and the people who approve."""

    def __init__(
        self,
        clock: LoopClock,
        cluster: Cluster,
        api: Local,
        controller: Controller,
        stage: Stage,
        scenario: Scenario,
        flow: Flow,
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        self._api = api
        self._controller = controller
        self._stage = stage
        self._scenario = scenario
        self._flow = flow
        self._key = Ref("Deployment", stage.namespace, stage.workload)
        self._began = clock.time()
        self._over = asyncio.Event()
        self._due = False
        self._asked: set[str] = set()
        self._told: set[Transition] = set()
        self._release: Release | None = None
        self._exposed = 0.0
        self._timeline: list[Entry] = []
        self._weights = [Point(0.0, 0.0)]
        self._verdicts: list[Evidence] = []

    @property
    def _now(self) -> float:
        return self._clock.time() - self._began

    async def release(self, number: int) -> Outcome:
        """Begin it, and see how it ends."""
        store, stage = self._cluster.store, self._stage
        unsubscribe = store.subscribe(self._see)
        self._tell("Applied", f"Deployment {stage.deployment} is given the image {stage.image}")
        store.patch("Deployment", stage.namespace, stage.deployment, stage.release, "strategic", user=PEOPLE)
        try:
            async with asyncio.timeout(patience(stage.policy, self._scenario)):
                await self._over.wait()
        except TimeoutError:
            pass
        finally:
            unsubscribe()
        self._flow.advance(self._clock.time())
        return self._outcome(number)

    def _outcome(self, number: int) -> Outcome:
        release = self._release
        status = release.status if release is not None else None
        phase = status.phase if status is not None and status.phase.final else None
        last = status.history[-1] if status is not None and status.history else None
        if phase is None:
            self._tell("NotEnded", "it had not ended by then, and was given up watching")
        end = status.end if status is not None else None
        analysis = status.analysis if status is not None else None
        return Outcome(
            number=number,
            phase=phase,
            reason=end.reason if end is not None else last.reason if last is not None else "",
            message=end.message if end is not None else status.message if status is not None else "",
            seconds=round(self._now, 3),
            exposed=round(self._exposed, 3),
            served=self._flow.total,
            verdict=analysis.answer if analysis is not None else "",
            timeline=tuple(self._timeline),
            weights=(*self._weights, Point(round(self._now, 3), self._weights[-1].weight)),
            verdicts=tuple(self._verdicts),
        )

    # --- seeing ---

    def _see(self, type_: str, new: Object, old: Object | None) -> None:
        if new["kind"] == "Release" and type_ != "DELETED":
            self._look_at(self._api.decoded("Release", new))
        if new["kind"] == "Event":
            return  # it changes no traffic
        if not self._due:
            self._due = True
            self._clock.call_later(AT_REST, self._weigh)

    def _weigh(self) -> None:
        """How much of the traffic reaches the new version, once everybody has seen the last change."""
        self._due = False
        case = case_of(self._controller.world(self._key))
        share = share_of(case, self._scenario.testers) if case is not None else self._flow.share
        mirrored = mirrored_of(case) if case is not None else 0.0
        if mirrored != self._flow.mirrored:
            self._flow.advance(self._clock.time())
            self._flow.mirrored = mirrored
        if share == self._flow.share or self._over.is_set():
            return
        self._flow.advance(self._clock.time())
        self._note_exposure()
        self._flow.share = share
        self._weights.append(Point(round(self._now, 3), round(100 * share, 2)))

    def _note_exposure(self) -> None:
        if self._flow.share:
            self._exposed += self._now - self._weights[-1].at

    def _look_at(self, release: Release) -> None:
        if self._over.is_set():
            return
        self._release = release
        for transition in release.status.history:
            if transition not in self._told:
                self._told.add(transition)
                last = release.status.phase.final and transition == release.status.history[-1]
                self._tell(release.status.phase.value if last else transition.reason, transition.message)
        self._see_verdict(release)
        self._see_people(release)
        if release.status.phase.final:
            self._note_exposure()
            self._over.set()

    def _tell(self, what: str, message: str) -> None:
        self._timeline.append(Entry(round(self._now, 3), what, message))

    def _see_verdict(self, release: Release) -> None:
        found = release.status.analysis
        if found is None or not found.checks:
            return
        part = max(check.evidence / check.needed for check in found.checks)
        before = self._verdicts[-1].answer if self._verdicts else ""
        if not self._verdicts or self._verdicts[-1].at != round(self._now, 3):
            self._verdicts.append(Evidence(round(self._now, 3), found.answer, float(f"{part:.4g}")))
        if found.answer != before:
            self._tell("Verdict", _verdict(found.answer, found.message))

    # --- people ---

    def _see_people(self, release: Release) -> None:
        """Have a step approved some time after it began to wait for that."""
        status, number = release.status, release.status.step
        approved = release.spec.approved.step if release.spec.approved is not None else 0
        if not number or approved >= number or status.phase.final:
            return
        step = release.spec.steps[number - 1]
        if step.approve and f"step {number}" not in self._asked:
            self._asked.add(f"step {number}")
            self._later(number, seconds(step.hold) if step.hold else 0.0)
        unclear = status.history and status.history[-1].reason == "Unclear"
        if unclear and f"unclear {number}" not in self._asked:
            self._asked.add(f"unclear {number}")
            self._later(number, 0.0)

    def _later(self, step: int, hold: float) -> None:
        self._clock.call_later(hold + self._scenario.approve_after, lambda: self._approve(step))

    def _approve(self, step: int) -> None:
        release = self._release
        assert release is not None
        if self._over.is_set() or release.status.step != step or release.status.phase is not Phase.PROGRESSING:
            return
        self._tell("Approved", f"step {step} is approved by a person")
        patch = {"spec": {"approved": {"step": step, "by": PEOPLE}}}
        meta = release.metadata
        self._cluster.store.patch("Release", meta.namespace, meta.name, patch, "merge", user=PEOPLE)


def _verdict(answer: str, message: str) -> str:
    """Why a version is worse is told by the release; and what says so itself need not be told twice."""
    if answer == "worse":
        return answer
    return message if message.startswith(answer) else f"{answer}: {message}"

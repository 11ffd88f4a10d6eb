"""The controller: watch -> queue -> gather -> plan -> apply.

It keeps nothing that it could not lose. A key in the queue says only "look again"; each look gathers what is known,
asks the pure plan what to do, does it, and looks again until there is nothing left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Literal

from davylamp.api.types import Release
from davylamp.controller import hands
from davylamp.controller.addressed import Addressed
from davylamp.controller.analyst import WRITTEN_EVERY, Analyst, Opens
from davylamp.controller.canaries import Canary, CanaryPods
from davylamp.controller.gather import Sources, canary_of, gather
from davylamp.controller.history import DEFAULT_LIMIT, prune
from davylamp.controller.known import SPLITTING, Known, without_looks
from davylamp.controller.looker import Lookers
from davylamp.controller.metrics import Metrics
from davylamp.controller.observer import Counters, Observer
from davylamp.controller.policies import held_by_nobody, marks, plan_policy
from davylamp.controller.queue import Queue
from davylamp.controller.since import Since
from davylamp.controller.watching import Watching
from davylamp.core import names
from davylamp.core.actions import Action, Announce, Ref
from davylamp.core.plan import LogWanted, Plan, plan
from davylamp.core.world import Gate, World
from davylamp.kube.apply import Foreign, Writer
from davylamp.kube.clock import Clock
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api

PASSES = 20
"""Plans in a row for one key before others get their turn."""
TROUBLE = 0.5
"""Seconds to wait at least after an error that is no conflict: thousands of keys may have the same one."""
LOG_SECONDS = 2.0
"""How long the end of a container's log is waited for."""
LOG_LINES = 20
LAST_WORDS = 0.5
"""Seconds that Events still waiting get when the controller stops."""

log = logging.getLogger(__name__)


class Controller:
    """One controller on one API server.

    `watch` keeps what is known up to date; `work` acts on it, and runs only in the process that leads.
    `namespaces` restricts both; empty means all. `gate` says how templates are gated; `auto` asks the API server.
    `every_step`: Events tell of each beginning and each step too.
    """

    def __init__(
        self,
        api: Api,
        clock: Clock,
        metrics: Metrics,
        *,
        namespaces: Sequence[str] = (),
        gate: Gate | Literal["auto"] = "auto",
        workers: int = 64,
        instance: str = "davylamp",
        every_step: bool = False,
        lookers: Opens | None = None,
        told_every: float = WRITTEN_EVERY,
        counters: Counters | None = None,
    ) -> None:
        self._api = api
        self._clock = clock
        self._metrics = metrics
        self._workers = workers
        self._queue: Queue[Ref] = Queue(clock)
        self._known = Known(self._ask, without_looks)
        self._since = Since(clock)
        auto = gate == "auto"
        held: Gate = "fallback" if gate == "fallback" else "admission"
        self._watching = Watching(api, clock, self._known, metrics, namespaces, held, self._regated, find_gate=auto)
        self._pods = CanaryPods(api, clock, self._pods_changed, self._watching.restarted)
        self._sources = Sources(self._known, self._since, self._pods, held)
        self._canary_of: dict[Ref, Canary] = {}
        self._key_of: dict[Canary, Ref] = {}
        self._complaints: dict[Ref, str] = {}
        self._working = False
        self._writer = Writer(
            api,
            self._known.stores,
            clock,
            instance=instance,
            details=every_step,
            on_write=lambda kind: metrics.writes.labels(kind).inc(),
            on_untold=metrics.untold.inc,
        )
        self.analyst = Analyst(
            clock,
            self._known,
            self._pods,
            lookers or Lookers(api),
            metrics,
            write=lambda patch: self._writer.carry_out((patch,)),
            wake=self._ask,
            told_every=told_every,
        )
        self._sources.judgement = self.analyst.judgement
        self._sources.onlooker = False
        self.observer: Observer | None = None
        if counters is not None:
            addressed = Addressed(self._known, self._pods)
            self.observer = Observer(clock, addressed, counters, metrics, self._ask)
            self._sources.observation = self.observer.observation
            self._sources.learned = self.observer.learned
        self._known.releases.listeners.append(metrics.on_release)
        for kind in ("Service", "Ingress", *SPLITTING):
            self._known.stores[kind].listeners.append(self._since.changed)

    @property
    def queue(self) -> Queue[Ref]:
        return self._queue

    @property
    def working(self) -> bool:
        """True in the process that leads."""
        return self._working

    @property
    def synced(self) -> asyncio.Event:
        """Set when everything is known for the first time."""
        return self._watching.synced

    @property
    def unsynced(self) -> list[str]:
        """The kinds that aren't known yet."""
        return self._watching.unsynced

    @property
    def gate(self) -> Gate:
        """How templates are gated: `admission`, or `fallback` where the API server has no such policies."""
        return self._sources.gate

    def world(self, key: Ref) -> World:
        """Everything that is known of one Deployment at this moment."""
        return gather(self._sources, key)

    # --- watching ---

    async def watch(self) -> None:
        """Keep everything known, until cancelled. `synced` is set when it is for the first time."""
        await self._watching.run()

    def _regated(self, gate: Gate) -> None:
        self._sources.gate = gate
        for key in self._known.all_keys() if self.synced.is_set() else ():
            self._ask(key)

    def _ask(self, key: Ref) -> None:
        if self._working:
            self._queue.add(key)

    def _pods_changed(self, canary: Canary) -> None:
        if canary in self._key_of:
            self._ask(self._key_of[canary])

    # --- working ---

    async def work(self) -> None:
        """Act on what is known, until cancelled."""
        await self.synced.wait()
        self._working = True
        self._metrics.leading.set(1)
        for key in self._known.all_keys():
            self._queue.add(key)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer.tell())
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            self._working = False
            self._metrics.leading.set(0)
            self._queue.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._writer.drain()
            await self.analyst.close()
            if self.observer is not None:
                await self.observer.close()
            await self._pods.close()
            self._canary_of.clear()
            self._key_of.clear()

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._metrics.queue_depth.set(len(self._queue))
            try:
                await self._look(key)
            finally:
                self._queue.done(key)

    async def _look(self, key: Ref) -> None:
        began = self._clock.time()
        try:
            if key.kind == "ReleasePolicy":
                await self._look_at_policy(key)
            else:
                await self._look_at_deployment(key)
        except ApiError as error:
            # A conflict is the rule where others write too: the newer state is on its way.
            self._queue.fail(key, 0 if error.conflict else TROUBLE)
            if not (error.conflict or error.terminating):
                self._complain(key, str(error))
        except Foreign as error:
            self._queue.fail(key, TROUBLE)
            self._complain(key, str(error))
            await self._writer.carry_out(self._in_the_way(key, error))
        except Exception:
            self._queue.fail(key, TROUBLE)
            log.exception("%s could not be looked at", key, extra={"namespace": key.namespace})
        else:
            self._queue.succeed(key)
            self._complaints.pop(key, None)
        self._metrics.reconcile_seconds.labels(key.kind).observe(self._clock.time() - began)

    def _complain(self, key: Ref, trouble: str) -> None:
        """Once for each distinct trouble with a key."""
        if self._complaints.get(key) != trouble:
            self._complaints[key] = trouble
            log.warning("%s: %s", key, trouble, extra={"namespace": key.namespace})

    def _in_the_way(self, key: Ref, error: Foreign) -> tuple[Announce, ...]:
        found = self._known.stores[key.kind].get(key.namespace, key.name)
        if found is None:
            return ()
        name = names.fit(f"{key.name}.in-the-way-{error.ref.kind.lower()}-{error.ref.name}", 253)
        return (Announce(name, key, found.metadata.uid, "ObjectInTheWay", str(error), warning=True),)

    # --- one policy ---

    async def _look_at_policy(self, key: Ref) -> None:
        policy = self._known.policies.get(key.namespace, key.name)
        if policy is None:
            return
        actions = plan_policy(self._known, policy, self._sources.gate, self._clock.now())
        if actions:
            await self._writer.carry_out(actions)

    # --- one Deployment ---

    async def _look_at_deployment(self, key: Ref) -> None:
        workload = self._known.workload_of(key.namespace, key.name)
        if workload != key.name:
            # It has become one of a pair since this was asked for. One key for both: two would act at the same time.
            self._ask(Ref("Deployment", key.namespace, workload))
            return
        logs: dict[str, str] = {}
        who: dict[Ref, str] = {}
        for _ in range(PASSES):
            self._queue.seen(key)  # our own writes of the pass before, most of all
            world = gather(self._sources, key, logs, who)
            self._follow(key, world)
            self.analyst.follow(key, world)
            if _half_seen(world):
                return
            now = self._clock.now()
            decided = plan(world, now)
            self._metrics.plans.labels(decided.reason).inc()
            if decided.log_wanted is not None:
                logs[decided.log_wanted.pod] = await self._end_of_log(key.namespace, decided.log_wanted)
                continue
            if decided.hands_wanted:
                who |= {ref: await hands.ask(self._api, ref) for ref in decided.hands_wanted}
                continue
            if self.observer is not None:
                self.observer.follow(key, _active(world), decided.awaited)
            if not decided.actions:
                break
            _tell(world, decided)
            await self._writer.carry_out(decided.actions)
            if decided.reason == "Drift":
                self._metrics.drifts.inc()
                who.clear()
        else:
            log.error("%s: still something to do after %s plans: %s", key, PASSES, decided.message)
            self._queue.add_after(key, 1)
            return
        if decided.wake_at is not None:
            self._queue.add_after(key, max(0.001, (decided.wake_at - now).total_seconds()))
        await self._writer.carry_out(self._afterwards(world))

    def _follow(self, key: Ref, world: World) -> None:
        """Have the pods of the canary that is under way watched, and those of an earlier one no longer."""
        release = world.release
        wanted = canary_of(release) if release is not None and release.active else None
        before = self._canary_of.get(key)
        if before == wanted:
            return
        if before is not None:
            del self._canary_of[key], self._key_of[before]
            self._pods.drop(before)
            self._since.forget(key)
        if wanted is not None:
            self._canary_of[key] = wanted
            self._key_of[wanted] = key

    async def _end_of_log(self, namespace: str, wanted: LogWanted) -> str:
        """Best effort: "" where it can't be had."""
        try:
            async with asyncio.timeout(LOG_SECONDS):
                return await self._api.logs(
                    namespace, wanted.pod, wanted.container, previous=wanted.previous, tail=LOG_LINES
                )
        except (ApiError, TimeoutError) as error:
            log.info("no log of pod %s: %s", wanted.pod, error or "it took too long", extra={"namespace": namespace})
            return ""

    def _afterwards(self, world: World) -> tuple[Action, ...]:
        policy = world.policy
        return (
            *marks(world),
            *held_by_nobody(world),
            *prune(world.releases, policy.spec.history_limit if policy is not None else DEFAULT_LIMIT),
        )


def _active(world: World) -> Release | None:
    release = world.release
    return release if release is not None and release.active else None


def _half_seen(world: World) -> bool:
    """In the middle of a rollback "no pods known yet" must not be taken for "no pods left"."""
    release = world.release
    if release is None or not release.active or world.pods is not None:
        return False
    return release.status.end is not None


def _tell(world: World, decided: Plan) -> None:
    release = world.release
    log.info(
        "%s",
        decided.message,
        extra={
            "namespace": world.namespace,
            "deployment": world.name,
            "release": release.metadata.name if release is not None and release.active else "",
            "reason": decided.reason,
        },
    )

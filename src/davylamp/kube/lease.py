"""Leader election on a Lease, so that of several controllers one works.

As in client-go (tools/leaderelection): a leader renews; the others take the Lease only when they themselves have seen
it unchanged for its whole duration, so clocks need not agree. A leader that could not renew stops working before
that: its deadline counts from the moment at which its last successful renewal was SENT, and is shorter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from davylamp.core.actions import Patch, Ref
from davylamp.kube.clock import Clock, Timer, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api

DURATION = 15.0
"""Seconds that a Lease lasts from its last renewal."""
DEADLINE = 10.0
"""Seconds after which a leader that could not renew stops working."""
RENEW = 5.0
"""Seconds between renewals that succeed."""
RETRY = 2.0
"""Seconds between tries, up to 20 % more by chance."""
GIVE_BACK = 3.0
"""Seconds that giving the Lease back may take at the end."""

log = logging.getLogger(__name__)


class _Seen(msgspec.Struct, frozen=True):
    """The Lease as last seen, and when it was first seen so."""

    resource_version: str
    holder: str
    transitions: int
    duration: float
    at: float


class Election:
    """Runs `work` while this process holds the Lease `ref`. `identity` must be unique among the candidates."""

    def __init__(self, api: Api, clock: Clock, ref: Ref, identity: str) -> None:
        self.leading = False
        self._api = api
        self._clock = clock
        self._ref = ref
        self._identity = identity
        self._seen: _Seen | None = None
        self._unanswered = False
        """A write was begun whose outcome is not known: it may have landed."""
        self._renewed_at = 0.0
        self._trouble = ""

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: wait for the Lease, work while it is ours, give it back at the end.

        `work` is cancelled where the Lease can't be kept. What it raises ends the election too, Lease given back.
        """
        try:
            while True:
                while not await self._try():
                    await sleep(self._clock, RETRY * random.uniform(1, 1.2))
                await self._lead(work)
        finally:
            await self._give_back()

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        log.info("leading: %s is ours (%s)", self._ref, self._identity)
        self.leading = True
        lost = asyncio.Event()
        tasks = [asyncio.ensure_future(work()), asyncio.create_task(self._keep(lost)), asyncio.create_task(lost.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if lost.is_set():
                log.warning("no longer leading: %s could not be kept; standing by", self._ref)
        finally:
            self.leading = False
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def _keep(self, lost: asyncio.Event) -> None:
        """Renew until cancelled; sets `lost` when the Lease must count as lost, whatever a request is waiting for."""
        timer = self._alarm(lost)
        try:
            while not lost.is_set():
                if await self._try():
                    timer.cancel()
                    timer = self._alarm(lost)
                    await sleep(self._clock, RENEW)
                elif self._seen is not None and self._seen.holder != self._identity:
                    lost.set()
                else:
                    await sleep(self._clock, RETRY * random.uniform(1, 1.2))
        finally:
            timer.cancel()

    def _alarm(self, lost: asyncio.Event) -> Timer:
        return self._clock.call_later(self._renewed_at + DEADLINE - self._clock.time(), lost.set)

    async def _try(self) -> bool:
        """Take the Lease or renew it. True if it is ours now."""
        sent_at = self._clock.time()
        try:
            if not await self._take():
                return False
        except ApiError as error:
            if error.code:
                self._unanswered = False
            if error.conflict or error.already_exists:
                if self._seen is not None and self._seen.holder == self._identity:
                    self._seen = None  # Somebody wrote it: look who.
            elif str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("%s can't be taken: %s", self._ref, error)
            return False
        self._renewed_at = sent_at
        self._trouble = ""
        return True

    async def _take(self) -> bool:
        seen = self._seen
        if seen is None or seen.holder != self._identity:
            lease = await self._api.get(self._ref)
            if lease is None:
                self._look(await self._create())
                return True
            seen = self._look(lease)
            free = not seen.holder or self._clock.time() >= seen.at + seen.duration
            if seen.holder != self._identity and not free:
                return False
        ours = seen.holder == self._identity
        spec: dict[str, Any] = {"renewTime": self._now(), "leaseDurationSeconds": int(DURATION)}
        if not ours:
            spec |= {
                "holderIdentity": self._identity,
                "acquireTime": self._now(),
                "leaseTransitions": seen.transitions + 1,
            }
        written = await self._write(spec, seen)
        self._seen = msgspec.structs.replace(
            seen,
            resource_version=written.metadata.resource_version,
            holder=self._identity,
            transitions=seen.transitions + (not ours),
            at=self._clock.time(),
        )
        return True

    async def _write(self, spec: dict[str, Any], seen: _Seen) -> Any:
        patch = {"metadata": {"resourceVersion": seen.resource_version}, "spec": spec}
        self._unanswered = True
        written = await self._api.patch(Patch(self._ref, patch))
        self._unanswered = False
        return written

    async def _create(self) -> dict[str, Any]:
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION),
            "acquireTime": self._now(),
            "renewTime": self._now(),
            "leaseTransitions": 0,
        }
        manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._ref.name, "namespace": self._ref.namespace},
            "spec": spec,
        }
        self._unanswered = True
        made = await self._api.create(manifest)
        self._unanswered = False
        return {"metadata": {"resourceVersion": made.metadata.resource_version}, "spec": spec}

    def _look(self, lease: dict[str, Any]) -> _Seen:
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.resource_version != version:
            spec = lease.get("spec") or {}
            self._seen = _Seen(
                resource_version=version,
                holder=spec.get("holderIdentity") or "",
                transitions=spec.get("leaseTransitions") or 0,
                duration=float(spec.get("leaseDurationSeconds") or DURATION),
                at=self._clock.time(),
            )
        return self._seen

    async def _give_back(self) -> None:
        """So that another need not wait for the Lease to run out. Best effort, within GIVE_BACK seconds."""
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(GIVE_BACK):
                while not await self._given_back():
                    pass
        self._seen = None

    async def _given_back(self) -> bool:
        """Give the Lease back if it is ours; False if it must be looked at again.

        A renewal that was cut off with the work may land before, and then what we believe of the Lease is outdated.
        """
        if self._unanswered and (lease := await self._api.get(self._ref)) is not None:
            self._look(lease)
        if self._seen is None or self._seen.holder != self._identity:
            return True
        try:
            await self._write({"holderIdentity": None, "renewTime": self._now()}, self._seen)
        except ApiError as error:
            if not error.conflict:
                raise
            return False
        return True

    def _now(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

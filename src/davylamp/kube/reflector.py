"""Keeps a store as the API server is: everything once, then each change, over one watch that is resumed.

A watch that the server ends is resumed from the last resource version without listing again. Only when that is too
old (410) is everything sent anew. A server that can't stream a list (before 1.32) is asked for it in pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any

from davylamp.kube.clock import Clock
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api
from davylamp.kube.store import Store

FIRST_PAUSE, LAST_PAUSE = 0.2, 10.0
"""Seconds between tries: they double, and each is taken by chance between a half and all of it."""
ABSENT_PAUSE = 3600.0
"""Seconds until something optional is asked for again that wasn't there."""
SETTLED = 5.0
"""Seconds that a watch must have lasted for its end to be an ordinary one."""

log = logging.getLogger(__name__)


class Reflector:
    """Runs one list and watch into `store`; `synced` is set when the store holds everything for the first time.

    `on_restart` is told why the watch began again: `closed`, `expired`, `failed`. `optional` is for what we may do
    without: where it is forbidden or unknown to the server the store counts as synced, and is empty.
    """

    def __init__(
        self,
        api: Api,
        store: Store[Any],
        clock: Clock,
        *,
        namespace: str = "",
        labels: str = "",
        optional: bool = False,
        on_restart: Callable[[str, str], None] | None = None,
    ) -> None:
        self.store = store
        self.synced = asyncio.Event()
        self.forbidden = False
        self.absent = False
        """We do without it, since it is forbidden or the server doesn't know it; it is asked for again rarely."""
        self._again = asyncio.Event()
        self._api = api
        self._clock = clock
        self._namespace = namespace
        self._labels = labels
        self._optional = optional
        self._on_restart = on_restart
        self._resource_version = ""
        self._streaming = True
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            began = self._clock.time()
            why = await self._once()
            if self._on_restart is not None:
                self._on_restart(self.store.kind, why)
            if self._clock.time() - began >= SETTLED:
                pause = FIRST_PAUSE
            await self._rest(ABSENT_PAUSE if self.absent else pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LAST_PAUSE)

    def look_again(self) -> None:
        """Try now, instead of at the end of the pause."""
        self._again.set()

    async def _rest(self, seconds: float) -> None:
        self._again.clear()
        timer = self._clock.call_later(seconds, self._again.set)
        try:
            await self._again.wait()
        finally:
            timer.cancel()

    async def _once(self) -> str:
        """One list or watch, to its end. Why it ended."""
        try:
            if self._resource_version:
                await self._watch(initial=False)
            elif self._streaming:
                await self._watch(initial=True)
            else:
                await self._list()
                await self._watch(initial=False)
        except ApiError as error:
            return self._failed(error)
        return "closed"

    async def _watch(self, *, initial: bool) -> None:
        if initial:
            self.store.begin_listing(self._namespace)
        events = self._api.watch(
            self.store.kind,
            self._namespace,
            resource_version=self._resource_version,
            labels=self._labels,
            initial=initial,
        )
        listing = initial
        async with contextlib.aclosing(events) as lines:
            async for event in lines:
                if event.type == "BOOKMARK":
                    if event.synced:
                        listing = False
                        self._listed(event.resource_version)
                    self.store.seen_to(_number(event.resource_version), self._namespace)
                elif event.type == "DELETED":
                    self.store.saw_deleted(event.object, self._namespace)
                else:
                    self.store.saw(event.object, self._namespace)
                if not listing:
                    self._resource_version = event.resource_version
                    self._well()

    async def _list(self) -> None:
        self.store.begin_listing(self._namespace)
        version = ""
        async for page in self._api.pages(self.store.kind, self._namespace, self._labels):
            for obj in page.items:
                self.store.saw(obj, self._namespace)
            version = version or page.resource_version
        self._listed(version)
        self._resource_version = version

    def _listed(self, version: str) -> None:
        self.store.end_listing(version, self._namespace)
        self.synced.set()

    def _well(self) -> None:
        self.absent = False
        if self._trouble:
            log.info("watching %s again", self.store.kind)
            self._trouble = ""

    def _failed(self, error: ApiError) -> str:
        if error.gone:
            self._resource_version = ""
            return "expired"
        if error.invalid and self._streaming and not self._resource_version:
            self._streaming = False
            return "unsupported"
        self.forbidden = error.forbidden
        self.absent = self._optional and (error.forbidden or error.not_found)
        if self.absent:
            self.synced.set()
        if str(error) != self._trouble:
            self._trouble = str(error)
            level = logging.DEBUG if self.absent else logging.WARNING
            log.log(level, "%s can't be watched: %s%s", self.store.kind, error, _hint(error, self.store.kind))
        return "failed"


def _hint(error: ApiError, kind: str) -> str:
    if error.not_found and kind in ("ReleasePolicy", "Release"):
        return " (is Davylamp installed in this cluster? see `davy install`)"
    return ""


def _number(version: str) -> int | None:
    return int(version) if version.isdigit() else None

"""The pods of canaries: watched only while their release is under way.

Canaries that come at nearly the same time share a watch: 200 releases at once are a few connections, not 200.
A watch keeps the set of canaries that it began with, and ends with the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from davylamp.api.objects import HASH_LABEL, Pod
from davylamp.kube.clock import Clock, Timer
from davylamp.kube.protocol import Api
from davylamp.kube.reflector import Reflector
from davylamp.kube.store import Store

GATHERING = 0.5
"""Seconds in which canaries are gathered for one watch."""
AT_MOST = 100
"""Canaries in one watch: its label selector is a part of the URL."""

Canary = tuple[str, str]
"""Namespace, and pod-template-hash."""


class CanaryPods:
    """`on_change` is called with each canary whose pods changed, or became known."""

    def __init__(
        self,
        api: Api,
        clock: Clock,
        on_change: Callable[[Canary], None],
        on_restart: Callable[[str, str], None] | None = None,
    ) -> None:
        self._api = api
        self._clock = clock
        self._on_change = on_change
        self._on_restart = on_restart
        self._watches: dict[Canary, _Watch] = {}
        self._waiting: dict[str, list[str]] = {}
        self._timer: Timer | None = None

    def of(self, canary: Canary) -> tuple[Pod, ...] | None:
        """The pods of a canary, None while they aren't known. Asking begins to watch them."""
        watch = self._watches.get(canary)
        if watch is not None:
            return watch.pods(canary[1])
        namespace, pod_hash = canary
        waiting = self._waiting.setdefault(namespace, [])
        if pod_hash not in waiting:
            waiting.append(pod_hash)
        if self._timer is None:
            self._timer = self._clock.call_later(GATHERING, self._begin)
        return None

    def drop(self, canary: Canary) -> None:
        """The release is over."""
        if canary[1] in self._waiting.get(canary[0], ()):
            self._waiting[canary[0]].remove(canary[1])
        watch = self._watches.pop(canary, None)
        if watch is not None and watch not in self._watches.values():
            watch.task.cancel()

    async def close(self) -> None:
        """End all watches."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = {watch.task for watch in self._watches.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watches.clear()
        self._waiting.clear()
        self._timer = None

    def _begin(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        for namespace, hashes in waiting.items():
            for start in range(0, len(hashes), AT_MOST):
                some = hashes[start : start + AT_MOST]
                watch = _Watch(self._api, self._clock, namespace, some, self._on_change, self._on_restart)
                for pod_hash in some:
                    self._watches[namespace, pod_hash] = watch


class _Watch:
    """One watch, for the pods of some canaries of a namespace."""

    def __init__(
        self,
        api: Api,
        clock: Clock,
        namespace: str,
        hashes: list[str],
        on_change: Callable[[Canary], None],
        on_restart: Callable[[str, str], None] | None,
    ) -> None:
        self._canaries = [(namespace, pod_hash) for pod_hash in hashes]
        self._on_change = on_change
        self._store: Store[Pod] = Store("Pod", {"hash": lambda pod: [pod.metadata.labels.get(HASH_LABEL, "")]})
        self._store.listeners.append(self._changed)
        self._pods: dict[str, tuple[Pod, ...]] = {}
        """By hash, as far as somebody asked since the last change."""
        labels = f"{HASH_LABEL} in ({','.join(hashes)})"
        self._reflector = Reflector(api, self._store, clock, namespace=namespace, labels=labels, on_restart=on_restart)
        self.task = asyncio.create_task(self._run())

    def pods(self, pod_hash: str) -> tuple[Pod, ...] | None:
        if not self._reflector.synced.is_set():
            return None
        found = self._pods.get(pod_hash)
        if found is None:
            found = self._pods[pod_hash] = tuple(self._store.by("hash", pod_hash))
        return found

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run())
            await self._reflector.synced.wait()
            for canary in self._canaries:
                self._on_change(canary)

    def _changed(self, kind: str, old: Pod | None, new: Pod | None) -> None:
        self._pods.clear()
        pod = new or old
        if pod is not None and self._reflector.synced.is_set():
            self._on_change((pod.metadata.namespace, pod.metadata.labels.get(HASH_LABEL, "")))

"""A whole cluster in this process: store, controllers, pods. `davylamp.embedded.served` serves it over HTTP."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from davylamp.embedded.client import Local
from davylamp.embedded.controllers.loop import Controllers
from davylamp.embedded.controllers.podlife import QUARANTINE
from davylamp.embedded.kubelet.imagined import Behave, Course, Imagined
from davylamp.embedded.store import ADMIN, Object, Store
from davylamp.kube import manifests
from davylamp.kube.clock import Clock

CONTROLLER = manifests.Options().user
"""The user as whom Davylamp's controller writes, and whom its gate lets through."""
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class Cluster:
    """Store, Kubernetes' controllers and imagined pods on one clock; everything happens in its event loop.

    >>> async with Cluster(clock) as cluster:       # doctest: +SKIP
    ...     await cluster.api().create(manifest)

    `behave` says what becomes of each pod, `seed` makes names and uids repeatable. Without `events` no Events are
    recorded, and without `managed` no managedFields are kept: both cost time that a simulation needs. With
    `imagined=False` there is no Node, and somebody else runs the pods (`davylamp.embedded.served`). A pod whose Node
    isn't there is deleted after `quarantine` seconds.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        behave: Behave = lambda pod: Course(),
        seed: int = 0,
        events: bool = True,
        managed: bool = True,
        imagined: bool = True,
        quarantine: float = QUARANTINE,
    ) -> None:
        self.clock = clock
        self.store = Store(clock, seed=seed, managed=managed)
        self.controllers = Controllers(self.store, events=events, quarantine=quarantine)
        self.pods = Imagined(self.store, behave)
        self._imagined = imagined

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        for name in NAMESPACES:
            if self.store.get("Namespace", "", name) is None:
                self.store.create(_namespace(name))
        self.controllers.start()
        if self._imagined:
            self.pods.start()

    def stop(self) -> None:
        self.pods.stop()
        self.controllers.stop()

    def api(self, user: str = ADMIN) -> Local:
        """The cluster as one user sees it."""
        return Local(self.store, user=user)

    def install_davylamp(self) -> None:
        """What `davy install` makes: kinds, rights and gate. Its controller runs by `davylamp.embedded.controlling`,
        as the user CONTROLLER. Raises StatusError 409 where it is installed already."""
        for manifest in _installation():
            self.store.create(manifest)

    async def until(self, condition: Callable[[], Any], seconds: float = 3600.0) -> None:
        """Let time pass until something is so; looked at now and after each change. Raises TimeoutError."""
        changed = asyncio.Event()
        unsubscribe = self.store.subscribe(lambda *_: changed.set())
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    changed.clear()
                    await changed.wait()
        finally:
            unsubscribe()


@functools.cache
def _installation() -> tuple[Object, ...]:
    """The same objects for every cluster of this process: a store changes none, and they take long to make."""
    return tuple(manifests.manifests(manifests.Options()))


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}

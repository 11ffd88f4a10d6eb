"""The real controller on the embedded cluster, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

from davylamp.api.crd import crds
from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.embedded.clock import LoopClock
from davylamp.embedded.cluster import Cluster
from davylamp.embedded.kubelet.imagined import Behave, Course
from davylamp.embedded.store import Object
from davylamp.embedded.writing import Request
from tests.kube.controllers import INGRESS_CLASS, NAMESPACE

USER = "system:serviceaccount:davylamp-system:davylamp"


class World:
    """A cluster with Davylamp at work, and what a test asks of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.store = cluster.store

    def put(self, *manifests: Object) -> None:
        for manifest in manifests:
            self.store.create(manifest)

    def get(self, kind: str, name: str = "web") -> Object:
        found = self.store.get(kind, NAMESPACE, name)
        assert found is not None, f"no {kind} {name}"
        return found

    def list(self, kind: str) -> list[Object]:
        return self.store.list(kind, NAMESPACE)

    def change(self, kind: str, name: str, patch: Object) -> None:
        self.store.patch(kind, NAMESPACE, name, patch)

    def set_image(self, image: str, name: str = "web") -> None:
        spec = {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}
        self.change("Deployment", name, {"spec": spec})

    @property
    def release(self) -> Object:
        """The newest one."""
        return self.list("Release")[-1]

    @property
    def phase(self) -> str:
        releases = self.list("Release")
        return str((releases[-1].get("status") or {}).get("phase", "Pending")) if releases else ""

    async def until(self, condition: Callable[[], Any], seconds: float = 3600.0) -> None:
        """Let time pass until something is so; looked at after each change. AssertionError after so many seconds."""
        changed = asyncio.Event()
        unsubscribe = self.store.subscribe(lambda *_: changed.set())
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    changed.clear()
                    await changed.wait()
        finally:
            unsubscribe()


_crds = functools.cache(crds)


def serve_ours(cluster: Cluster) -> None:
    """Our own kinds, and a gate, as `davy install` would have them."""
    for crd in _crds():
        cluster.store.create(crd)
    cluster.store.admission.append(lambda old, new, request: _gate(cluster, old, new, request))


def _gate(cluster: Cluster, old: Object | None, new: Object, request: Request) -> Object:
    if new["kind"] != "Deployment" or old is None or request.user == USER or not cluster.store.list("ReleasePolicy"):
        return new
    if new["spec"]["template"] == old["spec"]["template"] or new["spec"].get("paused"):
        return new
    meta = new["metadata"]
    annotations = (meta.get("annotations") or {}) | {"davylamp.dev/paused-by": "gate"}
    return {**new, "metadata": {**meta, "annotations": annotations}, "spec": {**new["spec"], "paused": True}}


@contextlib.asynccontextmanager
async def world(clock: LoopClock, behave: Behave = lambda pod: Course(), **options: Any) -> AsyncIterator[World]:
    async with Cluster(clock, behave=behave, **options) as cluster:
        serve_ours(cluster)
        here = World(cluster)
        here.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, INGRESS_CLASS)
        controller = Controller(cluster.api(USER), clock, Metrics(clock))
        tasks = [asyncio.create_task(controller.watch()), asyncio.create_task(controller.work())]
        try:
            yield here
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

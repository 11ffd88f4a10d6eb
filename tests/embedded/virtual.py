"""The real controller on the embedded cluster, in virtual time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from davylamp.controller.analyst import Opens
from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.embedded.clock import LoopClock
from davylamp.embedded.cluster import CONTROLLER, Cluster
from davylamp.embedded.controlling import running
from davylamp.embedded.kubelet.imagined import Behave, Course
from davylamp.embedded.store import Object
from tests.kube.controllers import INGRESS_CLASS, NAMESPACE


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
        """Let time pass until something is so. Raises TimeoutError after so many seconds."""
        await self.cluster.until(condition, seconds)


@contextlib.asynccontextmanager
async def world(
    clock: LoopClock, behave: Behave = lambda pod: Course(), *, lookers: Opens | None = None, **options: Any
) -> AsyncIterator[World]:
    """`lookers` make up the measurements that releases are judged by."""
    async with Cluster(clock, behave=behave, **options) as cluster:
        cluster.install_davylamp()
        here = World(cluster)
        here.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, INGRESS_CLASS)
        async with running(Controller(cluster.api(CONTROLLER), clock, Metrics(clock), lookers=lookers)):
            yield here

"""A controller on a fake API server with Kubernetes' own controllers, and a clock to wind."""

from __future__ import annotations

import asyncio
from typing import Any

from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.core.actions import Ref
from tests.kube.controllers import INGRESS_CLASS, NAMESPACE, Controllers, deployment, gate, policy
from tests.kube.fake import FakeApi, FakeClock, Object, idle


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(self.clock)
        gate(self.api)
        self.kubernetes = Controllers(self.api)
        self.api.put(INGRESS_CLASS)
        self.metrics = Metrics(self.clock)
        self.controller = self.new_controller()
        self._tasks: list[asyncio.Task[None]] = []

    def new_controller(self, **options: Any) -> Controller:
        self.metrics = Metrics(self.clock)
        return Controller(self.api, self.clock, self.metrics, **options)

    async def start(self, *manifests: Object, **options: Any) -> None:
        """Kubernetes with these objects at rest, then the controller."""
        kubernetes = asyncio.create_task(self.kubernetes.run())
        for manifest in manifests:
            self.api.put(manifest)
        await idle()
        self.controller = self.new_controller(**options)
        controller = self.controller
        self._tasks = [kubernetes, asyncio.create_task(controller.watch()), asyncio.create_task(controller.work())]
        await self.clock.advance(1)

    async def start_web(self, **spec: Any) -> None:
        """With a Deployment `web` and its policy."""
        await self.start(deployment(), policy(**spec))

    async def restart(self, **options: Any) -> None:
        """As after a crash: nothing is remembered."""
        await self.stop(*self._tasks[1:])
        self.controller = self.new_controller(**options)
        controller = self.controller
        self._tasks[1:] = [asyncio.create_task(controller.watch()), asyncio.create_task(controller.work())]
        await self.clock.advance(1)

    @property
    def controller_tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks[1:]

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """End the controller and Kubernetes. What one of them died of is raised."""
        for task in tasks or self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*(tasks or self._tasks), return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def set_image(self, image: str, name: str = "web") -> None:
        spec = {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}
        self.api.change(Ref("Deployment", NAMESPACE, name), {"spec": spec})

    def get(self, kind: str, name: str = "web") -> Object:
        return self.api.objects[Ref(kind, "" if kind == "IngressClass" else NAMESPACE, name)]

    @property
    def release(self) -> Object:
        """The newest one."""
        return self.api.of_kind("Release")[-1]

    @property
    def phase(self) -> str:
        return str(self.release.get("status", {}).get("phase", "Pending"))

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [(verb, ref.kind) for verb, ref in self.api.writes]

    def events(self, reason: str) -> list[str]:
        return [event["note"] for event in self.api.of_kind("Event") if event["reason"] == reason]

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

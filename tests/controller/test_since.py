from __future__ import annotations

from typing import Any

import pytest

from davylamp.api.objects import HTTPRoute, Ingress, IngressSpec, Meta, Service, ServiceSpec
from davylamp.controller.since import Since
from davylamp.core.actions import Ref
from tests.kube.fake import FakeClock

ASKER = Ref("Deployment", "shop", "web")
WEB = Ref("Ingress", "shop", "web")
SERVICE = Ref("Service", "shop", "web")
WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"


def ingress(weight: str = "10", cls: str = "nginx", **other: str) -> Ingress:
    annotations = {WEIGHT: weight} | other
    return Ingress(Meta(name="web", namespace="shop", annotations=annotations), IngressSpec(ingress_class_name=cls))


def service(**selector: str) -> Service:
    return Service(Meta(name="web", namespace="shop"), ServiceSpec(selector=selector))


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.since = Since(self.clock)
        self.objects: dict[Ref, Any] = {}

    async def becomes(self, ref: Ref, obj: Any) -> None:
        await self.clock.advance(10)
        old = self.objects.get(ref)
        self.objects[ref] = obj
        self.since.changed(ref.kind, old, obj)

    def seconds(self, ref: Ref) -> float:
        """Since when, in seconds after the start."""
        at = self.since.of(ASKER, [ref], self.objects.get)[ref]
        return (at - self.clock.start).total_seconds()


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_it_counts_from_when_it_was_first_asked_for(rig: Rig) -> None:
    rig.objects[WEB] = ingress()
    await rig.clock.advance(5)
    assert rig.seconds(WEB) == 5
    await rig.clock.advance(5)
    assert rig.seconds(WEB) == 5


@pytest.mark.parametrize(
    ("ref", "before", "after", "counts"),
    [
        (WEB, ingress("10"), ingress("50"), True),
        (WEB, ingress("10"), ingress("10", cls="other"), True),
        (WEB, ingress("10"), ingress("10", note="hello"), False),
        (WEB, None, ingress(), True),
        (WEB, ingress(), None, True),
        (SERVICE, service(app="web"), service(app="web", hash="1"), True),
        (SERVICE, service(app="web"), service(app="web"), False),
    ],
)
async def test_only_what_decides_on_traffic_counts_as_a_change(
    rig: Rig, ref: Ref, before: Any, after: Any, counts: bool
) -> None:
    rig.objects[ref] = before
    assert rig.seconds(ref) == 0
    await rig.becomes(ref, after)
    assert rig.seconds(ref) == (10 if counts else 0)


async def test_what_nobody_asks_for_any_more_is_forgotten(rig: Rig) -> None:
    rig.objects[WEB] = ingress()
    other = Ref("Deployment", "shop", "other")
    rig.since.of(other, [WEB], rig.objects.get)
    rig.seconds(WEB)
    rig.since.forget(ASKER)
    await rig.clock.advance(10)
    assert rig.seconds(WEB) == 0, "another release still asks for it"
    rig.since.forget(ASKER)
    rig.since.forget(other)
    assert rig.seconds(WEB) == 10


def route(taken: int = 1, at: str = "12:00", **spec: str) -> HTTPRoute:
    accepted = {"type": "Accepted", "status": "True", "observedGeneration": taken, "lastTransitionTime": at}
    said = {"parentRef": {"name": "gw"}, "controllerName": "x", "conditions": [accepted]}
    metadata = Meta(name="web", namespace="shop")
    return HTTPRoute(metadata, {"parentRefs": [{"name": "gw"}], **spec}, {"parents": [said]})


@pytest.mark.parametrize(
    ("after", "counts"),
    [(route(hostnames="x"), True), (route(taken=2), True), (route(at="12:01"), False)],
)
async def test_a_route_counts_from_when_it_was_last_changed_or_taken(rig: Rig, after: HTTPRoute, counts: bool) -> None:
    ref = Ref("HTTPRoute", "shop", "web")
    rig.objects[ref] = route()
    rig.seconds(ref)
    await rig.becomes(ref, after)
    assert rig.seconds(ref) == (10 if counts else 0)

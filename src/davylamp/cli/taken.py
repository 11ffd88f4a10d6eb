"""What a simulation takes from a cluster: the policy, the objects around it, and how many requests come."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from yarl import URL

from davylamp.api.objects import HASH_LABEL, Pod
from davylamp.cli.detect import ask
from davylamp.cli.exits import NOT_FOUND, Failure
from davylamp.cli.picture import Picture
from davylamp.cli.session import Session, Where, session
from davylamp.core.actions import Ref
from davylamp.core.case import case_of
from davylamp.core.world import World
from davylamp.kube.errors import ApiError
from davylamp.signals.conventions import Names, detect, read
from davylamp.signals.exposition import BadExposition, decode

if TYPE_CHECKING:
    from davylamp.embedded.simulate.stage import Stage

Object = dict[str, Any]

SECONDS = 10.0
"""Between two looks at the pods' counters."""
PODS = 5
"""Pods that are asked, at most."""


async def taken(
    where: Where, name: str, replicas: int | None, *, rate: float | None
) -> tuple[Stage, float | None, tuple[str, ...]]:
    """The stage, the requests per second (None: they can't be told), and sentences about what was taken.

    `rate` is what a person says; then no pod is asked. Raises Failure, and Unusable for a policy with problems.
    """
    from davylamp.embedded.simulate import stage

    async with session(where) as here:
        picture, workload = await here.workload(name)
        world = picture.world(here.namespace, workload)
        if world.deployment is None or world.policy is None:
            missing = "Deployment" if world.deployment is None else "policy"
            raise Failure(f"{here.namespace}/{workload} has no {missing}: there is nothing to simulate", NOT_FOUND)
        policy = await _whole(here, "ReleasePolicy", world.policy.metadata.name)
        built = stage.build(policy, [obj async for obj in _around(here, world)], replicas)
        if rate is not None:
            return built, rate, ()
        await picture.read_pods(here.namespace, workload)
        try:
            found = await _rate(here, picture, workload)
        except (Failure, ApiError, BadExposition) as error:
            return built, None, (f"how many requests come can't be measured, so --rps says it or its default: {error}",)
        return built, found, (f"{found:g} requests/s are what the pods served in {SECONDS:g} s",)


async def _around(here: Session, world: World) -> Any:
    """The Deployment, its Services and its routes, as if no release were under way."""
    for name in world.pair.names if world.pair is not None else (world.name,):
        deployment = await _whole(here, "Deployment", name)
        spec = {key: value for key, value in deployment["spec"].items() if key != "paused"}
        template = (_running(world) if world.pair is None else None) or spec["template"]
        yield {**deployment, "spec": {**spec, "template": template}}
    traffic = world.traffic
    for name in traffic.all_services:
        service = await _whole(here, "Service", name)
        selector = {key: value for key, value in service["spec"].get("selector", {}).items() if key != HASH_LABEL}
        yield {**service, "spec": {**service["spec"], "selector": selector}}
    if not traffic.service:
        return
    if traffic.canary_service:
        yield await _whole(here, "Service", traffic.canary_service)
    for route in traffic.routes:
        if route.ingress is not None:
            yield await _whole(here, "Ingress", route.ingress.name)
        if route.ingress is not None and route.ingress.canary is not None:
            yield await _whole(here, "Ingress", route.ingress.canary)
        if not _under_way(world):
            for kind, named in (
                ("HTTPRoute", route.http_route),
                ("GRPCRoute", route.grpc_route),
                ("VirtualService", route.virtual_service),
            ):
                if named is not None:
                    yield await _whole(here, kind, named.name)
    try:
        for found in await here.api.list_raw("IngressClass"):
            yield {**found, "kind": "IngressClass"}
    except ApiError as error:
        if not error.forbidden:
            raise


def _under_way(world: World) -> bool:
    """Then routes of the Gateway API and of Istio are what the release made of them."""
    return world.release is not None and world.release.active


def _running(world: World) -> Object | None:
    """The template whose pods run, where a Deployment asks for another that is tried, held or was rejected."""
    case = case_of(world)
    found = case.stable if case is not None else None
    if found is None and world.deployment is not None:
        uid = world.deployment.metadata.uid
        own = [rs for rs in world.replica_sets if uid in (ref.uid for ref in rs.metadata.owner_references)]
        found = max(own, key=lambda rs: rs.spec.replicas, default=None)
    if found is None or not found.spec.replicas:
        return None
    template: Object = msgspec.json.decode(found.spec.template)
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != HASH_LABEL}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


async def _whole(here: Session, kind: str, name: str) -> Object:
    """All fields of an object, without our own marks."""
    found = await here.api.get(Ref(kind, here.namespace, name))
    if found is None:
        raise Failure(f"{kind} {here.namespace}/{name} has just gone", NOT_FOUND)
    meta = found["metadata"]
    kept = {field: _foreign(meta.get(field) or {}) for field in ("labels", "annotations")}
    return {**found, "kind": kind, "metadata": {"name": name, "namespace": here.namespace, **kept}}


def _foreign(marks: dict[str, str]) -> dict[str, str]:
    ours = ("davylamp.dev/", "kubectl.kubernetes.io/", "deployment.kubernetes.io/")
    return {key: value for key, value in marks.items() if not key.startswith(ours)}


# --- how many requests come ---


async def _rate(here: Session, picture: Picture, workload: str) -> float:
    """Requests per second of all ready pods, from the counters of some."""
    detected = await ask(here, picture, workload)
    if not detected.errors:
        raise Failure("the pods have no counter of requests (`davy analysis detect` shows what they have)")
    ready = [pod for pod in picture.pods_of(here.namespace, workload) or () if pod.ready]
    asked = ready[:PODS]
    began = time.monotonic()
    before = await asyncio.gather(*(_requests(here, pod, detected.url, detected.errors) for pod in asked))
    await asyncio.sleep(SECONDS)
    after = await asyncio.gather(*(_requests(here, pod, detected.url, detected.errors) for pod in asked))
    served = sum(max(0.0, new - old) for new, old in zip(after, before, strict=True))
    return round(served / (time.monotonic() - began) * len(ready) / len(asked), 1)


async def _requests(here: Session, pod: Pod, url: str, metric: str) -> float:
    place = URL(f"http://pod{url}")
    body = await here.api.ask_pod(here.namespace, pod.metadata.name, place.port or 80, place.path)
    exposition = decode(body, "text/plain")
    choice = msgspec.structs.replace(detect(exposition, Names()), latency=None)
    return sum(read(exposition, choice).requests.values()) or sum(exposition.samples.get(metric, {}).values())

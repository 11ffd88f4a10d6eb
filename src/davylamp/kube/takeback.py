"""Taking one release back without a controller, for `davy uninstall --force`: the same plan, fed by plain lists.

It reads everything anew for each write, which a controller must not do, and which one release can afford.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from davylamp.api.objects import HASH_LABEL, Deployment, EndpointSlice, ReplicaSet, Service
from davylamp.api.types import Pair, Release, ReleasePolicy
from davylamp.core import pairs
from davylamp.core.actions import Ref
from davylamp.core.plan import plan
from davylamp.core.world import Route, World, promised
from davylamp.kube.apply import Writer
from davylamp.kube.clock import Clock, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.install import InstallProblem
from davylamp.kube.kinds import kind_of
from davylamp.kube.protocol import Api
from davylamp.routers import review
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.registry import router_of

POLL = 0.5
"""Seconds between two looks at what is waited for."""


async def take_back(api: Api, clock: Clock, release: Release, deadline: float) -> None:
    """Carry out what is left of `release`, which was asked to abort, until it has ended: the traffic back on the
    stable pods, then the canary's pods gone, then everything as it was.

    Raises InstallProblem ("timed out") when `clock` passes `deadline` before that.
    """
    writer = Writer(api, {}, clock, instance="davy-uninstall")
    seen: dict[Ref, tuple[object, datetime]] = {}
    while True:
        world = await _world(api, release.metadata.namespace, release.metadata.name, seen, clock)
        if world is None:
            return
        decided = plan(world, clock.now())
        if decided.actions:
            with contextlib.suppress(_Stale):
                await _carry_out(writer, decided.actions)
            continue
        if clock.time() >= deadline:
            name = f"{release.metadata.namespace}/{release.metadata.name}"
            raise InstallProblem("timed out", f"release {name} could not be taken back: {decided.message}")
        await sleep(clock, POLL)


class _Stale(Exception):
    """Somebody else wrote in between; look again."""


async def _carry_out(writer: Writer, actions: Any) -> None:
    try:
        await writer.carry_out(actions)
    except ApiError as error:
        if error.conflict or error.not_found:
            raise _Stale from error
        raise


async def _world(
    api: Api, namespace: str, name: str, seen: dict[Ref, tuple[object, datetime]], clock: Clock
) -> World | None:
    """The world of the release as it is now; None once the release has ended or is gone."""
    release: Release | None = await api.read(Ref("Release", namespace, name))
    if release is None or not release.active:
        return None
    spec, pair = release.spec, release.spec.pair
    deployment: Deployment | None = await api.read(Ref("Deployment", namespace, spec.deployment))
    partner: Deployment | None = await api.read(Ref("Deployment", namespace, pair.stable)) if pair else None
    if pair is not None:
        own = await api.list("ReplicaSet", namespace)
        release = pairs.resolved(release, *([rs for rs in own if _is_of(rs, one)] for one in (partner, deployment)))
        spec = release.spec
    policy: ReleasePolicy | None = await api.read(Ref("ReleasePolicy", namespace, spec.policy))
    traffic = promised(spec)
    services = await _services(api, namespace, traffic.touched)
    kinds = {kind for route in spec.routes if (router := router_of(route)) is not None for kind in router.kinds}
    kinds = {kind for kind in kinds if kind_of(kind).namespaced}
    split = {Ref(kind, namespace, obj.metadata.name): obj for kind in kinds for obj in await api.list(kind, namespace)}
    routes = review.bind(traffic, NamespaceObjects.of(namespace, split.values()))
    objects = split | {Ref("Service", namespace, s.metadata.name): s for s in services.values()}
    return World(
        namespace=namespace,
        name=spec.workload,
        deployment=deployment,
        policy=policy,
        traffic=traffic,
        releases=(release,),
        replica_sets=await _replica_sets(api, release, deployment, partner),
        pods=tuple(await api.list("Pod", namespace, f"{HASH_LABEL}={spec.canary.hash}")) if spec.canary.hash else (),
        services=services,
        endpoints={service: await _endpoints(api, namespace, service) for service in services},
        routes=routes,
        since=_since(routes, objects, seen, clock),
        pair=Pair(stable=pair.stable, canary=spec.deployment) if pair is not None else None,
        partner=partner,
    )


def _is_of(replica_set: ReplicaSet, deployment: Deployment | None) -> bool:
    owner = replica_set.metadata.controller
    return owner is not None and deployment is not None and owner.uid == deployment.metadata.uid


async def _services(api: Api, namespace: str, wanted: Iterable[str]) -> dict[str, Service]:
    found = {name: await api.read(Ref("Service", namespace, name)) for name in wanted}
    return {name: obj for name, obj in found.items() if obj is not None}


async def _endpoints(api: Api, namespace: str, service: str) -> frozenset[str]:
    slices: list[EndpointSlice] = list(
        await api.list("EndpointSlice", namespace, f"kubernetes.io/service-name={service}")
    )
    return frozenset(pod for endpoint_slice in slices for pod in endpoint_slice.ready_pods)


async def _replica_sets(api: Api, release: Release, *deployments: Deployment | None) -> tuple[ReplicaSet, ...]:
    """The Deployments', the Release's, and the two that the release knows by name."""
    owners = {release.metadata.uid} | {deployment.metadata.uid for deployment in deployments if deployment is not None}
    known = {release.spec.stable.replica_set, release.spec.canary.replica_set}
    found: list[ReplicaSet] = list(await api.list("ReplicaSet", release.metadata.namespace))
    return tuple(
        rs
        for rs in found
        if rs.metadata.name in known or ((owner := rs.metadata.controller) is not None and owner.uid in owners)
    )


def _since(
    routes: tuple[Route, ...], objects: dict[Ref, Any], seen: dict[Ref, tuple[object, datetime]], clock: Clock
) -> dict[Ref, datetime]:
    """Since when each object that decides on traffic is as it is, or absent, as far as `seen` has been kept."""
    refs = {ref for route in routes for ref in route.refs} | {ref for ref in objects if ref.kind == "Service"}
    for ref in refs:
        obj = objects.get(ref)
        content = (obj.metadata.annotations, obj.spec) if obj is not None else None
        if ref not in seen or seen[ref][0] != content:
            seen[ref] = (content, clock.now())
    return {ref: seen[ref][1] for ref in refs}

"""The cluster as the command line sees it: the controller's own stores and gathering, so that both see the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from davylamp.api.objects import HASH_LABEL, Deployment, LabelSelector, Pod
from davylamp.api.types import Release, ReleasePolicy
from davylamp.controller.gather import Sources, gather
from davylamp.controller.known import CLUSTER_WIDE, IN_NAMESPACES, OPTIONAL, SPLITTING, Known
from davylamp.controller.since import Since
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.start import active
from davylamp.core.world import World
from davylamp.kube.clock import Clock, SystemClock
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api
from davylamp.kube.reflector import LAST_PAUSE, Reflector
from davylamp.kube.store import Store
from davylamp.routers.registry import router_of
from davylamp.routers.review import resolve
from davylamp.view.model import WorkloadView, view

if TYPE_CHECKING:
    from davylamp.controller.canaries import CanaryPods

AT_MOST = 100
"""Canaries in one request: a label selector is a part of the URL."""
FIRST = ("ReleasePolicy", "Release", "Deployment", "ReplicaSet")
"""What is always read. The rest is only read where traffic comes into it."""
TRAFFIC = ("Service", "Ingress", "EndpointSlice")


class Picture:
    """What is known of some namespaces, and views made of it. Filled by `read` once, or kept up by `follow`."""

    def __init__(self, api: Api, namespace: str, clock: Clock | None = None) -> None:
        self.api = api
        self.namespace = namespace
        """"" for all."""
        self.clock = clock or SystemClock()
        self.changed = asyncio.Event()
        self._failed_at: datetime | None = None
        self.known = Known(lambda _: None)
        self.since = Since(self.clock)
        self.pods: dict[tuple[str, str], Store[Pod]] = {}
        """By a Deployment's namespace and name: all pods that its selector selects. What was read for it wins over
        `canaries`."""
        self.canaries: Store[Pod] | None = None
        """The pods of all canaries."""
        for store in self.known.stores.values():
            store.listeners += [self.since.changed, self._told]

    def _told(self, kind: str, old: Any, new: Any) -> None:
        self.changed.set()

    # --- filling it ---

    async def read(self, always: Collection[str] = ()) -> None:
        """What there is once; `always` are kinds that are needed in any case. Raises ApiError."""
        await asyncio.gather(*(self._list(kind) for kind in FIRST))
        under_way = any(release.active and release.spec.service for release in self.known.releases)
        split = under_way or any(policy.spec.traffic for policy in self.known.policies)
        kinds = {*always, *(TRAFFIC[:2] if split else ()), *(TRAFFIC[2:] if under_way else ())}
        wanted = self._splitting() if split else set()
        traffic = [*(self._list(kind) for kind in sorted(kinds)), self._classes()] if kinds else []
        traffic += [self._list_if_any(kind) for kind in sorted(wanted)]
        await asyncio.gather(*traffic, self._canaries())

    async def _canaries(self) -> None:
        """The pods of releases under way, without which nothing can be said of their health and endpoints."""
        active = (self.known.resolved(release) for release in self.known.releases if release.active)
        hashes = sorted({release.spec.canary.hash for release in active} - {""})
        self.canaries = Store("Pod")
        for start in range(0, len(hashes), AT_MOST):
            some = ",".join(hashes[start : start + AT_MOST])
            for pod in await self.api.list("Pod", self.namespace, f"{HASH_LABEL} in ({some})"):
                self.canaries.saw(pod)

    def _splitting(self) -> set[str]:
        """The kinds beside Ingress that policies and releases have to do with."""
        specs = [policy.spec.traffic for policy in self.known.policies if policy.spec.traffic is not None]
        if any(traffic.detect for traffic in specs):
            return {*SPLITTING, "GatewayClass"}
        routes = [route for traffic in specs for route in traffic.routes]
        routes += [route for release in self.known.releases if release.active for route in release.spec.routes]
        routers = {router for route in routes if (router := router_of(route)) is not None}
        return {kind for router in routers for kind in router.kinds if kind in OPTIONAL}

    async def _list_if_any(self, kind: str) -> None:
        """What an API server may not know, and not everybody may read."""
        try:
            await self._list(kind, "" if kind in CLUSTER_WIDE else None)
        except ApiError as error:
            if not (error.not_found or error.forbidden):
                raise

    async def _list(self, kind: str, namespace: str | None = None) -> None:
        store = self.known.stores[kind]
        for obj in await self.api.list(kind, self.namespace if namespace is None else namespace):
            store.saw(obj)

    async def _classes(self) -> None:
        """IngressClasses belong to the cluster, and many people may not read those."""
        try:
            await self._list("IngressClass", "")
        except ApiError as error:
            if not error.forbidden:
                raise
            self.known.without_ingress_classes()

    async def read_pods(self, namespace: str, name: str) -> None:
        """The pods of one Deployment or of a pair, stable and canary's."""
        for deployment in self._deployments(namespace, name):
            store = self.pods[namespace, deployment.metadata.name] = Store("Pod")
            for pod in await self.api.list("Pod", namespace, _labels(deployment.spec.selector)):
                store.saw(pod)

    def _deployments(self, namespace: str, name: str) -> list[Deployment]:
        """Those of a workload: one, or the two of a pair."""
        found = (self.known.deployments.get(namespace, one) for one in self.known.members_of(namespace, name))
        return [deployment for deployment in found if deployment is not None]

    def pods_of(self, namespace: str, name: str) -> tuple[Pod, ...] | None:
        """All pods of a workload, None where they were not read."""
        read = [self.pods.get((namespace, d.metadata.name)) for d in self._deployments(namespace, name)]
        stores = [store for store in read if store is not None]
        return tuple(pod for store in stores for pod in store) if stores else None

    async def follow(self, namespace: str, name: str, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """After `read`: keep the picture of one workload up to date. Returns the watches, when they have begun."""
        await self.read_pods(namespace, name)
        self.known.go_live()
        # A watch that fails is told of by `trouble`, once and not for each kind.
        logging.getLogger("davylamp.kube.reflector").setLevel(logging.ERROR)
        reflectors = [self._reflector(self.known.stores[kind], namespace) for kind in IN_NAMESPACES]
        reflectors += [self._reflector(self.known.stores[kind], "", optional=True) for kind in CLUSTER_WIDE]
        reflectors += [self._reflector(self.known.stores[kind], namespace, optional=True) for kind in SPLITTING]
        for deployment in self._deployments(namespace, name):
            pods = self.pods[namespace, deployment.metadata.name]
            pods.listeners.append(self._told)
            reflectors.append(self._reflector(pods, namespace, labels=_labels(deployment.spec.selector)))
        tasks = [group.create_task(reflector.run()) for reflector in reflectors]
        for reflector in reflectors:
            await reflector.synced.wait()
        return tasks

    def _reflector(self, store: Store[Any], namespace: str, *, labels: str = "", optional: bool = False) -> Reflector:
        return Reflector(
            self.api,
            store,
            self.clock,
            namespace=namespace,
            labels=labels,
            optional=optional,
            on_restart=None if optional else self._restarted,
        )

    def _restarted(self, kind: str, why: str) -> None:
        if why == "failed":
            self._failed_at = self.now
            self.changed.set()

    @property
    def trouble(self) -> str:
        """What keeps the picture from being kept up to date, "" for nothing."""
        recently = self._failed_at is not None and self.now - self._failed_at < timedelta(seconds=LAST_PAUSE + 1)
        return "the cluster can't be watched, trying again; what is told may be old" if recently else ""

    # --- looking at it ---

    def world(self, namespace: str, name: str) -> World:
        """The world of one Deployment, as the controller would gather it."""
        key = Ref("Deployment", namespace, name)
        read, deployments = self.pods_of(namespace, name), self._deployments(namespace, name)
        found = read if read is not None else None if self.canaries is None else tuple(self.canaries)
        sources = Sources(self.known, self.since, cast("CanaryPods", _Pods(found)))
        if any(d.metadata.annotations.get(names.PAUSED_BY) == "davylamp" for d in deployments):
            sources.gate = "fallback"
        deployment = deployments[0] if deployments else None
        return self._with_problems(gather(sources, key), deployment)

    def _with_problems(self, world: World, deployment: Deployment | None) -> World:
        """The policy's problems also where the controller has no use for them: while a release is under way, and
        where the Deployment isn't there."""
        policy = world.policy or self._policy_naming(world)
        if policy is None or world.problems:
            return world
        resolution = resolve(policy, deployment, self.known.namespace(world.namespace))
        return msgspec.structs.replace(world, policy=policy, problems=resolution.problems)

    def _policy_naming(self, world: World) -> ReleasePolicy | None:
        if world.deployment is not None:
            return None
        here = (policy for policy in self.known.policies if policy.metadata.namespace == world.namespace)
        return next((policy for policy in here if world.name in policy.spec.target.names), None)

    def view(self, namespace: str, name: str) -> WorkloadView:
        """What a person sees of one workload now."""
        world = self.world(namespace, name)
        found = self.pods_of(namespace, name)
        return view(world, self.now, stable_pods=None if found is None else _stable_pods(world, found))

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def workloads(self) -> list[tuple[str, str]]:
        """Namespaces and names of what Davylamp has to do with: Deployments with a policy, a release or our pause."""
        found = {(r.metadata.namespace, r.spec.workload) for r in self.known.releases}
        found |= {(p.metadata.namespace, name) for p in self.known.policies for name in p.spec.target.names}
        here = ((d.metadata.namespace, d.metadata.name) for d in self.known.deployments)
        found |= {key for key in here if self.known.concerns(*key)}
        return sorted({(namespace, self.known.workload_of(namespace, name)) for namespace, name in found})

    def idle_policies(self) -> Iterator[ReleasePolicy]:
        """Policies of a fleet that has no Deployment (yet)."""
        for policy in sorted(self.known.policies, key=lambda p: (p.metadata.namespace, p.metadata.name)):
            if not policy.spec.target.names and not self.known.namespace(policy.metadata.namespace).targets_of(policy):
                yield policy

    def release(self, namespace: str, name: str) -> Release | None:
        return self.known.releases.get(namespace, name)


class _Pods:
    """Stands for the controller's `CanaryPods`, of which a gathering only asks this one question."""

    def __init__(self, pods: tuple[Pod, ...] | None) -> None:
        self._pods = pods

    def of(self, canary: tuple[str, str]) -> tuple[Pod, ...] | None:
        if self._pods is None:
            return None
        return tuple(
            pod for pod in self._pods if (pod.metadata.namespace, pod.metadata.labels.get(HASH_LABEL)) == canary
        )


def _stable_pods(world: World, pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Those of the stable version while there are two, or else those of what the Deployment runs."""
    release = world.release
    if release is not None and release.active:
        hashes = {release.spec.stable.hash}
    else:
        hashes = {rs.metadata.labels.get(HASH_LABEL, "") for rs in active(world)}
    return tuple(pod for pod in pods if pod.metadata.labels.get(HASH_LABEL) in hashes)


def _labels(selector: LabelSelector) -> str:
    """A label selector as the API server's list parameter has it."""
    parts = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for rule in selector.match_expressions:
        values = f"({','.join(rule.values)})"
        parts.append(
            {
                "In": f"{rule.key} in {values}",
                "NotIn": f"{rule.key} notin {values}",
                "DoesNotExist": f"!{rule.key}",
            }.get(rule.operator, rule.key)
        )
    return ",".join(parts)

"""What the controller knows of the cluster: the stores, and what is looked up in them.

Everything here comes from watches and from the answers to our own writes, and all of it could be lost at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from davylamp.api.objects import (
    Deployment,
    DestinationRule,
    EndpointSlice,
    GatewayClass,
    GRPCRoute,
    HTTPRoute,
    Ingress,
    IngressClass,
    ReplicaSet,
    Service,
    VirtualService,
)
from davylamp.api.types import Release, ReleasePolicy
from davylamp.core import names, pairs
from davylamp.core.actions import Ref
from davylamp.core.world import promised
from davylamp.kube.gate import MARK
from davylamp.kube.store import Store, same
from davylamp.routers.namespace import NamespaceObjects, Watched
from davylamp.routers.review import Resolution, resolve
from davylamp.routers.senders import services_of

IN_NAMESPACES = ("Deployment", "Service", "Ingress", "ReplicaSet", "EndpointSlice", "Release", "ReleasePolicy")
"""What is watched, in this order of starting (the large ones first)."""
SPLITTING = ("HTTPRoute", "GRPCRoute", "VirtualService", "DestinationRule")
"""Watched where the API server knows them and we may: their CRDs come with other projects."""
CLUSTER_WIDE = ("IngressClass", "GatewayClass")
"""Watched where we may."""
OPTIONAL = frozenset((*SPLITTING, *CLUSTER_WIDE))


class Known:
    """The stores by kind, an index of each namespace, and what a policy means for a Deployment, until that changes.

    `on_key` is called with each key that a change asks to look at: a Ref of a Deployment or of a ReleasePolicy.
    `kept` may leave out of a Release what nobody reads here.
    """

    def __init__(self, on_key: Callable[[Ref], None], kept: Callable[[Release], Release] = lambda one: one) -> None:
        self.releases: Store[Release] = Store(
            "Release",
            {"workload": _workload_of, "member": _members_of, "services": _services_of, "policy": _policy_of},
            kept,
        )
        self.policies: Store[ReleasePolicy] = Store("ReleasePolicy")
        self.deployments: Store[Deployment] = Store("Deployment")
        self.replica_sets: Store[ReplicaSet] = Store("ReplicaSet", {"owner": _owner_of})
        self.services: Store[Service] = Store("Service")
        self.endpoint_slices: Store[EndpointSlice] = Store("EndpointSlice", {"service": _service_of})
        self.ingresses: Store[Ingress] = Store("Ingress")
        self.ingress_classes: Store[IngressClass] = Store("IngressClass")
        self.gateway_classes: Store[GatewayClass] = Store("GatewayClass")
        splitting: list[Store[Any]] = [Store(kind) for kind in SPLITTING]
        every: tuple[Store[Any], ...] = (
            self.releases,
            self.policies,
            self.deployments,
            self.replica_sets,
            self.services,
            self.endpoint_slices,
            self.ingresses,
            self.ingress_classes,
            self.gateway_classes,
            *splitting,
        )
        self.stores: dict[str, Store[Any]] = {store.kind: store for store in every}
        for store in self.stores.values():
            store.listeners.append(self._changed)
        self._on_key = on_key
        self._namespaces: dict[str, NamespaceObjects] = {}
        self._classes: dict[str, IngressClass] | None = {}
        self._gateway_classes: dict[str, GatewayClass] = {}
        self._resolutions: dict[tuple[str, str], tuple[tuple[str, int], Resolution]] = {}
        self._live = False

    def namespace(self, name: str) -> NamespaceObjects:
        """What policies look up in one namespace."""
        found = self._namespaces.get(name)
        if found is None:
            found = self._namespaces[name] = NamespaceObjects(name, self._classes, self._gateway_classes)
        return found

    def without_ingress_classes(self) -> None:
        """IngressClasses may not be read, so nothing is concluded from there being none."""
        self._classes = None
        for objects in self._namespaces.values():
            objects.ingress_classes = None

    # --- questions ---

    def releases_of(self, namespace: str, workload: str) -> list[Release]:
        """Oldest first."""
        found = self.releases.by("workload", (namespace, workload))
        return sorted(found, key=_age) if len(found) > 1 else found

    def workload_of(self, namespace: str, deployment: str) -> str:
        """The name under which a Deployment's releases are kept: its own, or of a pair the first of the two."""
        under_way = [r for r in self.releases.by("member", (namespace, deployment)) if r.active]
        if under_way:
            return min(release.spec.workload for release in under_way)
        policy = self.policy_naming(namespace, deployment)
        return policy.spec.target.workload if policy is not None and policy.spec.target.pair else deployment

    def members_of(self, namespace: str, workload: str) -> tuple[str, ...]:
        """The Deployments of a workload, by what `workload_of` calls it."""
        under_way = [r for r in self.releases.by("workload", (namespace, workload)) if r.active]
        if under_way:
            return under_way[0].spec.deployments
        policy = self.policy_naming(namespace, workload)
        pair = policy.spec.target.pair if policy is not None else None
        return pair.names if pair is not None else (workload,)

    def policy_naming(self, namespace: str, deployment: str) -> ReleasePolicy | None:
        """The oldest policy that names this Deployment, whether there is one or not."""
        known = self._namespaces.get(namespace)
        found = known.policies_naming_target(deployment) if known is not None else []
        return min(found, key=lambda p: (str(p.metadata.creation_timestamp), p.metadata.name), default=None)

    def resolved(self, release: Release) -> Release:
        """A release of a pair with the ReplicaSets of its two versions; any other as it is."""
        if release.spec.pair is None:
            return release
        namespace = release.metadata.namespace
        stable, canary = (
            self.own_of(self.deployments.get(namespace, name))
            for name in (release.spec.pair.stable, release.spec.deployment)
        )
        return pairs.resolved(release, stable, canary)

    def own_of(self, deployment: Deployment | None) -> list[ReplicaSet]:
        """The ReplicaSets that a Deployment owns."""
        return self.replica_sets.by("owner", deployment.metadata.uid) if deployment is not None else []

    def policy_of(self, deployment: Deployment) -> ReleasePolicy | None:
        """The policy that releases this Deployment; of several (a problem that is reported) the oldest."""
        found = self.namespace(deployment.metadata.namespace).policies_of(deployment)
        return min(found, key=lambda p: (str(p.metadata.creation_timestamp), p.metadata.name), default=None)

    def resolution(self, policy: ReleasePolicy, deployment: Deployment) -> Resolution:
        """What the policy means for the Deployment, and what is wrong with it."""
        key = (deployment.metadata.namespace, deployment.metadata.name)
        of = (policy.metadata.uid, policy.metadata.generation)
        known = self._resolutions.get(key)
        if known is not None and known[0] == of:
            return known[1]
        found = resolve(policy, deployment, self.namespace(key[0]))
        self._resolutions[key] = (of, found)
        return found

    def concerns(self, namespace: str, deployment: str) -> bool:
        """Whether there is anything to do for this Deployment, now or ever: a policy, a release, or
        a mark of ours."""
        if self.releases.by("member", (namespace, deployment)):
            return True
        found = self.deployments.get(namespace, deployment)
        if found is None:
            return False
        if names.PAUSED_BY in found.metadata.annotations or MARK in found.metadata.labels:
            return True
        return namespace in self._namespaces and bool(self._namespaces[namespace].policies_of(found))

    def go_live(self) -> None:
        """Everything is known; from now on changes ask for their keys."""
        self._live = True

    def all_keys(self) -> Iterator[Ref]:
        """Everything that there is to look at, for one who begins."""
        for policy in self.policies:
            yield Ref("ReleasePolicy", policy.metadata.namespace, policy.metadata.name)
        known = {(d.metadata.namespace, d.metadata.name) for d in self.deployments}
        known |= {(r.metadata.namespace, r.spec.workload) for r in self.releases}
        concerned = {(n, self.workload_of(n, name)) for n, name in known if self.concerns(n, name)}
        for namespace, name in concerned:
            yield Ref("Deployment", namespace, name)

    # --- changes ---

    def _changed(self, kind: str, old: Any, new: Any) -> None:
        if not self._live or (old is not None and new is not None and same(old, new)):
            self._only_known(old, new)
            return
        match new if new is not None else old:
            case Release() as release:
                self._look_at(release.metadata.namespace, release.spec.deployments)
                if old is None or new is None or _outcome(old) != _outcome(new):
                    self._on_key(Ref("ReleasePolicy", release.metadata.namespace, release.spec.policy))
            case ReplicaSet() as replica_set:
                owners = {owner for obj in (old, new) if obj is not None and (owner := obj.metadata.controller)}
                self._owned(replica_set.metadata.namespace, owners)
            case EndpointSlice() as endpoint_slice:
                self._served_by(endpoint_slice.metadata.namespace, endpoint_slice.service)
            case IngressClass() | GatewayClass() as found:
                self._class_changed(found, new)
            case obj:
                self._watched(obj.metadata.namespace, old, new)

    def _only_known(self, old: Any, new: Any) -> None:
        """Nothing to look at: everything is read for the first time, or only fields changed that nobody reads. (The
        resource version did, which a write may have to name.)"""
        obj = new if new is not None else old
        if isinstance(obj, IngressClass | GatewayClass):
            self._class_changed(obj, new)
        elif isinstance(obj, Watched):
            objects = self.namespace(obj.metadata.namespace)
            objects.put(obj) if new is not None else objects.remove(obj)

    def _watched(self, namespace: str, old: Any, new: Any) -> None:
        """A policy, Deployment, Service, Ingress or another route: what policies mean may change."""
        objects = self.namespace(namespace)
        obj = new if new is not None else old
        if old is not None and new is not None and _means_the_same(old, new):
            objects.put(new)
            touched: set[str] = set()
        else:
            touched = objects.touched_by(old) if old is not None else set()
            objects.put(new) if new is not None else objects.remove(old)
            touched |= objects.touched_by(new) if new is not None else set()
            self._meaning_changed(namespace, touched, old, new)
        match obj:
            case Deployment():
                touched.add(obj.metadata.name)
            case Service():
                self._served_by(namespace, obj.metadata.name)
            case ReleasePolicy():
                self._on_key(Ref("ReleasePolicy", namespace, obj.metadata.name))
            case HTTPRoute() | GRPCRoute() | VirtualService() | DestinationRule():
                for service in {s for o in (old, new) if o is not None for s in services_of(o)}:
                    self._served_by(namespace, service)
                self._owned_by(namespace, old, new)
            case Ingress():
                self._owned_by(namespace, old, new)
        self._look_at(namespace, touched)

    def _meaning_changed(self, namespace: str, touched: Iterable[str], *changed: Any) -> None:
        objects = self.namespace(namespace)
        for name in touched:
            self._resolutions.pop((namespace, name), None)
        if any(names.RELEASE_LABEL in obj.metadata.labels for obj in changed if obj is not None):
            return  # Ours come and go with each release, and no policy becomes right or wrong by it.
        told: set[str] = set()
        for name in touched:
            deployment = objects.deployments.get(name)
            if deployment is not None:
                told |= {policy.metadata.name for policy in objects.policies_of(deployment)}
        for obj in changed:
            if isinstance(obj, Deployment):  # gone, or with other labels than before
                told |= {policy.metadata.name for policy in objects.policies_of(obj)}
        for name in told:
            self._on_key(Ref("ReleasePolicy", namespace, name))

    def _class_changed(self, found: IngressClass | GatewayClass, new: Any | None) -> None:
        classes: dict[str, Any] | None = self._classes if isinstance(found, IngressClass) else self._gateway_classes
        if classes is None:
            return
        if new is None:
            classes.pop(found.metadata.name, None)
        else:
            classes[found.metadata.name] = new
        self._resolutions.clear()
        for key in self.all_keys() if self._live else ():
            self._on_key(key)

    def _owned_by(self, namespace: str, *objects: Any) -> None:
        self._owned(namespace, {owner for o in objects if o is not None and (owner := o.metadata.controller)})

    def _owned(self, namespace: str, owners: Iterable[Any]) -> None:
        for owner in owners:
            if owner.kind == "Deployment":
                self._look_at(namespace, [owner.name])
            elif owner.kind == "Service":
                self._served_by(namespace, owner.name)
            elif owner.kind == "Release" and (release := self.releases.get(namespace, owner.name)) is not None:
                self._look_at(namespace, [release.spec.deployment])

    def _served_by(self, namespace: str, service: str) -> None:
        """Only releases under way care for a Service's endpoints, and for its selector as it is just now."""
        self._look_at(namespace, [r.spec.workload for r in self.releases.by("services", (namespace, service))])

    def _look_at(self, namespace: str, deployments: Iterable[str]) -> None:
        concerned = {self.workload_of(namespace, name): None for name in deployments if self.concerns(namespace, name)}
        for name in concerned:
            self._on_key(Ref("Deployment", namespace, name))


def without_looks(release: Release) -> Release:
    """A Release that has ended without what its analysis saw look by look: tens of KB that only people ask for."""
    analysis = release.status.analysis
    if not release.status.phase.final or analysis is None:
        return release
    told = msgspec.structs.replace(analysis, history="", state="")
    return msgspec.structs.replace(release, status=msgspec.structs.replace(release.status, analysis=told))


def _workload_of(release: Release) -> list[tuple[str, str]]:
    return [(release.metadata.namespace, release.spec.workload)]


def _members_of(release: Release) -> list[tuple[str, str]]:
    return [(release.metadata.namespace, name) for name in release.spec.deployments]


def _policy_of(release: Release) -> list[tuple[str, str]]:
    """The policy that has to stay while this release is under way."""
    return [(release.metadata.namespace, release.spec.policy)] if release.active else []


def _services_of(release: Release) -> list[tuple[str, str]]:
    """The Services that a release under way looks at."""
    return [(release.metadata.namespace, name) for name in promised(release.spec).touched] if release.active else []


def _owner_of(replica_set: ReplicaSet) -> list[str]:
    owner = replica_set.metadata.controller
    return [owner.uid] if owner is not None else []


def _service_of(endpoint_slice: EndpointSlice) -> list[tuple[str, str]]:
    return [(endpoint_slice.metadata.namespace, endpoint_slice.service)]


def _age(release: Release) -> tuple[str, str, int, str]:
    """Creation times are whole seconds: among those of one second the one that ended first is the older one, and then
    the order of attempts and names decides."""
    meta, ended = release.metadata, release.status.finished_at
    created = meta.creation_timestamp.isoformat() if meta.creation_timestamp else "~"
    return (created, ended.isoformat() if ended is not None else "~", release.spec.attempt, meta.name)


def _outcome(release: Release) -> object:
    return (release.active, release.metadata.deletion_timestamp)


def _means_the_same(old: Any, new: Any) -> bool:
    """Whether what a policy means can't have changed: a status that nobody asks for, annotations that
    nobody routes by, and the like."""
    if old.metadata.labels != new.metadata.labels or old.spec != new.spec:
        return False
    if (old.metadata.deletion_timestamp is None) != (new.metadata.deletion_timestamp is None):
        return False
    match new:
        case Ingress():
            return bool(old.metadata.annotations == new.metadata.annotations)
        case HTTPRoute() | GRPCRoute():
            return bool(old.status == new.status)  # who accepts it
    return True

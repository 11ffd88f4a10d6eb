"""One release and what is around it, with the questions that every policy asks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from davylamp.api.objects import HASH_LABEL, Deployment, Pod, ReplicaSet, Service, template_hash
from davylamp.api.types import PairAtStart, Phase, Release, Step
from davylamp.core import names, pairs
from davylamp.core.actions import Announce, Patch, Ref
from davylamp.core.switching import all_or_nothing
from davylamp.core.world import Route, RouteContext, World

Version = Literal["stable", "canary"]


class Case(msgspec.Struct, frozen=True):
    """A release under way. `deployment` is None once it is gone. Of a pair it is the canary's, and `partner` the one
    that served when the release began."""

    world: World
    release: Release
    deployment: Deployment | None

    @property
    def namespace(self) -> str:
        return self.world.namespace

    @property
    def pair(self) -> PairAtStart | None:
        """What there was at the start, where two Deployments take turns."""
        return self.release.spec.pair

    @property
    def partner(self) -> Deployment | None:
        """Of a pair: the Deployment that served when the release began; None once it is gone."""
        partner = self.world.partner
        return partner if partner is not None and partner.metadata.deletion_timestamp is None else None

    @property
    def serving(self) -> Deployment | None:
        """The Deployment that has the stable pods."""
        return self.deployment if self.pair is None else self.partner

    @property
    def size(self) -> int:
        """How many pods the workload has besides those of the canary; of a pair under one Service, altogether."""
        if self.pair is None:
            assert self.deployment is not None
            return self.deployment.spec.replicas
        if not self.routed:
            return self.pair.stable_pods
        return self.partner.spec.replicas if self.partner is not None else self.pair.stable_pods

    @property
    def template(self) -> str:
        """Hash of the template that the Deployment asks for now."""
        return template_hash(self.deployment.spec.template) if self.deployment else ""

    @property
    def canary(self) -> ReplicaSet | None:
        return self._replica_set(self.release.spec.canary.replica_set)

    @property
    def stable(self) -> ReplicaSet | None:
        return self._replica_set(self.release.spec.stable.replica_set)

    def _replica_set(self, name: str) -> ReplicaSet | None:
        return next((rs for rs in self.world.replica_sets if rs.metadata.name == name), None)

    @property
    def adopted(self) -> bool:
        """True once the canary's ReplicaSet is the Deployment's: from there the way is only forward. Of a pair, whose
        ReplicaSets are their Deployments' from the start, a word in the status says so."""
        if self.pair is not None:
            return self.release.status.phase is Phase.PROMOTING
        owner = self.canary.metadata.controller if self.canary else None
        return owner is not None and owner.kind == "Deployment"

    @property
    def routed(self) -> bool:
        """True where a proxy splits the traffic, False where the number of pods does."""
        return bool(self.release.spec.routes)

    @property
    def by_subsets(self) -> bool:
        """True where the routes tell the versions apart by subsets of the user's Service's own host."""
        return any(route.by_subsets for route in self.release.spec.routes)

    @property
    def switching(self) -> bool:
        """True where the Service's own selector decides from the start, on all requests or none."""
        spec = self.release.spec
        return self.pair is None and all_or_nothing(
            spec.steps, services=spec.all_services, routed=self.routed, preview=spec.preview
        )

    @property
    def pins(self) -> bool:
        """True where the Service selects only one version's pods from the start."""
        return self.routed or self.switching

    @property
    def services(self) -> tuple[Service, ...]:
        """The user's Services that are released and there."""
        return self._services(self.release.spec.all_services)

    @property
    def lost_services(self) -> tuple[str, ...]:
        """Names of the user's Services that are gone."""
        return tuple(name for name in self.release.spec.all_services if name not in self.world.services)

    @property
    def canary_services(self) -> tuple[Service, ...]:
        """Ours beside the user's, as far as they are there."""
        found = self._services(names.canary_service(name) for name in self.release.spec.all_services)
        return tuple(service for service in found if names.RELEASE_LABEL in service.metadata.labels)

    @property
    def canary_service(self) -> Service | None:
        """Of a pair with routes: the user's own Service for the canary, if it is there."""
        return self.world.services.get(self.release.spec.canary_service)

    @property
    def preview(self) -> Service | None:
        """The Service that leads testers to the canary, if it is there."""
        return self.world.services.get(self.release.spec.preview)

    @property
    def made_preview(self) -> Service | None:
        """The same, where it was made for this release."""
        owner = self.preview.metadata.controller if self.preview else None
        return self.preview if owner is not None and owner.uid == self.release.metadata.uid else None

    def _services(self, wanted: Iterable[str]) -> tuple[Service, ...]:
        return tuple(self.world.services[name] for name in wanted if name in self.world.services)

    @property
    def pinned(self) -> bool:
        """True while some Service selects the pods of one version alone."""
        return any(map(self.selected_by, self.services))

    def selected_by(self, service: Service) -> Version | Literal["", "other"]:
        """Whose pods alone a Service selects; "" where it doesn't tell versions apart."""
        selector, spec = service.spec.selector, self.release.spec
        if self.pair is not None:
            return pairs.selected(selector, self.pair.stable_labels, self.pair.canary_labels)
        found = selector.get(HASH_LABEL, "")
        versions: dict[str, Version] = {spec.stable.hash: "stable", spec.canary.hash: "canary"}
        return versions.get(found, "other") if found else ""

    @property
    def switched(self) -> bool:
        """True while the Services themselves select the canary's pods: all of the traffic."""
        found = self.services
        return bool(found) and all(self.selected_by(service) == "canary" for service in found)

    @property
    def living_pods(self) -> tuple[Pod, ...]:
        """The canary's pods that are not being deleted."""
        return tuple(pod for pod in self.world.pods or () if pod.metadata.deletion_timestamp is None)

    def ready_endpoints(self, service: str) -> int:
        """How many of the canary's pods this Service offers to traffic."""
        canary = {pod.metadata.name for pod in self.world.pods or ()}
        return len(canary & self.world.endpoints.get(service, frozenset()))

    def other_endpoints(self, service: str) -> int:
        """How many pods that are not the canary's this Service offers to traffic."""
        return len(self.world.endpoints.get(service, ())) - self.ready_endpoints(service)

    def context(self, route: Route) -> RouteContext:
        ours = self.world.services.get(names.canary_service(route.service))
        return RouteContext(
            canary_service_uid=ours.metadata.uid if ours is not None else "",
            release=self.release.metadata.name,
            release_uid=self.release.metadata.uid,
            namespace=self.namespace,
            service=route.service,
            canary_service=self.release.spec.canary_service or names.canary_service(route.service),
            stable_hash=self.release.spec.stable.hash,
            canary_hash=self.release.spec.canary.hash,
        )

    def settled(self, *refs: Ref, seconds: float | None = None) -> datetime:
        """When all of these have been as they are for so long (None: the settling time), if nothing changes."""
        settle = timedelta(seconds=self.release.spec.settle_seconds if seconds is None else seconds)
        return max((self.world.since[ref] + settle for ref in refs if ref in self.world.since), default=_LONG_AGO)

    def step(self, number: int) -> Step:
        """Step `number`, counted from 1."""
        return self.release.spec.steps[number - 1]

    # --- the few writes that several policies share ---

    def ref(self, kind: str, name: str) -> Ref:
        return Ref(kind, self.namespace, name)

    def select(self, version: Version | None, *, unpinned: bool = False) -> tuple[Patch, ...]:
        """Make the user's Services select only pods of `version`, with `unpinned` those that select by none; None
        gives their own selectors back. (Of a pair they always select one of the two: by that it is told who serves.
        Without routes its Service selects both.)"""
        if self.pair is not None and (version is None or not self.routed):
            return ()
        return tuple(
            self.point(service, version)
            for service in self.services
            if self._off(service, version) and not (unpinned and self.selected_by(service))
        )

    def _off(self, service: Service, version: Version | None) -> bool:
        """Whether a Service selects otherwise; one that others took the selector from has our mark still."""
        marked = version is None and names.PINNED_BY in service.metadata.annotations
        return self.selected_by(service) != (version or "") or marked

    def lead(self, version: Version | None) -> tuple[Patch, ...]:
        """The same for a preview Service that is the user's own."""
        service = self.preview
        if service is None or self.made_preview is not None or self.selected_by(service) == (version or ""):
            return ()
        return (self.point(service, version),)

    def point(self, service: Service, version: Version | None) -> Patch:
        """Make one Service select only pods of `version`."""
        if self.pair is not None:
            labels = self.pair.stable_labels, self.pair.canary_labels
            wanted, other = labels if version == "stable" else labels[::-1]
            return pairs.pointed(service, wanted, other)
        pod_hash = None if version is None else getattr(self.release.spec, version).hash
        patch: dict[str, Any] = {
            "metadata": {
                "resourceVersion": service.metadata.resource_version,
                "annotations": {names.PINNED_BY: self.release.metadata.name if version else None},
            },
            "spec": {"selector": {HASH_LABEL: pod_hash}},
        }
        return Patch(self.ref("Service", service.metadata.name), patch)

    def unpause(self) -> tuple[Patch, ...]:
        """Let the Deployment go on (it stays paused where that is how templates are kept from rolling)."""
        deployment = self.deployment
        if deployment is None or self.world.gate == "fallback":
            return ()
        return unpause(deployment)

    def announce(
        self, reason: str, message: str, *, warning: bool = False, detail: bool = False, key: str = ""
    ) -> Announce:
        """An Event on the Deployment, told once for each release, reason and `key`."""
        return Announce(
            name=names.event(self.release.metadata.name, reason, key),
            about=self.ref("Deployment", self.release.spec.deployment),
            about_uid=self.deployment.metadata.uid if self.deployment else "",
            reason=reason,
            message=message,
            warning=warning,
            related=self.ref("Release", self.release.metadata.name),
            detail=detail,
        )


def unpause(deployment: Deployment) -> tuple[Patch, ...]:
    """The patch that lets a Deployment roll, or nothing where it isn't paused and has no mark of ours."""
    meta = deployment.metadata
    if not deployment.spec.paused and names.PAUSED_BY not in meta.annotations:
        return ()
    patch: dict[str, Any] = {
        "metadata": {"resourceVersion": meta.resource_version, "annotations": {names.PAUSED_BY: None}},
        "spec": {"paused": False},
    }
    return (Patch(Ref("Deployment", meta.namespace, meta.name), patch),)


def case_of(world: World) -> Case | None:
    """The release that is under way, if any."""
    release = world.release
    if release is None or (not release.active and not release.metadata.deletion_timestamp):
        return None
    deployment = world.deployment
    gone = deployment is None or deployment.metadata.deletion_timestamp is not None
    return Case(world, release, None if gone else deployment)


def rolling_back(release: Release) -> bool:
    return release.status.end is not None and release.status.phase is Phase.ROLLING_BACK


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

"""One release and what is around it, with the questions that every policy asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from davylamp.api.objects import HASH_LABEL, Deployment, Pod, ReplicaSet, Service, template_hash
from davylamp.api.types import Phase, Release, Step
from davylamp.core import names
from davylamp.core.actions import Announce, Patch, Ref
from davylamp.core.world import RouteContext, World


class Case(msgspec.Struct, frozen=True):
    """A release under way. `deployment` is None once it is gone."""

    world: World
    release: Release
    deployment: Deployment | None

    @property
    def namespace(self) -> str:
        return self.world.namespace

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
        """True once the canary's ReplicaSet is the Deployment's: from there the way is only forward."""
        owner = self.canary.metadata.controller if self.canary else None
        return owner is not None and owner.kind == "Deployment"

    @property
    def routed(self) -> bool:
        """True where a proxy splits the traffic, False where the number of pods does."""
        return bool(self.release.spec.routes)

    @property
    def service(self) -> Service | None:
        """The user's Service, if the release has one and it is there."""
        return self.world.services.get(self.release.spec.service) if self.release.spec.service else None

    @property
    def canary_service(self) -> Service | None:
        name = names.canary_service(self.release.spec.service)
        return self.world.services.get(name) if self.release.spec.service else None

    @property
    def pinned(self) -> str:
        """The pod-template-hash in the Service's selector, "" for none."""
        return self.service.spec.selector.get(HASH_LABEL, "") if self.service else ""

    @property
    def switched(self) -> bool:
        """True while the Service itself selects the canary's pods: all of the traffic."""
        return self.pinned == self.release.spec.canary.hash

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

    @property
    def context(self) -> RouteContext:
        return RouteContext(
            release=self.release.metadata.name,
            release_uid=self.release.metadata.uid,
            namespace=self.namespace,
            service=self.release.spec.service,
            canary_service=names.canary_service(self.release.spec.service),
        )

    def settled(self, *refs: Ref) -> datetime:
        """When all of these have been as they are for the settling time, if nothing changes."""
        settle = timedelta(seconds=self.release.spec.settle_seconds)
        return max((self.world.since[ref] + settle for ref in refs if ref in self.world.since), default=_LONG_AGO)

    def step(self, number: int) -> Step:
        """Step `number`, counted from 1."""
        return self.release.spec.steps[number - 1]

    # --- the few writes that several policies share ---

    def ref(self, kind: str, name: str) -> Ref:
        return Ref(kind, self.namespace, name)

    def select(self, pod_hash: str | None) -> tuple[Patch, ...]:
        """Make the user's Service select only pods of `pod_hash`; None gives its own selector back."""
        service = self.service
        if service is None or self.pinned == (pod_hash or ""):
            return ()
        mark = self.release.metadata.name if pod_hash else None
        patch: dict[str, Any] = {
            "metadata": {
                "resourceVersion": service.metadata.resource_version,
                "annotations": {names.PINNED_BY: mark},
            },
            "spec": {"selector": {HASH_LABEL: pod_hash}},
        }
        return (Patch(self.ref("Service", service.metadata.name), patch),)

    def unpause(self) -> tuple[Patch, ...]:
        """Let the Deployment go on (it stays paused where that is how templates are kept from rolling)."""
        deployment = self.deployment
        if deployment is None or self.world.gate == "fallback":
            return ()
        return unpause(deployment)

    def announce(self, reason: str, message: str, *, warning: bool = False, key: str = "") -> Announce:
        """An Event on the Deployment, told once for each release, reason and `key`."""
        uid = self.deployment.metadata.uid if self.deployment else ""
        return Announce(
            name=names.fit(".".join(filter(None, (self.release.metadata.name, reason.lower(), key))), 253),
            about=self.ref("Deployment", self.release.spec.deployment),
            about_uid=uid,
            reason=reason,
            message=message,
            warning=warning,
            related=self.ref("Release", self.release.metadata.name),
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
    if release is None or (release.status.phase.final and not release.metadata.deletion_timestamp):
        return None
    deployment = world.deployment
    gone = deployment is None or deployment.metadata.deletion_timestamp is not None
    return Case(world, release, None if gone else deployment)


def rolling_back(release: Release) -> bool:
    return release.status.end is not None and release.status.phase is Phase.ROLLING_BACK


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

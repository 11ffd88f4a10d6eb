"""Bringing an exposure about, in the order that loses no request: pods ready, in the endpoints, route, effect."""

from __future__ import annotations

from datetime import datetime

import msgspec

from davylamp.api.types import Step
from davylamp.api.units import count, readable
from davylamp.core import manifests, names, replicas
from davylamp.core.actions import Action, Create, Delete, Patch, Ref
from davylamp.core.case import Case
from davylamp.core.matching import exposed
from davylamp.core.world import Exposure, Wanted


class Reached(msgspec.Struct, frozen=True):
    """The exposure is in effect: `weight` percent reach the canary, known by `how`."""

    weight: float
    how: str


class Missing(msgspec.Struct, frozen=True):
    """The exposure is not in effect yet: what to write, what is waited for, and until when."""

    message: str
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None


def bring_about(case: Case, step: Step, now: datetime) -> Reached | Missing:
    """Whether `step`'s exposure is in effect, or else what is missing."""
    spec = case.release.spec
    if spec.service and case.service is None:
        return Missing(f"Service {spec.service} is gone; the release waits for it")
    pods = wanted_pods(case, step)
    return (
        _objects(case, step, pods)
        or _pods(case, step, pods)
        or (_switch(case, now) if step.weight == 100 else _route(case, step, now))
    )


def wanted_pods(case: Case, step: Step) -> int:
    """How many canary pods `step` needs at the Deployment's present size."""
    assert case.deployment is not None
    exposed = exposure_of(case, step)
    return replicas.canary_replicas(
        step.weight,
        case.deployment.spec.replicas,
        max_extra=case.release.spec.max_extra_pods,
        routed=case.routed or step.weight == 100,
        explicit=step.replicas,
        chosen=bool(exposed.match or exposed.mirror),
    )


def exposure_of(case: Case, step: Step) -> Exposure:
    """What `step` wants of the routes: the release's matches hold in every step, its own besides."""
    return Exposure(step.weight, (*case.release.spec.match, *step.match), step.mirror or 0)


def _objects(case: Case, step: Step, pods: int) -> Missing | None:
    """The Service pinned to stable before the first canary pod; the ReplicaSet; the canary's Service."""
    release, deployment, service = case.release, case.deployment, case.service
    assert deployment is not None
    actions: list[Action] = []
    if case.routed and not case.pinned:
        actions += case.select(release.spec.stable.hash)
    canary = case.canary
    if canary is None:
        actions.append(Create(manifests.canary_replica_set(deployment, release, pods)))
    elif canary.spec.replicas != pods:
        actions.append(Patch(case.ref("ReplicaSet", canary.metadata.name), {"spec": {"replicas": pods}}))
    if case.routed and step.weight < 100 and case.canary_service is None and service is not None:
        actions.append(Create(manifests.canary_service(service, release)))
    if actions:
        return Missing(f"starting {_pods_of(pods)} of {release.spec.canary.image}", tuple(actions))
    return None


def _pods(case: Case, step: Step, pods: int) -> Missing | None:
    """No traffic is sent to a version without ready endpoints."""
    canary = case.canary
    assert canary is not None
    settled = canary.status.observed_generation >= canary.metadata.generation
    available = canary.status.available_replicas if settled else 0
    if available < pods:
        return Missing(f"{available} of {_pods_of(pods)} ready")
    if not case.release.spec.service:
        return None
    through = case.release.spec.service
    if case.routed and step.weight < 100:
        through = names.canary_service(through)
    elif step.weight == 100 and not case.switched:
        return None
    seen = case.ready_endpoints(through)
    if seen < pods:
        return Missing(f"{seen} of {_pods_of(pods)} in the endpoints of Service {through}")
    return None


def _pods_of(pods: int) -> str:
    return "1 canary pod" if pods == 1 else f"{pods} canary pods"


def _route(case: Case, step: Step, now: datetime) -> Reached | Missing:
    """The weight in the routes, or where there are none by the pods themselves."""
    if not case.routed:
        assert case.deployment is not None
        canary, stable = wanted_pods(case, step), case.deployment.spec.replicas
        weight = 100 * canary / (canary + stable) if canary else 0.0
        return Reached(round(weight, 1), f"{canary} of {canary + stable} pods")
    actions: list[Action] = []
    for route in case.world.routes:
        actions += as_actions(route.desired(exposure_of(case, step), case.context))
    if actions:
        wanted = exposure_of(case, step)
        what = "route" if wanted.match or wanted.mirror else "weight"
        return Missing(f"setting the {what} to {exposed(wanted)}", tuple(actions))
    waiting = unconverged(case, exposure_of(case, step))
    if waiting:
        return Missing(waiting)
    refs = [ref for route in case.world.routes for ref in route.refs]
    return _settled(case, step.weight, now, *refs)


def _switch(case: Case, now: datetime) -> Reached | Missing:
    """All of the traffic: the Service itself selects the canary's pods. (Without a Service nothing is sent.)"""
    service = case.service
    if service is None:
        return Reached(100, "all pods")
    patches = case.select(case.release.spec.canary.hash)
    if patches:
        return Missing(f"moving Service {service.metadata.name} to the canary's pods", patches)
    left = case.other_endpoints(service.metadata.name)
    if left:
        return Missing(f"{left} stable pods are still in the endpoints of Service {service.metadata.name}")
    return _settled(case, 100, now, case.ref("Service", service.metadata.name))


def _settled(case: Case, weight: int, now: datetime, *refs: Ref) -> Reached | Missing:
    at = case.settled(*refs)
    settle = readable(case.release.spec.settle_seconds)
    if at > now:
        return Missing(f"{weight} % is set; it counts as in effect {settle} after that", wake_at=at)
    return Reached(weight, f"settled for {settle}, not measured")


def unconverged(case: Case, exposure: Exposure | None) -> str:
    """What the routes still wait for once everything is written; "" for nothing."""
    return "; ".join(filter(None, (route.converged(exposure, case.context) for route in case.world.routes)))


def as_actions(wanted: Wanted) -> tuple[Action, ...]:
    """What a router wants, as actions."""
    return (
        *(Create(manifest) for manifest in wanted.present),
        *(Patch(ref, patch) for ref, patch in wanted.patches),
        *(Delete(ref, uid) for ref, uid in wanted.absent),
    )


def saturable(case: Case) -> bool:
    """Whether the canary may grow to the Deployment's full size before the old pods go."""
    assert case.deployment is not None
    n = case.deployment.spec.replicas
    return case.routed or count(case.release.spec.max_extra_pods, n) >= n

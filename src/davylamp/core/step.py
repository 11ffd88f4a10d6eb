"""Bringing an exposure about, in the order that loses no request: pods ready, in the endpoints, route, effect."""

from __future__ import annotations

from datetime import datetime

from davylamp.api.types import Step
from davylamp.api.units import count
from davylamp.core import manifests, names, pair_steps, replicas, subsets
from davylamp.core.actions import Action, Create, Patch, Ref
from davylamp.core.case import Case
from davylamp.core.decision import pod_count
from davylamp.core.effect import Missing, Reached, awaited, exposure_of, in_effect
from davylamp.core.matching import exposed
from davylamp.core.routing import as_actions, rerouted, unconverged
from davylamp.core.subsets import Unready
from davylamp.core.world import Awaited, Exposure


def bring_about(case: Case, step: Step, now: datetime) -> Reached | Missing:
    """Whether `step`'s exposure is in effect, or else what is missing."""
    if case.lost_services:
        return Missing(f"Service {' and '.join(case.lost_services)} is gone; the release waits for it")
    pods = wanted_pods(case, step)
    objects = _objects(case, step, pods) if case.pair is None else pair_steps.objects(case, step, pods)
    missing = objects or _pods(case, pods) or _preview(case, pods) or _endpoints(case, step, pods)
    if missing is not None:
        return missing
    if case.pair is not None and not case.routed:
        return pair_steps.balanced(case, step, pods)
    return _switch(case, step, now) if step.weight == 100 else _route(case, step, now)


def wanted_pods(case: Case, step: Step) -> int:
    """How many canary pods `step` needs at the workload's present size."""
    if case.pair is not None and not case.routed:
        return pair_steps.part(step, case.size)
    exposed = exposure_of(case, step)
    return replicas.canary_replicas(
        step.weight,
        case.size,
        max_extra=case.release.spec.max_extra_pods,
        routed=case.pins or step.weight == 100,
        explicit=step.replicas,
        chosen=bool(exposed.match or exposed.mirror or case.release.spec.preview),
    )


def reach_of(case: Case, step: Step) -> str:
    """Who reaches the canary in `step`, for people."""
    wanted, preview = exposure_of(case, step), case.release.spec.preview
    by_preview = f"testers (Service {preview})"
    if not preview or step.weight == 100:
        return exposed(wanted)
    return by_preview if wanted == Exposure(0) else f"{exposed(wanted)}, {by_preview}"


def _objects(case: Case, step: Step, pods: int) -> Missing | None:
    """The Services pinned to stable before the first canary pod; the ReplicaSet; the canary's Services."""
    release, deployment = case.release, case.deployment
    assert deployment is not None
    actions: list[Action] = []
    canary = case.canary
    if case.pins and (canary is None or not case.by_subsets):
        actions += case.select("stable", unpinned=True)
    if canary is None:
        actions.append(Create(manifests.canary_replica_set(deployment, release, pods)))
    elif canary.spec.replicas != pods:
        actions.append(Patch(case.ref("ReplicaSet", canary.metadata.name), {"spec": {"replicas": pods}}))
    if case.routed and step.weight < 100:
        made = {service.metadata.name for service in case.canary_services}
        actions += (
            Create(manifests.canary_service(service, release))
            for service in case.services
            if names.canary_service(service.metadata.name) not in made
        )
    if actions:
        return Missing(f"starting {pod_count(pods)} of {release.spec.canary.image}", tuple(actions))
    return None


def _pods(case: Case, pods: int) -> Missing | None:
    """No traffic is sent to a version without ready pods."""
    canary = case.canary
    if canary is None:
        return Missing("no canary pod yet")
    settled = canary.status.observed_generation >= canary.metadata.generation
    available = canary.status.available_replicas if settled else 0
    return Missing(f"{available} of {pod_count(pods)} ready") if available < pods else None


def _preview(case: Case, pods: int) -> Missing | None:
    """The testers' own Service on the canary's pods."""
    name, service = case.release.spec.preview, next(iter(case.services), None)
    if not name or not pods or service is None:
        return None
    actions: tuple[Action, ...] = case.lead("canary")
    if case.preview is None:
        actions = (Create(manifests.canary_service(service, case.release, name)),)
    return Missing(f"moving Service {name} to the canary's pods", actions) if actions else None


def _endpoints(case: Case, step: Step, pods: int) -> Missing | None:
    """Whatever leads to the canary has all of its pods."""
    spec = case.release.spec
    through: tuple[str, ...] = spec.all_services
    if case.routed and step.weight < 100:
        through = (spec.canary_service,) if spec.canary_service else tuple(map(names.canary_service, through))
    elif case.pair is not None and not case.routed:
        pass  # its pods are in there with the others
    elif (step.weight == 100 and not case.switched) or (case.switching and step.weight < 100):
        through = ()
    for service in (*through, *((spec.preview,) if spec.preview else ())):
        seen = case.ready_endpoints(service)
        if seen < pods:
            return Missing(f"{seen} of {pod_count(pods)} in the endpoints of Service {service}")
    return None


def _route(case: Case, step: Step, now: datetime) -> Reached | Missing:
    """The weight in the routes, or where there are none by the Service's selector, or the pods themselves."""
    if case.switching:
        return _unswitched(case, step, now)
    if not case.routed:
        canary, stable = wanted_pods(case, step), case.size
        weight = 100 * canary / (canary + stable) if canary else 0.0
        return Reached(round(weight, 1), f"{canary} of {canary + stable} pods")
    missing = _prepared(case, now) or (
        _missing(subsets.opened(case, wanted_pods(case, step), now)) if case.by_subsets else None
    )
    if missing is not None:
        return missing
    wanted = exposure_of(case, step)
    actions = rerouted(case, wanted)
    if actions:
        what = "route" if wanted.match or wanted.mirror else "weight"
        return Missing(f"setting the {what} to {exposed(wanted)}", actions)
    waiting = unconverged(case, wanted)
    if waiting:
        return Missing(waiting)
    refs = [ref for route in case.world.routes for ref in route.refs]
    return in_effect(case, awaited(case, step), step.weight, now, *refs, *_preview_ref(case))


def by_pods(case: Case) -> Awaited | None:
    """The split of the step in effect, where the number of pods makes it and requests haven't told of it yet. Nobody
    waits for that."""
    status = case.release.status
    step = case.step(status.step)
    if case.pins or not case.services or not 0 < step.weight < 100 or _COUNTED in status.weight.how:
        return None
    before = _pods_share(case, case.step(status.step - 1)) if status.step > 1 else 0.0
    settle = case.release.spec.settle_seconds
    return Awaited(f"{status.step}=pods", before, _pods_share(case, step), settle=settle)


_COUNTED = "requests"


def _pods_share(case: Case, step: Step) -> float:
    canary = wanted_pods(case, step)
    stable = pair_steps.others(step, case.size, canary) if case.pair is not None else case.size
    return canary / (canary + stable) if canary else 0.0


def _unswitched(case: Case, step: Step, now: datetime) -> Reached | Missing:
    """None of the traffic: the Services select only stable's pods, whoever moved them."""
    moved = case.select("stable")
    if moved:
        return Missing("moving the Service to the stable pods", moved)
    for service in case.services:
        left = case.ready_endpoints(service.metadata.name)
        if left:
            return Missing(f"{left} canary pods are still in the endpoints of Service {service.metadata.name}")
    reached = in_effect(case, awaited(case, step), 0, now, *_service_refs(case), *_preview_ref(case))
    if isinstance(reached, Missing):
        return reached
    return Reached(0, f"{_named(case)} selects only stable's pods")


def _prepared(case: Case, now: datetime) -> Missing | None:
    """Make before break: what a route leads to is in effect before the route is."""
    actions: dict[Ref, Action] = {}
    for route in case.world.routes:
        for action in as_actions(route.prepared(case.context(route))):
            actions.setdefault(action.ref, action)
    if actions:
        return Missing("writing what the route leads to", tuple(actions.values()))
    at = case.settled(*(ref for route in case.world.routes for ref, _ in route.remains(case.context(route))))
    return Missing("what the route leads to is given time to take effect", wake_at=at) if at > now else None


def _switch(case: Case, step: Step, now: datetime) -> Reached | Missing:
    """All of the traffic: the Services themselves select the canary's pods. (Without any nothing is sent.)"""
    if not case.services:
        return Reached(100, "all pods")
    failing = subsets.failing(case)
    if failing:
        return Missing("giving the route back, since subsets answer 503", failing)
    if case.by_subsets and not case.switched:
        missing = _prepared(case, now) or _missing(subsets.everything(case, wanted_pods(case, Step(100)), now))
        if missing is not None:
            return missing
    patches = case.select("canary")
    if patches:
        return Missing(f"moving {_named(case)} to the canary's pods", patches)
    for service in case.services:
        left = case.other_endpoints(service.metadata.name)
        if left:
            return Missing(f"{left} stable pods are still in the endpoints of Service {service.metadata.name}")
    return in_effect(case, awaited(case, step), 100, now, *_service_refs(case))


def _missing(found: Unready | None) -> Missing | None:
    return Missing(found.message, found.actions, found.wake_at) if found is not None else None


def _named(case: Case) -> str:
    found = [service.metadata.name for service in case.services]
    return f"Service {found[0]}" if len(found) == 1 else f"Services {', '.join(found)}"


def _service_refs(case: Case) -> tuple[Ref, ...]:
    return tuple(case.ref("Service", service.metadata.name) for service in case.services)


def _preview_ref(case: Case) -> tuple[Ref, ...]:
    return (case.ref("Service", case.release.spec.preview),) if case.release.spec.preview else ()


def saturable(case: Case) -> bool:
    """Whether the canary may grow to the Deployment's full size before the old pods go."""
    n = case.size
    return case.pins or case.pair is not None or count(case.release.spec.max_extra_pods, n) >= n

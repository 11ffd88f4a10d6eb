"""Taking a release back: route to 0, let it take effect, then the pods, then everything of ours.

Never by way of finishing the bad release. The stable pods were there all the time, so this takes seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from davylamp.api.objects import HASH_LABEL, Deployment, ReplicaSet
from davylamp.api.types import End, Phase, WeightStatus
from davylamp.core import names, pair_end, status, subsets
from davylamp.core.actions import Action, Delete, Patch
from davylamp.core.case import Case
from davylamp.core.decision import Plan
from davylamp.core.drift import put_right
from davylamp.core.effect import awaited_back, back, seen_of
from davylamp.core.manifests import unavailable
from davylamp.core.routing import rerouted, unconverged


def turn_back(case: Case, now: datetime, phase: Phase, reason: str, message: str) -> Plan:
    """Decide to take the release back. The decision is written before anything is undone, so that whoever goes on
    after a crash goes the same way."""
    end = End(phase, reason, message)
    told: tuple[Action, ...] = ()
    if phase is Phase.ROLLED_BACK:
        text = f"taking release {case.release.metadata.name} back{_freed(case)}: {message}"
        told = (case.announce("ReleaseRollingBack", text, warning=True),)
    return Plan((*told, status.turned_back(case.release, now, end)), reason, message)


def take_back(case: Case, end: End, now: datetime) -> Plan:
    """The next writes on the way back."""
    return (
        (pair_end.restored(case) if case.pair else None)
        or _traffic(case, end, now)
        or (pair_end.shrunk(case) if case.pair else _pods(case, now))
        or _own_objects(case, now)
        or _template(case, end)
        or _told(case, end, now)
    )


def _traffic(case: Case, end: End, now: datetime) -> Plan | None:
    """No request to the canary any more: its Ingress deleted, the Service on the stable pods, and both in effect."""
    canary = case.canary
    if (canary is None and case.pair is None) or (case.pair is not None and not case.routed):
        return None  # without pods nothing reaches it; and under one Service the pods are the traffic
    actions: list[Action] = []
    refs = [ref for route in case.world.routes for ref in route.refs]
    refs += (case.ref("Service", service.metadata.name) for service in case.services)
    own = case.pair is None and (end.phase is Phase.OVERRIDDEN or case.deployment is None)
    if case.by_subsets and not own:
        return _subsets(case, end, now)
    if own:
        # The Deployment rolls by itself now (or is gone): pinned to its old pods the Service would run empty.
        actions += case.select(None)
    elif case.pinned or any(case.ready_endpoints(service.metadata.name) for service in case.services):
        waiting = _stable_unready(case, end)
        if waiting:
            return Plan((), "RollingBack", waiting)
        actions += case.select("stable")
    actions += (*rerouted(case, None), *case.lead(None if own else "stable"))
    waits = awaited_back(case)
    if actions and seen_of(case, waits) is None:
        return Plan(tuple(actions), "RollingBack", f"taking the traffic away from the canary{_freed(case)}")
    if actions:
        undone = put_right(case, actions, now)
        if undone.reason != "Fight":
            return undone
        # Whatever others do to the routes: without pods nobody reaches the canary.
        return Plan(undone.actions, "RollingBack", undone.message) if undone.actions else None
    # A canary that never served and can't now has nothing to drain.
    if not case.release.status.step and (canary is None or not canary.status.ready_replicas):
        return None
    waiting = unconverged(case, None)
    if waiting:
        return Plan((), "RollingBack", f"no traffic is sent to the canary; {waiting}")
    missing = back(case, waits, now, *refs)
    if missing is None:
        return None
    message = f"no traffic is sent to the canary; {missing.message}"
    return Plan((), "RollingBack", message, missing.wake_at, awaited=missing.awaited)


def _freed(case: Case) -> str:
    """That clients which are kept at the canary are sent elsewhere by what is deleted."""
    pins = [
        route.sticky for route in case.world.routes if route.sticky and route.effective(case.context(route)) is not None
    ]
    return f" (which also frees the clients that {' and '.join(pins)} keeps there)" if pins else ""


def _subsets(case: Case, end: End, now: datetime) -> Plan | None:
    """The same where a route tells the versions apart by subsets."""
    failing = subsets.failing(case)
    if failing:
        return Plan(failing, "RollingBack", "giving the route back, since subsets answer 503")
    waiting = _stable_unready(case, end)
    if waiting:
        return Plan((), "RollingBack", waiting)
    testers = case.lead("stable")
    if testers:
        return Plan(testers, "RollingBack", "taking the testers away from the canary")
    missing = subsets.away(case, now)
    return Plan(missing.actions, "RollingBack", missing.message, missing.wake_at) if missing is not None else None


def _stable_unready(case: Case, end: End) -> str:
    """Never return traffic to pods that aren't ready, while the canary's are. Where the canary is not to blame, the
    stable side first has to be as large as the Deployment's own rolling update would keep it."""
    stable, canary, deployment = case.stable, case.canary, case.serving
    if canary is None or not canary.status.ready_replicas or deployment is None:
        return ""
    ready = stable.status.ready_replicas if stable else 0
    if end.phase is not Phase.ROLLED_BACK:
        needed = deployment.spec.replicas - unavailable(deployment)
    else:
        needed = min(1, deployment.spec.replicas) if case.switched else 0
    return "" if ready >= needed else f"{ready} stable pods are ready; the traffic stays until {needed} are"


def _pods(case: Case, now: datetime) -> Plan | None:
    """The canary's ReplicaSet goes, and is waited for until none of its pods can get a request."""
    canary = case.canary
    if canary is not None:
        if canary.metadata.deletion_timestamp is not None:
            return Plan((), "RollingBack", "the canary's ReplicaSet is going")
        delete = Delete(case.ref("ReplicaSet", canary.metadata.name), canary.metadata.uid)
        return Plan((delete,), "RollingBack", "deleting the canary's pods")
    left = len(case.living_pods)
    if left:
        return Plan((), "RollingBack", f"{left} of the canary's pods still going")
    # A Service that selected them again would offer them as pods that are going but still serve, and Traefik sends the
    # clients there that a cookie keeps at a pod. They are gone by the time that the API server has written down.
    ends = [pod.metadata.deletion_timestamp for pod in case.world.pods or () if pod.metadata.deletion_timestamp]
    if ends and max(ends) > now and any(route.sticky for route in case.world.routes):
        text = f"{len(ends)} of the canary's pods are going, where a cookie keeps clients"
        return Plan((), "RollingBack", text, max(ends))
    return None


def unmade(case: Case) -> tuple[Delete, ...]:
    """The Services that were made for the release, and what routes had besides, to be gone."""
    made = (*case.canary_services, *filter(None, (case.made_preview,)))
    found = [
        (case.ref("Service", one.metadata.name), one.metadata.uid)
        for one in made
        if one.metadata.deletion_timestamp is None
    ]
    found += (one for route in case.world.routes for one in route.remains(case.context(route)))
    return tuple(Delete(ref, uid) for ref, uid in dict.fromkeys(found))


def _own_objects(case: Case, now: datetime) -> Plan | None:
    """The Services' own selectors back, the canary's Services and Ingresses away."""
    actions: list[Action] = [*rerouted(case, None), *case.select(None), *case.lead(None)]
    if case.by_subsets and not actions and unmade(case):
        at = case.settled(*(ref for route in case.world.routes for ref in route.refs))
        if at > now:
            return Plan((), "RollingBack", "the subsets stay until no route names them", at)
    if not (case.by_subsets and actions):
        actions += unmade(case)
    return Plan(tuple(actions), "RollingBack", "clearing up") if actions else None


def _template(case: Case, end: End) -> Plan | None:
    """`onFailure: revert` puts the stable template back, once: after that the two templates are equal."""
    deployment, stable = case.deployment, case.stable
    revert = case.pair is None and end.phase is Phase.ROLLED_BACK and case.release.spec.on_failure == "revert"
    if not revert or deployment is None or stable is None or case.template != case.release.spec.template:
        return None
    patch = Patch(
        case.ref("Deployment", deployment.metadata.name),
        reverted(deployment, stable, case.world.gate),
        type="json",
    )
    return Plan((patch,), "RollingBack", "putting the stable template back")


def reverted(deployment: Deployment, stable: ReplicaSet, gate: str) -> list[dict[str, Any]]:
    """The JSON patch that gives a Deployment its stable template back and, where a gate paused it, lets it go on.

    Changes no pod, since the stable ReplicaSet has that very template. (A replaced resourceVersion is a
    precondition: the API server answers 409 where the Deployment has changed meanwhile.)
    """
    template = msgspec.json.decode(stable.spec.template)
    meta = template.get("metadata") or {}
    kept = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    operations: list[dict[str, Any]] = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": deployment.metadata.resource_version},
        {
            "op": "replace",
            "path": "/spec/template",
            "value": {**template, "metadata": {**meta, "labels": kept}},
        },
    ]
    if gate == "admission":
        operations.append({"op": "add", "path": "/spec/paused", "value": False})
        if names.PAUSED_BY in deployment.metadata.annotations:
            operations.append({"op": "remove", "path": f"/metadata/annotations/{names.PAUSED_BY.replace('/', '~1')}"})
    return operations


def _told(case: Case, end: End, now: datetime) -> Plan:
    """The end in the status, and in an Event."""
    release = case.release
    done = status.entered(
        release,
        now,
        phase=end.phase,
        reason=end.reason,
        message=end.message,
        weight=WeightStatus(how="no pods"),
    )
    told = case.announce(f"Release{end.phase}", f"release {release.metadata.name}: {end.message}")
    return Plan((told, done), end.reason, end.message)

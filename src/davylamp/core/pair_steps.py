"""A pair's part in bringing an exposure about: two Deployments are scaled, and nothing is made or deleted.

With routes the one that serves keeps its size, and the canary's Service is the user's own. Under one Service the
share is the number of pods: both are scaled so that the total stays what it was when the release began. The canary's
pods come first and the others go when these are in the endpoints, so that there are never fewer.
"""

from __future__ import annotations

from typing import Any

from davylamp.api.objects import Deployment
from davylamp.api.types import Step
from davylamp.api.units import count
from davylamp.core import names
from davylamp.core.actions import Action, Patch, Ref
from davylamp.core.case import Case
from davylamp.core.decision import pod_count
from davylamp.core.effect import Missing, Reached


def part(step: Step, total: int) -> int:
    """How many of `total` pods are the canary's in `step`, under one Service: the nearest to its weight, the smaller
    of two that are equally near; at least one on each side, even where there is only one pod altogether."""
    if total <= 0 or step.weight >= 100:
        return max(total, 0)
    if step.replicas is not None:
        wanted = count(step.replicas, total)
    else:
        wanted = -(-(2 * total * step.weight - 100) // 200)
    least = 1 if step.weight > 0 else 0
    return max(min(wanted, total - 1), least)


def others(step: Step, total: int, pods: int) -> int:
    """How many pods the other one has then."""
    return 0 if step.weight >= 100 else max(total - pods, 1 if total > 0 else 0)


def objects(case: Case, step: Step, pods: int) -> Missing | None:
    """Both Services on their own pods, the canary's Deployment going on and large enough."""
    deployment, service = case.deployment, case.canary_service
    if deployment is None:
        return Missing(f"Deployment {case.release.spec.deployment} is gone; the release waits for it")
    if case.routed and service is None:
        return Missing(f"Service {case.release.spec.canary_service} is gone; the release waits for it")
    actions: list[Action] = []
    if case.routed and not case.switched and any(case.selected_by(one) != "stable" for one in case.services):
        actions += case.select("stable")
    if case.routed and service is not None and not case.adopted and case.selected_by(service) != "canary":
        actions.append(case.point(service, "canary"))
    # With routes more pods than needed do no harm: an autoscaler of the canary's may want them.
    enough = deployment.spec.replicas >= pods if case.routed else deployment.spec.replicas == pods
    actions += scaled(deployment, None if enough else pods, go_on=True)
    if actions:
        return Missing(f"starting {pod_count(pods)} of {case.release.spec.canary.image}", tuple(actions))
    return _of_this_template(case, deployment)


def _of_this_template(case: Case, deployment: Deployment) -> Missing | None:
    """No pod of an earlier template of the canary's Deployment may be left: the Service would have it too."""
    if deployment.status.observed_generation < deployment.metadata.generation:
        return Missing(f"Deployment {deployment.metadata.name} is being scaled")
    left = sum(
        rs.status.replicas
        for rs in case.world.replica_sets
        if (owner := rs.metadata.controller) is not None
        and owner.uid == deployment.metadata.uid
        and rs.spec.template_hash != case.release.spec.template
    )
    return Missing(f"{left} pods of {deployment.metadata.name}'s earlier template are still going") if left else None


def balanced(case: Case, step: Step, pods: int) -> Reached | Missing:
    """Under one Service, or none: the other Deployment shrinks by what the canary has."""
    wanted = others(step, case.size, pods)
    partner, spec = case.partner, case.release.spec
    if partner is not None:
        actions = scaled(partner, wanted if partner.spec.replicas != wanted else None)
        if actions:
            return Missing(f"scaling {partner.metadata.name} to {wanted}", actions)
    serving = case.other_endpoints(spec.service) if spec.service else running(case)
    total = serving + pods
    if partner is not None and serving != wanted:
        name = f"in the endpoints of Service {spec.service}" if spec.service else "there"
        return Missing(f"{serving} pods of {partner.metadata.name} are {name}; {wanted} are to be")
    return Reached(round(100 * pods / total, 1) if total else 0.0, f"{pods} of {total} pods")


def running(case: Case) -> int:
    """Pods of the Deployment that served when the release began."""
    partner = case.partner
    return sum(
        rs.status.replicas
        for rs in case.world.replica_sets
        if partner is not None and (owner := rs.metadata.controller) is not None and owner.uid == partner.metadata.uid
    )


def scaled(deployment: Deployment, pods: int | None, *, go_on: bool = False) -> tuple[Patch, ...]:
    """The write that gives a Deployment `pods` pods (None: as it is) and, with `go_on`, lets it roll if it is paused;
    nothing where it is so."""
    meta = deployment.metadata
    marks = [name for name in (names.PAUSED_BY, names.START, names.START_BY) if go_on and name in meta.annotations]
    spec: dict[str, Any] = {"replicas": pods} if pods is not None else {}
    if go_on and deployment.spec.paused:
        spec["paused"] = False
    if not spec and not marks:
        return ()
    metadata: dict[str, Any] = {"resourceVersion": meta.resource_version}
    if marks:
        metadata["annotations"] = dict.fromkeys(marks)
    patch = {"metadata": metadata} | ({"spec": spec} if spec else {})
    return (Patch(Ref("Deployment", meta.namespace, meta.name), patch),)

"""How a pair's release ends. Nothing is deleted: the two Deployments change places, or go back to their sizes.

Completing begins with a word in the status (`Promoting`), once everything goes to the canary: from there the way is
only forward. Then the route goes (both its sides are the same pods by now), the canary's Service turns to the
Deployment that served before, and that one gets the size that the other one had when it was idle.
"""

from __future__ import annotations

from datetime import UTC, datetime

from davylamp.api.types import Phase, WeightStatus
from davylamp.core import status
from davylamp.core.actions import Action
from davylamp.core.case import Case
from davylamp.core.decision import Plan
from davylamp.core.pair_steps import running, scaled


def take_over(case: Case, now: datetime) -> Plan:
    """The word that the canary serves from now on."""
    assert case.pair is not None
    message = f"{case.release.spec.deployment} takes over from {case.pair.stable}"
    written = status.entered(case.release, now, phase=Phase.PROMOTING, reason="Promoting", message=message)
    return Plan((written,), "Promoting", message)


def turned(case: Case) -> Plan | None:
    """The canary's Service and the size of the Deployment that served before; None when both are as they should be."""
    assert case.pair is not None
    actions: list[Action] = []
    service, partner = case.canary_service, case.partner
    if partner is not None and case.routed and service is not None and case.selected_by(service) != "stable":
        actions.append(case.point(service, "stable"))
    size = case.pair.canary_pods if case.routed else 0
    if partner is not None and partner.spec.replicas > size:
        actions += scaled(partner, size)
    if actions:
        return Plan(tuple(actions), "Promoting", f"{case.pair.stable} becomes the idle one")
    left = running(case)
    if partner is not None and left > size:
        return Plan((), "Promoting", f"{left - size} pods of {case.pair.stable} are still going")
    return None


def completed(case: Case, now: datetime) -> Plan:
    """The end in the status, and in an Event."""
    release, pair = case.release, case.pair
    assert pair is not None
    serving = f"{release.spec.deployment} ({release.spec.canary.image})"
    message = f"{serving} serves, {pair.stable} is idle"
    done = status.entered(
        release,
        now,
        phase=Phase.COMPLETED,
        reason="Completed",
        message=message,
        step=len(release.spec.steps),
        step_since=now.astimezone(UTC),
        weight=WeightStatus(asked=100, in_effect=100, how="all pods that serve"),
    )
    told = case.announce("ReleaseCompleted", f"release {release.metadata.name} completed: {message}")
    return Plan((told, done), "Completed", message)


def restored(case: Case) -> Plan | None:
    """On the way back: the one that served at its full size again, before the canary loses a pod. (With routes it was
    at full size all the time, unless the canary's Deployment was deleted after it had taken over.)"""
    pair, partner = case.pair, case.partner
    assert pair is not None
    smaller = partner is not None and partner.spec.replicas < pair.stable_pods
    if partner is None or not smaller or (case.routed and case.deployment is not None):
        return None
    return Plan(scaled(partner, pair.stable_pods), "RollingBack", f"scaling {pair.stable} to {pair.stable_pods}")


def shrunk(case: Case) -> Plan | None:
    """On the way back: the canary's Deployment as large as it was. Under one Service each pod of the other one that
    is ready takes the place of one of the canary's, so that there are never fewer pods than there were."""
    pair, deployment = case.pair, case.deployment
    assert pair is not None
    ready = case.stable.status.ready_replicas if case.stable is not None else 0
    target = pair.canary_pods if case.routed else max(pair.stable_pods - ready, 0)
    if deployment is not None and deployment.spec.replicas > target:
        return Plan(scaled(deployment, target), "RollingBack", f"scaling {deployment.metadata.name} back to {target}")
    left = len(case.living_pods)
    if left > (pair.canary_pods if case.routed else 0):
        return Plan((), "RollingBack", f"{left} of the canary's pods are still there")
    return None

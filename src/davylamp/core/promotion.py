"""Completing a release: the canary's pods become the Deployment's, none of them restarted.

The order: everything on the canary by the Service's own selector (`step.bring_about` at weight 100), adoption,
which lets the Deployment controller scale the old ReplicaSet to 0, routes as before (both sides of them are the
same pods by now), canary Service away, selector given back. Where there is no room for a full-size canary the
Deployment adopts the small one and its own rolling update does the rest.

With `keepOld` the release is completed before the adoption, which waits: the Deployment controller scales the old
ReplicaSet to 0 in the moment of it, paused or not, and nothing that we could write would keep its pods longer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from davylamp.api.types import Phase, Step, WeightStatus
from davylamp.api.units import readable
from davylamp.core import manifests, names, pair_end, status
from davylamp.core.actions import Action, Delete, Patch
from davylamp.core.case import Case
from davylamp.core.decision import Plan
from davylamp.core.effect import Missing, kinds, settle_of
from davylamp.core.rollback import unmade
from davylamp.core.routing import rerouted, unconverged
from davylamp.core.step import bring_about, saturable

FULL = Step(weight=100)
ROOM = Step(weight=99)
"""Without routes: as many pods as may run beside the Deployment's."""


def promote(case: Case, now: datetime) -> Plan:
    """All traffic to the canary, then adoption. Up to the adoption there is a way back. Where there is no room for
    all of it, what there is room for must live before the Deployment's own rolling update goes on with it."""
    wanted = FULL if saturable(case) else ROOM if case.canary is None else None
    if wanted is not None:
        reached = bring_about(case, wanted, now)
        if isinstance(reached, Missing):
            message = f"completing: {reached.message}"
            return Plan(reached.actions, "Promoting", message, reached.wake_at, awaited=reached.awaited)
        if case.pair is not None:
            return pair_end.take_over(case, now)
        if case.release.spec.keep_old_seconds and case.services:
            return _completed_for_now(case, now)
    return give_over(case, "giving the canary's pods to the Deployment")


def _completed_for_now(case: Case, now: datetime) -> Plan:
    release = case.release
    until = now.astimezone(UTC) + timedelta(seconds=release.spec.keep_old_seconds)
    message = f"all requests reach {release.spec.canary.image}"
    done = status.entered(
        release,
        now,
        phase=Phase.COMPLETED,
        reason="Completed",
        message=message,
        step=len(release.spec.steps),
        weight=WeightStatus(asked=100, in_effect=100, how="all pods of the Service"),
        kept_until=until,
    )
    text = f"release {release.metadata.name} completed: {message}; the old pods stay until {until:%H:%M:%S} UTC"
    return Plan((case.announce("ReleaseCompleted", text), done), "Completed", message)


def keeping(case: Case, now: datetime) -> Plan | None:
    """A completed release that keeps the old pods: nothing takes it back but people, and it is kept in effect."""
    until = case.release.status.kept_until
    if not case.release.keeping or until is None:
        return None
    if until <= now:
        return give_over(case, "the old pods were kept for long enough")
    reached = bring_about(case, FULL, now)
    if isinstance(reached, Missing) and reached.actions:
        return Plan(reached.actions, "KeepingOld", reached.message, until)
    left = readable((until - now).total_seconds())
    return Plan((), "KeepingOld", f"the old pods stay for another {left}", until)


def give_over(case: Case, message: str) -> Plan:
    """The canary's pods to the Deployment."""
    return Plan(_adopt(case), "Promoting", message)


def _adopt(case: Case) -> tuple[Action, ...]:
    """One patch makes the ReplicaSet the Deployment's. An empty one with the same template has to go first, since
    the Deployment controller would take the older of the two for its new one."""
    deployment, canary = case.deployment, case.canary
    assert deployment is not None
    assert canary is not None
    twins = [
        Delete(case.ref("ReplicaSet", rs.metadata.name), rs.metadata.uid)
        for rs in case.world.replica_sets
        if rs.metadata.name != canary.metadata.name
        and rs.spec.template_hash == case.release.spec.template
        and rs.spec.replicas == 0
        and rs.metadata.deletion_timestamp is None
    ]
    ref = case.ref("ReplicaSet", canary.metadata.name)
    return (*twins, Patch(ref, manifests.adoption(deployment, canary)))


def overtaken(case: Case) -> bool:
    """A newer template came while the Deployment's own rolling update was still finishing a small canary: the gate
    has paused it half way, with pods of both versions."""
    stable = case.stable
    half_way = case.pair is None and stable is not None and stable.spec.replicas > 0 and not case.switched
    return half_way and case.template != case.release.spec.template


def give_back(case: Case) -> Plan:
    """Undo an adoption that was overtaken: the canary is the Release's again, so the Deployment controller brings
    the stable ReplicaSet, now the only one with pods, to full size, and the release can end like any other."""
    canary = case.canary
    assert canary is not None
    patch = {
        "metadata": {
            "resourceVersion": canary.metadata.resource_version,
            "ownerReferences": [manifests.release_owner(case.release)],
        }
    }
    ref = case.ref("ReplicaSet", canary.metadata.name)
    return Plan((Patch(ref, patch),), "Promoting", "a newer template came before the promotion was done")


def finish(case: Case, now: datetime) -> Plan:
    """After the adoption: nothing here can be taken back, and each write may be done again."""
    if case.pair is not None:
        return _finish_pair(case, now)
    actions: list[Action] = []
    deployment, canary, stable = case.deployment, case.canary, case.stable
    assert deployment is not None
    assert canary is not None
    ours = case.template == case.release.spec.template
    n = deployment.spec.replicas
    if ours and min(canary.spec.replicas, canary.status.available_replicas) < n:
        # The Deployment's own rolling update does the rest.
        actions += case.unpause()
    leftover = not ours and stable is not None and stable.spec.replicas > 0
    if leftover and case.switched and stable is not None:
        # A newer template came in the moment of the adoption, so the controller no longer takes ours for its new one.
        actions.append(Patch(case.ref("ReplicaSet", stable.metadata.name), {"spec": {"replicas": 0}}))
    actions += _routes_away(case)
    if actions:
        return Plan(tuple(actions), "Promoting", "the canary's pods are the Deployment's now")
    if stable is not None and stable.status.replicas > 0:
        return Plan((), "Promoting", f"{stable.status.replicas} pods of the old version are still going")
    if ours and canary.status.available_replicas < n:
        return Plan((), "Promoting", f"{canary.status.available_replicas} of {n} pods run the new version")
    if ours and deployment.spec.paused and deployment.status.replicas != canary.status.replicas:
        # While the Deployment controller still writes its status, a patch of ours would only meet with a conflict.
        return Plan((), "Promoting", "the Deployment has yet to count them")
    return _tidy(case, now)


def _routes_away(case: Case) -> tuple[Action, ...]:
    """No route has our mark any more. Where all that is left belongs to the canary's Service, one deletion takes both
    away, the routes first: it is all the same to the requests, since both sides are the same pods."""
    wanted = [(route.service, route.desired(None, case.context(route))) for route in case.world.routes]
    left = {names.canary_service(service) for service, each in wanted if not each.reached}
    if not all(each.collected for _, each in wanted if not each.reached):
        return rerouted(case, None)
    return tuple(
        Delete(case.ref("Service", service.metadata.name), service.metadata.uid, foreground=True)
        for service in case.canary_services
        if service.metadata.name in left and service.metadata.deletion_timestamp is None
    )


def _finish_pair(case: Case, now: datetime) -> Plan:
    """The same for two Deployments, once the word is given that the canary serves."""
    actions = (*(case.select("canary") if case.routed else ()), *rerouted(case, None))
    if actions:
        return Plan(actions, "Promoting", f"{case.release.spec.deployment} serves now")
    waiting = unconverged(case, None)
    if waiting:
        return Plan((), "Promoting", waiting)
    wait = case.settled(*(ref for route in case.world.routes for ref in route.refs))
    if wait > now:
        return Plan((), "Promoting", "the old route is given time to go", wait)
    made = unmade(case)
    if made:
        return Plan(made, "Promoting", "clearing up")
    return pair_end.turned(case) or pair_end.completed(case, now)


def _tidy(case: Case, now: datetime) -> Plan:
    """The user's Service as it was, our own objects gone, and the end told."""
    ours = case.template == case.release.spec.template
    actions: list[Action] = [*(case.unpause() if ours else ()), *case.select(None), *case.lead(None)]
    refs = [ref for route in case.world.routes for ref in route.refs]
    wait = case.settled(*refs, seconds=settle_of(case, kinds(case)).seconds)
    made = unmade(case)
    if made:
        waiting = unconverged(case, None)
        if waiting:
            return Plan(tuple(actions), "Promoting", waiting)
        if wait > now:
            return Plan(tuple(actions), "Promoting", "the old route is given time to go", wait)
        actions += made
    if actions:
        return Plan(tuple(actions), "Promoting", "clearing up")
    if case.canary_services:
        return Plan((), "Promoting", "the canary's Service is going")
    release, deployment = case.release, case.deployment
    assert deployment is not None
    if ours and deployment.status.observed_generation < deployment.metadata.generation:
        # Whoever waits for the end finds the Deployment at rest, too.
        return Plan((), "Promoting", "the Deployment has yet to see that it goes on")
    message = f"all pods run {release.spec.canary.image}"
    kept = release.keeping
    done = status.entered(
        release,
        now,
        phase=Phase.COMPLETED,
        reason="OldGone" if kept else "Completed",
        message=message,
        step=len(release.spec.steps),
        step_since=now.astimezone(UTC),
        weight=WeightStatus(asked=100, in_effect=100, how="all pods"),
        kept_until=None,
    )
    if kept:
        return Plan((done,), "OldGone", message)
    began = release.metadata.creation_timestamp or now
    took = readable((now - began).total_seconds())
    told = case.announce("ReleaseCompleted", f"release {release.metadata.name} completed in {took}: {message}")
    return Plan((told, done), "Completed", message)

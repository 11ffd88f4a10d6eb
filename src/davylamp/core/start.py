"""A Deployment without a release under way: whether its template asks for one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from davylamp.api.objects import Deployment, ReplicaSet, template_hash
from davylamp.api.types import Phase, Release
from davylamp.core import manifests, names, status
from davylamp.core.actions import Announce, Create, Patch, Ref
from davylamp.core.case import unpause
from davylamp.core.decision import Plan
from davylamp.core.world import World


def watch_over(world: World, now: datetime) -> Plan:
    """What a Deployment needs that is not being released: nothing, a release, or its pause put right."""
    deployment, policy = world.deployment, world.policy
    if deployment is None or deployment.metadata.deletion_timestamp is not None:
        return Plan((), "Gone", "there is no Deployment")
    if policy is None or policy.metadata.deletion_timestamp is not None:
        return Plan(_let_go(world, deployment), "NoPolicy", "no policy releases it")
    errors = [problem for problem in world.problems if not problem.warning]
    if errors:
        return Plan((), "InvalidPolicy", f"policy {policy.metadata.name} can't be used: {errors[0]}")
    template = template_hash(deployment.spec.template)
    running = active(world)
    if not deployment.spec.paused:
        return _unpaused(world, deployment, running, template)
    if not running or deployment.spec.replicas == 0:
        return Plan(go_on(world, deployment), "NoPods", "no version runs, so there is nothing to compare with")
    before = [release for release in world.releases if release.spec.template == template]
    last = max(before, key=lambda release: release.spec.attempt, default=None)
    rejected = last is not None and last.status.phase is Phase.ROLLED_BACK and last.spec.retry is None
    if len(running) > 1:
        if ours(deployment) and not rejected and any(rs.spec.template_hash == template for rs in running):
            message = "two versions run already, and the Deployment asks for one of them: Kubernetes rolls it out"
            return Plan(unpause(deployment), "Rolling", message)
        found = " and ".join(f"{rs.metadata.name} ({rs.status.replicas})" for rs in running)
        return Plan((), "TwoVersions", f"two versions run, {found}: which one is stable can't be told")
    stable = running[0]
    if stable.spec.template_hash == template:
        return Plan(go_on(world, deployment), "Stable", f"all pods run {manifests.images(stable.spec.template)}")
    if last is not None and rejected:
        return _held(world, deployment, last, now)
    attempt = last.spec.attempt + 1 if last else 1
    return started(world, deployment, manifests.release(deployment, policy, world.traffic, stable, template, attempt))


def started(world: World, deployment: Deployment, manifest: dict[str, Any], by: str = "") -> Plan:
    """A new Release, and the Event that tells of it, with who asked for it."""
    name = manifest["metadata"]["name"]
    spec = manifest["spec"]
    message = f"release {name} of {spec['canary'].get('image')} begins; {spec['stable'].get('image')} stays stable"
    message += f"; started by {by}" if by else ""
    meta = deployment.metadata
    told = Announce(
        name=names.event(name, "ReleaseStarted"),
        about=Ref("Deployment", meta.namespace, meta.name),
        about_uid=meta.uid,
        reason="ReleaseStarted",
        message=message,
        related=Ref("Release", meta.namespace, name),
        detail=True,
    )
    return Plan((Create(manifest), told), "Starting", message)


def active(world: World) -> list[ReplicaSet]:
    """The Deployment's own ReplicaSets that have pods or ask for some; of a pair, those of the one that serves."""
    return active_of(world, world.serving)


def active_of(world: World, deployment: Deployment | None) -> list[ReplicaSet]:
    """A Deployment's own ReplicaSets that have pods or ask for some."""
    uid = deployment.metadata.uid if deployment else ""
    return [
        rs
        for rs in world.replica_sets
        if (owner := rs.metadata.controller) is not None
        and owner.uid == uid
        and rs.metadata.deletion_timestamp is None
        and (rs.spec.replicas > 0 or rs.status.replicas > 0)
    ]


def _unpaused(world: World, deployment: Deployment, running: list[ReplicaSet], template: str) -> Plan:
    """Kubernetes is at work itself. Our mark goes; without a gate the pause comes back when it is done."""
    rolled = (
        len(running) == 1
        and running[0].spec.template_hash == template
        and deployment.status.observed_generation >= deployment.metadata.generation
        and deployment.status.available_replicas >= deployment.spec.replicas
    )
    meta = deployment.metadata
    if world.gate == "fallback" and rolled:
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version,
                "annotations": {names.PAUSED_BY: "davylamp"},
            },
            "spec": {"paused": True},
        }
        ref = Ref("Deployment", meta.namespace, meta.name)
        return Plan((Patch(ref, patch),), "Stable", "keeping the Deployment paused, since there is no gate")
    if not rolled:
        return Plan(unpause(deployment), "Rolling", "Kubernetes rolls the Deployment out by itself")
    return Plan(unpause(deployment), "Stable", f"all pods run {manifests.images(running[0].spec.template)}")


def go_on(world: World, deployment: Deployment) -> tuple[Patch, ...]:
    """Undo a pause that was the gate's; one that a person made stays."""
    return unpause(deployment) if world.gate == "admission" and ours(deployment) else ()


def ours(deployment: Deployment) -> bool:
    """True where the pause is the gate's or ours, and no person's."""
    return names.PAUSED_BY in deployment.metadata.annotations


def _let_go(world: World, deployment: Deployment) -> tuple[Patch, ...]:
    """A pause of ours ends with the policy, where going on changes no pod. A template that is held stays held: whether
    it may roll is for a person to say."""
    template = template_hash(deployment.spec.template)
    if not ours(deployment):
        return ()
    return unpause(deployment) if all(rs.spec.template_hash == template for rs in active(world)) else ()


def _held(world: World, deployment: Deployment, rejected: Release, now: datetime) -> Plan:
    """A rejected template gets no pods until somebody says `davy retry` or changes it.

    After `onFailure: revert` it may come back (a GitOps tool applies it again): that is told once, not fought.
    """
    message = f"this template was rejected by release {rejected.metadata.name}: {rejected.status.message}"
    back = rejected.spec.on_failure == "revert" and all(t.reason != "AppliedAgain" for t in rejected.status.history)
    if not back:
        return Plan((), "Held", message)
    text = "the rejected template was applied again; it is held and gets no pods"
    again = status.entered(
        rejected, now, phase=Phase.ROLLED_BACK, reason="AppliedAgain", message=rejected.status.message
    )
    told = Announce(
        name=names.fit(f"{rejected.metadata.name}.again", 253),
        about=Ref("Deployment", world.namespace, world.name),
        about_uid=deployment.metadata.uid,
        reason="TemplateHeld",
        message=f"{text}: {message}. Fix it, or `davy retry {world.name}`",
        warning=True,
        related=Ref("Release", world.namespace, rejected.metadata.name),
    )
    return Plan((told, again), "Held", text)

"""A pair without a release under way: whether the idle Deployment's template asks for one, or a person does.

The idle one gets no requests, so a new template there is not dangerous; the gate pauses it all the same, so that its
pods start when the release says so, as many as the first step needs. The one that serves is paused as well if its
template is changed: that would reach everybody at once. It is held, and said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from davylamp.api.objects import Deployment, ReplicaSet, Service, template_hash
from davylamp.api.types import PairAtStart, Phase, Release
from davylamp.core import manifests, names, pairs
from davylamp.core.actions import Announce, Patch, Ref
from davylamp.core.case import unpause
from davylamp.core.decision import Plan
from davylamp.core.start import active, active_of, go_on, ours, started
from davylamp.core.world import World


def watch_over_pair(world: World, now: datetime) -> Plan:
    """What a pair needs that is not being released: nothing, a release, or its pauses and Service put right."""
    pair, idle, serving, policy = world.pair, world.deployment, world.partner, world.policy
    assert pair is not None
    missing = [name for name, found in ((pair.stable, serving), (pair.canary, idle)) if not _there(found)]
    if missing or idle is None or serving is None:
        return Plan((), "Gone", f"there is no Deployment {' and no Deployment '.join(missing)}")
    if policy is None or policy.metadata.deletion_timestamp is not None:
        return Plan((*_let_go(world, serving), *_let_go(world, idle)), "NoPolicy", "no policy releases it")
    errors = [problem for problem in world.problems if not problem.warning]
    if errors:
        return Plan((), "InvalidPolicy", f"policy {policy.metadata.name} can't be used: {errors[0]}")
    if serving.spec.replicas == 0 or not active(world):
        message = f"{pair.stable} has no pods, so there is nothing to compare with"
        return Plan((*go_on(world, serving), *go_on(world, idle)), "NoPods", message)
    return _pointed_back(world, serving, idle) or _wanted(world, serving, idle) or _at_rest(world, serving, idle)


def _there(deployment: Deployment | None) -> bool:
    return deployment is not None and deployment.metadata.deletion_timestamp is None


def _let_go(world: World, deployment: Deployment) -> tuple[Patch, ...]:
    """A pause of ours ends with the policy, where going on changes no pod."""
    template = template_hash(deployment.spec.template)
    same = all(rs.spec.template_hash == template for rs in active_of(world, deployment))
    return unpause(deployment) if ours(deployment) and same else ()


def _pointed_back(world: World, serving: Deployment, idle: Deployment) -> Plan | None:
    """A Service that somebody has pointed at the one without pods (an old manifest applied again, say) would answer
    nothing at all: it goes back to the one that serves."""
    service = _service(world)
    if service is None or idle.spec.replicas > 0:
        return None
    wanted, other = pairs.told_apart(serving, idle)
    if pairs.selected(service.spec.selector, wanted, other) != "canary":
        return None
    names_of = serving.metadata.name, idle.metadata.name
    message = f"Service {service.metadata.name} selected {names_of[1]}, which has no pods; back to {names_of[0]}"
    told = Announce(
        name=names.fit(f"{service.metadata.name}.pointed-back-{service.metadata.resource_version}", 253),
        about=Ref("Service", world.namespace, service.metadata.name),
        about_uid=service.metadata.uid,
        reason="ServicePointedBack",
        message=message,
        warning=True,
    )
    return Plan((pairs.pointed(service, wanted, other), told), "PointedBack", message)


def _service(world: World) -> Service | None:
    return world.services.get(world.traffic.service)


# --- a release ---


def _wanted(world: World, serving: Deployment, idle: Deployment) -> Plan | None:
    """A release, where the idle one's template has changed or a person asks for one."""
    template = template_hash(idle.spec.template)
    last = last_of(world.releases, idle.metadata.name, template)
    attempt = last.spec.attempt + 1 if last is not None else 1
    asked = idle.metadata.annotations.get(names.START) == next_name(world.releases, idle)
    rejected = last is not None and last.status.phase is Phase.ROLLED_BACK
    again = rejected and last is not None and last.spec.retry is not None
    changed = not rejected and is_changed(world, idle, template)
    if not (asked or again or changed):
        return None
    policy, stable = world.policy, max(active(world), key=lambda rs: rs.spec.replicas)
    assert policy is not None
    at_start = _at_start(world, serving, idle, changed=changed)
    manifest = manifests.release(idle, policy, world.traffic, stable, template, attempt, at_start)
    by = idle.metadata.annotations.get(names.START_BY, "") if asked else ""
    if by:
        manifest["metadata"]["annotations"] = {names.START_BY: by}
    return started(world, idle, manifest, by)


def next_name(releases: Sequence[Release], idle: Deployment) -> str:
    """What a release of the idle Deployment's template would be called now; `davy start` asks for it by this name, so
    that asking twice is asking once, and an old word for another template says nothing."""
    template = template_hash(idle.spec.template)
    last = last_of(releases, idle.metadata.name, template)
    return names.release_name(idle.metadata.name, template, last.spec.attempt + 1 if last is not None else 1)


def last_of(releases: Sequence[Release], deployment: str, template: str) -> Release | None:
    """The last attempt to release this template of this Deployment."""
    tried = [r for r in releases if r.spec.deployment == deployment and r.spec.template == template]
    return max(tried, key=lambda release: release.spec.attempt, default=None)


def is_changed(world: World, idle: Deployment, template: str) -> bool:
    """Whether the idle one's template is another than the one that is known. The newest release knows it, as it was
    after the release; before the first one, the gate's mark tells, or that no pod was ever made of it."""
    newest = next(reversed([release for release in world.releases if release.spec.pair is not None]), None)
    pair = newest.spec.pair if newest is not None else None
    if newest is None or pair is None or idle.metadata.name not in newest.spec.deployments:
        if world.gate == "admission":
            return ours(idle)
        own = _own(world, idle)
        return bool(own) and all(rs.spec.template_hash != template for rs in own)
    if idle.metadata.name == pair.stable:
        return template != pair.stable_template
    tried = newest.status.phase in (Phase.ROLLED_BACK, Phase.COMPLETED)
    return template != pair.before and not (tried and template == newest.spec.template)


def _own(world: World, deployment: Deployment) -> list[ReplicaSet]:
    uid = deployment.metadata.uid
    return [rs for rs in world.replica_sets if (o := rs.metadata.controller) is not None and o.uid == uid]


def _at_start(world: World, serving: Deployment, idle: Deployment, *, changed: bool) -> PairAtStart:
    stable_labels, canary_labels = pairs.told_apart(serving, idle)
    sizes = serving.spec.replicas, idle.spec.replicas
    if not world.traffic.routes:
        sizes = sum(sizes), 0  # under one Service the idle one has no pods
    return PairAtStart(
        stable=serving.metadata.name,
        stable_template=template_hash(serving.spec.template),
        stable_pods=sizes[0],
        canary_pods=sizes[1],
        stable_labels=stable_labels,
        canary_labels=canary_labels,
        before=pairs.template_before(idle, _own(world, idle)) if changed else "",
    )


# --- nothing to release ---


def _at_rest(world: World, serving: Deployment, idle: Deployment) -> Plan:
    """The pauses put right, and what there is to say."""
    running = active(world)
    runs = ", ".join(dict.fromkeys(manifests.images(rs.spec.template) for rs in running))
    held = serving.spec.paused and template_hash(serving.spec.template) not in {rs.spec.template_hash for rs in running}
    pauses = (*(() if held else _rested(world, serving)), *_rested(world, idle))
    if held:
        image = manifests.images(serving.spec.template)
        message = (
            f"{serving.metadata.name} serves, and its new template ({image}) would reach everybody at once: it is "
            f"held. Change {idle.metadata.name}'s instead"
        )
        return Plan(pauses, "ServingHeld", message)
    message = f"{serving.metadata.name} ({runs}) serves, {idle.metadata.name} is idle"
    last = last_of(world.releases, idle.metadata.name, template_hash(idle.spec.template))
    if last is not None and last.status.phase is Phase.ROLLED_BACK:
        text = f"this template was rejected by release {last.metadata.name}: {last.status.message}"
        return Plan(pauses, "Held", text)
    return Plan(pauses, "Stable", message)


def _rested(world: World, deployment: Deployment) -> tuple[Patch, ...]:
    """With a gate nothing at rest is paused for us; without one everything is, once it has rolled out."""
    if world.gate == "admission":
        return unpause(deployment) if ours(deployment) else ()
    template, own = template_hash(deployment.spec.template), active_of(world, deployment)
    rolled = all(rs.spec.template_hash == template for rs in own)
    seen = deployment.status.observed_generation >= deployment.metadata.generation
    if deployment.spec.paused or not (rolled and seen):
        return ()
    meta = deployment.metadata
    patch = {
        "metadata": {"resourceVersion": meta.resource_version, "annotations": {names.PAUSED_BY: "davylamp"}},
        "spec": {"paused": True},
    }
    return (Patch(Ref("Deployment", meta.namespace, meta.name), patch),)

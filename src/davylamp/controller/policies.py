"""What has to be written about a policy: whether it can be used, what it means, and who is held because it can't."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from davylamp.api.objects import Condition, Deployment, template_hash
from davylamp.api.problems import Problem
from davylamp.api.types import Found, Pair, ReleasePolicy, ReleasePolicyStatus
from davylamp.controller.gather import places_of
from davylamp.controller.known import Known
from davylamp.core import names
from davylamp.core.actions import Action, Announce, Patch, Ref
from davylamp.core.world import Gate, World
from davylamp.kube.gate import MARK
from davylamp.routers.review import Resolution, resolve

MESSAGE_LIMIT = 8000
"""Characters in a condition's message."""
FOUND_LIMIT = 20


def plan_policy(known: Known, policy: ReleasePolicy, gate: Gate, now: datetime) -> tuple[Action, ...]:
    """The writes that are left to do for a policy; none where everything is said."""
    if policy.metadata.deletion_timestamp is not None:
        return _let_go(known, policy)
    objects = known.namespace(policy.metadata.namespace)
    targets = objects.targets_of(policy)
    resolutions = [known.resolution(policy, deployment) for deployment in targets]
    found = resolutions or [resolve(policy, None, objects)]
    problems = tuple(dict.fromkeys(problem for resolution in found for problem in resolution.problems))
    actions: list[Action] = []
    if any(resolution.usable for resolution in resolutions):
        actions += _hold(policy)
    status = _status(policy, targets, resolutions, problems, now, places_of(known, policy))
    if status != policy.status:
        actions.append(_status_patch(policy, status))
        actions += _told(policy, problems)
    for deployment, resolution in zip(targets, resolutions, strict=True):
        if not resolution.usable and _is_held(known, deployment, gate):
            actions.append(_held(policy, deployment, resolution))
    return tuple(actions)


def _let_go(known: Known, policy: ReleasePolicy) -> tuple[Action, ...]:
    """A deleted policy stays until its releases have been wound down."""
    meta = policy.metadata
    if names.FINALIZER not in meta.finalizers or known.releases.by("policy", (meta.namespace, meta.name)):
        return ()
    kept = [name for name in meta.finalizers if name != names.FINALIZER]
    return (_patch(policy, {"metadata": {"resourceVersion": meta.resource_version, "finalizers": kept or None}}),)


def _hold(policy: ReleasePolicy) -> tuple[Action, ...]:
    meta = policy.metadata
    if names.FINALIZER in meta.finalizers:
        return ()
    wanted = [*meta.finalizers, names.FINALIZER]
    return (_patch(policy, {"metadata": {"resourceVersion": meta.resource_version, "finalizers": wanted}}),)


def _patch(policy: ReleasePolicy, patch: dict[str, Any]) -> Patch:
    return Patch(_ref(policy), patch)


def _ref(policy: ReleasePolicy) -> Ref:
    return Ref("ReleasePolicy", policy.metadata.namespace, policy.metadata.name)


# --- status ---


def _status(
    policy: ReleasePolicy,
    targets: Sequence[Deployment],
    resolutions: Sequence[Resolution],
    problems: tuple[Problem, ...],
    now: datetime,
    places: Pair | None,
) -> ReleasePolicyStatus:
    errors = [problem for problem in problems if not problem.warning]
    usable = not errors
    reason = "Valid" if usable else "Invalid"
    message = _message(policy, len(targets), errors, [problem for problem in problems if problem.warning])
    before = {condition.type: condition for condition in policy.status.conditions}
    conditions = []
    for kind, true in (("Ready", usable), ("Reconciling", False), ("Stalled", not usable)):
        value = "True" if true else "False"
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == value else _whole_seconds(now)
        conditions.append(Condition(kind, value, reason, message, since))
    found: list[Found] = [resolution.found for resolution in resolutions[:FOUND_LIMIT]]
    if places is not None:
        found = [msgspec.structs.replace(one, deployment=places.stable, canary=places.canary) for one in found[:1]]
    return ReleasePolicyStatus(policy.metadata.generation, tuple(conditions), len(targets), tuple(found))


def _message(policy: ReleasePolicy, targets: int, errors: list[Problem], warnings: list[Problem]) -> str:
    if errors:
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        text = "; ".join([f"can't be used, {count}: {errors[0]}", *map(str, errors[1:])])
    else:
        text = f"releases {'1 Deployment' if targets == 1 else f'{targets} Deployments'}"
    for problem in warnings:
        text += f"; warning: {problem}"
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _whole_seconds(now: datetime) -> datetime:
    """As the API server keeps times, so that what comes back equals what was written."""
    return now.astimezone(UTC).replace(microsecond=0)


def _status_patch(policy: ReleasePolicy, status: ReleasePolicyStatus) -> Patch:
    """All of the status, since a merge patch keeps what it doesn't name. (Nobody else writes it.)"""
    content = {
        "observedGeneration": status.observed_generation,
        "conditions": msgspec.to_builtins(status.conditions),
        "targets": status.targets,
        "found": msgspec.to_builtins(status.found),
    }
    return Patch(_ref(policy), {"status": content}, subresource="status")


# --- Events ---


def _told(policy: ReleasePolicy, problems: tuple[Problem, ...]) -> tuple[Action, ...]:
    errors = [problem for problem in problems if not problem.warning]
    if not errors:
        return ()
    return (
        Announce(
            name=_name(policy.metadata.name, "invalid", policy, errors),
            about=_ref(policy),
            about_uid=policy.metadata.uid,
            reason="PolicyInvalid",
            message=_message(policy, 0, errors, []),
            warning=True,
        ),
    )


def _name(about: str, what: str, policy: ReleasePolicy, errors: Sequence[Problem]) -> str:
    """Once for each generation of the policy and each set of problems."""
    said = "\n".join([policy.metadata.uid, str(policy.metadata.generation), *map(str, errors)])
    digest = hashlib.blake2b(said.encode(), digest_size=5).hexdigest()
    return f"{names.fit(about, 200)}.{what}-{digest}"


def _is_held(known: Known, deployment: Deployment, gate: Gate) -> bool:
    """Paused for us, with nothing of ours under way. Without a gate Deployments are always paused, and one is held
    only while it asks for another template than the one that runs."""
    meta = deployment.metadata
    if not deployment.spec.paused or names.PAUSED_BY not in meta.annotations:
        return False
    workload = known.workload_of(meta.namespace, meta.name)
    if any(release.active for release in known.releases_of(meta.namespace, workload)):
        return False
    if gate == "admission":
        return True
    running = {rs.spec.template_hash for rs in known.replica_sets.by("owner", meta.uid) if rs.spec.replicas > 0}
    return template_hash(deployment.spec.template) not in running


def _held(policy: ReleasePolicy, deployment: Deployment, resolution: Resolution) -> Announce:
    errors = [problem for problem in resolution.problems if not problem.warning]
    meta = deployment.metadata
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Announce(
        name=_name(meta.name, "held", policy, errors),
        about=Ref("Deployment", meta.namespace, meta.name),
        about_uid=meta.uid,
        reason="Held",
        message=f"the new template is held, since policy {policy.metadata.name} can't be used: {errors[0]}{more}. "
        f"Correct the policy, or go on without it: {_resume(meta.namespace, meta.name)}",
        warning=True,
        related=_ref(policy),
    )


def held_by_nobody(world: World) -> tuple[Announce, ...]:
    """A Deployment that the gate paused, whose policy is gone: nobody will let it go on but a person."""
    deployment = world.deployment
    if deployment is None or world.policy is not None or not deployment.spec.paused:
        return ()
    meta = deployment.metadata
    if names.PAUSED_BY not in meta.annotations or any(release.active for release in world.releases):
        return ()
    return (
        Announce(
            name=f"{names.fit(meta.name, 200)}.held-{template_hash(deployment.spec.template)}",
            about=Ref("Deployment", meta.namespace, meta.name),
            about_uid=meta.uid,
            reason="Held",
            message="paused for a release, but there is no policy for this Deployment any more. "
            f"Let Kubernetes go on: {_resume(meta.namespace, meta.name)}",
            warning=True,
        ),
    )


def marks(world: World) -> tuple[Patch, ...]:
    """The label by which the second gate knows a Deployment that has a policy; gone when it has none any more."""
    here = (world.deployment, world.partner)
    return tuple(patch for deployment in here for patch in _mark(world, deployment))


def _mark(world: World, deployment: Deployment | None) -> tuple[Patch, ...]:
    if deployment is None or deployment.metadata.deletion_timestamp is not None:
        return ()
    policy = world.policy
    gated = policy is not None and policy.metadata.deletion_timestamp is None
    wanted = names.fit(policy.metadata.name, 63) if policy is not None and gated else None
    meta = deployment.metadata
    if meta.labels.get(MARK) == wanted:
        return ()
    return (Patch(Ref("Deployment", meta.namespace, meta.name), {"metadata": {"labels": {MARK: wanted}}}),)


def _resume(namespace: str, name: str) -> str:
    return f"`kubectl rollout resume deployment/{name} -n {namespace}`"

"""Deployments that were paused for a release, once there is nobody any more who would let them go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from davylamp.api.objects import HASH_LABEL, Deployment, ReplicaSet, template_hash
from davylamp.core import names
from davylamp.core.actions import Patch, Ref
from davylamp.core.manifests import images
from davylamp.kube.errors import ApiError
from davylamp.kube.gate import MARK
from davylamp.kube.install import Change
from davylamp.kube.protocol import Api

TRIES = 5
"""How often a Deployment is looked at again that somebody else writes at the same time."""


class Held(msgspec.Struct, frozen=True, rename="camel"):
    """A Deployment that stays paused: its template has never become the stable one, so to resume it would roll it
    out, and to forget it would surprise whoever wanted it. A person must choose."""

    namespace: str
    name: str
    wanted: str
    """Images of the template that it holds."""
    running: str
    """Images of the pods that run."""
    accept: str
    """The command that rolls the held template out."""
    keep: str
    """The command that puts the running one back."""


async def let_go(api: Api, kubectl: str = "kubectl") -> tuple[list[Change], list[Held]]:
    """Take every mark of ours from all Deployments, and let those go on whose template already runs."""
    marked = [deployment for deployment in await api.list("Deployment") if _marked(deployment)]
    paused = any(names.PAUSED_BY in deployment.metadata.annotations for deployment in marked)
    running = _by_owner(await api.list("ReplicaSet")) if paused else {}
    changes: list[Change] = []
    held: list[Held] = []
    for deployment in marked:
        meta = deployment.metadata
        changed, stays = await _let_go(api, deployment, running.get(meta.uid, []), kubectl)
        changes += [Change("Deployment", meta.name, "changed", meta.namespace)] if changed else []
        held += [stays] if stays is not None else []
    return changes, held


def _marked(deployment: Deployment) -> bool:
    meta = deployment.metadata
    return MARK in meta.labels or names.PAUSED_BY in meta.annotations


def _by_owner(replica_sets: Iterable[ReplicaSet]) -> dict[str, list[ReplicaSet]]:
    """ReplicaSets with pods by the uid of their controller, the largest first."""
    found: dict[str, list[ReplicaSet]] = {}
    for rs in sorted(replica_sets, key=lambda rs: rs.spec.replicas, reverse=True):
        owner = rs.metadata.controller
        if owner is not None and (rs.spec.replicas > 0 or rs.status.replicas > 0):
            found.setdefault(owner.uid, []).append(rs)
    return found


async def _let_go(
    api: Api, deployment: Deployment, running: list[ReplicaSet], kubectl: str
) -> tuple[bool, Held | None]:
    """Whether it was written, and how it stays if it stays paused. `running` are its ReplicaSets with pods."""
    ref = Ref("Deployment", deployment.metadata.namespace, deployment.metadata.name)
    for attempt in range(1, TRIES + 1):
        paused = deployment.spec.paused and names.PAUSED_BY in deployment.metadata.annotations
        template = template_hash(deployment.spec.template)
        stays = paused and bool(running) and template not in {rs.spec.template_hash for rs in running}
        patch = _patch(deployment, stays=stays)
        try:
            if patch:
                await api.patch(Patch(ref, patch))
            return bool(patch), _held(deployment, running[0], kubectl) if stays else None
        except ApiError as error:
            if not (error.conflict and attempt < TRIES) and not error.not_found:
                raise
        again = await api.read(ref)
        if again is None:
            return False, None
        deployment = again
        running = _by_owner(await api.list("ReplicaSet", ref.namespace)).get(deployment.metadata.uid, [])
    return False, None


def _patch(deployment: Deployment, *, stays: bool) -> dict[str, Any]:
    """What is left to write. One that stays paused keeps the annotation: it says why, also to a second run."""
    meta = deployment.metadata
    changes: dict[str, Any] = {"labels": {MARK: None}} if MARK in meta.labels else {}
    resumed = names.PAUSED_BY in meta.annotations and not stays
    if resumed:
        changes["annotations"] = {names.PAUSED_BY: None}
    if not changes:
        return {}
    changes["resourceVersion"] = meta.resource_version
    return {"metadata": changes} | ({"spec": {"paused": False}} if resumed else {})


def _held(deployment: Deployment, stable: ReplicaSet, kubectl: str) -> Held:
    meta = deployment.metadata
    command = f"{kubectl} -n {meta.namespace}"
    resume = f"{command} rollout resume deployment/{meta.name}"
    return Held(
        namespace=meta.namespace,
        name=meta.name,
        wanted=images(deployment.spec.template),
        running=images(stable.spec.template),
        accept=resume,
        keep=_keep(deployment, stable, command, resume),
    )


def _keep(deployment: Deployment, stable: ReplicaSet, kubectl: str, resume: str) -> str:
    """Where only images differ, setting those; otherwise the whole template as the ReplicaSet has it. (`kubectl
    rollout undo` refuses a paused Deployment, and after `resume` pods of the held template would start.)"""
    name = deployment.metadata.name
    pairs = _images_only(deployment, stable)
    if pairs:
        return f"{kubectl} set image deployment/{name} {' '.join(pairs)} && {resume}"
    template = f"$({kubectl} get replicaset {stable.metadata.name} -o jsonpath='{{.spec.template}}')"
    operations = ", ".join(
        (
            f"{{op: replace, path: /spec/template, value: {template}}}",
            f"{{op: remove, path: /spec/template/metadata/labels/{HASH_LABEL}}}",
            "{op: replace, path: /spec/paused, value: false}",
        )
    )
    return f'{kubectl} patch deployment {name} --type=json -p "[{operations}]"'


def _images_only(deployment: Deployment, stable: ReplicaSet) -> list[str]:
    """`container=image` for the containers that have another image, if that is all that is different."""
    wanted = msgspec.json.decode(deployment.spec.template)
    running = msgspec.json.decode(stable.spec.template)
    if "spec" not in running:
        return []  # of a ReplicaSet that is just going, of which the template isn't kept
    pairs = []
    for kind in ("initContainers", "containers"):
        for mine, theirs in zip(wanted["spec"].get(kind, ()), running["spec"].get(kind, ()), strict=False):
            if mine.get("image") != theirs.get("image"):
                pairs.append(f"{theirs['name']}={theirs.get('image')}")
                mine["image"] = theirs.get("image")
    return pairs if template_hash(wanted) == template_hash(running) else []

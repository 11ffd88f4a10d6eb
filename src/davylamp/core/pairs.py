"""Two Deployments that take turns: which of them serves, and how their pods are told apart.

Which one serves is never only remembered. While a release is under way it says so; otherwise the Service that is
routed to selects the pods of one of them, or without routes only one of them has pods. What is left to memory (both
have pods, and nothing tells them apart) is in the newest Release, and before the first one in the policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from davylamp.api.objects import HASH_LABEL, REVISION, Deployment, ReplicaSet, Service, template_hash
from davylamp.api.types import Pair, Phase, Release, Side
from davylamp.core.actions import Patch, Ref

Labels = Mapping[str, str]


def told_apart(one: Deployment, other: Deployment) -> tuple[dict[str, str], dict[str, str]]:
    """The labels of each selector that the other one's doesn't have."""
    first, second = one.spec.selector.match_labels, other.spec.selector.match_labels
    return (
        {key: value for key, value in first.items() if second.get(key) != value},
        {key: value for key, value in second.items() if first.get(key) != value},
    )


def distinct(one: Deployment, other: Deployment) -> bool:
    """Whether no pod can belong to both."""
    first, second = told_apart(one, other)
    return bool(first.keys() & second.keys())


def excludes(selector: Labels, labels: Labels) -> bool:
    """Whether `selector` wants another value of any of these labels."""
    return any(labels.get(key, value) != value for key, value in selector.items())


def selected(selector: Labels, stable: Labels, canary: Labels) -> Literal["", "stable", "canary", "other"]:
    """Whose pods alone a selector selects, by the labels that tell the two apart; "" for both."""
    without_stable, without_canary = excludes(selector, stable), excludes(selector, canary)
    if without_stable:
        return "other" if without_canary else "canary"
    return "stable" if without_canary else ""


def pointed(service: Service, wanted: Labels, other: Labels) -> Patch:
    """The write that makes a Service select the pods with the labels `wanted`, and not those with the `other` ones."""
    meta = service.metadata
    patch: dict[str, Any] = {
        "metadata": {"resourceVersion": meta.resource_version},
        "spec": {"selector": dict.fromkeys(other) | dict(wanted)},
    }
    return Patch(Ref("Service", meta.namespace, meta.name), patch)


# --- which of the two serves ---


def roles(
    pair: Pair,
    releases: Sequence[Release],
    service: Service | None,
    deployments: Mapping[str, Deployment],
) -> Pair:
    """The two in their present places. `releases` are theirs, oldest first; `service` is the one that routes send to,
    or that has both."""
    active = next((release for release in reversed(releases) if release.active), None)
    if active is not None:
        return _of(active) or pair
    one, other = deployments.get(pair.stable), deployments.get(pair.canary)
    if one is not None and other is not None:
        pods = one.spec.replicas > 0, other.spec.replicas > 0
        first, second = told_apart(one, other)
        found = selected(service.spec.selector, first, second) if service is not None else ""
        if pods == (True, False) or (found == "stable" and pods[0] == pods[1]):
            return pair
        if pods == (False, True) or (found == "canary" and pods[0] == pods[1]):
            return swapped(pair)
    remembered = _of(releases[-1]) if releases else None
    return remembered if remembered is not None and set(remembered.names) == set(pair.names) else pair


def _of(release: Release) -> Pair | None:
    if release.spec.pair is None:
        return None
    pair = Pair(stable=release.spec.pair.stable, canary=release.spec.deployment)
    return swapped(pair) if release.status.phase is Phase.COMPLETED else pair


def swapped(pair: Pair) -> Pair:
    return Pair(stable=pair.canary, canary=pair.stable)


# --- ReplicaSets ---


def resolved(release: Release, stable: Sequence[ReplicaSet], canary: Sequence[ReplicaSet]) -> Release:
    """`release` of a pair with the ReplicaSets of its two versions, which the Deployment controller names. They are
    found among those of the two Deployments; the canary's may not be there yet."""
    spec = release.spec
    new = next((rs for rs in canary if rs.spec.template_hash == spec.template), None)
    old = max(stable, key=lambda rs: (rs.spec.replicas, revision(rs)), default=None)
    return msgspec.structs.replace(
        release,
        spec=msgspec.structs.replace(
            spec, stable=_side(spec.stable, old), canary=_side(msgspec.structs.replace(spec.canary, hash=""), new)
        ),
    )


def _side(side: Side, found: ReplicaSet | None) -> Side:
    if found is None:
        return side
    meta = found.metadata
    return msgspec.structs.replace(side, replica_set=meta.name, hash=meta.labels.get(HASH_LABEL, ""))


def revision(replica_set: ReplicaSet) -> int:
    """Which of a Deployment's templates, counted from 1, as its controller counts."""
    text = replica_set.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def template_before(deployment: Deployment, own: Sequence[ReplicaSet]) -> str:
    """Hash of the template that a Deployment had before the present one; "" where it had none."""
    template = template_hash(deployment.spec.template)
    others = [rs for rs in own if rs.spec.template_hash != template]
    newest = max(others, key=lambda rs: (rs.spec.replicas > 0, revision(rs)), default=None)
    return newest.spec.template_hash if newest is not None else ""

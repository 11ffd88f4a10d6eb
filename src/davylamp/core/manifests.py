"""The objects of a release that are the same whatever the router: Release, ReplicaSet, canary Service."""

from __future__ import annotations

from typing import Any

import msgspec

from davylamp.api import API_VERSION
from davylamp.api.objects import HASH_LABEL, Deployment, ReplicaSet, Service
from davylamp.api.types import PairAtStart, Release, ReleasePolicy, ReleaseSpec, Side
from davylamp.api.units import count, seconds
from davylamp.core import names
from davylamp.core.world import Traffic


def images(template: msgspec.Raw) -> str:
    """The images of a pod template's containers, for people."""
    pod = msgspec.json.decode(template).get("spec") or {}
    return ", ".join(container.get("image", "") for container in pod.get("containers") or ())


def release(
    deployment: Deployment,
    policy: ReleasePolicy,
    traffic: Traffic,
    stable: ReplicaSet,
    template: str,
    attempt: int,
    pair: PairAtStart | None = None,
) -> dict[str, Any]:
    """A new Release: the policy as it is now, and the two versions. It belongs to the policy.

    Of a pair `deployment` is the canary's, whose ReplicaSet its own controller will name.
    """
    meta, spec = deployment.metadata, policy.spec
    name = names.release_name(meta.name, template, attempt)
    deadline = spec.progress_deadline
    release_spec = ReleaseSpec(
        policy=policy.metadata.name,
        deployment=meta.name,
        template=template,
        attempt=attempt,
        stable=Side(
            replica_set=stable.metadata.name,
            hash=stable.metadata.labels.get(HASH_LABEL, ""),
            image=images(stable.spec.template),
        ),
        canary=Side(
            replica_set=name if pair is None else "",
            hash=names.canary_hash(template, attempt) if pair is None else "",
            image=images(deployment.spec.template),
        ),
        pair=pair,
        steps=spec.way,
        service=traffic.service,
        canary_service=traffic.canary_service,
        services=traffic.services,
        preview=traffic.preview,
        routes=traffic.routes,
        match=policy.spec.traffic.match if policy.spec.traffic is not None else (),
        analysis=spec.analysis,
        settle_seconds=traffic.settle_seconds,
        keep_old_seconds=seconds(spec.keep_old) if spec.keep_old else 0,
        on_failure=spec.on_failure,
        progress_deadline_seconds=(round(seconds(deadline)) if deadline else deployment.spec.progress_deadline_seconds),
        max_extra_pods=spec.max_extra_pods,
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "Release",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": names.MANAGED_BY | {names.DEPLOYMENT_LABEL: names.deployment_label(meta.name)},
            "finalizers": [names.FINALIZER],
            "ownerReferences": [owner(API_VERSION, "ReleasePolicy", policy.metadata.name, policy.metadata.uid)],
        },
        "spec": msgspec.to_builtins(release_spec),
    }


def owner(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    """A controller ownerReference."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def release_owner(release: Release) -> dict[str, Any]:
    return owner(API_VERSION, "Release", release.metadata.name, release.metadata.uid)


def labels(release: Release) -> dict[str, str]:
    """Of objects that are ours. (Not of the ReplicaSet, which becomes the Deployment's.)"""
    return names.MANAGED_BY | {names.RELEASE_LABEL: names.fit(release.metadata.name, 63)}


def canary_replica_set(deployment: Deployment, release: Release, replicas: int) -> dict[str, Any]:
    """The canary: the Deployment's template under a hash of its own, owned by the Release from its first write.

    (An orphan with these labels would be adopted by the Deployment at once, and scaled with its own.)
    """
    template = msgspec.json.decode(deployment.spec.template)
    meta = template.get("metadata") or {}
    hashed = {**(meta.get("labels") or {}), HASH_LABEL: release.spec.canary.hash}
    selector = msgspec.to_builtins(deployment.spec.selector)
    selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH_LABEL: release.spec.canary.hash}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": release.spec.canary.replica_set,
            "namespace": release.metadata.namespace,
            "labels": hashed,
            "ownerReferences": [release_owner(release)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": {**template, "metadata": {**meta, "labels": hashed}},
        },
    }


def canary_service(service: Service, release: Release, name: str = "") -> dict[str, Any]:
    """A Service like the user's that selects the canary's pods; `name` where it isn't the one that belongs to it."""
    ports = []
    for port in service.spec.ports:
        fields = msgspec.to_builtins(port)
        ports.append({**fields, "protocol": port.protocol})
    selector = {**service.spec.selector, HASH_LABEL: release.spec.canary.hash}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name or names.canary_service(service.metadata.name),
            "namespace": release.metadata.namespace,
            "labels": labels(release),
            "ownerReferences": [release_owner(release)],
        },
        "spec": {"selector": selector, "ports": ports},
    }


def adoption(deployment: Deployment, replica_set: ReplicaSet) -> dict[str, Any]:
    """The merge patch that gives the canary's ReplicaSet to the Deployment.

    With the annotations as the Deployment controller would have set them, it takes the ReplicaSet for its new one
    and, where that is saturated, scales the old one to 0 even while paused (IsSaturated in
    k8s.io/kubernetes/pkg/controller/deployment/util).
    """
    n = deployment.spec.replicas
    meta = deployment.metadata
    return {
        "metadata": {
            "resourceVersion": replica_set.metadata.resource_version,
            "annotations": {
                "deployment.kubernetes.io/desired-replicas": str(n),
                "deployment.kubernetes.io/max-replicas": str(n + surge(deployment)),
            },
            "ownerReferences": [owner("apps/v1", "Deployment", meta.name, meta.uid)],
        }
    }


def surge(deployment: Deployment) -> int:
    """Pods that the Deployment may have beyond its replicas: maxSurge, percentages rounded up."""
    rolling = deployment.spec.strategy.rolling_update
    return count(rolling.max_surge, deployment.spec.replicas)


def unavailable(deployment: Deployment) -> int:
    """Pods that the Deployment may be short of its replicas: maxUnavailable, percentages rounded down."""
    rolling = deployment.spec.strategy.rolling_update
    return count(rolling.max_unavailable, deployment.spec.replicas, up=False)

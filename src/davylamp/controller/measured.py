"""What a look at a release needs to know of its pods: where their metrics are, and how the versions are called."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from davylamp.api.analysis import Scraping
from davylamp.api.objects import Pod, ReplicaSet, Service
from davylamp.api.types import Release, Side
from davylamp.signals.checks import Facts
from davylamp.signals.feedback import Sides
from davylamp.signals.gather import Pods
from davylamp.signals.requests import Pods as Counted
from davylamp.signals.scrape import Target, urls

MOST_STABLE = 100
"""Stable pods that are measured; more would make looks dearer, and hardly surer. The same ones each time."""
YOUNG = timedelta(hours=1)
"""A pod that has been ready for longer is no longer cold, whatever the policy's `warmUp`."""


class Container(msgspec.Struct, frozen=True):
    """What a version's template tells: the first container's name, and its ports by their names."""

    name: str = ""
    ports: Mapping[str, int] = {}
    annotations: Mapping[str, str] = {}
    """Of the pods."""
    probes: float = 0.0
    """How often a pod is asked by its kubelet, in a second."""


def container_of(replica_set: ReplicaSet | None, service: Service | None) -> Container:
    """Of the template's containers; ports that only the Service names (`targetPort: 8080`) count as well."""
    content = msgspec.json.decode(replica_set.spec.template) if replica_set is not None else {}
    containers: list[dict[str, Any]] = (content.get("spec") or {}).get("containers") or []
    ports: dict[str, int] = {}
    for container in containers:
        for port in container.get("ports") or []:
            ports[port.get("name") or str(port["containerPort"])] = port["containerPort"]
    for backend in service.spec.ports if service is not None else ():
        target = backend.port if backend.target_port is None else backend.target_port
        if isinstance(target, int) and target not in ports.values():
            ports[backend.name or str(target)] = target
    annotations = (content.get("metadata") or {}).get("annotations") or {}
    probes = sum(map(_probes, containers))
    return Container(containers[0].get("name", "") if containers else "", ports, annotations, probes)


def _probes(container: dict[str, Any]) -> float:
    found = (container.get(f"{kind}Probe") or {} for kind in ("readiness", "liveness"))
    return sum(1 / max(one.get("periodSeconds") or 10, 1) for one in found if "httpGet" in one or "grpc" in one)


def served(
    addresses: Mapping[str, str], canary: Collection[str], containers: tuple[Container, Container], scraping: Scraping
) -> Counted:
    """Where pods can be asked that Services offer to traffic; `addresses` by their names."""
    sides: tuple[list[Target], list[Target]] = ([], [])
    for pod, address in sorted(addresses.items()):
        side = pod in canary
        container = containers[side]
        sides[side].append(Target(pod, urls(address, container.ports, container.annotations, scraping)))
    probes = (containers[0].probes, containers[1].probes)
    return Counted(tuple(sides[0]), tuple(sides[1]), probes)


def measured(
    namespace: str,
    stable: Iterable[Pod],
    canary: Iterable[Pod],
    *,
    containers: tuple[Container, Container],
    scraping: Scraping,
    now: float,
) -> Pods:
    """The pods that can be asked: those that are ready. `containers` are stable's and the canary's."""
    old, new = ([pod for pod in side if _answers(pod)] for side in (stable, canary))
    if len(old) > MOST_STABLE:
        old = sorted(old, key=lambda pod: hashlib.blake2b(pod.metadata.name.encode(), digest_size=8).digest())
    return Pods(
        namespace,
        tuple(_target(pod, containers[0], scraping, now) for pod in old[:MOST_STABLE]),
        tuple(_target(pod, containers[1], scraping, now) for pod in new),
    )


def _answers(pod: Pod) -> bool:
    return pod.ready and pod.metadata.deletion_timestamp is None and bool(pod.status.pod_ip)


def _target(pod: Pod, container: Container, scraping: Scraping, now: float) -> Target:
    since = next((c.last_transition_time for c in pod.status.conditions if c.type == "Ready"), None)
    young = since is not None and now - since.timestamp() < YOUNG.total_seconds()
    return Target(
        pod.metadata.name,
        urls(pod.status.pod_ip, container.ports, pod.metadata.annotations, scraping),
        restarts=sum(status.restart_count for status in pod.status.container_statuses),
        ready_at=since.timestamp() if since is not None and young else None,
    )


def facts_of(release: Release) -> Facts:
    """What a check elsewhere is told of the release."""
    spec, status = release.spec, release.status
    return Facts(
        namespace=release.metadata.namespace,
        deployment=spec.deployment,
        release=release.metadata.name,
        step=status.step,
        weight=status.weight.asked,
        stable_image=spec.stable.image,
        canary_image=spec.canary.image,
        canary_hash=spec.canary.hash,
    )


def sides_of(release: Release, pods: Pods) -> Sides:
    """The names by which somebody may tell which version served them."""
    return Sides(
        _names(release.spec.stable, (target.pod for target in pods.stable)),
        _names(release.spec.canary, (target.pod for target in pods.canary)),
    )


def _names(side: Side, pods: Iterable[str]) -> frozenset[str]:
    images = [image for image in side.image.split(", ") if image]
    tags = [image.rpartition(":")[2] for image in images if ":" in image.rpartition("/")[2]]
    return frozenset({side.hash, side.replica_set, *images, *tags, *pods})

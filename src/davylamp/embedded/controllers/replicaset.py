"""ReplicaSets: as many pods as asked for, and which of them go first.

After pkg/controller/replicaset and controller_utils.go of Kubernetes 1.37.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import datetime

from davylamp.embedded.controllers.claims import claim
from davylamp.embedded.controllers.objects import (
    Object,
    annotations_of,
    available_at,
    condition,
    controller_reference,
    deleted,
    is_over,
    is_ready,
    labels,
    parse_time,
    phase,
    uid,
)
from davylamp.embedded.controllers.scaling import replicas
from davylamp.embedded.controllers.writes import Create, Plan, Remove, Tell, Update, Write
from davylamp.embedded.writing import stamp

COMPONENT = "replicaset-controller"
BURST = 500
"""Pods made or deleted in one pass."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
Related = Callable[[], Sequence[Object]]
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def plan(rs: Object, candidates: Sequence[Object], related: Related, now: datetime, trouble: str = "") -> Plan:
    """What to do about one ReplicaSet.

    `candidates` are the pods of its namespace that it controls or nobody does; `related` gives the pods of all
    ReplicaSets with the same owner. `trouble` is why the last pass could not write what it wanted: then only that is
    told, in the status.
    """
    selector = rs["spec"].get("selector")
    mine, claims = claim(rs, selector, [pod for pod in candidates if not is_over(pod)])
    if claims:
        return Plan(claims)
    active = [pod for pod in mine if not deleted(pod)]
    if not trouble and not deleted(rs):
        changes = _manage(rs, active, related, now)
        if changes:
            return Plan(changes)  # The pods come back as changes; the status is written when they are known.
    status = _status(rs, active, len(mine) - len(active), trouble, now)
    writes = [Update({**rs, "status": status}, "status")] if status != rs.get("status") else []
    return Plan(writes, _next_available(rs, active, now))


def _manage(rs: Object, active: Sequence[Object], related: Related, now: datetime) -> list[Write]:
    """manageReplicas."""
    missing = replicas(rs) - len(active)
    if missing > 0:
        return [Create(_pod(rs)) for _ in range(min(missing, BURST))]
    surplus = min(-missing, BURST)
    if not surplus:
        return []
    writes: list[Write] = []
    for pod in _first_to_go(active, related, now)[:surplus] if surplus < len(active) else active[:surplus]:
        writes.append(Remove(pod))
        writes.append(Tell(rs, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", COMPONENT))
    return writes


def _pod(rs: Object) -> Object:
    """A pod of the template (GetPodFromTemplate); the API server completes its name."""
    template = rs["spec"]["template"]
    given = template.get("metadata") or {}
    kept = {key: given[key] for key in ("labels", "annotations", "finalizers") if given.get(key)}
    meta = {
        **kept,
        "generateName": f"{rs['metadata']['name']}-",
        "namespace": rs["metadata"]["namespace"],
        "ownerReferences": [controller_reference(rs)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def created(rs: Object, pod: Object) -> Tell:
    """The Event about a pod that was made."""
    return Tell(rs, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", COMPONENT)


# --- the status ---


def _status(rs: Object, active: Sequence[Object], terminating: int, trouble: str, now: datetime) -> Object:
    """calculateStatus."""
    template_labels = (rs["spec"]["template"].get("metadata") or {}).get("labels") or {}
    ready = [pod for pod in active if is_ready(pod)]
    after = rs["spec"].get("minReadySeconds", 0)
    counts = {
        "fullyLabeledReplicas": sum(template_labels.items() <= labels(pod).items() for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": sum((at := available_at(pod, after)) is not None and at <= now for pod in ready),
    }
    status: Object = {
        "observedGeneration": rs["metadata"].get("generation", 0),
        "replicas": len(active),
        "terminatingReplicas": terminating,
    }
    status |= {key: count for key, count in counts.items() if count}
    conditions = [c for c in (rs.get("status") or {}).get("conditions") or () if c["type"] != "ReplicaFailure"]
    if trouble:
        conditions.append(condition(rs, "ReplicaFailure") or _failure(rs, len(active), trouble, now))
    if conditions:
        status["conditions"] = conditions
    return status


def _failure(rs: Object, found: int, trouble: str, now: datetime) -> Object:
    reason = "FailedCreate" if found < replicas(rs) else "FailedDelete"
    at = stamp(now)
    return {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": at,
        "reason": reason,
        "message": trouble,
    }


def _next_available(rs: Object, active: Sequence[Object], now: datetime) -> float | None:
    """Seconds until the next pod has been ready for long enough."""
    after = rs["spec"].get("minReadySeconds", 0)
    if not after:
        return None
    times = (available_at(pod, after) for pod in active)
    return min(((at - now).total_seconds() for at in times if at is not None and at > now), default=None)


# --- which pods go first ---


def _first_to_go(active: Sequence[Object], related: Related, now: datetime) -> list[Object]:
    """ActivePodsWithRanks: unbound, pending, not ready, cheap, crowded, young ones first."""
    on_node: dict[str, int] = {}
    for pod in related():
        if not deleted(pod) and not is_over(pod):
            node = pod["spec"].get("nodeName", "")
            on_node[node] = on_node.get(node, 0) + 1
    ranked = [(_rank(pod, on_node, now), pod) for pod in active]
    by_rank = functools.cmp_to_key(_compare)
    return [pod for _, pod in sorted(ranked, key=lambda pair: by_rank(pair[0]))]


_Rank = tuple[tuple[bool, int, bool, int, int], str, int, int, str, int, str]


def _rank(pod: Object, on_node: dict[str, int], now: datetime) -> _Rank:
    node = pod["spec"].get("nodeName", "")
    is_up = is_ready(pod)
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime") or "" if is_up else ""
    made = pod["metadata"].get("creationTimestamp") or ""
    restarts = max(
        (c.get("restartCount", 0) for c in (pod.get("status") or {}).get("containerStatuses") or ()), default=0
    )
    cost = annotations_of(pod).get(DELETION_COST, "0")
    first = (node != "", _PHASES.get(phase(pod), 2), is_up, _number(cost), -on_node.get(node, 0))
    return (first, since, _age(since, now), -restarts, made, _age(made, now), uid(pod))


def _compare(a: _Rank, b: _Rank) -> int:
    """Less is sooner. Ages count by their binary logarithm; equal ones are told apart by uid, that is, by chance."""
    if a[0] != b[0]:
        return -1 if a[0] < b[0] else 1
    if a[1] != b[1]:
        return _ages(a[2], b[2], a, b)
    if a[3] != b[3]:
        return -1 if a[3] < b[3] else 1
    if a[4] != b[4]:
        return _ages(a[5], b[5], a, b)
    return 0


def _ages(one: int, other: int, a: _Rank, b: _Rank) -> int:
    if one != other:
        return -1 if one < other else 1
    return -1 if a[6] < b[6] else 1


def _age(moment: str, now: datetime) -> int:
    """The binary logarithm of an age in nanoseconds (logarithmicRankDiff); -1 for none."""
    at = parse_time(moment)
    nanoseconds = int((now - at).total_seconds() * 1e9) if at is not None else 0
    return nanoseconds.bit_length() - 1 if nanoseconds > 0 else -1


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdecimal() else 0

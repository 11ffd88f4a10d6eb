"""Which Node a pod is bound to, and the end of pods whose Node doesn't exist.

The scheduler is the simplest that spreads pods; the end of pods is pkg/controller/podgc of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from davylamp.embedded.controllers.objects import Object, deleted, is_over
from davylamp.embedded.controllers.writes import NOTHING, Plan, Remove, Tell, Update

QUARANTINE = 40.0
"""Seconds for which a pod's Node may not be there."""
SCHEDULER = "default-scheduler"


def plan(
    pod: Object,
    nodes: Mapping[str, int],
    missing_since: datetime | None,
    now: datetime,
    quarantine: float = QUARANTINE,
) -> Plan:
    """What to do about one pod. `nodes` has the number of pods by the name of each Node, `missing_since` since when
    the pod's own Node is known not to be there."""
    node = pod["spec"].get("nodeName")
    if not node:
        return _bind(pod, nodes)
    if node in nodes or missing_since is None:
        return NOTHING
    left = quarantine - (now - missing_since).total_seconds()
    return Plan((), left) if left > 0 else Plan([Remove(pod, grace_seconds=0)])


def _bind(pod: Object, nodes: Mapping[str, int]) -> Plan:
    if not nodes or deleted(pod) or is_over(pod) or pod["spec"].get("schedulingGates"):
        return NOTHING
    name = min(nodes, key=lambda node: (nodes[node], node))
    meta = pod["metadata"]
    bound = {**pod, "spec": {**pod["spec"], "nodeName": name}}
    text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {name}"
    return Plan([Update(bound, "binding"), Tell(pod, "Scheduled", text, SCHEDULER)])


def counts(nodes: Sequence[Object], pods: Sequence[Object]) -> dict[str, int]:
    """The number of pods on each Node that takes any."""
    result = {node["metadata"]["name"]: 0 for node in nodes if not (node.get("spec") or {}).get("unschedulable")}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node in result and not is_over(pod):
            result[node] += 1
    return result

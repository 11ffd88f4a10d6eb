"""A Namespace that is deleted takes everything in it along, and then goes itself.

After pkg/controller/namespace of Kubernetes 1.37; a living one gets its service account `default`.
"""

from __future__ import annotations

from collections.abc import Sequence

from davylamp.embedded.controllers.objects import Object, deleted, kind_of
from davylamp.embedded.controllers.writes import NOTHING, Create, Plan, Remove, Update

FINALIZER = "kubernetes"


def plan(namespace: Object, content: Sequence[Object]) -> Plan:
    """What to do about one Namespace with this content."""
    if deleted(namespace):
        left = [Remove(obj) for obj in content if not deleted(obj)]
        if content:
            return Plan(left)
        spec = namespace.get("spec") or {}
        kept = [name for name in spec.get("finalizers") or () if name != FINALIZER]
        if kept == (spec.get("finalizers") or []):
            return NOTHING
        return Plan([Update({**namespace, "spec": {**spec, "finalizers": kept}}, "finalize")])
    if any(kind_of(obj) == "ServiceAccount" and obj["metadata"]["name"] == "default" for obj in content):
        return NOTHING
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace["metadata"]["name"]},
    }
    return Plan([Create(account)])

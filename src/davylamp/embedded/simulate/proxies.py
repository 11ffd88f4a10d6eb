"""Kinds of the Gateway API and of Istio in a simulation, and a Gateway's controller that takes every route at once."""

from __future__ import annotations

from typing import Any

from davylamp.embedded.store import Object, Store
from davylamp.kube.clock import Clock
from davylamp.kube.kinds import kind_of

KINDS = ("HTTPRoute", "GRPCRoute", "VirtualService", "DestinationRule")
ACCEPTED = ("HTTPRoute", "GRPCRoute")
"""Whose status tells whether the route is taken."""
WITHIN = 0.5
"""Seconds until a changed route is taken."""
CONTROLLER = "davylamp.dev/imagined"


def definition(kind: str) -> Object:
    """A CRD that takes anything: whoever wrote the objects has had them checked elsewhere."""
    row = kind_of(kind)
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version: dict[str, Any] = {"name": row.version, "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": row.resource},
        "spec": {
            "group": row.group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": row.plural},
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


def taken(route: Object) -> Object:
    """The status that a controller gives to a route that it serves as it is."""
    meta = route["metadata"]
    conditions = [
        {
            "type": type_,
            "status": "True",
            "reason": type_,
            "message": "",
            "observedGeneration": meta.get("generation", 1),
            "lastTransitionTime": meta.get("creationTimestamp", "2026-01-01T00:00:00Z"),
        }
        for type_ in ("Accepted", "ResolvedRefs")
    ]
    refs = route["spec"].get("parentRefs") or ()
    return {"parents": [{"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions} for ref in refs]}


def serve(store: Store, clock: Clock) -> None:
    """Take every route that is created or changed from now on, for as long as the store lives."""

    def see(type_: str, new: Object, old: Object | None) -> None:
        if type_ != "DELETED" and new["kind"] in ACCEPTED and new.get("status") != taken(new):
            meta = new["metadata"]
            clock.call_later(WITHIN, lambda: take(new["kind"], meta["namespace"], meta["name"]))

    def take(kind: str, namespace: str, name: str) -> None:
        found = store.get(kind, namespace, name)
        if found is not None and found.get("status") != taken(found):
            store.update({**found, "status": taken(found)}, subresource="status", user=CONTROLLER)

    store.subscribe(see)

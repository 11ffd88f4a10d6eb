"""Which fields each kind can be selected by. Others are refused, as a real server refuses them.

From the field label conversions of Kubernetes 1.37 (pkg/apis/*/v1/conversion.go); a CRD may name more.
"""

from __future__ import annotations

from davylamp.embedded.events import NEW_TO_CORE
from davylamp.embedded.resources import Resource
from davylamp.embedded.selectors import Fields, fields
from davylamp.embedded.status import bad_request

_INVOLVED = tuple(
    f"involvedObject.{name}"
    for name in ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
)
_KNOWN = {
    "Event": (*_INVOLVED, "reason", "reportingComponent", "source", "type"),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
    "Pod": (
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
    ),
    "ReplicaSet": ("status.replicas",),
    "Secret": ("type",),
    "Service": ("spec.clusterIP", "spec.type"),
}


def stored(resource: Resource, text: str) -> str:
    """The selector `text` in the words of the objects as they are stored. Raises StatusError 400 for a field by which
    the kind can't be selected."""
    if not text:
        return text
    wanted: Fields = fields(text)
    own = _KNOWN.get(resource.stored_as or resource.name, ()) if not resource.custom else resource.selectable
    known = ("metadata.name", *(("metadata.namespace",) if resource.namespaced else ()), *own)
    made = []
    for path, value, equal in wanted:
        name = _core(path) if resource.stored_as else path
        if name not in known:
            raise bad_request(f"field label not supported: {path}; {resource.plural} have {', '.join(known)}")
        made.append(f"{name}{'=' if equal else '!='}{value}")
    return ",".join(made)


def _core(path: str) -> str:
    """A field of events.k8s.io/v1 as core/v1 calls it."""
    head, dot, rest = path.partition(".")
    return f"{NEW_TO_CORE.get(head, head)}{dot}{rest}"

"""Tables, which is how `kubectl get` asks for objects; columns and cells as the real server has them
(pkg/printers/internalversion/printers.go)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from davylamp.embedded.accepting import Shape
from davylamp.embedded.cells import pod_cells
from davylamp.embedded.jsonpath import find
from davylamp.embedded.status import StatusError
from davylamp.embedded.texts import NONE, UNKNOWN, selector_text, since

Object = dict[str, Any]
Cells = list[Any]
Column = tuple[str, str, int]
"""Name, type, priority (0: always shown, 1: only with -o wide)."""


def table(printer: Printer, now: datetime, objects: list[Object], include: str) -> Object:
    """The Table (meta.k8s.io/v1) of some objects. `include` says how much of each goes with it."""
    rows = [{"cells": printer.cells(obj, now), "object": _carried(obj, include)} for obj in objects]
    definitions = [
        {
            "name": name,
            "type": type_,
            "format": "name" if name == "Name" else "",
            "description": name,
            "priority": priority,
        }
        for name, type_, priority in printer.columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _carried(obj: Object, include: str) -> Object | None:
    if include == "Object":
        return obj
    return None if include == "None" else metadata_of(obj)


def metadata_of(obj: Object, shape: Shape = "PartialObjectMetadata") -> Object:
    """Of one object the metadata only. Raises StatusError 406 for the shape of a list."""
    if shape != "PartialObjectMetadata":
        raise StatusError(406, "NotAcceptable", f"you requested {shape}, but the requested object is not a list")
    return {"kind": shape, "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def metadata_of_all(objects: list[Object], meta: Object, shape: Shape) -> Object:
    """Of a list the metadata only. Raises StatusError 406 for the shape of one object."""
    if shape != "PartialObjectMetadataList":
        raise StatusError(406, "NotAcceptable", f"you requested {shape}, but the requested object is a list")
    items = [metadata_of(obj) for obj in objects]
    return {"kind": shape, "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}


class Printer:
    """The columns of a kind, and the cells of an object in them."""

    def __init__(self, columns: tuple[Column, ...], cells: Callable[[Object, datetime], Cells]) -> None:
        self.columns = columns
        self.cells = cells


def _columns(always: str, wide: str = "", integers: str = "") -> tuple[Column, ...]:
    """Names separated by `|`."""
    whole = set(integers.split("|"))
    names = [(name, 0) for name in always.split("|")] + [(name, 1) for name in wide.split("|") if name]
    return tuple((name, "integer" if name in whole else "string", priority) for name, priority in names)


def _age(obj: Object, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _containers(spec: Object) -> tuple[str, str]:
    containers = spec.get("containers") or ()
    return ",".join(c["name"] for c in containers), ",".join(c.get("image", "") for c in containers)


def _deployment(obj: Object, now: datetime) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}"
    names, images = _containers(spec["template"].get("spec") or {})
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [_name(obj), ready, *counts, _age(obj, now), names, images, selector_text(spec.get("selector"))]


def _replica_set(obj: Object, now: datetime) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    names, images = _containers((spec.get("template") or {}).get("spec") or {})
    counts = [spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, _age(obj, now), names, images, selector_text(spec.get("selector"))]


def _service(obj: Object, now: datetime) -> Cells:
    spec = obj["spec"]
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    external = spec.get("externalName") if spec.get("type") == "ExternalName" else None
    outside = external or ",".join(spec.get("externalIPs") or ()) or NONE
    address = spec.get("clusterIP") or NONE
    return [_name(obj), spec.get("type"), address, outside, ",".join(ports) or NONE, _age(obj, now), selector or NONE]


def _ingress(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    shown = ",".join(hosts[:3]) + (f" + {len(hosts) - 3} more..." if len(hosts) > 3 else "")
    balancers = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    address = ",".join(entry.get("ip") or entry.get("hostname", "") for entry in balancers)
    ports = "80, 443" if spec.get("tls") else "80"
    return [_name(obj), spec.get("ingressClassName") or NONE, shown or "*", address, ports, _age(obj, now)]


def _ingress_class(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    text = NONE
    if parameters:
        kind = f"{parameters['kind']}.{parameters['apiGroup']}" if parameters.get("apiGroup") else parameters["kind"]
        text = f"{kind}/{parameters['name']}"
    return [_name(obj), spec.get("controller", ""), text, _age(obj, now)]


def _slice(obj: Object, now: datetime) -> Cells:
    ports = [str(port.get("port") or "*") for port in obj.get("ports") or ()]
    addresses = [address for endpoint in obj.get("endpoints") or () for address in endpoint["addresses"]]
    return [_name(obj), obj.get("addressType"), _few(ports), _few(addresses), _age(obj, now)]


def _few(texts: list[str]) -> str:
    if not texts:
        return "<unset>"
    return ",".join(texts[:3]) + (f" + {len(texts) - 3} more..." if len(texts) > 3 else "")


def _namespace(obj: Object, now: datetime) -> Cells:
    return [_name(obj), (obj.get("status") or {}).get("phase", ""), _age(obj, now)]


def _node(obj: Object, now: datetime) -> Cells:
    status = obj.get("status") or {}
    ready = [c for c in status.get("conditions") or () if c["type"] == "Ready"]
    words = ["Ready" if ready[0]["status"] == "True" else "NotReady"] if ready else ["Unknown"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix)))
    info = status.get("nodeInfo") or {}
    addresses = {entry["type"]: entry["address"] for entry in status.get("addresses") or ()}
    where = [addresses.get("InternalIP", NONE), addresses.get("ExternalIP", NONE)]
    system = [info.get(key) or UNKNOWN for key in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    version = info.get("kubeletVersion", "")
    return [_name(obj), ",".join(words), roles or NONE, _age(obj, now), version, *where, *system]


def _event(obj: Object, now: datetime) -> Cells:
    seen = obj.get("lastTimestamp") or obj.get("firstTimestamp") or obj.get("eventTime")
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    regarding = obj.get("involvedObject") or obj.get("regarding") or {}
    what = f"{regarding.get('kind', '').lower()}/{regarding.get('name', '')}"
    source = (obj.get("source") or {}).get("component") or obj.get("reportingComponent", "")
    message = (obj.get("message") or obj.get("note") or "").strip()
    head = [since(seen, now), obj.get("type", ""), obj.get("reason", ""), what]
    count = obj.get("count") or 1
    return [*head, regarding.get("fieldPath", ""), source, message, since(first, now), str(count), _name(obj)]


def _secret(obj: Object, now: datetime) -> Cells:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or ()), _age(obj, now)]


def _config_map(obj: Object, now: datetime) -> Cells:
    return [_name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), _age(obj, now)]


def _lease(obj: Object, now: datetime) -> Cells:
    return [_name(obj), (obj.get("spec") or {}).get("holderIdentity", ""), _age(obj, now)]


def _binding(obj: Object, now: datetime) -> Cells:
    role = obj.get("roleRef") or {}
    of_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name = subject["name"]
        if subject["kind"] == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        of_kind.setdefault(subject["kind"], []).append(name)
    listed = [", ".join(of_kind[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [_name(obj), f"{role.get('kind')}/{role.get('name')}", _age(obj, now), *listed]


def _autoscaler(obj: Object, now: datetime) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    reference = f"{target.get('kind')}/{target.get('name')}"
    targets = f"{len(spec.get('metrics') or ())} metrics" if spec.get("metrics") else NONE
    bounds = [str(spec.get("minReplicas", 1)), spec.get("maxReplicas")]
    return [_name(obj), reference, targets, *bounds, status.get("currentReplicas", 0), _age(obj, now)]


def _admission(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    text = f"{kind['apiVersion']}/{kind['kind']}" if kind else "<unset>"
    return [_name(obj), len(spec.get("mutations") or ()), text, _age(obj, now)]


def _admission_binding(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    parameters = spec.get("paramRef")
    return [
        _name(obj),
        spec.get("policyName"),
        parameters.get("name", "<unset>") if parameters else "<unset>",
        _age(obj, now),
    ]


def _scale(obj: Object, now: datetime) -> Cells:
    return [_name(obj), obj["spec"].get("replicas", 0), obj["status"].get("replicas", 0), _age(obj, now)]


def _plain(obj: Object, now: datetime) -> Cells:
    return [_name(obj), _age(obj, now)]


def _created(obj: Object, now: datetime) -> Cells:
    return [_name(obj), obj["metadata"].get("creationTimestamp")]


_CONTAINERS = "Containers|Images|Selector"
_ROLES = _columns("Name|Role|Age", "Users|Groups|ServiceAccounts")
PRINTERS: dict[str, Printer] = {
    "Pod": Printer(_columns("Name|Ready|Status|Restarts|Age", "IP|Node|Nominated Node|Readiness Gates"), pod_cells),
    "Deployment": Printer(_columns("Name|Ready|Up-to-date|Available|Age", _CONTAINERS), _deployment),
    "ReplicaSet": Printer(
        _columns("Name|Desired|Current|Ready|Age", _CONTAINERS, "Desired|Current|Ready"), _replica_set
    ),
    "Service": Printer(_columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", "Selector"), _service),
    "Ingress": Printer(_columns("Name|Class|Hosts|Address|Ports|Age"), _ingress),
    "IngressClass": Printer(_columns("Name|Controller|Parameters|Age"), _ingress_class),
    "EndpointSlice": Printer(_columns("Name|AddressType|Ports|Endpoints|Age"), _slice),
    "Namespace": Printer(_columns("Name|Status|Age"), _namespace),
    "Node": Printer(
        _columns("Name|Status|Roles|Age|Version", "Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime"),
        _node,
    ),
    "Secret": Printer(_columns("Name|Type|Data|Age"), _secret),
    "ConfigMap": Printer(_columns("Name|Data|Age"), _config_map),
    "Lease": Printer(_columns("Name|Holder|Age"), _lease),
    "RoleBinding": Printer(_ROLES, _binding),
    "ClusterRoleBinding": Printer(_ROLES, _binding),
    "HorizontalPodAutoscaler": Printer(_columns("Name|Reference|Targets|MinPods|MaxPods|Replicas|Age"), _autoscaler),
    "MutatingAdmissionPolicy": Printer(_columns("Name|Mutations|ParamKind|Age"), _admission),
    "MutatingAdmissionPolicyBinding": Printer(_columns("Name|PolicyName|ParamRef|Age"), _admission_binding),
    "CustomResourceDefinition": Printer(_columns("Name|Created At"), _created),
    "ClusterRole": Printer(_columns("Name|Created At"), _created),
    "Role": Printer(_columns("Name|Created At"), _created),
}
_EVENT_COLUMNS = (
    *_columns("Last Seen|Type|Reason|Object"),
    ("Subobject", "string", 1),
    ("Source", "string", 1),
    ("Message", "string", 0),
    *_columns("", "First Seen|Count|Name")[1:],
)
PRINTERS["Event"] = PRINTERS["Event.events.k8s.io"] = Printer(_EVENT_COLUMNS, _event)
PLAIN = Printer(_columns("Name|Age"), _plain)
SCALE = Printer(_columns("Name|Desired|Available|Age", integers="Desired|Available"), _scale)


def custom(columns: list[Object]) -> Printer:
    """The printer of a CRD's additionalPrinterColumns; Name comes first by itself."""
    if not columns:
        columns = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    heads = [("Name", "string", 0), *((c["name"], c["type"], c.get("priority", 0)) for c in columns)]

    def cells(obj: Object, now: datetime) -> Cells:
        return [_name(obj), *(_custom_cell(column, obj, now) for column in columns)]

    return Printer(tuple(heads), cells)


def _custom_cell(column: Object, obj: Object, now: datetime) -> Any:
    found = find(column["jsonPath"], obj)
    if not found:
        return None
    value = found[0]
    if column["type"] == "date":
        return since(value, now) if isinstance(value, str) else None
    if column["type"] in ("integer", "number"):
        return value if isinstance(value, int | float) else None
    if column["type"] == "boolean":
        return value if isinstance(value, bool) else None
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    """As Go prints it in a cell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return str(value)

"""EndpointSlices: the pods of a Service, as proxies read them.

After k8s.io/endpointslice of Kubernetes 1.37, for IPv4; no topology hints.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from davylamp.embedded.controllers.objects import (
    Object,
    annotations_of,
    controller_reference,
    deleted,
    is_over,
    is_ready,
    labels,
    uid,
)
from davylamp.embedded.controllers.writes import NOTHING, Create, Plan, Remove, Update, Write
from davylamp.embedded.kubelet.model import PORTS

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
_HEADLESS = "service.kubernetes.io/headless"
_RESERVED = (SERVICE_LABEL, MANAGED_BY, _HEADLESS)
PER_SLICE = 100
NODE_RETRY = 1.0
"""Seconds until a pod is looked at again whose Node isn't there yet."""

_Ports = list[Object]
_Wanted = dict[str, tuple[_Ports, dict[str, Object]]]
"""Endpoints by the uid of their pod, for each set of ports."""


def is_managed(slice_: Object) -> bool:
    return labels(slice_).get(MANAGED_BY) == MANAGER


def selects_pod(service: Object, pod: Object) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= labels(pod).items()


def plan(service: Object, pods: Sequence[Object], slices: Sequence[Object], has_node: Callable[[str], bool]) -> Plan:
    """What to do about one Service. `pods` are those that its selector matches, `slices` those that say to be its."""
    spec = service["spec"]
    if not spec.get("selector") or spec.get("type") == "ExternalName" or deleted(service):
        return NOTHING
    wanted: _Wanted = {}
    missing_node = False
    for pod in pods:
        address = (pod.get("status") or {}).get("podIP")
        if is_over(pod) or not address:
            continue
        if not has_node(pod["spec"].get("nodeName", "")) and not spec.get("publishNotReadyAddresses"):
            missing_node = True
            continue
        ports = _ports(service, pod)
        _, endpoints = wanted.setdefault(_port_key(ports), (ports, {}))
        endpoints[uid(pod)] = _endpoint(service, pod, address)
    return Plan(_writes(service, wanted, slices), NODE_RETRY if missing_node else None)


def _writes(service: Object, wanted: _Wanted, slices: Sequence[Object]) -> list[Write]:
    """What turns the slices that there are into those that are wanted, with as few changes as may be."""
    mine = [s for s in slices if any(o["uid"] == uid(service) for o in s["metadata"].get("ownerReferences") or ())]
    gone = [s for s in slices if s not in mine]
    by_ports: dict[str, list[Object]] = {}
    for existing in mine:
        by_ports.setdefault(_port_key(existing.get("ports") or []), []).append(existing)
    new: list[Object] = []
    updates: list[Write] = []
    for key, (ports, endpoints) in wanted.items():
        there = by_ports.pop(key, [])
        made, changed, emptied = _fill(service, ports, endpoints, there)
        new += made
        updates += [Update(s) for s in changed]
        gone += emptied
    gone += itertools.chain.from_iterable(by_ports.values())
    if len(gone) == len(slices) and not new:
        if len(gone) == 1 and gone[0] in mine and _is_placeholder(gone[0]):
            empty = _labelled(service, gone[0])
            return [*updates, *([Update(empty)] if empty is not gone[0] else [])]
        new.append(_slice(service, [], []))
    writes = updates
    for slice_ in list(gone):
        if new and slice_ in mine:  # One that goes is used for one that comes: no moment without any.
            fresh = new.pop()
            body = {key: fresh[key] for key in ("endpoints", "ports")}
            writes.append(Update(_labelled(service, {**slice_, **body})))
            gone.remove(slice_)
    return [*writes, *map(Create, new), *map(Remove, gone)]


def _fill(
    service: Object, ports: _Ports, endpoints: dict[str, Object], there: Sequence[Object]
) -> tuple[list[Object], list[Object], list[Object]]:
    """For pods with the same ports: slices to make, to change and to delete (reconcileByPortMapping)."""
    left = dict(endpoints)
    kept: list[tuple[Object, list[Object]]] = []
    for slice_ in there:
        names = [(e.get("targetRef") or {}).get("uid", "") for e in slice_.get("endpoints") or ()]
        kept.append((slice_, [left.pop(name) for name in names if name in left]))
    more = list(left.values())
    changed, emptied = [], []
    for slice_, stay in sorted(kept, key=lambda pair: -len(pair[1])):
        room = PER_SLICE - len(stay)
        now, more = stay + more[:room], more[room:]
        if not now:
            emptied.append(slice_)
        elif now != (slice_.get("endpoints") or []) or _labelled(service, slice_) is not slice_:
            changed.append(_labelled(service, {**slice_, "endpoints": now}))
    made = [_slice(service, ports, more[i : i + PER_SLICE]) for i in range(0, len(more), PER_SLICE)]
    return made, changed, emptied


def _endpoint(service: Object, pod: Object, address: str) -> Object:
    meta = pod["metadata"]
    serving, terminating = is_ready(pod), deleted(pod)
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [address],
        "conditions": {
            "ready": always or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
    }
    if pod["spec"].get("nodeName"):
        endpoint["nodeName"] = pod["spec"]["nodeName"]
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    return endpoint


def _ports(service: Object, pod: Object) -> _Ports:
    """getEndpointPorts: a port whose name the pod doesn't have is left out."""
    said = annotations_of(pod).get(PORTS)
    moved: dict[str, int] = msgspec.json.decode(said) if said else {}
    ports = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod)
        if number is None:
            continue
        number = moved.get(str(number), number)
        entry: Object = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        ports.append(entry)
    return ports


def _target(port: Object, pod: Object) -> int | None:
    target: Any = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or ():
        for offered in container.get("ports") or ():
            same_protocol = offered.get("protocol", "TCP") == port.get("protocol", "TCP")
            if offered.get("name") == target and same_protocol:
                return int(offered["containerPort"])
    return None


def _port_key(ports: _Ports) -> str:
    return repr(sorted((p.get("name") or "", p["port"], p.get("protocol"), p.get("appProtocol")) for p in ports))


def _labels(service: Object) -> dict[str, str]:
    given = {key: value for key, value in labels(service).items() if key not in _RESERVED}
    headless = {_HEADLESS: ""} if service["spec"].get("clusterIP") in (None, "", "None") else {}
    return {**given, **headless, SERVICE_LABEL: service["metadata"]["name"], MANAGED_BY: MANAGER}


def _labelled(service: Object, slice_: Object) -> Object:
    wanted = _labels(service)
    if labels(slice_) == wanted:
        return slice_
    return {**slice_, "metadata": {**slice_["metadata"], "labels": wanted}}


def _slice(service: Object, ports: _Ports, endpoints: list[Object]) -> Object:
    meta = service["metadata"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": _labels(service),
            "ownerReferences": [controller_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def _is_placeholder(slice_: Object) -> bool:
    return not slice_.get("endpoints") and not slice_.get("ports")

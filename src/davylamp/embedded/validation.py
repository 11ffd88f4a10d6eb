"""What users of built-in kinds are refused for, as far as a release relies on it (pkg/apis/*/validation)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from davylamp.embedded import selectors
from davylamp.embedded.resources import Resource
from davylamp.embedded.status import Cause, forbidden_field, invalid_value, required, unsupported

Object = dict[str, Any]

MANAGED_BY, MANAGER = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"
IMMUTABLE = "field is immutable"
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)


def problems(resource: Resource, old: Object | None, new: Object, subresource: str) -> list[Cause]:
    """All that is wrong with an object of a built-in kind."""
    found = _metadata(old, new)
    if resource.name == "EndpointSlice":
        return found + _slice(old, new)
    check = _CHECKS.get(resource.name)
    if check is not None and subresource in ("", "scale") and (old is None or old.get("spec") is not new.get("spec")):
        found += check(old, new)
    return found


def _metadata(old: Object | None, new: Object) -> list[Cause]:
    meta = new["metadata"]
    if old is not None and old["metadata"].get("labels") is meta.get("labels"):
        return []
    return labels("metadata.labels", meta.get("labels") or {})


def labels(path: str, found: Object) -> list[Cause]:
    causes = []
    for key, value in found.items():
        prefix, slash, name = key.rpartition("/")
        if slash and not (_PREFIX.fullmatch(prefix) and len(prefix) < 254):
            causes.append(invalid_value(path, key, "prefix part must be a lowercase RFC 1123 subdomain"))
        if not _NAME_PART.fullmatch(name) or len(name) > 63:
            causes.append(invalid_value(path, key, _QUALIFIED))
        if value and not _NAME_PART.fullmatch(value):
            causes.append(invalid_value(path, value, _VALUE))
        elif len(value) > 63:
            causes.append(invalid_value(path, value, "must be no more than 63 bytes"))
    return causes


# --- workloads ---


def _workload(old: Object | None, new: Object) -> list[Cause]:
    """Deployments and ReplicaSets: the selector can't change, and must select the template's pods."""
    spec = new.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    causes = _not_negative(spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit")
    if not selector:
        causes.append(required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(invalid_value("spec.selector", selector, "empty selector is invalid for deployment"))
    if old is not None and selector != old["spec"].get("selector"):
        causes.append(invalid_value("spec.selector", selector, IMMUTABLE))
    pod_labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and not selectors.of_object(selector)(pod_labels):
        why = "`selector` does not match template `labels`"
        causes.append(invalid_value("spec.template.metadata.labels", pod_labels or None, why))
    causes += labels("spec.template.metadata.labels", pod_labels)
    if old is None or old["spec"].get("template") is not template:
        causes += _pod_spec(template.get("spec") or {}, "spec.template.spec")
        policy = (template.get("spec") or {}).get("restartPolicy")
        if policy not in (None, "Always"):
            causes.append(unsupported("spec.template.spec.restartPolicy", policy, ["Always"]))
    return causes


def _deployment(old: Object | None, new: Object) -> list[Cause]:
    causes = _workload(old, new)
    spec = new.get("spec") or {}
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type")
    if kind not in ("Recreate", "RollingUpdate"):
        shown = {"Type": kind, "RollingUpdate": strategy.get("rollingUpdate")}
        causes.append(unsupported("spec.strategy", shown, ["Recreate", "RollingUpdate"]))
    rolling = strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        why = "may not be specified when strategy `type` is 'Recreate'"
        causes.append(forbidden_field("spec.strategy.rollingUpdate", why))
    elif rolling is not None:
        path = "spec.strategy.rollingUpdate"
        for key in ("maxSurge", "maxUnavailable"):
            if isinstance(rolling[key], str) and not re.fullmatch(r"[0-9]+%", rolling[key]):
                causes.append(invalid_value(f"{path}.{key}", rolling[key], _PERCENT))
        if all(str(rolling[key]).rstrip("%") == "0" for key in ("maxSurge", "maxUnavailable")):
            why = "may not be 0 when `maxSurge` is 0"
            causes.append(invalid_value(f"{path}.maxUnavailable", rolling["maxUnavailable"], why))
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if deadline is not None and deadline <= ready:
        causes.append(invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return causes


def _not_negative(spec: Object, path: str, *names: str) -> list[Cause]:
    why = "must be greater than or equal to 0"
    return [invalid_value(f"{path}.{name}", spec[name], why) for name in names if (spec.get(name) or 0) < 0]


def _pod_spec(spec: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            at = f"{path}.{kind}[{index}]"
            name = container.get("name")
            if not name:
                causes.append(required(f"{at}.name"))
            elif name in seen:
                causes.append(Cause(f"{at}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate"))
            seen.add(name or "")
            if not container.get("image"):
                causes.append(required(f"{at}.image"))
            for number, port in enumerate(container.get("ports") or ()):
                causes += _port(port.get("containerPort"), f"{at}.ports[{number}].containerPort")
            for number, mount in enumerate(container.get("volumeMounts") or ()):
                if mount.get("name") not in volumes:
                    text = f'Not found: "{mount.get("name")}"'
                    causes.append(Cause(f"{at}.volumeMounts[{number}].name", text, "FieldValueNotFound"))
    return causes


def _port(number: Any, path: str) -> list[Cause]:
    if isinstance(number, int) and 0 < number < 65536:
        return []
    return [invalid_value(path, number, "must be between 1 and 65535, inclusive")]


CHANGEABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
    "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def _pod(old: Object | None, new: Object) -> list[Cause]:
    if old is None:
        return _pod_spec(new["spec"], "spec")
    if _fixed(old["spec"]) != _fixed(new["spec"]):
        return [forbidden_field("spec", f"pod updates may not change fields other than {CHANGEABLE}")]
    return []


def _fixed(spec: Object) -> Object:
    """What can't change in a Pod."""
    kept = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    for kind in ("containers", "initContainers"):
        kept[kind] = [{k: v for k, v in one.items() if k != "image"} for one in spec.get(kind) or ()]
    return kept


# --- network ---


def _service(old: Object | None, new: Object) -> list[Cause]:
    spec = new.get("spec") or {}
    causes = labels("spec.selector", spec.get("selector") or {})
    kind = spec.get("type")
    if kind not in ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"):
        choices = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
        causes.append(unsupported("spec.type", kind, choices))
    ports = spec.get("ports") or ()
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        causes += _port(port.get("port"), f"{path}.port")
        if len(ports) > 1 and not port.get("name"):
            causes.append(required(f"{path}.name"))
        key = (port.get("port"), port.get("protocol"))
        if key in seen:
            text = f'Duplicate value: {{"port":{key[0]},"protocol":"{key[1]}"}}'
            causes.append(Cause(path, text, "FieldValueDuplicate"))
        seen.add(key)
    if old is not None and kind != "ExternalName":
        before = old["spec"].get("clusterIP")
        if before and spec.get("clusterIP") != before and old["spec"].get("type") != "ExternalName":
            causes.append(invalid_value("spec.clusterIPs[0]", [spec.get("clusterIP")], "may not change once set"))
    return causes


def _ingress(old: Object | None, new: Object) -> list[Cause]:
    spec = new.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("rules") and not spec.get("defaultBackend"):
        causes.append(invalid_value("spec", None, "either `defaultBackend` or `rules` must be specified"))
    for index, rule in enumerate(spec.get("rules") or ()):
        for number, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            at = f"spec.rules[{index}].http.paths[{number}]"
            kind = path.get("pathType")
            if kind is None:
                causes.append(required(f"{at}.pathType", "pathType must be specified"))
            elif kind not in ("Exact", "ImplementationSpecific", "Prefix"):
                causes.append(unsupported(f"{at}.pathType", kind, ["Exact", "ImplementationSpecific", "Prefix"]))
            elif kind != "ImplementationSpecific" and not str(path.get("path", "")).startswith("/"):
                causes.append(invalid_value(f"{at}.path", path.get("path", ""), "must be an absolute path"))
            backend = path.get("backend") or {}
            if not backend.get("service") and not backend.get("resource"):
                causes.append(required(f"{at}.backend", "must specify one of `resource` or `service`"))
    return causes


def _slice(old: Object | None, new: Object) -> list[Cause]:
    causes: list[Cause] = []
    kind = new.get("addressType")
    if kind not in ("FQDN", "IPv4", "IPv6"):
        causes.append(unsupported("addressType", kind, ["FQDN", "IPv4", "IPv6"]) if kind else required("addressType"))
    if old is not None and old.get("addressType") != kind:
        causes.append(invalid_value("addressType", kind, IMMUTABLE))
    # Pods that are processes have addresses on loopback: the controller may write those, and nobody else.
    ours = (new["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER
    for index, endpoint in enumerate(new.get("endpoints") or ()):
        for number, address in enumerate(endpoint.get("addresses") or ()):
            at = f"endpoints[{index}].addresses[{number}]"
            causes += _address(address, str(kind), at, loopback=ours and "targetRef" in endpoint)
    return causes


def _address(text: str, kind: str, path: str, *, loopback: bool) -> list[Cause]:
    """An address that can be reached from outside (ValidateEndpointIP)."""
    if kind not in ("IPv4", "IPv6"):
        return []
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [invalid_value(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    ranges = (
        (address.is_unspecified, f"may not be unspecified ({text})"),
        (address.is_loopback and not loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (address.is_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    )
    return [invalid_value(path, text, why) for hit, why in ranges if hit]


_CHECKS: dict[str, Callable[[Object | None, Object], list[Cause]]] = {
    "Deployment": _deployment,
    "ReplicaSet": _workload,
    "Pod": _pod,
    "Service": _service,
    "Ingress": _ingress,
}

"""The defaults that the API server fills in (pkg/apis/*/v1/defaults.go and the registry strategies of Kubernetes).

Pure, and nothing is mutated: a part that needs no default, or has not changed since the stored object, stays the
same object.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from davylamp.embedded.resources import Resource

Object = dict[str, Any]


def _fill(target: Object, values: Object) -> Object:
    missing = {key: value for key, value in values.items() if target.get(key) is None}
    return {**target, **missing} if missing else target


def _each(target: Object, key: str, change: Callable[[Object], Object]) -> Object:
    """`target` with each entry of the list at `key` changed."""
    old = target.get(key)
    if not isinstance(old, list):
        return target
    new = [change(entry) if isinstance(entry, dict) else entry for entry in old]
    return target if all(a is b for a, b in zip(old, new, strict=True)) else {**target, key: new}


def _inside(target: Object, key: str, change: Callable[[Object], Object]) -> Object:
    """`target` with the object at `key`, if there is one, changed."""
    old = target.get(key)
    if not isinstance(old, dict):
        return target
    new = change(old)
    return target if new is old else {**target, key: new}


# --- pods ---

_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def _http(get: Object) -> Object:
    return _fill(get, {"path": "/", "scheme": "HTTP"})


def _probe(probe: Object) -> Object:
    return _fill(_inside(probe, "httpGet", _http), _PROBE)


def _hook(lifecycle: Object) -> Object:
    for when in ("postStart", "preStop"):
        lifecycle = _inside(lifecycle, when, lambda hook: _inside(hook, "httpGet", _http))
    return lifecycle


def _environment(entry: Object) -> Object:
    def source(value_from: Object) -> Object:
        return _inside(value_from, "fieldRef", lambda ref: _fill(ref, {"apiVersion": "v1"}))

    return _inside(entry, "valueFrom", source)


def _resources(resources: Object) -> Object:
    """Requests that are not given are the limits (of Pods; templates stay as they are)."""
    limits = resources.get("limits")
    if not limits:
        return resources
    requests = resources.get("requests") or {}
    merged = {**limits, **requests} if limits.keys() - requests.keys() else requests
    return resources if merged is requests else {**resources, "requests": merged}


def _pull_policy(image: Any) -> str:
    """Always for `latest` or no tag (parsers.ParseImageName)."""
    last = str(image or "").rsplit("/", 1)[-1]
    if "@" in last:
        return "IfNotPresent"
    tag = last.partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _container(container: Object) -> Object:
    container = _fill(
        container,
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": _pull_policy(container.get("image")),
        },
    )
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        container = _inside(container, probe, _probe)
    container = _inside(container, "lifecycle", _hook)
    container = _each(container, "env", _environment)
    return _each(container, "ports", lambda port: _fill(port, {"protocol": "TCP"}))


_VOLUMES = {
    "secret": {"defaultMode": 420},
    "configMap": {"defaultMode": 420},
    "projected": {"defaultMode": 420},
    "downwardAPI": {"defaultMode": 420},
    "hostPath": {"type": ""},
}


def _volume(volume: Object) -> Object:
    for source, values in _VOLUMES.items():
        volume = _inside(volume, source, lambda found, values=values: _fill(found, values))  # type: ignore[misc]
    if volume.keys() == {"name"}:
        return {**volume, "emptyDir": {}}
    return volume


def pod_spec(spec: Object) -> Object:
    """The spec of a Pod or of a template with the defaults of core/v1."""
    spec = _fill(spec, _POD)
    if spec.get("serviceAccountName") and not spec.get("serviceAccount"):
        spec = {**spec, "serviceAccount": spec["serviceAccountName"]}
    for key in ("containers", "initContainers"):
        spec = _each(spec, key, _container)
    return _each(spec, "volumes", _volume)


def _template(template: Object) -> Object:
    return _inside(_fill(template, {"metadata": {}}), "spec", pod_spec)


def _pod(spec: Object) -> Object:
    spec = pod_spec(spec)
    for key in ("containers", "initContainers"):
        spec = _each(spec, key, lambda container: _inside(container, "resources", _resources))
    filled = _fill(
        spec,
        {
            "enableServiceLinks": True,
            "serviceAccountName": "default",
            "preemptionPolicy": "PreemptLowerPriority",
            "priority": 0,
        },
    )
    return _fill(filled, {"serviceAccount": filled["serviceAccountName"]})


# --- workloads ---


def _strategy(strategy: Object) -> Object:
    strategy = _fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] != "RollingUpdate":
        return strategy
    rolling = strategy.get("rollingUpdate") or {}
    return {**strategy, "rollingUpdate": _fill(rolling, {"maxSurge": "25%", "maxUnavailable": "25%"})}


def _deployment(spec: Object) -> Object:
    spec = _fill(
        spec,
        {"replicas": 1, "strategy": {}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    )
    return _inside(_inside(spec, "strategy", _strategy), "template", _template)


def _replica_set(spec: Object) -> Object:
    return _inside(_fill(spec, {"replicas": 1}), "template", _template)


# --- network ---


def _service_port(port: Object) -> Object:
    filled = _fill(port, {"protocol": "TCP"})
    return _fill(filled, {"targetPort": filled.get("port")})


def _service(spec: Object) -> Object:
    spec = _fill(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    if spec["sessionAffinity"] == "ClientIP":
        spec = _fill(spec, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}})
    if spec["type"] != "ExternalName":
        families = {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"}
        spec = _fill(spec, families)
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec = _fill(spec, {"externalTrafficPolicy": "Cluster"})
    return _each(spec, "ports", _service_port)


def _autoscaler(spec: Object) -> Object:
    return _fill(spec, {"minReplicas": 1})


def _policy(spec: Object) -> Object:
    def constraints(found: Object) -> Object:
        found = _fill(found, {"namespaceSelector": {}, "objectSelector": {}, "matchPolicy": "Equivalent"})
        return _each(found, "resourceRules", lambda rule: _fill(rule, {"scope": "*"}))

    return _inside(_fill(spec, {"failurePolicy": "Fail"}), "matchConstraints", constraints)


_SPEC: dict[str, Callable[[Object], Object]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "MutatingAdmissionPolicy": _policy,
}


# --- whole objects ---


def filled(resource: Resource, old: Object | None, obj: Object) -> Object:
    """`obj` with all defaults. A spec that is the same object as in `old` has them already."""
    change = _SPEC.get(resource.name)
    if change is not None and isinstance(obj.get("spec"), dict) and (old is None or obj["spec"] is not old.get("spec")):
        obj = _inside(obj, "spec", change)
    return _WHOLE[resource.name](obj) if resource.name in _WHOLE else obj


def _namespace(obj: Object) -> Object:
    name = obj["metadata"]["name"]
    labels = obj["metadata"].get("labels") or {}
    if labels.get("kubernetes.io/metadata.name") == name:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "labels": {**labels, "kubernetes.io/metadata.name": name}}}


def _slice(obj: Object) -> Object:
    return _each(obj, "ports", lambda port: _fill(port, {"name": "", "protocol": "TCP"}))


def _secret(obj: Object) -> Object:
    """`stringData` is only a way to write."""
    obj = _fill(obj, {"type": "Opaque"})
    if not isinstance(obj.get("stringData"), dict):
        return obj
    import base64

    data = {key: base64.b64encode(str(value).encode()).decode() for key, value in obj["stringData"].items()}
    kept = {key: value for key, value in obj.items() if key != "stringData"}
    return {**kept, "data": {**(obj.get("data") or {}), **data}}


def _subjects(obj: Object) -> Object:
    def subject(entry: Object) -> Object:
        group = "" if entry.get("kind") == "ServiceAccount" else "rbac.authorization.k8s.io"
        return entry if not group else _fill(entry, {"apiGroup": group})

    return _each(
        _inside(obj, "roleRef", lambda ref: _fill(ref, {"apiGroup": "rbac.authorization.k8s.io"})), "subjects", subject
    )


_WHOLE: dict[str, Callable[[Object], Object]] = {
    "Namespace": _namespace,
    "EndpointSlice": _slice,
    "Secret": _secret,
    "RoleBinding": _subjects,
    "ClusterRoleBinding": _subjects,
}

_STATUS: dict[str, Object] = {
    "Deployment": {},
    "ReplicaSet": {"replicas": 0},
    "Service": {"loadBalancer": {}},
    "Ingress": {"loadBalancer": {}},
    "Namespace": {"phase": "Active"},
}


def created(resource: Resource, obj: Object) -> Object:
    """What only a new object gets: a first status, a Service's address, a Pod's class."""
    name = resource.name
    if name in _STATUS:
        obj = {**obj, "status": _STATUS[name]}
    if name == "Namespace":
        return {**obj, "spec": _fill(obj.get("spec") or {}, {"finalizers": ["kubernetes"]})}
    if name == "Pod":
        return {**obj, "status": {"phase": "Pending", "qosClass": qos_class(obj["spec"])}}
    if name == "Service" and isinstance(obj.get("spec"), dict):
        return {**obj, "spec": _with_address(obj)}
    return obj


def qos_class(spec: Object) -> str:
    """BestEffort without any request or limit, Guaranteed with limits everywhere that are the requests."""
    kinds = set()
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        limits = {k: v for k, v in (resources.get("limits") or {}).items() if k in ("cpu", "memory")}
        requests = {k: v for k, v in (resources.get("requests") or {}).items() if k in ("cpu", "memory")}
        if not limits and not requests:
            kinds.add("BestEffort")
        else:
            kinds.add("Guaranteed" if len(limits) == 2 and requests == limits else "Burstable")
    return kinds.pop() if len(kinds) == 1 else "Burstable"


def _with_address(obj: Object) -> Object:
    """A cluster address, always the same for the same name (10.96.0.0/16, as kubeadm has)."""
    spec: Object = obj["spec"]
    if spec.get("type") == "ExternalName":
        return spec
    if not spec.get("clusterIP"):
        meta = obj["metadata"]
        number = zlib.crc32(f"{meta.get('namespace')}/{meta['name']}".encode()) % 65000 + 256
        spec = {**spec, "clusterIP": f"10.96.{number // 256}.{number % 256}"}
    return _fill(spec, {"clusterIPs": [spec["clusterIP"]]})

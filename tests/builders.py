"""Kubernetes objects for tests, with sensible defaults: the Deployment, Service and Ingress `web` in `shop`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from davylamp.api.objects import (
    HASH_LABEL,
    Backend,
    BackendPort,
    Deployment,
    DeploymentSpec,
    HTTPPath,
    HTTPPaths,
    Ingress,
    IngressClass,
    IngressClassSpec,
    IngressRule,
    IngressSpec,
    IngressTLS,
    LabelSelector,
    Meta,
    OwnerReference,
    ReplicaSet,
    ReplicaSetSpec,
    ReplicaSetStatus,
    Service,
    ServiceBackend,
    ServicePort,
    ServiceSpec,
    Strategy,
    template_hash,
)
from davylamp.api.types import IngressRoute, ReleasePolicy, ReleasePolicySpec, Route, Step, Target, Traffic

NAMESPACE = "shop"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first objects were made; `age` of a builder is in seconds after it."""


def uid(kind: str, name: str) -> str:
    """The same for the same object, and different from every other's."""
    return hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()[:8]


def meta(
    kind: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: OwnerReference | None = None,
    age: float = 0,
) -> Meta:
    return Meta(
        name=name,
        namespace=NAMESPACE,
        uid=uid(kind, name),
        resource_version="1",
        generation=1,
        creation_timestamp=BEGIN + timedelta(seconds=age),
        labels=dict(labels or {}),
        annotations=dict(annotations or {}),
        owner_references=(owner,) if owner else (),
    )


def template(image: str = "hellok8s:v1", labels: Mapping[str, str] | None = None) -> msgspec.Raw:
    content = {
        "metadata": {"labels": dict(labels if labels is not None else {"app": "web"})},
        "spec": {"containers": [{"name": "app", "image": image}]},
    }
    return msgspec.Raw(json.dumps(content).encode())


def deployment(
    name: str = "web",
    *,
    replicas: int = 4,
    image: str = "hellok8s:v1",
    selector: Mapping[str, str] | None = None,
    pod_labels: Mapping[str, str] | None = None,
    strategy: str = "RollingUpdate",
    paused: bool = False,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Deployment:
    """Its pods have the label `app: <name>`, which it selects, unless told otherwise."""
    chosen = dict(selector or {"app": name})
    return Deployment(
        metadata=meta("Deployment", name, labels=labels or {"app": name}, annotations=annotations),
        spec=DeploymentSpec(
            selector=LabelSelector(match_labels=chosen),
            template=template(image, pod_labels or chosen),
            replicas=replicas,
            paused=paused,
            strategy=Strategy(type=strategy),
        ),
    )


def replica_set(
    of: Deployment,
    *,
    image: str = "",
    name: str = "",
    pod_hash: str = "",
    replicas: int | None = None,
    owner: OwnerReference | None = None,
) -> ReplicaSet:
    """One of a Deployment's, all of its pods available; `owner` is the Deployment unless told otherwise."""
    parent = of.metadata.name
    labels = dict(of.spec.selector.match_labels)
    content = template(image, labels) if image else of.spec.template
    hashed = pod_hash or template_hash(content)
    pods = of.spec.replicas if replicas is None else replicas
    default = OwnerReference(
        kind="Deployment", name=parent, uid=of.metadata.uid, controller=True, api_version="apps/v1"
    )
    own = name or f"{parent}-{hashed}"
    return ReplicaSet(
        metadata=meta("ReplicaSet", own, labels={**labels, HASH_LABEL: hashed}, owner=owner or default),
        spec=ReplicaSetSpec(
            selector=LabelSelector(match_labels={**labels, HASH_LABEL: hashed}),
            template=content,
            replicas=pods,
            template_hash=template_hash(content),
        ),
        status=ReplicaSetStatus(observed_generation=1, replicas=pods, ready_replicas=pods, available_replicas=pods),
    )


def service(
    name: str = "web",
    *,
    selector: Mapping[str, str] | None = None,
    ports: Iterable[int] = (80,),
    type: str = "ClusterIP",
    cluster_ip: str = "10.96.0.10",
    not_ready: bool = False,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Service:
    """Selects `app: <name>` unless told otherwise; `{}` selects nothing."""
    return Service(
        metadata=meta("Service", name, labels=labels, annotations=annotations),
        spec=ServiceSpec(
            type=type,
            cluster_ip=cluster_ip,
            selector=dict({"app": name} if selector is None else selector),
            ports=tuple(ServicePort(port=port, target_port=8080) for port in ports),
            publish_not_ready_addresses=not_ready,
        ),
    )


Rule = tuple[str, str, str] | tuple[str, str, str, int | str] | tuple[str, str, str, int | str, str]


def ingress(
    name: str = "web",
    rules: Iterable[Rule] = (("web.example", "/", "web"),),
    *,
    class_name: str | None = "nginx",
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    owner: OwnerReference | None = None,
    tls: Iterable[str] = (),
    default: str = "",
    bare: Iterable[str] = (),
    age: float = 0,
) -> Ingress:
    """`rules` are (host, path, Service[, port = 80[, pathType = Prefix]]), those of one host in one rule; `default`
    the default backend's Service; `bare` hosts of rules without http; `tls` hosts of a certificate."""
    by_host: dict[str, list[HTTPPath]] = {}
    for rule in rules:
        by_host.setdefault(rule[0], []).append(_path(rule))
    found = [IngressRule(host=host, http=HTTPPaths(tuple(paths))) for host, paths in by_host.items()]
    secured = tuple(tls)
    return Ingress(
        metadata=meta("Ingress", name, annotations=annotations, labels=labels, owner=owner, age=age),
        spec=IngressSpec(
            ingress_class_name=class_name,
            default_backend=backend(default) if default else None,
            rules=(*found, *(IngressRule(host=host) for host in bare)),
            tls=(IngressTLS(hosts=secured, secret_name="web-tls"),) if secured else (),
        ),
    )


def _path(rule: Rule) -> HTTPPath:
    filled: tuple[Any, ...] = (*rule, *((80, "Prefix")[len(rule) - 3 :]))
    _, path, target, port, path_type = filled
    return HTTPPath(backend=backend(target, port), path=path, path_type=path_type)


def backend(name: str, port: int | str = 80) -> Backend:
    chosen = BackendPort(number=port) if isinstance(port, int) else BackendPort(name=port)
    return Backend(service=ServiceBackend(name=name, port=chosen))


def ingress_class(
    name: str = "nginx", controller: str = "k8s.io/ingress-nginx", *, default: bool = False, age: float = 0
) -> IngressClass:
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    return IngressClass(
        metadata=msgspec.structs.replace(meta("IngressClass", name, annotations=annotations, age=age), namespace=""),
        spec=IngressClassSpec(controller=controller),
    )


STEPS = (Step(20, hold="10m"), Step(50, approve=True), Step(100))


def policy(
    name: str = "web",
    *,
    target: Target | None = None,
    service: str | None = "web",
    routes: Iterable[str] = ("web",),
    detect: bool = False,
    steps: Iterable[Step] = STEPS,
    traffic: Traffic | str | None = "given",
    **spec: Any,
) -> ReleasePolicy:
    """Releases the Deployment of its own name through the Service and the Ingress `web`. `traffic` replaces service,
    routes and detect; None is a workload without a Service. Further fields of the spec by their names in Python."""
    if isinstance(traffic, str):
        found = tuple(Route(ingress=IngressRoute(name=route)) for route in routes)
        traffic = Traffic(detect=True) if detect else Traffic(service=service, routes=found)
    return ReleasePolicy(
        metadata=meta("ReleasePolicy", name),
        spec=ReleasePolicySpec(
            target=target if target is not None else Target(name=name), steps=tuple(steps), traffic=traffic, **spec
        ),
    )

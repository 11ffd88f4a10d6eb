"""The few fields that Davylamp reads of Kubernetes' own objects, as frozen structs.

They are decode targets only: a slim object must never be written back, since that would drop every field that
is not named here. Writes are patches (`davylamp.core.actions`) or whole manifests that we made ourselves.
Field names in JSON are Kubernetes' own (camelCase); in Python they are snake_case.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, TypeVar

import msgspec

HASH_LABEL = "pod-template-hash"
"""The label by which ReplicaSets of one Deployment keep their pods apart."""
REVISION = "deployment.kubernetes.io/revision"


class Slim(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of the slim objects: frozen, unknown fields ignored, camelCase in JSON."""


class OwnerReference(Slim, frozen=True):
    kind: str
    name: str
    uid: str
    controller: bool = False
    api_version: str = ""


class Meta(Slim, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, if any."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Condition(Slim, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class LabelSelectorRequirement(Slim, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Slim, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """True if `labels` satisfy every requirement (an empty selector matches everything, as in Kubernetes)."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(_satisfies(requirement, labels) for requirement in self.match_expressions)


def _satisfies(requirement: LabelSelectorRequirement, labels: dict[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
    return False


class RollingUpdate(Slim, frozen=True):
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class Strategy(Slim, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class DeploymentSpec(Slim, frozen=True):
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")
    replicas: int = 1
    paused: bool = False
    strategy: Strategy = Strategy()
    min_ready_seconds: int = 0
    progress_deadline_seconds: int = 600


class DeploymentStatus(Slim, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0


class Deployment(Slim, frozen=True):
    metadata: Meta
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class ReplicaSetSpec(Slim, frozen=True):
    """`template` is dropped (set to `{}`) for ReplicaSets without pods; `template_hash` stays: see `slim`."""

    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")
    replicas: int = 1
    template_hash: str = ""


class ReplicaSetStatus(Slim, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Slim, frozen=True):
    metadata: Meta
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()


class Waiting(Slim, frozen=True):
    reason: str = ""
    message: str = ""


class Terminated(Slim, frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class ContainerState(Slim, frozen=True):
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Slim, frozen=True):
    name: str
    image: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Slim, frozen=True):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Slim, frozen=True):
    metadata: Meta
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class ServicePort(Slim, frozen=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None
    target_port: int | str | None = None


class ServiceSpec(Slim, frozen=True):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    publish_not_ready_addresses: bool = False


class Service(Slim, frozen=True):
    metadata: Meta
    spec: ServiceSpec = ServiceSpec()


class TargetRef(Slim, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class EndpointConditions(Slim, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Slim, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetRef | None = None


class EndpointSlice(Slim, frozen=True):
    metadata: Meta
    endpoints: tuple[Endpoint, ...] | None = ()

    @property
    def service(self) -> str:
        """Name of the Service that this slice belongs to."""
        return self.metadata.labels.get("kubernetes.io/service-name", "")

    @property
    def ready_pods(self) -> tuple[str, ...]:
        """Names of the pods that this slice offers to traffic. A condition that is not set means ready
        (discovery.k8s.io/v1: "nil should be interpreted as true")."""
        return tuple(pod for pod, _ in self.ready_addresses)

    @property
    def ready_addresses(self) -> tuple[tuple[str, str], ...]:
        """The same pods, each with its address."""
        return tuple(
            (e.target_ref.name, e.addresses[0] if e.addresses else "")
            for e in self.endpoints or ()
            if e.target_ref is not None and e.conditions.ready is not False
        )


class BackendPort(Slim, frozen=True):
    name: str = ""
    number: int = 0


class ServiceBackend(Slim, frozen=True):
    name: str
    port: BackendPort = BackendPort()


class Backend(Slim, frozen=True):
    service: ServiceBackend | None = None
    resource: dict[str, Any] | None = None


class HTTPPath(Slim, frozen=True):
    backend: Backend
    path: str = ""
    path_type: str = "ImplementationSpecific"


class HTTPPaths(Slim, frozen=True):
    paths: tuple[HTTPPath, ...] = ()


class IngressRule(Slim, frozen=True):
    host: str = ""
    http: HTTPPaths | None = None


class IngressTLS(Slim, frozen=True):
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(Slim, frozen=True):
    """networking.k8s.io/v1 has had no other field since 1.19, so this one is complete."""

    ingress_class_name: str | None = None
    default_backend: Backend | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTLS, ...] = ()


class Ingress(Slim, frozen=True):
    metadata: Meta
    spec: IngressSpec = IngressSpec()

    @property
    def class_name(self) -> str:
        """The class by field or by the older annotation; "" leaves it to the cluster's default class."""
        return self.spec.ingress_class_name or self.metadata.annotations.get("kubernetes.io/ingress.class", "")


class IngressClassSpec(Slim, frozen=True):
    controller: str = ""


class IngressClass(Slim, frozen=True):
    metadata: Meta
    spec: IngressClassSpec = IngressClassSpec()


class HTTPRoute(Slim, frozen=True):
    """gateway.networking.k8s.io/v1. The spec is kept as it is: it has fields that we don't know, and keep."""

    metadata: Meta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class GRPCRoute(Slim, frozen=True):
    """gateway.networking.k8s.io/v1; see HTTPRoute."""

    metadata: Meta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class GatewayClass(Slim, frozen=True):
    """gateway.networking.k8s.io/v1: its status tells what an implementation can do."""

    metadata: Meta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class VirtualService(Slim, frozen=True):
    """networking.istio.io/v1; see HTTPRoute."""

    metadata: Meta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class DestinationRule(Slim, frozen=True):
    """networking.istio.io/v1; see HTTPRoute."""

    metadata: Meta
    spec: dict[str, Any] = {}


def template_hash(template: msgspec.Raw | bytes | dict[str, Any]) -> str:
    """Ten hexadecimal digits that two pod templates share exactly if they are equal but for `pod-template-hash`.

    The same comparison as the Deployment controller's EqualIgnoreHash. Both sides must come from the API server,
    which fills in defaults.
    """
    content = template if isinstance(template, dict) else msgspec.json.decode(template)
    labels = (content.get("metadata") or {}).get("labels") or {}
    if HASH_LABEL in labels:
        content = content | {"metadata": content["metadata"] | {"labels": without_hash(labels)}}
    return hashlib.blake2b(msgspec.json.encode(content, order="deterministic"), digest_size=5).hexdigest()


def without_hash(labels: dict[str, str]) -> dict[str, str]:
    """`labels` without the one that keeps ReplicaSets apart."""
    return {key: value for key, value in labels.items() if key != HASH_LABEL}


_DROPPED_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)

T = TypeVar("T")


def slim(obj: T) -> T:
    """`obj` made smaller for a cache: kubectl's copy of the object goes, and ReplicaSets get their `template_hash`
    while only those with pods keep the template itself."""
    metadata: Meta | None = getattr(obj, "metadata", None)
    if isinstance(metadata, Meta) and any(key in metadata.annotations for key in _DROPPED_ANNOTATIONS):
        kept = {k: v for k, v in metadata.annotations.items() if k not in _DROPPED_ANNOTATIONS}
        obj = msgspec.structs.replace(obj, metadata=msgspec.structs.replace(metadata, annotations=kept))  # type: ignore[type-var]
    if isinstance(obj, ReplicaSet):
        spec = obj.spec
        template = msgspec.Raw(b"{}") if spec.replicas == 0 else spec.template.copy()
        kept_spec = msgspec.structs.replace(
            spec, template=template, template_hash=spec.template_hash or template_hash(spec.template)
        )
        return msgspec.structs.replace(obj, spec=kept_spec)
    if isinstance(obj, Deployment):
        kept_template = msgspec.structs.replace(obj.spec, template=obj.spec.template.copy())
        return msgspec.structs.replace(obj, spec=kept_template)
    return obj

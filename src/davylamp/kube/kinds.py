"""The kinds that Davylamp reads or writes: where the API server has them, and which slim struct they are read into."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from davylamp.api import GROUP, VERSION
from davylamp.api import objects as o
from davylamp.api import types as t
from davylamp.core.actions import Ref


class Bare(o.Slim, frozen=True):
    """An object of which only the metadata is read."""

    metadata: o.Meta


class Kind(msgspec.Struct, frozen=True):
    """One row of the table. `type` is what `decode` makes of an object of this kind."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    type: type[Any] = Bare

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As RBAC and error messages name it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of one object, or of the collection where `name` is left out."""
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


_RBAC = "rbac.authorization.k8s.io"
_GATEWAY = "gateway.networking.k8s.io"
_ISTIO = "networking.istio.io"
_ADMISSION = "admissionregistration.k8s.io"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("Namespace", "", "v1", "namespaces", namespaced=False),
        Kind("Pod", "", "v1", "pods", type=o.Pod),
        Kind("Service", "", "v1", "services", type=o.Service),
        Kind("ServiceAccount", "", "v1", "serviceaccounts"),
        Kind("Secret", "", "v1", "secrets"),
        Kind("ConfigMap", "", "v1", "configmaps"),
        Kind("Deployment", "apps", "v1", "deployments", type=o.Deployment),
        Kind("ReplicaSet", "apps", "v1", "replicasets", type=o.ReplicaSet),
        Kind("Job", "batch", "v1", "jobs"),
        Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", type=o.EndpointSlice),
        Kind("Ingress", "networking.k8s.io", "v1", "ingresses", type=o.Ingress),
        Kind("IngressClass", "networking.k8s.io", "v1", "ingressclasses", namespaced=False, type=o.IngressClass),
        Kind("HTTPRoute", _GATEWAY, "v1", "httproutes", type=o.HTTPRoute),
        Kind("GRPCRoute", _GATEWAY, "v1", "grpcroutes", type=o.GRPCRoute),
        Kind("GatewayClass", _GATEWAY, "v1", "gatewayclasses", namespaced=False, type=o.GatewayClass),
        Kind("VirtualService", _ISTIO, "v1", "virtualservices", type=o.VirtualService),
        Kind("DestinationRule", _ISTIO, "v1", "destinationrules", type=o.DestinationRule),
        Kind("Event", "events.k8s.io", "v1", "events"),
        Kind("Lease", "coordination.k8s.io", "v1", "leases"),
        Kind("ReleasePolicy", GROUP, VERSION, "releasepolicies", type=t.ReleasePolicy),
        Kind("Release", GROUP, VERSION, "releases", type=t.Release),
        Kind("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False),
        Kind("ClusterRole", _RBAC, "v1", "clusterroles", namespaced=False),
        Kind("ClusterRoleBinding", _RBAC, "v1", "clusterrolebindings", namespaced=False),
        Kind("Role", _RBAC, "v1", "roles"),
        Kind("RoleBinding", _RBAC, "v1", "rolebindings"),
        Kind("MutatingAdmissionPolicy", _ADMISSION, "v1", "mutatingadmissionpolicies", namespaced=False),
        Kind("MutatingAdmissionPolicyBinding", _ADMISSION, "v1", "mutatingadmissionpolicybindings", namespaced=False),
    )
}

_KIND_OF_TYPE = {kind.type: kind.name for kind in KINDS.values() if kind.type is not Bare}


def kind_of(name: str) -> Kind:
    """The row of a kind. Raises LookupError, naming the known ones, for a kind that is not in the table."""
    found = KINDS.get(name)
    if found is None:
        raise LookupError(f'kind "{name}" is not in the table of kinds: {", ".join(KINDS)}')
    return found


def kind_name(obj: object) -> str:
    """The kind of a slim object, known by its type. Raises LookupError for a type that is no slim object's."""
    found = _KIND_OF_TYPE.get(type(obj))
    if found is None:
        raise LookupError(f"{type(obj).__name__} is not the slim struct of a kind")
    return found


def ref_of(obj: Any) -> Ref:
    """The name under which the API server has a slim object."""
    return Ref(kind_name(obj), obj.metadata.namespace, obj.metadata.name)


def ref_of_manifest(manifest: dict[str, Any]) -> Ref:
    meta = manifest["metadata"]
    return Ref(manifest["kind"], meta.get("namespace", ""), meta["name"])


@functools.cache
def _decoder(name: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind_of(name).type)


def decode(kind: str, raw: bytes | msgspec.Raw) -> Any:
    """The slim object in `raw`, one JSON object from the API server.

    Raises msgspec.ValidationError where it is not of that kind's form, LookupError for an unknown kind.
    """
    return o.slim(_decoder(kind).decode(raw))

"""The kinds that are served: where they are, what subresources they have; CRDs add further ones at run time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from davylamp.embedded.status import StatusError, no_such_path

VERSION = {"major": "1", "minor": "37", "gitVersion": "v1.37.2+davylamp-embedded", "platform": "python"}


class Scale(msgspec.Struct, frozen=True):
    """Where an object has what its scale subresource shows, as dotted paths."""

    replicas: str = "spec.replicas"
    status: str = "status.replicas"
    selector: str = ""
    """Of a string; empty where `spec.selector` is a LabelSelector."""


class Resource(msgspec.Struct, frozen=True):
    """One kind. `name` is how the store calls it: the kind, with the group where two groups share a kind."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    singular: str = ""
    name: str = ""
    status: bool = False
    """Has the subresource `status`: writes of the object leave the status alone."""
    generation: bool = False
    """Counts changes of everything but metadata and status."""
    scale: Scale | None = None
    versions: tuple[str, ...] = ()
    """All that are served; objects are stored in `version`."""
    custom: bool = False
    """Comes from a CRD."""
    selectable: tuple[str, ...] = ()
    """Of a CRD: the fields that its objects can be selected by, beside their name and namespace."""
    unmade: str = ""
    """Why there are none and none can be made, of a kind that is served for those who watch it."""
    stored_as: str = ""
    """The name of the resource whose objects these are in another form (events.k8s.io)."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"


def _row(kind: str, group: str, version: str, plural: str, **more: Any) -> Resource:
    more = {"singular": kind.lower(), "name": kind, "versions": (version,)} | more
    return Resource(kind, group, version, plural, **more)


_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_ALL = ("all",)
_EXTENSIONS = ("api-extensions",)

BUILT_IN = (
    _row("Namespace", "", "v1", "namespaces", namespaced=False, short=("ns",), status=True),
    _row("Node", "", "v1", "nodes", namespaced=False, short=("no",), status=True),
    _row("Pod", "", "v1", "pods", short=("po",), categories=_ALL, status=True, generation=True),
    _row("Service", "", "v1", "services", short=("svc",), categories=_ALL, status=True),
    _row("ServiceAccount", "", "v1", "serviceaccounts", short=("sa",)),
    _row("ConfigMap", "", "v1", "configmaps", short=("cm",)),
    _row("Secret", "", "v1", "secrets"),
    _row("Event", "", "v1", "events", short=("ev",)),
    _row("Event", "events.k8s.io", "v1", "events", short=("ev",), name="Event.events.k8s.io", stored_as="Event"),
    _row(
        "Deployment",
        "apps",
        "v1",
        "deployments",
        short=("deploy",),
        categories=_ALL,
        status=True,
        generation=True,
        scale=Scale(),
    ),
    _row(
        "ReplicaSet",
        "apps",
        "v1",
        "replicasets",
        short=("rs",),
        categories=_ALL,
        status=True,
        generation=True,
        scale=Scale(),
    ),
    _row("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", generation=True),
    _row("Ingress", "networking.k8s.io", "v1", "ingresses", short=("ing",), status=True, generation=True),
    _row("IngressClass", "networking.k8s.io", "v1", "ingressclasses", namespaced=False, generation=True),
    _row(
        "HorizontalPodAutoscaler",
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        short=("hpa",),
        categories=_ALL,
        status=True,
    ),
    _row(
        "Job",
        "batch",
        "v1",
        "jobs",
        categories=_ALL,
        status=True,
        generation=True,
        unmade="there is no controller that would run a Job",
    ),
    _row("Lease", "coordination.k8s.io", "v1", "leases"),
    _row("Role", _RBAC, "v1", "roles"),
    _row("RoleBinding", _RBAC, "v1", "rolebindings"),
    _row("ClusterRole", _RBAC, "v1", "clusterroles", namespaced=False),
    _row("ClusterRoleBinding", _RBAC, "v1", "clusterrolebindings", namespaced=False),
    _row(
        "MutatingAdmissionPolicy",
        _ADMISSION,
        "v1",
        "mutatingadmissionpolicies",
        namespaced=False,
        categories=_EXTENSIONS,
        generation=True,
    ),
    _row(
        "MutatingAdmissionPolicyBinding",
        _ADMISSION,
        "v1",
        "mutatingadmissionpolicybindings",
        namespaced=False,
        categories=_EXTENSIONS,
        generation=True,
    ),
    _row(
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        namespaced=False,
        short=("crd", "crds"),
        categories=_EXTENSIONS,
        status=True,
        generation=True,
    ),
)


class Resources:
    """The kinds served now."""

    def __init__(self) -> None:
        self._by_name: dict[str, Resource] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._by_plural: dict[tuple[str, str], Resource] = {}
        for resource in BUILT_IN:
            self.add(resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_name.values())

    def add(self, resource: Resource) -> None:
        self._by_name[resource.name] = resource
        self._by_kind[resource.group, resource.kind] = resource
        self._by_plural[resource.group, resource.plural] = resource

    def remove(self, resource: Resource) -> None:
        del self._by_name[resource.name]
        del self._by_kind[resource.group, resource.kind]
        del self._by_plural[resource.group, resource.plural]

    def name_for(self, group: str, kind: str) -> str:
        """How the store is to call a kind that comes anew: by its kind alone unless another group has that one."""
        known = self._by_kind.get((group, kind))
        if known is not None:
            return known.name
        return f"{kind}.{group}" if kind in self._by_name else kind

    def named(self, name: str) -> Resource:
        """By the store's name for it. Raises StatusError 404."""
        found = self._by_name.get(name)
        if found is None:
            raise StatusError(404, "NotFound", f'no matches for kind "{name}"')
        return found

    def of(self, obj: dict[str, Any]) -> Resource:
        """The kind of a manifest. Raises StatusError 400 where it has no apiVersion or kind, 404 for an unknown one."""
        api_version, kind = obj.get("apiVersion"), obj.get("kind")
        if not isinstance(api_version, str) or not isinstance(kind, str):
            raise StatusError(400, "BadRequest", "Object 'Kind' or 'apiVersion' is missing")
        group, _, version = api_version.rpartition("/")
        found = self._by_kind.get((group, kind))
        if found is None or version not in found.versions:
            message = f'no matches for kind "{kind}" in version "{api_version}"'
            raise StatusError(404, "NotFound", message)
        return found

    def at(self, group: str, version: str, plural: str) -> Resource:
        """The kind at a URL. Raises StatusError 404."""
        found = self._by_plural.get((group, plural))
        if found is None or version not in found.versions:
            raise no_such_path()
        return found

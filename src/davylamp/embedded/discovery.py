"""What the API server says about itself: groups, resources and OpenAPI documents. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from davylamp.embedded import schemas
from davylamp.embedded.resources import Resource, Resources

Object = dict[str, Any]

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
STATUS_VERBS = ["get", "patch", "update"]
REVIEWS = {
    ("authentication.k8s.io", "selfsubjectreviews"): "SelfSubjectReview",
    ("authentication.k8s.io", "tokenreviews"): "TokenReview",
    ("authorization.k8s.io", "selfsubjectaccessreviews"): "SelfSubjectAccessReview",
    ("authorization.k8s.io", "subjectaccessreviews"): "SubjectAccessReview",
}
"""Resources that can only be created, and whose answer is all there is."""


def group_versions(resources: Resources) -> dict[str, list[str]]:
    """The versions of each group, those that are stored first; the core group is ""."""
    found: dict[str, list[str]] = {"": ["v1"]}
    for resource in resources:
        versions = found.setdefault(resource.group, [])
        versions += [version for version in resource.versions if version not in versions]
    for group, _ in REVIEWS:
        found.setdefault(group, ["v1"])
    return found


def _of(resources: Resources, group: str, version: str) -> list[Resource]:
    return [resource for resource in resources if resource.group == group and version in resource.versions]


def subresources(resource: Resource) -> Iterable[tuple[str, Object, list[str]]]:
    """Name, kind and verbs of each subresource."""
    own = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    if resource.status:
        yield "status", own, STATUS_VERBS
    if resource.scale is not None:
        yield "scale", {"group": "autoscaling", "version": "v1", "kind": "Scale"}, STATUS_VERBS
    if resource.name == "Pod":
        yield "log", own, ["get"]
        proxied = {"group": "", "version": "v1", "kind": "PodProxyOptions"}
        yield "proxy", proxied, ["create", "delete", "get", "patch", "update"]
        yield "binding", {"group": "", "version": "v1", "kind": "Binding"}, ["create"]
        yield "eviction", {"group": "policy", "version": "v1", "kind": "Eviction"}, ["create"]
    if resource.name == "Namespace":
        yield "finalize", own, ["update"]


def resource_list(resources: Resources, group: str, version: str) -> Object:
    """The APIResourceList of a group version."""
    entries: list[Object] = []
    for resource in _of(resources, group, version):
        entry: Object = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": VERBS,
        }
        if resource.short:
            entry["shortNames"] = list(resource.short)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries.append(entry)
        for name, kind, verbs in subresources(resource):
            sub: Object = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind["kind"],
                "verbs": verbs,
            }
            if (kind["group"], kind["version"]) != (group, version):
                sub |= {"group": kind["group"], "version": kind["version"]}
            entries.append(sub)
    for (of, plural), kind_name in REVIEWS.items():
        if of == group:
            entries.append(
                {"name": plural, "singularName": "", "namespaced": False, "kind": kind_name, "verbs": ["create"]}
            )
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}


def group(name: str, versions: list[str]) -> Object:
    """The APIGroup."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def group_list(resources: Resources) -> Object:
    groups = [group(name, versions) for name, versions in group_versions(resources).items() if name]
    plain = [{key: g[key] for key in ("name", "versions", "preferredVersion")} for g in groups]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": plain}


def aggregated(resources: Resources, *, core: bool) -> Object:
    """The APIGroupDiscoveryList (apidiscovery.k8s.io/v2) of the core group or of all others."""
    items = []
    for name, versions in group_versions(resources).items():
        if bool(name) == core:
            continue
        found = [
            {"version": version, "resources": _aggregated_resources(resources, name, version), "freshness": "Current"}
            for version in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": found})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resources(resources: Resources, group_name: str, version: str) -> list[Object]:
    entries: list[Object] = []
    for resource in _of(resources, group_name, version):
        entry: Object = {
            "resource": resource.plural,
            "responseKind": {"group": group_name, "version": version, "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": VERBS,
        }
        if resource.short:
            entry["shortNames"] = list(resource.short)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        subs = [
            {"subresource": name, "responseKind": kind, "verbs": verbs} for name, kind, verbs in subresources(resource)
        ]
        entries.append(entry | ({"subresources": subs} if subs else {}))
    for (of, plural), kind_name in REVIEWS.items():
        if of == group_name:
            kind = {"group": group_name, "version": version, "kind": kind_name}
            entries.append(
                {
                    "resource": plural,
                    "responseKind": kind,
                    "scope": "Cluster",
                    "singularResource": kind_name.lower(),
                    "verbs": ["create"],
                }
            )
    return entries


# --- OpenAPI ---


def _prefix(group_name: str, version: str) -> str:
    return f"apis/{group_name}/{version}" if group_name else f"api/{version}"


def openapi_index(resources: Resources, custom: dict[str, Object]) -> Object:
    """The document at /openapi/v3. A hash in each URL changes with the document, since clients cache by it."""
    paths = {}
    for name, versions in group_versions(resources).items():
        for version in versions:
            prefix = _prefix(name, version)
            document = msgspec.json.encode(openapi(resources, custom, name, version))
            digest = hashlib.blake2b(document, digest_size=16).hexdigest()
            paths[prefix] = {"serverRelativeURL": f"/openapi/v3/{prefix}?hash={digest}"}
    return {"paths": paths}


def openapi(resources: Resources, custom: dict[str, Object], group_name: str, version: str) -> Object:
    """The OpenAPI v3 document of a group version. `custom` has the schemas of CRDs by store name."""
    served = _of(resources, group_name, version)
    everything = schemas.definitions()
    wanted = [schemas.names()[group_name, version, r.kind] for r in served if not r.custom]
    components = schemas.closure([*wanted, *schemas.EXTRA], everything)
    for resource in served:
        if resource.custom:
            components[_component(resource, version)] = _custom_component(resource, version, custom)
    paths: Object = {}
    for resource in served:
        paths |= _paths(resource, version)
    raw = msgspec.json.encode({"paths": paths, "components": {"schemas": components}})
    body: Object = msgspec.json.decode(raw.replace(b"#/definitions/", b"#/components/schemas/"))
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "embedded"}, **body}


def _component(resource: Resource, version: str) -> str:
    return ".".join([*reversed(resource.group.split(".")), version, resource.kind])


def _custom_component(resource: Resource, version: str, custom: dict[str, Object]) -> Object:
    schema = custom.get(f"{resource.name}/{version}") or {"type": "object"}
    meta = {"allOf": [{"$ref": f"#/components/schemas/{schemas.META}"}]}
    properties = {**schema.get("properties", {}), "metadata": meta}
    gvk = {"group": resource.group, "version": version, "kind": resource.kind}
    return {**schema, "properties": properties, schemas.GVK: [gvk]}


def _paths(resource: Resource, version: str) -> Object:
    if resource.custom:
        reference = _component(resource, version)
    else:
        reference = schemas.names()[resource.group, version, resource.kind]
    gvk = {"group": resource.group, "version": version, "kind": resource.kind}
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    base = f"/{_prefix(resource.group, version)}{scope}/{resource.plural}"
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{reference}"}}}
    writing = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]

    def operation(action: str, *, writes: bool) -> Object:
        found = {
            "x-kubernetes-action": action,
            schemas.GVK: gvk,
            "responses": {"200": {"description": "OK", "content": answer}},
        }
        return found | ({"parameters": writing} if writes else {})

    return {
        base: {"get": operation("list", writes=False), "post": operation("post", writes=True)},
        f"{base}/{{name}}": {
            "get": operation("get", writes=False),
            "put": operation("put", writes=True),
            "patch": operation("patch", writes=True),
            "delete": operation("delete", writes=False),
        },
    }

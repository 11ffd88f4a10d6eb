"""CustomResourceDefinitions: what is served because of them, and what they may not say."""

from __future__ import annotations

import functools
from typing import Any

from davylamp.embedded import cel, jsonpath, status
from davylamp.embedded.cel import CelError, Unsupported
from davylamp.embedded.resources import Resource, Scale
from davylamp.embedded.schema import Schema, custom
from davylamp.embedded.status import Cause, invalid_value, required

Object = dict[str, Any]

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
ESTABLISHED = (
    ("NamesAccepted", "NoConflicts", "no conflicts found"),
    ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
)


def filled(obj: Object) -> Object:
    """A CRD with the defaults of apiextensions.k8s.io/v1."""
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    kind = str(names.get("kind", ""))
    names = {"singular": kind.lower(), "listKind": f"{kind}List", **names}
    return {**obj, "spec": {"conversion": {"strategy": "None"}, **spec, "names": names}}


def check(obj: Object) -> None:
    """Raises StatusError 422 for a CRD that can't be served, 501 for one that a real server could serve."""
    name, spec = obj["metadata"]["name"], obj["spec"]
    causes: list[Cause] = []
    names, group = spec.get("names") or {}, spec.get("group", "")
    if name != f"{names.get('plural')}.{group}":
        causes.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(status.unsupported("spec.scope", spec.get("scope", ""), ["Cluster", "Namespaced"]))
    if spec["conversion"]["strategy"] != "None":
        raise status.not_implemented("conversion webhooks of CRDs (spec.conversion.strategy)")
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(
            invalid_value("spec.versions", len(versions), "must have exactly one version marked as storage version")
        )
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            causes.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
            continue
        causes += _whole_schema(custom(schema), f"{path}.schema.openAPIV3Schema")
        for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
            try:
                jsonpath.check(column["jsonPath"])
            except ValueError as error:
                at = f"{path}.additionalPrinterColumns[{number}].jsonPath"
                causes.append(invalid_value(at, column["jsonPath"], str(error)))
    if causes:
        raise status.invalid("apiextensions.k8s.io", "CustomResourceDefinition", name, causes)


@functools.lru_cache(maxsize=64)
def _whole_schema(schema: Schema, path: str) -> list[Cause]:
    return _schema_causes(schema, path)


def _schema_causes(schema: Schema, path: str) -> list[Cause]:
    found = []
    if not schema.type and not schema.preserves and not schema.int_or_string:
        found.append(required(f"{path}.type", "must not be empty for specified object fields"))
    for index, rule in enumerate(schema.rules):
        for field, text in (("rule", rule.rule), ("messageExpression", rule.expression)):
            try:
                if text:
                    cel.compiled(text)
            except Unsupported as error:
                raise status.not_implemented(f"{error}, in {path}.x-kubernetes-validations[{index}].{field}") from error
            except CelError as error:
                at = f"{path}.x-kubernetes-validations[{index}].{field}"
                found.append(invalid_value(at, text, f"compilation failed: {error}"))
    for name, child in schema.properties.items():
        if not (schema.root and name == "metadata"):
            found += _schema_causes(child, f"{path}.properties[{name}]")
    if schema.items is not None:
        found += _schema_causes(schema.items, f"{path}.items")
    if schema.additional is not None:
        found += _schema_causes(schema.additional, f"{path}.additionalProperties")
    return found


def established(obj: Object, now: str) -> Object:
    """The CRD with the status that says it is served."""
    names = obj["spec"]["names"]
    conditions = [
        {"type": type_, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}
        for type_, reason, message in ESTABLISHED
    ]
    stored = [version["name"] for version in obj["spec"]["versions"] if version["storage"]]
    found = {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}
    return {**obj, "status": {**(obj.get("status") or {}), **found}}


def held(obj: Object) -> Object:
    """A new CRD with the finalizer that keeps it until its objects are gone."""
    meta = obj["metadata"]
    finalizers = [*(meta.get("finalizers") or ()), CLEANUP]
    return {**obj, "metadata": {**meta, "finalizers": finalizers}}


def resource(obj: Object, name: str) -> Resource:
    """What is served because of a CRD. `name` is the store's name for it."""
    spec = obj["spec"]
    names = spec["names"]
    storage = next(version for version in spec["versions"] if version["storage"])
    subresources = storage.get("subresources") or {}
    scale = subresources.get("scale")
    return Resource(
        names["kind"],
        spec["group"],
        storage["name"],
        names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        short=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        singular=names["singular"],
        name=name,
        status="status" in subresources,
        generation=True,
        scale=None if scale is None else _scale(scale),
        versions=tuple(version["name"] for version in spec["versions"] if version["served"]),
        custom=True,
        selectable=tuple(field["jsonPath"].lstrip(".") for field in storage.get("selectableFields") or ()),
    )


def _scale(raw: Object) -> Scale:
    selector = raw.get("labelSelectorPath", "").lstrip(".")
    return Scale(raw["specReplicasPath"].lstrip("."), raw["statusReplicasPath"].lstrip("."), selector)


def raw_schemas(obj: Object) -> dict[str, Object]:
    """The schema of each version, by its name."""
    return {version["name"]: version["schema"]["openAPIV3Schema"] for version in obj["spec"]["versions"]}


def columns(obj: Object) -> list[Object]:
    storage = next(version for version in obj["spec"]["versions"] if version["storage"])
    return list(storage.get("additionalPrinterColumns") or ())

"""The scale subresource: how many replicas an object has, whatever its kind (autoscaling/v1, Scale)."""

from __future__ import annotations

from typing import Any

from davylamp.embedded import patches, status
from davylamp.embedded.resources import Resource, Scale
from davylamp.embedded.texts import NONE, selector_text

Object = dict[str, Any]


def shown(resource: Resource, obj: Object) -> Object:
    """The Scale of an object."""
    at = resource.scale
    if at is None:
        raise status.no_such_path()
    meta = obj["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    found: Object = {"replicas": _at(obj, at.status) or 0}
    if text := _selector(obj, at):
        found["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in names if key in meta},
        "spec": {"replicas": replicas} if (replicas := _at(obj, at.replicas)) else {},
        "status": found,
    }


def change(resource: Resource, replicas: Any, meta: Object) -> Object:
    """The merge patch of the object that sets `replicas`, with the resourceVersion of `meta` if it has one."""
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        cause = status.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise status.invalid("autoscaling", "Scale", meta.get("name", ""), [cause])
    path = (resource.scale or Scale()).replicas.split(".")
    body: Any = replicas
    for part in reversed(path):
        body = {part: body}
    version = meta.get("resourceVersion")
    return {**body, "metadata": {"resourceVersion": version}} if version else body


def patched(resource: Resource, scale: Object, body: Any, type_: str) -> Object:
    """The merge patch of the object that a patch of its Scale means."""
    if type_ == "json":
        new = patches.json_patch(scale, body)
    elif type_ in ("merge", "strategic"):
        new = patches.merge(scale, body)
    else:
        raise status.not_implemented("server-side apply of a scale")
    given = (body.get("metadata") or {}) if isinstance(body, dict) else {}
    return change(resource, (new.get("spec") or {}).get("replicas", 0), {"name": scale["metadata"]["name"], **given})


def _at(obj: Any, path: str) -> Any:
    for part in path.strip(".").split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _selector(obj: Object, at: Scale) -> str:
    if at.selector:
        return str(_at(obj, at.selector) or "")
    text = selector_text(_at(obj, "spec.selector"))
    return "" if text == NONE else text

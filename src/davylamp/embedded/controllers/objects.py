"""Reading JSON objects as the controllers need them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from davylamp.api.objects import HASH_LABEL
from davylamp.embedded.resources import BUILT_IN

Object = dict[str, Any]
"""A JSON object of the API server. It is never changed in place: listeners and readers share it."""

_BUILT_IN = {(row.api_version, row.kind) for row in BUILT_IN}
_ALPHANUMS = "bcdfghjklmnpqrstvwxz2456789"


def kind_of(obj: Object) -> str:
    """The kind of an object or of an owner reference: `Service` is Kubernetes' own, `Service in GROUP/VERSION` is
    somebody else's."""
    api_version, kind = obj.get("apiVersion", ""), str(obj["kind"])
    return kind if (api_version, kind) in _BUILT_IN else f"{kind} in {api_version}"


def labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def owners(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def controller(obj: Object) -> Object | None:
    """The owner reference of the one that manages this object."""
    return next((owner for owner in owners(obj) if owner.get("controller")), None)


def finalizers(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def uid(obj: Object) -> str:
    return str(obj["metadata"]["uid"])


def deleted(obj: Object) -> bool:
    """Is it on its way out?"""
    return obj["metadata"].get("deletionTimestamp") is not None


def with_meta(obj: Object, **fields: Any) -> Object:
    """A copy with other metadata; a field of None goes."""
    meta = {key: value for key, value in (obj["metadata"] | fields).items() if value is not None}
    return {**obj, "metadata": meta}


def age_key(obj: Object) -> tuple[str, str]:
    """Sorts from old to new; the name decides within a second, as in controller_utils.go."""
    meta = obj["metadata"]
    return (meta.get("creationTimestamp") or "", meta["name"])


def controller_reference(owner: Object) -> Object:
    """metav1.NewControllerRef."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selects(selector: Object | None, given: dict[str, str]) -> bool:
    """Does a label selector match? An empty one matches nothing here, as the controllers have it."""
    if not selector:
        return False
    wanted = selector.get("matchLabels") or {}
    rules = selector.get("matchExpressions") or ()
    if not wanted and not rules:
        return False
    return all(given.get(key) == value for key, value in wanted.items()) and all(_holds(rule, given) for rule in rules)


def _holds(rule: Object, given: dict[str, str]) -> bool:
    key, values = rule["key"], rule.get("values") or ()
    match rule["operator"]:
        case "In":
            return key in given and given[key] in values
        case "NotIn":
            return given.get(key) not in values
        case "Exists":
            return key in given
        case "DoesNotExist":
            return key not in given
    return False


def condition(obj: Object, type_: str) -> Object | None:
    return next((c for c in (obj.get("status") or {}).get("conditions") or () if c["type"] == type_), None)


def is_ready(pod: Object) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def is_over(pod: Object) -> bool:
    """Succeeded or failed: none of its containers runs again."""
    return phase(pod) in ("Succeeded", "Failed")


def available_at(pod: Object, min_ready_seconds: int) -> datetime | None:
    """When a pod counts, or began to count, as available; None while it isn't ready (podutil.IsPodAvailable)."""
    found = condition(pod, "Ready")
    if found is None or found["status"] != "True":
        return None
    since = parse_time(found.get("lastTransitionTime"))
    if since is None:
        return datetime.min.replace(tzinfo=UTC) if not min_ready_seconds else None
    return datetime.fromtimestamp(since.timestamp() + min_ready_seconds, UTC)


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def scaled(value: int | str | None, total: int, *, up: bool) -> int:
    """A number or a percentage of `total`, rounded up or down (intstr.GetScaledValueFromIntOrPercent)."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * total / 100
    return math.ceil(exact) if up else math.floor(exact)


def without_hash(template: Object) -> Object:
    given = (template.get("metadata") or {}).get("labels") or {}
    if HASH_LABEL not in given:
        return template
    kept = {key: value for key, value in given.items() if key != HASH_LABEL}
    return {**template, "metadata": {**template["metadata"], "labels": kept}}


def same_template(one: Object, other: Object) -> bool:
    """EqualIgnoreHash: equal but for `pod-template-hash`, and a field left out is the same as an empty one."""
    a, b = without_hash(one), without_hash(other)
    return a == b or _dense(a) == _dense(b)


_EMPTY_IS_NONE = ("metadata", "labels", "annotations", "resources", "nodeSelector", "limits", "requests")
"""Maps and structs of a pod template that are the same empty as left out; others (`emptyDir`) mean something empty."""


def _dense(value: Any) -> Any:
    if isinstance(value, list):
        return [_dense(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _dense(item) for key, item in value.items() if item is not None and item != []}
    return {key: item for key, item in kept.items() if item != {} or key not in _EMPTY_IS_NONE}


def template_name(template: Object, collisions: int | None) -> str:
    """The value of `pod-template-hash`: FNV-1a of the template and the collision count in Kubernetes' safe alphabet.

    It looks like Kubernetes' own and is made like it (controller.ComputeHash), but of JSON, where Kubernetes hashes
    a dump of Go structs: the same template has another hash on a real cluster.
    """
    value = _fnv(msgspec.json.encode(_dense(without_hash(template)), order="deterministic"))
    if collisions is not None:
        value = _fnv(collisions.to_bytes(8, "little"), value)
    return "".join(_ALPHANUMS[ord(digit) % len(_ALPHANUMS)] for digit in str(value))


def _fnv(content: bytes, value: int = 0x811C9DC5) -> int:
    for byte in content:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def total(objects: Iterable[Object], field: str) -> int:
    """Sum of a number in `status`."""
    return sum((obj.get("status") or {}).get(field) or 0 for obj in objects)

"""The rules of a write that are the same for all kinds: metadata, identity, generations, grace periods."""

from __future__ import annotations

import functools
import random
import re
import uuid
from datetime import datetime, timedelta
from typing import Any

import msgspec

from davylamp.embedded import status
from davylamp.embedded.resources import Resource

Object = dict[str, Any]

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names (k8s.io/apimachinery/pkg/util/rand)."""
LONGEST_BASE = 58
SERVER_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
"""Metadata that only the server sets."""


class Request(msgspec.Struct, frozen=True):
    """Who writes what how. `operation` is CREATE, UPDATE or DELETE."""

    operation: str
    user: str
    dry_run: bool
    field_manager: str
    subresource: str = ""
    strict: bool = False
    """Refuse unknown fields instead of dropping them."""
    apply: bool = False
    """Server-side apply: ownership of fields is as the applier says."""


@functools.lru_cache(maxsize=64)
def stamp(now: datetime, plus: float = 0) -> str:
    """A time as metadata has it: UTC, whole seconds. Much is written at the same moment of virtual time."""
    return (now + timedelta(seconds=plus)).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_meta(obj: Object, meta: Object) -> Object:
    return {**obj, "metadata": meta}


def new_meta(resource: Resource, obj: Object, now: datetime, chance: random.Random) -> Object:
    """The metadata of an object that is created. Raises StatusError for a missing or impossible name."""
    given = obj.get("metadata") or {}
    meta = {key: value for key, value in given.items() if key not in SERVER_FIELDS and key != "resourceVersion"}
    if given.get("resourceVersion"):
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"][:LONGEST_BASE] + "".join(chance.choices(SUFFIX, k=5))
    if not resource.namespaced and meta.pop("namespace", ""):
        raise status.bad_request("namespace is not allowed on this type")
    meta |= {"uid": str(uuid.UUID(int=chance.getrandbits(128), version=4)), "creationTimestamp": stamp(now)}
    if resource.generation:
        meta["generation"] = 1
    _check_name(resource, meta)
    return meta


DNS1123 = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
DNS1123_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_NAMED = ("Namespace", "Service")
PATH_NAMED = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
"""Kinds whose names need only be path segments."""


def _check_name(resource: Resource, meta: Object) -> None:
    name = meta.get("name")
    if not isinstance(name, str) or not name:
        cause = status.required("metadata.name", "name or generateName is required")
        raise status.invalid(resource.group, resource.kind, "", [cause])
    if why := _name_problem(resource, name):
        cause = status.invalid_value("metadata.name", name, why)
        raise status.invalid(resource.group, resource.kind, name, [cause])


def _name_problem(resource: Resource, name: str) -> str:
    if resource.name in PATH_NAMED:
        return "may not contain '/'" if "/" in name or "%" in name else ""
    if resource.name in LABEL_NAMED:
        if "." in name:
            return "must not contain dots"
        return "" if LABEL.fullmatch(name) and len(name) < 64 else DNS1123_LABEL
    if len(name) > 253:
        return "must be no more than 253 bytes"
    return "" if SUBDOMAIN.fullmatch(name) else DNS1123


def check_identity(resource: Resource, old: Object, new: Object) -> None:
    """Is `new` a version of `old`, made from it as it is now? Raises StatusError 400 or 409."""
    before, after = old["metadata"], new.get("metadata") or {}
    name = before["name"]
    if after.get("name") != name:
        message = f"the name of the object ({after.get('name')}) does not match the name on the URL ({name})"
        raise status.bad_request(message)
    if after.get("namespace", before.get("namespace")) != before.get("namespace"):
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if after.get("resourceVersion") not in (None, "", before["resourceVersion"]):
        raise status.conflict(resource.group, resource.plural, name)
    if after.get("uid") not in (None, "", before["uid"]):
        why = f"Precondition failed: UID in precondition: {after['uid']}, UID in object meta: {before['uid']}"
        raise status.conflict(resource.group, resource.plural, name, why)


def kept_meta(old: Object, new: Object) -> Object:
    """The metadata of a write, with what only the server sets as it was."""
    before: Object = old["metadata"]
    after: Object = new["metadata"]
    if after is before:
        return after
    meta = {key: value for key, value in after.items() if key not in SERVER_FIELDS}
    meta |= {key: before[key] for key in SERVER_FIELDS if key in before}
    meta["resourceVersion"] = before["resourceVersion"]
    if "namespace" in before:
        meta["namespace"] = before["namespace"]
    return meta


def changed(old: Object, new: Object) -> bool:
    """Whether a write changes anything: a new time in managedFields alone does not count."""
    if old is new:
        return False
    if any(old.get(key) != new.get(key) for key in old.keys() | new.keys() if key != "metadata"):
        return True
    before, after = old["metadata"], new["metadata"]
    if before is after:
        return False
    if any(before.get(key) != after.get(key) for key in before.keys() | after.keys() if key != "managedFields"):
        return True
    return _timeless(before) != _timeless(after)


def _timeless(meta: Object) -> list[Object]:
    return [{k: v for k, v in entry.items() if k != "time"} for entry in meta.get("managedFields") or ()]


NOT_COUNTED = ("metadata", "status", "apiVersion", "kind")


def bump(resource: Resource, old: Object, new: Object) -> Object:
    """Count the generation on where anything but metadata and status differs."""
    if not resource.generation or all(
        old.get(key) == new.get(key) for key in old.keys() | new.keys() if key not in NOT_COUNTED
    ):
        return new
    meta = new["metadata"]
    return with_meta(new, {**meta, "generation": old["metadata"].get("generation", 0) + 1})


def grace_of(resource: Resource, obj: Object, wanted: int | None) -> int:
    """Seconds that a deletion takes. Only Pods that run have any (registry/core/pod, CheckGracefulDelete)."""
    if resource.name != "Pod":
        return 0
    spec, phase = obj["spec"], obj.get("status", {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    grace = spec.get("terminationGracePeriodSeconds", 30) if wanted is None else wanted
    remaining = obj["metadata"].get("deletionGracePeriodSeconds")
    return grace if remaining is None else min(grace, remaining)


def held(resource: Resource, obj: Object) -> bool:
    """A Namespace stays until its controller has emptied it and taken `kubernetes` out of spec.finalizers."""
    return resource.name == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))

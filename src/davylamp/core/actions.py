"""What a plan wants done, as data. `davylamp.kube.apply` carries it out, in order, and stops at the first failure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Ref(msgspec.Struct, frozen=True, order=True):
    """One object in the API server."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Create(msgspec.Struct, frozen=True):
    """Create `manifest`. That it exists already is no failure: names are deterministic, so it is the same one."""

    manifest: dict[str, Any]

    @property
    def ref(self) -> Ref:
        meta = self.manifest["metadata"]
        return Ref(self.manifest["kind"], meta.get("namespace", ""), meta["name"])


class Patch(msgspec.Struct, frozen=True):
    """Patch an object: `merge` with a mapping (RFC 7386), `json` with a list of operations (RFC 6902).

    A patch of something that others write too carries `metadata.resourceVersion` (merge) or a test (json), so
    that a stale view of it is refused by the API server (409) instead of acted upon.
    """

    ref: Ref
    patch: dict[str, Any] | list[dict[str, Any]]
    type: Literal["merge", "json"] = "merge"
    subresource: Literal["", "status"] = ""


class Delete(msgspec.Struct, frozen=True):
    """Delete the object with this uid. That it is gone already is no failure. `foreground`: it stays until the garbage
    collector has taken what it owns."""

    ref: Ref
    uid: str
    foreground: bool = False


class Announce(msgspec.Struct, frozen=True):
    """A Kubernetes Event about `about` (usually the Deployment). `name` is deterministic: told once, not twice."""

    name: str
    about: Ref
    about_uid: str
    reason: str
    message: str
    warning: bool = False
    related: Ref | None = None
    detail: bool = False
    """Nothing that a person must act on or is the end of: only for controllers that tell every step."""


Action = Create | Patch | Delete | Announce

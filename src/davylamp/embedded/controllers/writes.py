"""What a controller wants written, and the carrying out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from davylamp.embedded.controllers.objects import Object

Propagation = Literal["Background", "Foreground", "Orphan"]


class Create(msgspec.Struct, frozen=True):
    object: Object


class Update(msgspec.Struct, frozen=True):
    """The whole object anew, made from the version that its resourceVersion says."""

    object: Object
    subresource: str = ""


class Remove(msgspec.Struct, frozen=True):
    """Delete this very object (by uid)."""

    object: Object
    propagation: Propagation = "Background"
    grace_seconds: int | None = None


class Tell(msgspec.Struct, frozen=True):
    """An Event about an object."""

    about: Object
    reason: str
    message: str
    component: str
    type: Literal["Normal", "Warning"] = "Normal"


Write = Create | Update | Remove | Tell


class Plan(msgspec.Struct, frozen=True):
    """Writes in their order, and in how many seconds to look again though nothing changes (None: not)."""

    writes: Sequence[Write] = ()
    again: float | None = None


NOTHING = Plan()


def event(tell: Tell, *, name: str, now: str) -> Object:
    """The Event as Kubernetes' controllers record it."""
    about: dict[str, Any] = tell.about["metadata"]
    involved = {
        "apiVersion": tell.about["apiVersion"],
        "kind": tell.about["kind"],
        "name": about["name"],
        "uid": about.get("uid", ""),
        "resourceVersion": about.get("resourceVersion", ""),
    }
    if about.get("namespace"):
        involved["namespace"] = about["namespace"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about.get("namespace") or "default"},
        "involvedObject": involved,
        "reason": tell.reason,
        "message": tell.message,
        "type": tell.type,
        "source": {"component": tell.component},
        "reportingComponent": tell.component,
        "reportingInstance": "",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": None,
        "count": 1,
    }

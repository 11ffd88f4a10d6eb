"""Events are stored as core/v1 has them; events.k8s.io/v1 shows the same objects under other names
(pkg/apis/events/v1/conversion.go)."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NEW_TO_CORE = {
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
CORE_TO_NEW = {core: new for new, core in NEW_TO_CORE.items()}
GROUP = "events.k8s.io/v1"


def inward(obj: Object) -> Object:
    """An events.k8s.io/v1 Event as it is stored; one of core/v1 as it is."""
    if obj.get("apiVersion") != GROUP:
        return obj
    renamed = {NEW_TO_CORE.get(key, key): value for key, value in obj.items()}
    return {"source": {}, **renamed, "apiVersion": "v1"}


def outward(obj: Object) -> Object:
    """A stored Event as events.k8s.io/v1 shows it."""
    renamed = {CORE_TO_NEW.get(key, key): value for key, value in obj.items()}
    return {**renamed, "apiVersion": GROUP}

"""Since when this process has seen what decides on traffic unchanged.

Nothing in Kubernetes tells when a field was last changed. A release waits a settling time after a change of its
routes; after a restart the waiting starts again, which is the safe side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from davylamp.api.objects import DestinationRule, GRPCRoute, HTTPRoute, Ingress, Service, VirtualService
from davylamp.core.actions import Ref
from davylamp.kube.clock import Clock
from davylamp.routers.gateway_status import taken

ROUTING = ("nginx.ingress.kubernetes.io/", "higress.ingress.kubernetes.io/", "kubernetes.io/ingress.class")
"""Annotations of an Ingress that can change where requests go begin with one of these."""


class Since:
    """Follows the objects that releases ask for, until they say that they no longer need to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Ref, tuple[object, datetime]] = {}
        self._wanted: dict[Ref, frozenset[Ref]] = {}

    def of(self, asker: Ref, refs: Iterable[Ref], find: Callable[[Ref], Any | None]) -> dict[Ref, datetime]:
        """Since when each of `refs` is as it is (or absent). They are followed until `forget(asker)`."""
        wanted = frozenset(refs)
        for ref in wanted - self._seen.keys():
            self._seen[ref] = (_content(find(ref)), self._clock.now())
        self._wanted[asker] = self._wanted.get(asker, frozenset()) | wanted
        return {ref: self._seen[ref][1] for ref in wanted}

    def changed(self, kind: str, old: Any, new: Any) -> None:
        """A listener for stores."""
        meta = (new if new is not None else old).metadata
        ref = Ref(kind, meta.namespace, meta.name)
        seen = self._seen.get(ref)
        if seen is not None and seen[0] != (content := _content(new)):
            self._seen[ref] = (content, self._clock.now())

    def forget(self, asker: Ref) -> None:
        """The release is over."""
        mine = self._wanted.pop(asker, frozenset())
        for ref in mine.difference(*self._wanted.values()) if mine else ():
            self._seen.pop(ref, None)


def _content(obj: Any | None) -> object:
    """What of an object decides where requests go; None where there is no object."""
    match obj:
        case Ingress():
            ruling = {key: value for key, value in obj.metadata.annotations.items() if key.startswith(ROUTING)}
            return (ruling, obj.spec)
        case Service():
            return obj.spec.selector
        case HTTPRoute() | GRPCRoute():
            return (obj.spec, taken(obj))
        case VirtualService() | DestinationRule():
            return obj.spec
    return obj

"""What a router offers besides the routes themselves (`core.world.Route`): how it is found, checked and bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from davylamp.api.types import Route as RouteRef
from davylamp.core.world import Route
from davylamp.routers.features import Features
from davylamp.routers.namespace import NamespaceObjects


class Findings:
    """What there is to say about one route: errors and warnings, each of which begins with the object's kind and
    name."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []


class Router(msgspec.Struct, frozen=True):
    """One way to split traffic. Adding a router is one module with one of these, and one line in `registry`."""

    field: str
    """In `spec.traffic.routes[]`, as people write it: `ingress`, `httpRoute`."""
    attribute: str
    """The same in `api.types.Route`: `http_route`."""
    kind: str
    """Of the object that is named there."""
    kinds: tuple[str, ...]
    """What has to be known to bind a route: its own kind first."""
    features: Features
    ref: Callable[[str], RouteRef]
    """The route as a policy would write it, by the object's name."""
    exists: Callable[[str, NamespaceObjects], bool]
    sends: Callable[[str, str, NamespaceObjects], bool]
    """(name, Service, objects): whether this object sends to the Service, or has something of ours for it."""
    missing: Callable[[str, str, NamespaceObjects], str]
    """(name, Service, objects): what to say of an object that isn't there, with those that could have been meant."""
    problems: Callable[[RouteRef, str, NamespaceObjects], Findings]
    """Why requests to a Service can't be split at this object, and what to know where they can."""
    detect: Callable[[str, NamespaceObjects], tuple[list[str], list[str]]]
    """(Service, objects): names of objects that send to it and could be split, and why others are not (warnings)."""
    unsplit: Callable[[Iterable[str], str, NamespaceObjects], list[str]]
    """(names that are split, Service, objects): names of other objects of this kind whose requests for the Service
    stay on the stable pods."""
    bind: Callable[[RouteRef, str, str, NamespaceObjects], Route]
    """(route, Service, the canary's Service, objects): the route with the objects as they are now: also where they are
    gone meanwhile."""

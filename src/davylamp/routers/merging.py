"""Which canary Ingress is attached to which Ingress: ingress-nginx's merging, for the Ingresses of one namespace.

Read from ingress-nginx v1.15.1, `internal/ingress/controller/controller.go` (`createUpstreams`, `getBackendServers`,
`mergeAlternativeBackends`). An upstream is a Service's port; canaries are attached to upstreams, not to paths, so
one reaches every host and path that shares the main Service. Only the first canary of an upstream counts.
Left out: aliases, default backends of ordinary Ingresses, Ingresses of other namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from davylamp.api.objects import Backend, Ingress
from davylamp.routers.decision import CanaryConfig, parse


class Location(msgspec.Struct, frozen=True, order=True):
    """A place in the routing: all three must be equal for a canary to be attached. `host` is "" for any host."""

    host: str
    path: str
    path_type: str

    def __str__(self) -> str:
        return f"{self.host or '*'}{self.path or '/'}"


class Upstream(msgspec.Struct, frozen=True, order=True):
    """A Service and its port (a number or a name, as the Ingress has it)."""

    service: str
    port: str


class Attached(msgspec.Struct, frozen=True):
    """A canary upstream with the rules that count for it, and the Ingress that they come from."""

    upstream: Upstream
    ingress: str
    config: CanaryConfig


class Merged(msgspec.Struct, frozen=True):
    """What a set of Ingresses means together."""

    main: dict[Location, Upstream]
    """Who answers a location by itself."""
    canaries: dict[Upstream, Attached]
    """The canary that shares a main upstream's requests."""

    def at(self, location: Location) -> tuple[Upstream, Attached | None] | None:
        """Main and canary of a location; None where nobody answers (404)."""
        main = self.main.get(location)
        return None if main is None else (main, self.canaries.get(main))


def backends(ingress: Ingress) -> Iterator[tuple[Location, Upstream]]:
    """Every place in an Ingress's rules that sends to a Service."""
    for rule in ingress.spec.rules:
        for path in rule.http.paths if rule.http else ():
            upstream = upstream_of(path.backend)
            if upstream is not None:
                yield Location(rule.host, path.path, path.path_type), upstream


def upstream_of(backend: Backend | None) -> Upstream | None:
    if backend is None or backend.service is None:
        return None
    port = backend.service.port
    return Upstream(backend.service.name, str(port.number) if port.number else port.name)


def together(one: Ingress, other: Ingress) -> bool:
    """True unless their classes say that different controllers serve them. (Without a class it may be either.)"""
    return not one.class_name or not other.class_name or one.class_name == other.class_name


def merge(ingresses: Iterable[Ingress]) -> Merged:
    """What `ingresses` (of one namespace and one controller) mean together; the order they come in is of no matter."""
    known = [(ingress, parse(ingress.metadata.annotations)) for ingress in by_age(ingresses)]
    state = _State(_upstreams(known))
    state.hosts = {rule.host for ingress, config in known if not config.enabled for rule in ingress.spec.rules}
    _locate(known, state)
    if any(not config.enabled for _, config in known):
        for ingress, config in known:
            if config.enabled:
                _attach(ingress, state)
    first = {primary: found[0] for primary, found in state.attached.items()}
    canaries = {primary: state.upstreams[found] for primary, found in first.items() if found in state.upstreams}
    return Merged(state.main, canaries)


def by_age(ingresses: Iterable[Ingress]) -> list[Ingress]:
    """Oldest first; of equally old ones the name that is last in the alphabet, as ingress-nginx and Traefik sort."""
    named = sorted(ingresses, key=lambda ingress: ingress.metadata.name, reverse=True)
    return sorted(named, key=lambda ingress: ingress.metadata.creation_timestamp or _NOT_YET)


_NOT_YET = datetime.max.replace(tzinfo=UTC)


class _State(msgspec.Struct):
    """What merging builds up."""

    upstreams: dict[Upstream, Attached]
    """Every upstream with the rules of the oldest Ingress that names it; an ordinary one has none."""
    hosts: set[str] = set()
    main: dict[Location, Upstream] = {}
    attached: dict[Upstream, list[Upstream]] = {}
    """Canaries of a main upstream, first come first."""


def _upstreams(known: list[tuple[Ingress, CanaryConfig]]) -> dict[Upstream, Attached]:
    found: dict[Upstream, Attached] = {}
    for ingress, config in known:
        rules = config if config.enabled else CanaryConfig()
        default = upstream_of(ingress.spec.default_backend)
        for upstream in (*([default] if default else ()), *(upstream for _, upstream in backends(ingress))):
            found.setdefault(upstream, Attached(upstream, ingress.metadata.name, rules))
    return found


def _locate(known: list[tuple[Ingress, CanaryConfig]], state: _State) -> None:
    """The oldest Ingress that has a location answers it. A canary's upstream gets none.

    An empty path is the root for an ordinary Ingress, though not in a canary, which then matches nothing.
    """
    for ingress, _ in known:
        for location, upstream in backends(ingress):
            if location.host in state.hosts and not state.upstreams[upstream].config.enabled:
                place = location if location.path else msgspec.structs.replace(location, path="/")
                state.main.setdefault(place, upstream)


def _attach(canary: Ingress, state: _State) -> None:
    """Attach one canary Ingress. A path that matches nothing on a known host removes its upstream altogether, also
    from where it was attached before."""
    default = upstream_of(canary.spec.default_backend)
    if default in state.upstreams:
        around = [primary for place, primary in state.main.items() if not place.host]
        _attach_upstream(default, around, around, state)
    for location, upstream in backends(canary):
        if upstream in state.upstreams and location.host in state.hosts:
            around = [primary for place, primary in state.main.items() if place.host == location.host]
            same = [state.main[location]] if location in state.main else []
            _attach_upstream(upstream, around, same, state)


def _attach_upstream(upstream: Upstream, around: list[Upstream], same: list[Upstream], state: _State) -> None:
    """`around` are the main upstreams of the host, `same` those of the very location."""
    if upstream in around:
        return  # a main upstream of that host itself, which it stays
    mergeable = [one for one in same if one in state.upstreams and not state.upstreams[one].config.enabled]
    for primary in mergeable:
        found = state.attached.setdefault(primary, [])
        if upstream not in found:
            found.append(upstream)
    if not mergeable:
        del state.upstreams[upstream]

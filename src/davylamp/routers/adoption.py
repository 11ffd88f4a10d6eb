"""Canaries made by hand, the way that guides tell it: a main Ingress, a canary Ingress beside it, two Services, two
Deployments. What there is, and the ReleasePolicy that goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from davylamp.api import API_VERSION
from davylamp.api.objects import Deployment, Ingress, without_hash
from davylamp.api.types import Match, TextMatch
from davylamp.routers import nginx_rules
from davylamp.routers.decision import HEADER_PATTERN, WEIGHT, CanaryConfig, parse
from davylamp.routers.merging import Location, backends
from davylamp.routers.namespace import NamespaceObjects, is_canary, ours
from davylamp.routers.wording import some

USUAL = (10, 50, 100)
"""Weights of the steps that follow the present one."""
HOLD = "10m"


class Side(msgspec.Struct, frozen=True):
    """An Ingress, and what is behind it."""

    ingress: str
    service: str
    deployment: Deployment


class ByHand(msgspec.Struct, frozen=True):
    """A canary made by hand, with everything that it consists of."""

    places: tuple[Location, ...]
    main: Side
    canary: Side
    weight: int
    match: tuple[Match, ...]

    @property
    def names(self) -> frozenset[str]:
        """Every name by which somebody may mean it."""
        sides = (self.main, self.canary)
        return frozenset(n for side in sides for n in (side.ingress, side.service, side.deployment.metadata.name))

    def policy(self, namespace: str) -> dict[str, Any]:
        """The ReleasePolicy that goes on from the present weight: nothing more happens until somebody approves."""
        traffic: dict[str, Any] = {
            "service": self.main.service,
            "canaryService": self.canary.service,
            "routes": [{"ingress": {"name": self.main.ingress, "canary": self.canary.ingress}}],
        }
        if self.match:
            traffic["match"] = [msgspec.to_builtins(match) for match in self.match]
        now = [{"weight": self.weight, "approve": True}] if self.weight or self.match else []
        then = [{"weight": weight, "hold": HOLD} for weight in USUAL if weight > self.weight]
        if self.weight:
            then = [step for step in then if step["weight"] != USUAL[0]]
        pair = {"stable": self.main.deployment.metadata.name, "canary": self.canary.deployment.metadata.name}
        return {
            "apiVersion": API_VERSION,
            "kind": "ReleasePolicy",
            "metadata": {"name": self.main.service, "namespace": namespace},
            "spec": {"target": {"pair": pair}, "traffic": traffic, "steps": now + then},
        }


class Unfit(Exception):
    """Why a canary Ingress can't be taken over; a sentence that begins with it."""


def canaries(objects: NamespaceObjects) -> list[Ingress]:
    """The canary Ingresses that somebody made, by name."""
    found = (ingress for _, ingress in sorted(objects.ingresses.items()))
    return [ingress for ingress in found if is_canary(ingress) and not ours(ingress)]


def found(canary: Ingress, objects: NamespaceObjects) -> ByHand:
    """What belongs to a canary Ingress. Raises Unfit."""
    name = f"Ingress {canary.metadata.name}"
    places = tuple(place for place, _ in backends(canary))
    service = _only({upstream.service for _, upstream in backends(canary)}, f"{name} sends to", "Service")
    mains = {
        (other.metadata.name, upstream.service)
        for place in places
        for other in objects.ingresses_at(place)
        if not is_canary(other)
        for at, upstream in backends(other)
        if at == place
    }
    if not mains:
        where = some(map(str, places)) or "no place"
        raise Unfit(f"{name} has {where}, and no main Ingress has the same host, path and pathType")
    main = _only({ingress for ingress, _ in mains}, f"{name} stands beside", "Ingress")
    stable = _only({to for _, to in mains}, f"Ingress {main} sends these places to", "Service")
    config = parse(canary.metadata.annotations)
    return ByHand(
        places,
        Side(main, stable, _behind(stable, objects)),
        Side(canary.metadata.name, service, _behind(service, objects)),
        _weight(name, config),
        tuple(_matches(name, config)),
    )


def _only(names: set[str], what: str, kind: str) -> str:
    if len(names) != 1:
        raise Unfit(f"{what} {f'several {kind}s, {some(names)}' if names else f'no {kind}'}; it has to be one")
    return next(iter(names))


def _behind(service: str, objects: NamespaceObjects) -> Deployment:
    known = objects.services.get(service)
    if known is None:
        raise Unfit(f"Service {service} doesn't exist")
    names = set(objects.deployments_behind(without_hash(known.spec.selector)))
    return objects.deployments[_only(names, f"Service {service} selects the pods of", "Deployment")]


def _weight(name: str, config: CanaryConfig) -> int:
    if config.share != round(config.share):
        text = (
            f"{name} sends {config.share:g} % ({config.weight} of {config.total}), and a step's weight is a whole one"
        )
        raise Unfit(f"{text}: set {WEIGHT} to a whole percent first")
    return round(config.share)


_COOKIE = re.compile(r"\(.*?\)([-._~\w]+)=([-._~/:\w]+)(\(.*\)|\\s\*\(.*\)\)?)")
"""A cookie's value by a pattern on the Cookie header, as this project and guides write it."""


def _matches(name: str, config: CanaryConfig) -> Iterator[Match]:
    cookie = _COOKIE.fullmatch(config.header_pattern) if config.header.lower() == "cookie" else None
    if cookie is not None and not config.header_value:
        yield Match(cookie=TextMatch(cookie[1], exact=cookie[2]))
        config = msgspec.structs.replace(config, header="", header_pattern="")
    elif config.header and config.header_pattern and not config.header_value:
        raise Unfit(
            f"{name} has {HEADER_PATTERN}: {config.header_pattern}, which can't be turned into a match without doubt: "
            "write the policy by hand, with traffic.match"
        )
    yield from nginx_rules.matches_of(config)

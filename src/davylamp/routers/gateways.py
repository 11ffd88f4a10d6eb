"""What is wrong with the HTTPRoutes and GRPCRoutes of a policy, and the routers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from davylamp.api.objects import GRPCRoute, HTTPRoute
from davylamp.api.types import GatewayRoute as GatewayRef
from davylamp.api.types import Route
from davylamp.core import names
from davylamp.routers.features import Features
from davylamp.routers.gateway import GRPC, HTTP, GatewayRoute, is_split
from davylamp.routers.gateway_rules import Place, backends_of, rules_of
from davylamp.routers.gateway_status import Routed, answers_of, unusable
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.precedence import weight_of
from davylamp.routers.router import Findings, Router
from davylamp.routers.senders import is_service, services_of
from davylamp.routers.wording import instead, some


def _routes(kind: type[Routed], objects: NamespaceObjects) -> Mapping[str, Routed]:
    return objects.http_routes if kind is HTTPRoute else objects.grpc_routes


def _missing(kind: type[Routed], name: str, service: str, objects: NamespaceObjects) -> str:
    fitting = objects.splitting(kind, service)
    known = _routes(kind, objects)
    hint = f'those that send to Service "{service}": {some(fitting)}' if fitting else instead(name, known)
    return f'no {kind.__name__} "{name}" in {objects.namespace}; {hint}'


def _sends(kind: type[Routed], name: str, service: str, objects: NamespaceObjects) -> bool:
    """Whether a route sends to this Service, or is split for it."""
    route = _routes(kind, objects).get(name)
    return route is not None and (name in objects.splitting(kind, service) or is_split(route, service))


def _problems(kind: type[Routed], name: str, service: str, objects: NamespaceObjects) -> Findings:
    """Why requests to `service` can't be split at this route, and what to know where they can."""
    found = Findings()
    route = _routes(kind, objects)[name]
    subject = f'{kind.__name__} "{name}"'
    place = Place(objects.namespace, service, names.canary_service(service), kind is GRPCRoute)
    if is_split(route, service):
        return found  # its status is that of a release under way, whose business it is
    rules = rules_of(route.spec)
    if not any(place.sends(rule) for rule in rules):
        found.errors.append(_never_sends(route, subject, service, objects))
        return found
    errors, warnings = unusable(route)
    found.errors += (f"{subject}: {text}" for text in errors)
    found.warnings += (f"{subject}: {text}" for text in warnings)
    for index, rule in enumerate(rules):
        refs = backends_of(rule)
        also = {str(ref.get("name")) for ref in refs if is_service(ref, objects.namespace)} - {service}
        for other in objects.policies_naming(kind.__name__, name) if place.sends(rule) else ():
            split = other.spec.traffic.names if other.spec.traffic is not None else ()
            found.errors += (
                f'{subject}: spec.rules[{index}] sends to Service "{one}" too, which policy '
                f'"{other.metadata.name}" splits: give each a rule of its own, since one can\'t be divided twice'
                for one in split
                if one in also
            )
        if refs and not any(map(weight_of, refs)):
            text = "has only backends with weight 0, which means something else to each implementation"
            found.errors.append(f"{subject}: spec.rules[{index}] {text}: give one of them a weight, or take it out")
        if place.sends(rule) and "sessionPersistence" in rule:
            found.warnings.append(
                f"{subject}: spec.rules[{index}] has sessionPersistence, which pins clients: those that have a session "
                "stay on their version whatever the weight"
            )
    return found


def _never_sends(route: Routed, subject: str, service: str, objects: NamespaceObjects) -> str:
    if service in services_of(route):
        return f'{subject} sends to Service "{service}" only with weight 0: give it a weight'
    to = some(services_of(route)) or "no Service of this namespace"
    fitting = objects.splitting(type(route), service)
    hint = f"; those that do: {some(fitting)}" if fitting else f"; no {type(route).__name__} does"
    return f'{subject} never sends to Service "{service}", only to {to}{hint}'


def _detected(kind: type[Routed], service: str, objects: NamespaceObjects) -> tuple[list[str], list[str]]:
    """The routes that some controller has accepted, and why others are not split."""
    split: list[str] = []
    others: list[str] = []
    for name in objects.splitting(kind, service):
        route = _routes(kind, objects)[name]
        if is_split(route, service) or any(answer.accepted for answer in answers_of(route)):
            split.append(name)
        else:
            others.append(f'{kind.__name__} "{name}" is not split: {"; ".join(unusable(route)[0])}')
    return split, others


def _unsplit(kind: type[Routed], split: Iterable[str], service: str, objects: NamespaceObjects) -> list[str]:
    return [name for name in objects.splitting(kind, service) if name not in set(split)]


def _bind(kind: type[Routed], route: Route, service: str, canary: str, objects: NamespaceObjects) -> GatewayRoute:
    known = _routes(kind, objects).get(route.name)
    return GatewayRoute(objects.namespace, kind.__name__, route.name, service, known, objects.gateway_classes, canary)


def _router(kind: type[Routed], field: str, attribute: str, features: Features, ref: Callable[[str], Route]) -> Router:
    return Router(
        field=field,
        attribute=attribute,
        kind=kind.__name__,
        kinds=(kind.__name__, "GatewayClass"),
        features=features,
        ref=ref,
        exists=lambda name, objects: name in _routes(kind, objects),
        sends=lambda name, service, objects: _sends(kind, name, service, objects),
        missing=lambda name, service, objects: _missing(kind, name, service, objects),
        problems=lambda route, service, objects: _problems(kind, route.name, service, objects),
        detect=lambda service, objects: _detected(kind, service, objects),
        unsplit=lambda split, service, objects: _unsplit(kind, split, service, objects),
        bind=lambda route, service, canary, objects: _bind(kind, route, service, canary, objects),
    )


HTTP_ROUTE = _router(HTTPRoute, "httpRoute", "http_route", HTTP, lambda name: Route(http_route=GatewayRef(name)))
GRPC_ROUTE = _router(GRPCRoute, "grpcRoute", "grpc_route", GRPC, lambda name: Route(grpc_route=GatewayRef(name)))

"""What is wrong with the Ingresses of a policy."""

from __future__ import annotations

from collections.abc import Iterable

from davylamp.api.objects import Ingress
from davylamp.api.types import IngressRoute, Route
from davylamp.routers.classes import class_of
from davylamp.routers.decision import PREFIX
from davylamp.routers.merging import Location, Upstream, backends, together
from davylamp.routers.namespace import NamespaceObjects, is_canary, ours, services_of
from davylamp.routers.nginx import NginxRoute, canary_name
from davylamp.routers.nginx_rules import FEATURES
from davylamp.routers.router import Findings, Router
from davylamp.routers.wording import instead, some

AFFINITY = f"{PREFIX}affinity"
PASSTHROUGH = f"{PREFIX}ssl-passthrough"


def missing_ingress(name: str, service: str, objects: NamespaceObjects) -> str:
    fitting = usable_senders(service, objects)
    if fitting:
        hint = f'those that send to Service "{service}": {some(i.metadata.name for i in fitting)}'
    else:
        hint = instead(name, (other.metadata.name for other in objects.ingresses.values() if not ours(other)))
    return f'no Ingress "{name}" in {objects.namespace}; {hint}'


def usable_senders(service: str, objects: NamespaceObjects) -> list[Ingress]:
    """The Ingresses with a rule that sends to this Service and that are no canaries themselves."""
    return [i for i in objects.senders_to(service) if not is_canary(i) and places_of(i, service)]


def sends(name: str, service: str, objects: NamespaceObjects) -> bool:
    """Whether an Ingress sends to this Service, or has a canary Ingress for it."""
    found = objects.ingresses.get(name)
    return (found is not None and service in services_of(found)) or canary_name(name, service) in objects.ingresses


def places_of(ingress: Ingress, service: str) -> list[tuple[Location, Upstream]]:
    return [(place, upstream) for place, upstream in backends(ingress) if upstream.service == service]


def problems_of_ingress(ingress: Ingress, service: str, objects: NamespaceObjects, given: str = "") -> Findings:
    """Why requests to `service` can't be split at this Ingress, and what to know where they can. `given` is a canary
    Ingress of the user's that is to carry the weight."""
    found = Findings()
    name = f'Ingress "{ingress.metadata.name}"'
    if is_canary(ingress):
        found.errors.append(f"{name} is a canary itself ({PREFIX}canary): name the Ingress that it belongs to")
        return found
    places = places_of(ingress, service)
    if not places:
        found.errors.append(_never_sends(ingress, service, objects))
        return found
    kind = class_of(ingress, objects.ingress_classes)
    if kind.message:
        (found.warnings if kind.supported else found.errors).append(f"{name}: {kind.message}")
    _rules(ingress, places, found)
    _annotations(ingress, found)
    _neighbours(ingress, places, service, objects, found, given)
    taken = objects.ingresses.get(canary_name(ingress.metadata.name, service))
    if taken is not None and not ours(taken) and not given:
        text = (
            f'Ingress "{taken.metadata.name}" exists and is not ours, but a release makes one of that name: rename it'
        )
        found.errors.append(text)
    return found


def _never_sends(ingress: Ingress, service: str, objects: NamespaceObjects) -> str:
    name = f'Ingress "{ingress.metadata.name}"'
    if service in services_of(ingress):
        return (
            f'{name} sends to Service "{service}" only as its default backend, which can\'t be split: '
            "write a rule with a path for it"
        )
    without = _rules_without_http(ingress)
    fitting = [other.metadata.name for other in usable_senders(service, objects)]
    hint = f"; those that do: {some(fitting)}" if fitting else "; no Ingress does"
    if without:
        return f'{name} never sends to Service "{service}": {_no_http(without)}{hint}'
    to = some(services_of(ingress)) or "no Service at all"
    return f'{name} never sends to Service "{service}", only to {to}{hint}'


def _rules_without_http(ingress: Ingress) -> list[int]:
    return [index for index, rule in enumerate(ingress.spec.rules) if rule.http is None or not rule.http.paths]


def _no_http(rules: list[int]) -> str:
    fields = ", ".join(f"spec.rules[{index}]" for index in rules)
    return f"{fields} {'has' if len(rules) == 1 else 'have'} no http paths, so the default backend answers there"


def _rules(ingress: Ingress, places: list[tuple[Location, Upstream]], found: Findings) -> None:
    name = f'Ingress "{ingress.metadata.name}"'
    without = _rules_without_http(ingress)
    if without:
        found.warnings.append(f"{name}: {_no_http(without)} and nothing is split")
    if any(not place.path for place, _ in places):
        found.errors.append(
            f"{name} has a rule with an empty path, which ingress-nginx takes for / but doesn't find in a canary: "
            "write path: /"
        )


def _annotations(ingress: Ingress, found: Findings) -> None:
    name, annotations = f'Ingress "{ingress.metadata.name}"', ingress.metadata.annotations
    if annotations.get(AFFINITY) == "cookie":
        found.warnings.append(
            f"{name} has {AFFINITY}: cookie, which pins clients: those that have a cookie stay on their version "
            "whatever the weight, until our canary Ingress is deleted"
        )
    if annotations.get(PASSTHROUGH) == "true":
        found.errors.append(f"{name} has {PASSTHROUGH}: requests are not seen there, so they can't be split")


def _neighbours(
    ingress: Ingress,
    places: list[tuple[Location, Upstream]],
    service: str,
    objects: NamespaceObjects,
    found: Findings,
    given: str,
) -> None:
    """Other Ingresses at the same places. Canaries are attached to a Service, not to a path, so a foreign canary of
    any Ingress that sends to it counts."""
    name, own = f'Ingress "{ingress.metadata.name}"', ingress.metadata.name
    for sender in usable_senders(service, objects):
        at_sender = f" of Ingress {sender.metadata.name}" if sender.metadata.name != own else ""
        for place, _ in places_of(sender, service) if together(sender, ingress) else ():
            found.errors += (
                f'{name}: Ingress "{other.metadata.name}" is a canary at {place}{at_sender} already, '
                f"and only the oldest one counts: delete it, or `davy adopt {other.metadata.name}`"
                for other in objects.ingresses_at(place)
                if is_canary(other) and not ours(other) and other.metadata.name != given and together(other, ingress)
            )
    for place in dict(places):
        for other in objects.ingresses_at(place):
            elsewhere = dict(backends(other)).get(place)
            if elsewhere is None or elsewhere.service == service or other.metadata.name == own:
                continue
            if is_canary(other) or not together(other, ingress):
                continue
            found.errors.append(
                f'{name}: Ingress "{other.metadata.name}" has {place} too and sends it to Service '
                f'"{elsewhere.service}"; only one of them answers: take it out of the other'
            )


# --- the router ---


def detected(service: str, objects: NamespaceObjects) -> tuple[list[str], list[str]]:
    """The Ingresses that can be split. One of a class that can't is a warning: without any other, the number of pods
    splits, and beside others, its requests stay on the stable pods."""
    found: list[str] = []
    others: list[str] = []
    for ingress in usable_senders(service, objects):
        kind = class_of(ingress, objects.ingress_classes)
        if kind.supported:
            found.append(ingress.metadata.name)
        else:
            others.append(f'Ingress "{ingress.metadata.name}" is not split: {kind.message}')
    return found, others


def unsplit(split: Iterable[str], service: str, objects: NamespaceObjects) -> list[str]:
    """Ingresses of other classes whose requests go to the same Service (those of the same class are split along)."""
    named = set(split)
    classes = {objects.ingresses[name].class_name for name in named if name in objects.ingresses}
    return [
        other.metadata.name
        for other in objects.senders_to(service)
        if other.metadata.name not in named and not is_canary(other) and other.class_name not in classes
    ]


def bind(route: Route, service: str, canary_service: str, objects: NamespaceObjects) -> NginxRoute:
    """The Ingress, the canary Ingress beside it, and the others that have a say."""
    ingress = route.name
    given = (route.ingress.canary if route.ingress is not None else None) or ""
    canary = given or canary_name(ingress, service)
    main = objects.ingresses.get(ingress)
    around = _around(service, objects) if main is not None else {}
    return NginxRoute(
        namespace=objects.namespace,
        ingress_name=ingress,
        service=service,
        ingress=main,
        canary=objects.ingresses.get(canary),
        given=given,
        others=tuple(
            other
            for name, other in around.items()
            if name not in (ingress, canary) and main is not None and together(other, main)
        ),
    )


def _around(service: str, objects: NamespaceObjects) -> dict[str, Ingress]:
    """The Ingresses that decide together where requests for `service` go: those that send to it, canaries at the same
    places, and whatever else these canaries are attached to."""
    found = {i.metadata.name: i for i in objects.senders_to(service)}
    for _ in range(2):
        for ingress in list(found.values()):
            for place, _upstream in backends(ingress):
                found |= {i.metadata.name: i for i in objects.ingresses_at(place)}
    return found


INGRESS = Router(
    field="ingress",
    attribute="ingress",
    kind="Ingress",
    kinds=("Ingress",),
    features=FEATURES,
    ref=lambda name: Route(ingress=IngressRoute(name)),
    exists=lambda name, objects: name in objects.ingresses,
    sends=sends,
    missing=missing_ingress,
    problems=lambda route, service, objects: problems_of_ingress(
        objects.ingresses[route.name],
        service,
        objects,
        (route.ingress.canary if route.ingress is not None else None) or "",
    ),
    detect=detected,
    unsplit=unsplit,
    bind=bind,
)

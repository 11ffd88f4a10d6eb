"""Bad input of the kinds that people make: each is an error at its field, and nothing is written for it."""

from __future__ import annotations

from typing import Any

import pytest

from davylamp.api.types import GatewayRoute as GatewayRef
from davylamp.api.types import IngressRoute, Match, Route, Step, Target, TextMatch, Traffic, VirtualServiceRoute
from davylamp.core.plan import plan
from davylamp.core.world import World
from davylamp.routers.namespace import NamespaceObjects, Watched
from davylamp.routers.review import resolve
from tests.builders import BEGIN, NAMESPACE, deployment, ingress, ingress_class, policy, replica_set, service
from tests.routers.test_gateway import backend, gateway_class, http_route, rule, said
from tests.routers.test_virtual_services import rule as users_rule
from tests.routers.test_virtual_services import to, vs

HTTP = Route(http_route=GatewayRef("web"))
ISTIO = Route(virtual_service=VirtualServiceRoute("web"))
SUBSETS = Route(virtual_service=VirtualServiceRoute("web", subsets=True))
NGINX = Route(ingress=IngressRoute("web"))
AT = "spec.traffic.routes[0]"
MATCH = "spec.traffic.match[0]"


def header(name: str = "X-Canary", **value: Any) -> Match:
    return Match(header=TextMatch(name, **value))


def cookie(**value: Any) -> Match:
    return Match(cookie=TextMatch("canary", **value))


Case = tuple[Route, list[Watched], dict[str, Any], str, str]
"""The route, the objects, what else the policy asks for, the field, and a part of what is said."""
CASES: dict[str, Case] = {
    "an HTTPRoute without a parent that accepts it": (
        HTTP,
        [http_route(status=[said("NoMatchingParent")])],
        {},
        f"{AT}.httpRoute.name",
        "Gateway web doesn't accept it: no listener of it has this sectionName or port",
    ),
    "an HTTPRoute that no controller has looked at": (
        HTTP,
        [http_route(status=[])],
        {},
        f"{AT}.httpRoute.name",
        "no controller has answered for it: is there Gateway web",
    ),
    "a hostname that no listener has": (
        HTTP,
        [http_route(status=[said("NoMatchingListenerHostname")])],
        {},
        f"{AT}.httpRoute.name",
        "no listener of it has a hostname that meets the route's",
    ),
    "a missing ReferenceGrant": (
        HTTP,
        [http_route(status=[said(resolved="RefNotPermitted")])],
        {},
        f"{AT}.httpRoute.name",
        "(a ReferenceGrant is missing)",
    ),
    "a VirtualService that never sends to the Service": (
        ISTIO,
        [vs(to("cart"))],
        {},
        f"{AT}.virtualService.name",
        'VirtualService "web" never sends to Service "web", only to cart',
    ),
    "weights of a VirtualService that sum to nothing": (
        ISTIO,
        [vs(http=[{"route": [to("web")]}, {"route": [to("cart", 0), to("api", 0)]}])],
        {},
        f"{AT}.virtualService.name",
        "spec.http[1] has only weights of 0, which Istio refuses",
    ),
    "weights of a VirtualService below 0": (
        ISTIO,
        [vs(to("web", 150), to("cart", -50))],
        {},
        f"{AT}.virtualService.name",
        "spec.http[0] has the weight -50; weights are whole numbers from 0",
    ),
    "subsets that a DestinationRule hides from the gateway": (
        SUBSETS,
        [vs(to("web"), gateways=["istio-ingress/edge"]), users_rule(exportTo=["."])],
        {},
        f"{AT}.virtualService.name",
        'DestinationRule "web" has spec.exportTo ., so that the pods of Gateway istio-ingress/edge would not know the '
        'subsets and answer 503; add istio-ingress or "*" to it, or leave `subsets` out of the policy',
    ),
    "weights of an HTTPRoute that sum to nothing": (
        HTTP,
        [http_route(rule(backend()), rule(backend("api", 0)))],
        {},
        f"{AT}.httpRoute.name",
        "spec.rules[1] has only backends with weight 0",
    ),
    "weights of somebody else that can't be divided exactly": (
        HTTP,
        [http_route(rule(backend(weight=999_983), backend("api", 999_979)))],
        {},
        "spec.steps[0].weight",
        "can't be divided exactly",
    ),
    "a mirror where there is none: nginx": (
        NGINX,
        [ingress()],
        {"mirror": 10},
        "spec.steps[0].mirror",
        "can't mirror: leave mirror out, or split by",
    ),
    "a mirror where there is none: a GatewayClass without it": (
        HTTP,
        [http_route()],
        {"mirror": 10},
        "spec.steps[0].mirror",
        'GatewayClass "traefik" (traefik.io/gateway-controller) has no HTTPRouteRequestMirror',
    ),
    "a regular expression that RE2 doesn't know": (
        ISTIO,
        [vs(to("web"))],
        {"match": (header(regex="(?=a)b"),)},
        f"{MATCH}.header.regex",
        "looks ahead or behind, which RE2 doesn't know: write it without",
    ),
    "a regular expression that nobody knows": (
        NGINX,
        [ingress()],
        {"match": (header(regex="[a-"),)},
        f"{MATCH}.header.regex",
        "is no regular expression",
    ),
    "a regular expression that takes for ever": (
        NGINX,
        [ingress()],
        {"match": (header(regex="(a+)+"),)},
        f"{MATCH}.header.regex",
        "repeats what is repeated already, which can take a proxy exponential time",
    ),
    "another one": (
        NGINX,
        [ingress()],
        {"match": (cookie(regex="(a|aa)*"),)},
        f"{MATCH}.cookie.regex",
        "repeats what can match one text in two ways, which can take a proxy exponential time",
    ),
    "a header name that HTTP forbids": (
        NGINX,
        [ingress()],
        {"match": (header("X Canary", exact="true"),)},
        f"{MATCH}.header.name",
        "\"X Canary\" can't be the name of a header: HTTP allows no ' ' in it",
    ),
    "a cookie value with quotes": (
        NGINX,
        [ingress()],
        {"match": (cookie(exact='"true"'),)},
        f"{MATCH}.cookie.exact",
        "give the value as it is sent, without quotes",
    ),
    "two policies for one rule of a route": (
        HTTP,
        [
            http_route(rule(backend(), backend("api"))),
            policy("api", traffic=Traffic("api", (HTTP,))),
            service("api"),
            deployment("api"),
        ],
        {},
        f"{AT}.httpRoute.name",
        'spec.rules[0] sends to Service "api" too, which policy "api" splits: give each a rule of its own',
    ),
    "two policies for one route and Service": (
        NGINX,
        [ingress(), policy("second", traffic=Traffic("web", (NGINX,)), target=Target(name="web"))],
        {},
        "spec.target",
        'Deployment "web" is the target of the ReleasePolicies "second" and "web": only one may have it',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_an_error_at_its_field_and_nothing_is_written(case: str) -> None:
    route, objects, asked, field, part = CASES[case]
    given = policy(
        traffic=Traffic("web", (route,), asked.get("match", ())),
        steps=(Step(10, hold="1m", mirror=asked.get("mirror")), Step(100, hold="1m")),
    )
    web = deployment(image="hellok8s:v2", paused=True, annotations={"davylamp.dev/paused-by": "gate"})
    classes = {"nginx": ingress_class()}
    known = NamespaceObjects.of(NAMESPACE, (web, service(), given, *objects), classes, {"traefik": gateway_class()})
    found = resolve(given, web, known)
    assert [p for p in found.problems if p.path == field and part in p.message and not p.warning], found.problems
    assert not found.usable
    stable = replica_set(web, image="hellok8s:v1")
    world = World(NAMESPACE, "web", web, given, found.problems, found.traffic, replica_sets=(stable,))
    decided = plan(world, BEGIN)
    assert (decided.reason, decided.actions) == ("InvalidPolicy", ())


def test_without_the_fault_a_release_would_start() -> None:
    web = deployment(image="hellok8s:v2", paused=True, annotations={"davylamp.dev/paused-by": "gate"})
    given = policy(traffic=Traffic("web", (NGINX,)), steps=(Step(10, hold="1m"), Step(100, hold="1m")))
    known = NamespaceObjects.of(NAMESPACE, (web, service(), given, ingress()), {"nginx": ingress_class()})
    found = resolve(given, web, known)
    stable = replica_set(web, image="hellok8s:v1")
    world = World(NAMESPACE, "web", web, given, found.problems, found.traffic, replica_sets=(stable,))
    assert plan(world, BEGIN).reason == "Starting"
    assert found.problems == ()

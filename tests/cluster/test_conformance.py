"""The conformance suite by real requests: the annotations and HTTPRoutes through Traefik, HTTPRoutes, GRPCRoutes and
VirtualServices through a real istiod and Envoy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
from davylab import Lab

from davylamp.embedded.hellok8s import CALL
from davylamp.routers.gateways import GRPC_ROUTE, HTTP_ROUTE
from davylamp.routers.ingresses import INGRESS
from davylamp.routers.router import Router
from davylamp.routers.virtual_services import VIRTUAL_SERVICE
from tests.cluster.conformance import Bed, bed
from tests.cluster.routes import (
    EDGE,
    GATEWAY,
    ISTIO_API,
    gateway_route,
    http_route,
    istio_gateway,
    parent_of,
    virtual_service,
)
from tests.cluster.shop import Json, Shop, ingress_of, marks
from tests.conformance.suite import CASES, check, check_restored

_numbers = itertools.count(1)


def edge(number: int, protocol: str, **server: Any) -> Json:
    port = {"number": number, "name": protocol.lower(), "protocol": protocol}
    servers = [{"port": port, "hosts": ["*"]} | server]
    return EDGE | {"spec": {"selector": {"istio": "ingressgateway"}, "servers": servers}}


class Made(msgspec.Struct, frozen=True):
    """A router through one implementation. `options` are those of `conformance.Bed`."""

    router: Router
    objects: Callable[[Shop], list[Json]]
    options: Callable[[Lab], dict[str, Any]] = lambda lab: {}
    cases: tuple[str, ...] = tuple(CASES)


def delegated(shop: Shop) -> list[Json]:
    """A VirtualService with the hosts, and one that it leaves the rest to, which sends to the Service."""
    root = virtual_service(shop, http=[{"match": [{"uri": {"prefix": "/"}}], "delegate": {"name": "web"}}])
    inner = virtual_service(shop)
    del inner["spec"]["hosts"], inner["spec"]["gateways"]
    return [EDGE, root | {"metadata": {"name": "root"}}, inner]


def by_connection(protocol: str, *, port: int, to: int, **match: Any) -> Json:
    """A VirtualService that has nothing to go by but connections."""
    route = {"match": [{"port": port} | match], "route": [{"destination": {"host": "web", "port": {"number": to}}}]}
    spec = {"hosts": match.get("sniHosts", ["*"]), "gateways": ["edge"], protocol: [route]}
    return {"apiVersion": ISTIO_API, "kind": "VirtualService", "metadata": {"name": "web"}, "spec": spec}


def tcp(shop: Shop) -> list[Json]:
    return [edge(9000, "TCP"), by_connection("tcp", port=9000, to=80)]


def tls(shop: Shop) -> list[Json]:
    """TLS ends in the pods: the proxy sees a name, and bytes."""
    through = edge(443, "TLS", hosts=[shop.host], tls={"mode": "PASSTHROUGH"})
    return [through, by_connection("tls", port=443, to=443, sniHosts=[shop.host])]


BY_CONNECTION: dict[str, Any] = {"keep": 1, "lacks": frozenset({"header", "cookie", "query", "mirror"})}
SOME = ("weight-10", "header-or-cookie", "header-and-cookie", "mirror-half")
BEDS: dict[str, Made] = {
    "Ingress-Traefik": Made(INGRESS, lambda shop: [ingress_of(shop.host)]),
    "HTTPRoute-Traefik": Made(
        HTTP_ROUTE,
        lambda shop: [GATEWAY, http_route(shop.host)],
        lambda lab: {"lacks": frozenset({"mirror"})},
    ),
    "HTTPRoute-Istio": Made(
        HTTP_ROUTE,
        lambda shop: [istio_gateway(shop), gateway_route("HTTPRoute", parent_of(shop), hostnames=[shop.host])],
        lambda lab: {"url": lab.inside_istio_url},
    ),
    "HTTPRoute-mesh": Made(
        HTTP_ROUTE,
        lambda shop: [gateway_route("HTTPRoute", {"group": "", "kind": "Service", "name": "web"})],
        lambda lab: {"mesh": True},
        SOME,
    ),
    "GRPCRoute-Istio": Made(
        GRPC_ROUTE,
        lambda shop: [istio_gateway(shop), gateway_route("GRPCRoute", parent_of(shop), hostnames=[shop.host])],
        lambda lab: {"url": lab.inside_istio_url, "call": CALL},
    ),
    "VirtualService": Made(
        VIRTUAL_SERVICE,
        lambda shop: [EDGE, virtual_service(shop)],
        lambda lab: {"url": lab.inside_istio_url},
    ),
    "VirtualService-subsets": Made(
        VIRTUAL_SERVICE,
        lambda shop: [EDGE, virtual_service(shop)],
        lambda lab: {"url": lab.inside_istio_url, "subsets": True},
        ("weight-50", *SOME),
    ),
    "VirtualService-delegate": Made(VIRTUAL_SERVICE, delegated, lambda lab: {"url": lab.inside_istio_url}, SOME),
    "VirtualService-TCP": Made(
        VIRTUAL_SERVICE,
        tcp,
        lambda lab: {"url": lab.inside_istio_tcp_url, **BY_CONNECTION},
        ("weight-10", "weight-50", "header-exact", "mirror-half"),
    ),
    "VirtualService-TLS": Made(
        VIRTUAL_SERVICE,
        tls,
        lambda lab: {"url": lab.inside_istio_tls_url, "tls": True, **BY_CONNECTION},
        ("weight-25", "header-exact"),
    ),
}


class Beds:
    """One bed for all cases of a router, each of which finds what the one before has left."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.name, self.close = lab, "", ExitStack()

    def __call__(self, name: str) -> Bed:
        if name != self.name:
            self.close.close()
            self.name, self.bed = name, self.close.enter_context(made(self.lab, BEDS[name]))
        return self.bed


@contextmanager
def made(lab: Lab, given: Made) -> Iterator[Bed]:
    """At its end nobody reaches the canary, and the user's object is as it was."""
    shop = Shop(lab, f"conformance-{next(_numbers)}")
    shop.kubectl("create", "namespace", shop.namespace)
    objects = given.objects(shop)
    elsewhere = [one for one in objects if "namespace" in one["metadata"]]
    for manifest in elsewhere:
        lab.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    mine = [one for one in objects if one not in elsewhere]
    with bed(shop, given.router, *mine, **given.options(lab)) as found:
        before = found.own()
        yield found
        check_restored(found)
        after = found.own()
        assert marks(after) == []
        assert after["spec"] == before["spec"]
    for manifest in elsewhere:
        lab.kubectl("delete", "-f", "-", "--wait=false", input=json.dumps(manifest))


@pytest.fixture(scope="module")
def beds(installed: Lab) -> Iterator[Beds]:
    found = Beds(installed)
    yield found
    found.close.close()


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(name, case, id=f"{name}-{case}") for name, given in BEDS.items() for case in given.cases],
)
def test_who_matches_reaches_the_canary_and_of_the_others_the_weights_share(beds: Beds, name: str, case: str) -> None:
    check(beds(name), case)

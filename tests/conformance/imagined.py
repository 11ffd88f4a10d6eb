"""A bed without proxies: the objects in the embedded cluster's store, and the decision functions in their place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from davylamp.api.objects import GatewayClass, Ingress, IngressClass
from davylamp.api.types import Route as Ref
from davylamp.api.types import VirtualServiceRoute as VirtualServiceRef
from davylamp.core.world import Exposure, Route, RouteContext
from davylamp.embedded.hellok8s import CALL
from davylamp.embedded.simulate import proxies
from davylamp.embedded.store import Store
from davylamp.kube.kinds import decode, kind_of
from davylamp.routers import decision, istio_decision, istio_split, merging, precedence
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.router import Router
from tests.conformance.suite import CANARY, STABLE, Answers, Sent
from tests.kube.fake import FakeClock

Json = dict[str, Any]
NAMESPACE, HOST = "shop", "shop.example"
CONTEXT = RouteContext("web-1", "uid-of-web-1", NAMESPACE, "web", "web-canary")
MIRRORING = ("HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror", "HTTPRouteQueryParamMatching")
CLASS: Json = {
    "metadata": {"name": "imagined"},
    "spec": {"controllerName": proxies.CONTROLLER},
    "status": {"supportedFeatures": [{"name": name} for name in MIRRORING]},
}
NGINX: Json = {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}


class Decided(msgspec.Struct, frozen=True):
    """Who answers a request, and whether the canary gets a copy besides."""

    version: str
    copied: bool = False


Decide = Callable[[Store, Sent, random.Random], Decided]


class Imagined:
    """`suite.Bed`. `decide` stands for the proxy."""

    def __init__(self, router: Router, route: Json, decide: Decide, *, subsets: bool = False) -> None:
        self.ref = Ref(virtual_service=VirtualServiceRef("web", subsets=True)) if subsets else router.ref("web")
        self.router, self.features, self.lacks, self.decide = router, router.features, frozenset[str](), decide
        self.random = random.Random(7)
        self.clock = FakeClock()
        self.store = Store(self.clock)
        self.store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for kind in proxies.KINDS:
            self.store.create(proxies.definition(kind))
        proxies.serve(self.store, self.clock)
        self.store.create(route)
        self._pass(proxies.WITHIN)
        self._seen = 0

    def route(self) -> Route:
        classes = {"nginx": msgspec.convert(NGINX, IngressClass)}
        gateways = {"imagined": msgspec.convert(CLASS, GatewayClass)}
        objects = NamespaceObjects(NAMESPACE, classes, gateways)
        for kind in (kind for kind in self.router.kinds if kind_of(kind).namespaced):
            for raw in self.store.list(kind, NAMESPACE):
                objects.put(decode(kind, msgspec.json.encode(raw)))
        return self.router.bind(self.ref, "web", "web-canary", objects)

    def expose(self, exposure: Exposure | None) -> None:
        for _ in range(3):
            self._pass(proxies.WITHIN)
            wanted = self.route().desired(exposure, CONTEXT)
            for manifest in wanted.present:
                self.store.create(manifest)
            for ref, patch in wanted.patches:
                self.store.patch(ref.kind, NAMESPACE, ref.name, patch)
            for ref, _ in wanted.absent:
                self.store.delete(ref.kind, NAMESPACE, ref.name)
        assert wanted.reached, wanted
        assert self.route().converged(exposure, CONTEXT) == ""

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """A small sample may miss a share of one percent: asked again, as a real bed does."""
        assert any(condition() for _ in range(50)), what

    def _pass(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(seconds))

    def ask(self, kinds: Sequence[tuple[Sent, int]]) -> list[Answers]:
        return [self._asked(kind, number) for kind, number in kinds]

    def _asked(self, kind: Sent, number: int) -> Answers:
        answers = Answers()
        for _ in range(number):
            decided = self.decide(self.store, kind, self.random)
            answers.versions[decided.version] += 1
            answers.statuses[200 if decided.version in (STABLE, CANARY) else 404] += 1
            self._seen += (decided.version == CANARY) + decided.copied
        return answers

    def seen(self) -> int:
        return self._seen


def by_ingress(store: Store, sent: Sent, roll: random.Random) -> Decided:
    """ingress-nginx's table, with the canary that belongs to the place."""
    found = [decode("Ingress", msgspec.json.encode(raw)) for raw in store.list("Ingress", NAMESPACE)]
    at = merging.merge(one for one in found if isinstance(one, Ingress)).at(merging.Location(HOST, "/", "Prefix"))
    if at is None:
        return Decided("-")
    config = at[1].config if at[1] is not None else None
    number = roll.randint(1, config.total if config is not None else 100)
    request = decision.Request(sent.headers, _cookies(sent), number)
    return Decided({"main": STABLE, "canary": CANARY}[decision.decide(config, request)])


def by_rules(kind: str, ranking: precedence.Ranking) -> Decide:
    """A Gateway's: the specification's order of rules, or the one of an implementation."""
    grpc = kind == "GRPCRoute"

    def decide(store: Store, sent: Sent, roll: random.Random) -> Decided:
        (found,) = store.list(kind, NAMESPACE)
        rules = found["spec"]["rules"]
        path, method = (CALL, "POST") if grpc else ("/", "GET")
        request = precedence.Request(path, method, sent.headers, dict(parse_qsl(sent.query)))
        index = precedence.decide(rules, request, grpc=grpc, ranking=ranking)
        if index is None:
            return Decided("-")
        copies = [one["requestMirror"] for one in rules[index].get("filters", ()) if "requestMirror" in one]
        percent = sum(one.get("percent", 100) for one in copies if one["backendRef"]["name"] == "web-canary")
        return Decided(_version(precedence.shares(rules[index]), roll), roll.randrange(100) < percent)

    return decide


def by_virtual_service(store: Store, sent: Sent, roll: random.Random) -> Decided:
    (found,) = store.list("VirtualService", NAMESPACE)
    request = istio_decision.Request(
        headers={name.lower(): value for name, value in sent.headers.items()},
        query=dict(parse_qsl(sent.query)),
        gateway="mesh" if sent.source else "edge",
        source_labels=sent.source,
    )
    route = istio_decision.first(found["spec"], request)
    if route is None:
        return Decided("-")
    shares = {
        str(target.get("subset", target["host"])): Fraction(part) for target, part in istio_decision.shares(route)
    }
    mirrors = istio_split.mirrors_of(route)
    percent = sum(one["percentage"]["value"] for one in mirrors)
    return Decided(_version(shares, roll), roll.randrange(100) < percent)


def _version(shares: dict[str, Fraction], roll: random.Random) -> str:
    service = roll.choices(list(shares), [float(part) for part in shares.values()])[0]
    stable, canary = ("web", "davylamp-stable"), ("web-canary", "davylamp-canary")
    return {**dict.fromkeys(stable, STABLE), **dict.fromkeys(canary, CANARY)}.get(service, service)


def _cookies(sent: Sent) -> dict[str, str]:
    pairs = (pair.strip().partition("=") for pair in sent.headers.get("Cookie", "").split(";"))
    return {name: value for name, _, value in pairs if name}

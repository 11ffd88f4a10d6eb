"""One conformance suite for routers: each case an exposure and what real requests must meet, the same for all.

A case doesn't need a release: two Deployments run all the time, `web` (v1) and `web-canary` (v2), each behind a
Service of its name, and the router's own pure functions say what to write. What a router can't say is left out of its
cases by its own refusals, and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from davylamp.api.types import Match, TextMatch
from davylamp.core.world import Exposure, Refusal, Route, RouteContext
from davylamp.embedded.load import Load, Summary
from davylamp.kube.kinds import decode, kind_of
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.router import Router
from tests.cluster.shop import SERVICE, Json, Shop, deployment

REQUESTS = 1000
DEVIATIONS = 4.5
"""Standard deviations of the binomial distribution that a share may be off: 7 in a million cases by chance."""


class Sent(msgspec.Struct, frozen=True):
    """A kind of request."""

    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""


class Case(msgspec.Struct, frozen=True):
    """An exposure; requests that must all reach the canary; requests of which the weight's share does."""

    exposure: Exposure
    chosen: tuple[Sent, ...] = ()
    others: tuple[Sent, ...] = (Sent(),)


PLAIN = Sent()


def sent(**headers: str) -> Sent:
    """A request with headers; an underscore is a dash."""
    return Sent(tuple((name.replace("_", "-"), value) for name, value in headers.items()))


def header(**value: str | bool) -> Match:
    return Match(header=msgspec.convert({"name": "X-Canary", **value}, TextMatch))


def cookie(**value: str | bool) -> Match:
    return Match(cookie=msgspec.convert({"name": "canary", **value}, TextMatch))


def query(**value: str | bool) -> Match:
    return Match(query=msgspec.convert({"name": "v", **value}, TextMatch))


BOTH = Match(header=TextMatch("X-Canary", exact="true"), cookie=TextMatch("canary", exact="true"))
MIXED = "a=b; canary=true; c=d"

CASES: dict[str, Case] = {
    "weight 1": Case(Exposure(1)),
    "weight 10": Case(Exposure(10)),
    "weight 50": Case(Exposure(50)),
    "weight 99": Case(Exposure(99)),
    "a header's value, testers only": Case(
        Exposure(0, (header(exact="true"),)), (sent(X_Canary="true"),), (PLAIN, sent(X_Canary="truer"))
    ),
    "a header's value": Case(
        Exposure(10, (header(exact="true"),)), (sent(X_Canary="true"),), (PLAIN, sent(X_Canary="truer"))
    ),
    "a header's prefix": Case(
        Exposure(10, (header(prefix="be.a"),)), (sent(X_Canary="be.ata"),), (sent(X_Canary="betata"),)
    ),
    "a header's regular expression": Case(
        Exposure(10, (header(regex="beta-[0-9]+|x"),)),
        (sent(X_Canary="beta-12"), sent(X_Canary="x")),
        (sent(X_Canary="xbeta-12"), sent(X_Canary="beta-1x")),
    ),
    "a header that is there": Case(
        Exposure(10, (header(present=True),)), (sent(X_Canary="whatever"),), (sent(X_Other="true"),)
    ),
    "a cookie's value": Case(
        Exposure(10, (cookie(exact="true"),)),
        (sent(Cookie="canary=true"), sent(Cookie=MIXED)),
        (sent(Cookie="canary=truer"), sent(Cookie="xcanary=true")),
    ),
    "a cookie's prefix": Case(
        Exposure(10, (cookie(prefix="be"),)),
        (sent(Cookie="canary=beta; a=b"),),
        (sent(Cookie="canary=abe"),),
    ),
    "a cookie's regular expression": Case(
        Exposure(10, (cookie(regex="[a-c]+|true"),)), (sent(Cookie=MIXED),), (sent(Cookie="canary=abx"),)
    ),
    "a header's value or a cookie that says always": Case(
        Exposure(10, (header(exact="true"), cookie(exact="always"))),
        (sent(X_Canary="true"), sent(Cookie="canary=always")),
        (sent(X_Canary="false"), sent(Cookie="canary=true")),
    ),
    "a header's value or a cookie's value": Case(
        Exposure(10, (header(exact="true"), cookie(exact="true"))),
        (sent(X_Canary="true"), sent(Cookie=MIXED), sent(X_Canary="true", Cookie="canary=true")),
        (PLAIN, sent(X_Canary="false", Cookie="canary=false")),
    ),
    "a header's value and a cookie's value": Case(
        Exposure(10, (BOTH,)),
        (sent(X_Canary="true", Cookie=MIXED),),
        (sent(X_Canary="true"), sent(Cookie=MIXED)),
    ),
    "a query parameter": Case(Exposure(10, (query(exact="2"),)), (Sent(query="?v=2"),), (PLAIN, Sent(query="?v=22"))),
    "a query parameter's regular expression": Case(
        Exposure(0, (query(regex="2|[a-c]+"),)), (Sent(query="?v=abc"),), (Sent(query="?v=abcd"),)
    ),
}


def cases_of(refused: Callable[[Exposure], Iterable[Refusal]]) -> list[str]:
    """Those that a router can do, by name."""
    return [name for name, case in CASES.items() if not list(refused(case.exposure))]


class Bed:
    """Two versions that run, and one route of the user's that sends to the first."""

    def __init__(self, shop: Shop, router: Router, url: str = "") -> None:
        """`url` is where requests go, Traefik's entry point if left out."""
        self.shop, self.router = shop, router
        self.url = url or shop.lab.inside_traefik_url
        release = self._release()
        self.context = RouteContext(
            release=release["metadata"]["name"],
            release_uid=release["metadata"]["uid"],
            namespace=shop.namespace,
            service="web",
            canary_service="web-canary",
        )

    def _release(self) -> Json:
        """A finished one, so that no controller does anything with it, as the owner of what a router creates."""
        side = {"replicaSet": "web-1", "hash": "1"}
        sides = {"stable": side, "canary": side, "template": "t"}
        spec = {"policy": "web", "deployment": "web", "steps": [{"weight": 10}]} | sides
        manifest = {
            "apiVersion": "davylamp.dev/v1alpha1",
            "kind": "Release",
            "metadata": {"name": "web-1"},
            "spec": spec,
        }
        self.shop.apply(manifest)
        ended = '{"status":{"phase":"Completed"}}'
        self.shop.kubectl("patch", "release", "web-1", "--subresource=status", "--type=merge", "-p", ended)
        return self.shop.get("release", "web-1")

    def route(self) -> Route:
        """The route with its objects as they are."""
        objects = NamespaceObjects(self.shop.namespace)
        for kind in (kind for kind in self.router.kinds if kind_of(kind).namespaced):
            for raw in self.shop.all(kind_of(kind).resource):
                objects.put(decode(kind, json.dumps(raw).encode()))
        return self.router.bind(self.router.ref("web"), "web", objects)

    def expose(self, exposure: Exposure | None) -> None:
        """Write what the router wants until it wants nothing more and has converged."""

        def reached() -> bool:
            route = self.route()
            wanted = route.desired(exposure, self.context)
            for manifest in wanted.present:
                self.shop.apply(manifest)
            for ref, patch in wanted.patches:
                self.shop.kubectl("patch", ref.kind, ref.name, "--type=merge", "-p", json.dumps(patch))
            for ref, _ in wanted.absent:
                self.shop.kubectl("delete", ref.kind, ref.name)
            return wanted.reached and not route.converged(exposure, self.context)

        self.shop.wait(reached, f"the route to have {exposure}")

    def settled(self, what: Sent, expected: Callable[[float], bool], requests: int = 50) -> None:
        """Wait until requests are answered as expected: objects and statuses run ahead of the proxies."""

        def right() -> bool:
            counted = _counted(self.shop, what, requests, self.url)
            return set(counted.statuses) == {"200"} and expected(100 * counted.share("v2"))

        self.shop.wait(right, f"{what} to be answered as expected")

    def answered(self, what: Sent) -> float:
        return answered(self.shop, what, self.url)


def answered(shop: Shop, what: Sent, url: str = "") -> float:
    """Percent of the next thousand requests that the canary answers; all must be answered, and well."""
    counted = _counted(shop, what, REQUESTS, url or shop.lab.inside_traefik_url)
    assert (counted.lost, counted.failed, set(counted.statuses)) == (0, 0, {"200"}), counted
    return 100 * counted.share("v2")


def _counted(shop: Shop, what: Sent, requests: int, url: str) -> Summary:
    target = url.rstrip("/") + "/" + what.query
    with Load(shop.lab, host=shop.host, url=target, rps=500, headers=dict(what.headers), report=0.1) as load:
        shop.wait(lambda: load.snapshot().answered >= requests, f"{requests} answers")
        return load.stop()


@contextmanager
def bed(shop: Shop, router: Router, *routes: Json, url: str = "") -> Iterator[Bed]:
    """`routes` are the user's own objects, of which one is called `web`; the namespace is closed at the end."""
    canary_service = SERVICE | {"metadata": {"name": "web-canary"}}
    canary_service["spec"] = SERVICE["spec"] | {"selector": {"app": "web-canary"}}
    both = [deployment("hellok8s:v1", 2), deployment("hellok8s:v2", 2, name="web-canary")]
    shop.apply(*both, SERVICE, canary_service, *routes)
    for name in ("web", "web-canary"):
        shop.wait_available(2, name)
    made = Bed(shop, router, url)
    made.settled(PLAIN, lambda share: share == 0)
    yield made
    shop.close()


def check(bed: Bed, name: str) -> None:
    """One case, by real requests."""
    case = CASES[name]
    weight = case.exposure.weight
    bed.expose(case.exposure)
    with ThreadPoolExecutor(len(case.chosen) + len(case.others) + 1) as at_once:
        waits = [at_once.submit(bed.settled, what, lambda share: share == 100) for what in case.chosen]
        waits.append(at_once.submit(bed.settled, PLAIN, lambda share: abs(share - weight) <= _spread(weight, 300), 300))
        for wait in waits:
            wait.result()
        every = (*case.chosen, *case.others)
        found = dict(zip(every, at_once.map(bed.answered, every), strict=True))
    assert {what: found[what] for what in case.chosen} == dict.fromkeys(case.chosen, 100)
    assert all(abs(found[what] - weight) <= _spread(weight, REQUESTS) for what in case.others), found


def _spread(weight: int, requests: int) -> float:
    return float(DEVIATIONS * (weight * (100 - weight) / requests) ** 0.5)


def check_restored(bed: Bed) -> None:
    """Nobody reaches the canary any more, whoever they are."""
    bed.expose(None)
    for what in (PLAIN, sent(X_Canary="true", Cookie=MIXED)):
        bed.settled(what, lambda share: share == 0)
        assert bed.answered(what) == 0, what

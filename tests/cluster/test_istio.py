"""VirtualServices through a real istiod and Envoy, as gateway and as sidecar: the conformance suite, and releases."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from davylab import Lab

from davylamp.api.types import Match
from davylamp.core.world import Exposure
from davylamp.embedded.load import Load
from davylamp.routers.gateways import HTTP_ROUTE
from davylamp.routers.istio_rules import refused
from davylamp.routers.virtual_services import VIRTUAL_SERVICE
from tests.cluster.conformance import PLAIN, Bed, answered, bed, cases_of, check, check_restored, sent
from tests.cluster.shop import Controller, Json, Shop, Traffic, marks

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
API = "networking.istio.io/v1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
EDGE: Json = {
    "apiVersion": API,
    "kind": "Gateway",
    "metadata": {"name": "edge"},
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    },
}
TESTER = sent(X_Canary="true")
HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}
_numbers = itertools.count(1)


def virtual_service(shop: Shop, **spec: object) -> Json:
    """An HTTP route that sends elsewhere, and two for the Service, with things that a release has to keep."""
    web: Json = {"destination": {"host": "web", "port": {"number": 80}}}
    named = {"destination": {"host": f"web.{shop.namespace}.svc.cluster.local"}, "weight": 7}
    routes: list[Json] = [
        {"match": [{"headers": {"x-other": {"exact": "1"}}}], "redirect": {"authority": "other.example"}},
        {"name": "api", "match": [{"uri": {"prefix": "/api"}}], "route": [named], "rewrite": {"uri": "/"}},
        {"route": [web], "timeout": "20s", "retries": {"attempts": 0}},
    ]
    content = {"hosts": [shop.host, inside(shop)], "gateways": ["edge", "mesh"], "http": routes} | spec
    return {"apiVersion": API, "kind": "VirtualService", "metadata": {"name": "web"}, "spec": content}


def inside(shop: Shop) -> str:
    """The Service's own name in the mesh."""
    return f"web.{shop.namespace}.svc.cluster.local"


@pytest.fixture(scope="module")
def istio(installed: Lab) -> Iterator[Bed]:
    shop = Shop(installed, f"istio-{next(_numbers)}")
    shop.kubectl("create", "namespace", shop.namespace)
    with bed(shop, VIRTUAL_SERVICE, EDGE, virtual_service(shop), url=installed.inside_istio_url) as made:
        yield made


@pytest.mark.parametrize("case", cases_of(refused))
def test_who_matches_reaches_the_canary_and_of_the_others_the_weights_share(istio: Bed, case: str) -> None:
    check(istio, case)


def test_pods_with_certain_labels_are_chosen_in_their_sidecar_and_nobody_at_the_gateway(istio: Bed) -> None:
    istio.expose(Exposure(0, (Match(source_labels={"team": "shop"}),)))
    shop, sidecar = istio.shop, istio.shop.lab.inside_sidecar_url

    def share(requests: int) -> float:
        with Load(shop.lab, host=inside(shop), url=sidecar, rps=800, report=0.1) as load:
            shop.wait(lambda: load.snapshot().answered >= requests, f"{requests} answers")
            counted = load.stop()
        assert (counted.lost, counted.failed) == (0, 0)
        return 100 * counted.share("v2")

    shop.wait(lambda: share(50) == 100, "the sidecar to send to the canary")
    assert share(1000) == 100
    assert istio.answered(PLAIN) == 0


def test_the_canary_sees_copies_of_the_part_that_is_mirrored_and_answers_nobody(istio: Bed) -> None:
    istio.expose(Exposure(0, mirror=50))
    shop = istio.shop

    def copies() -> float:
        before = served(shop, "web-canary")
        assert istio.answered(PLAIN) == 0, "a copy's answer is nobody's"
        return float(served(shop, "web-canary") - before)

    shop.wait(lambda: copies() > 0, "copies to reach the canary")
    before, stable = served(shop, "web-canary"), served(shop, "web")
    assert istio.answered(PLAIN) == 0
    shop.wait(lambda: served(shop, "web") - stable >= 1000, "all requests to be counted")
    share = (served(shop, "web-canary") - before) / (served(shop, "web") - stable)
    assert abs(share - 0.5) < 4.5 * (0.25 / 1000) ** 0.5


def served(shop: Shop, app: str) -> int:
    """Requests that the pods of this label have answered, but for probes and our own questions."""
    total = 0.0
    for pod in shop.all("pods", f"app={app}"):
        ask = shop.lab.spawn(["curl", "-s", f"http://{pod['status']['podIP']}:8080/metrics"], stdout=subprocess.PIPE)
        text = ask.communicate(timeout=10)[0].decode()
        lines = re.findall(r"^http_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE)
        total += sum(float(count) for labels, count in lines if "/healthz" not in labels and "/metrics" not in labels)
    return int(total)


def test_nobody_reaches_the_canary_when_it_is_over_and_the_virtual_service_is_as_it_was(istio: Bed) -> None:
    check_restored(istio)
    found = istio.shop.get("virtualservice", "web")
    assert marks(found) == []
    istio.shop.kubectl("delete", "virtualservice", "web")
    istio.shop.apply(virtual_service(istio.shop))
    assert found["spec"] == istio.shop.get("virtualservice", "web")["spec"]


# --- releases ---


@pytest.fixture
def traffic(shop: Shop) -> Traffic:
    shop.open(ingress=False)
    shop.apply(EDGE, virtual_service(shop))
    return Traffic(shop, url=shop.lab.inside_istio_url)


def spec(shop: Shop) -> Json:
    found = shop.get("virtualservice", "web")
    assert marks(found) == []
    content: Json = found["spec"]
    return content


def test_a_release_takes_effect_step_by_step_and_what_others_change_meanwhile_stays(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    url = shop.lab.inside_istio_url
    before = spec(shop)
    steps: list[Json] = [{"weight": weight, "approve": True} for weight in (0, 10, 50)]
    shop.policy(*steps, {"weight": 100}, route="virtualService", match=[HEADER, COOKIE])
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert (answered(shop, TESTER, url), answered(shop, PLAIN, url)) == (100, 0)
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert abs(traffic.share("v2") - 10) < 8
    routes = shop.get("virtualservice", "web")["spec"]["http"]
    last = len(routes) - 1
    added = {"match": [{"uri": {"exact": "/new"}}], "directResponse": {"status": 204}}
    edits: list[Json] = [
        {"op": "replace", "path": f"/spec/http/{last}/timeout", "value": "19s"},
        {"op": "add", "path": f"/spec/http/{last}/headers", "value": {"request": {"set": {"x-from": "route"}}}},
        {"op": "add", "path": f"/spec/http/{last}/route/0/headers", "value": {"response": {"set": {"x-by": "web"}}}},
        {"op": "add", "path": "/spec/http/0", "value": added},
        {"op": "add", "path": "/metadata/labels", "value": {"team": "shop"}},
    ]
    shop.kubectl("patch", "virtualservice", "web", "--type=json", "-p", json.dumps(edits))
    shop.davy("approve", "web")
    shop.wait_step(V2, 3)
    assert abs(traffic.share("v2") - 50) < 13
    assert answered(shop, sent(Cookie="a=b; canary=true"), url) == 100
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)
    before["http"][2] |= {"timeout": "19s", "headers": {"request": {"set": {"x-from": "route"}}}}
    before["http"][2]["route"][0]["headers"] = {"response": {"set": {"x-by": "web"}}}
    before["http"].insert(0, added)
    assert spec(shop) == before
    assert shop.get("virtualservice", "web")["metadata"]["labels"] == {"team": "shop"}
    assert shop.leftovers() == []
    traffic.nothing_lost()


def test_taken_back_from_each_step_nothing_is_lost_and_the_virtual_service_is_as_it_was(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    before = spec(shop)
    shop.policy(
        {"weight": 10}, {"weight": 50}, {"weight": 100, "approve": True}, route="virtualService", match=[HEADER]
    )
    for step in (1, 2, 3):
        image = f"hellok8s:v{step + 1}"
        shop.set_image(image)
        shop.wait_step(image, step)
        shop.davy("abort", "web", "--wait")
        assert answered(shop, TESTER, shop.lab.inside_istio_url) == 0
        assert spec(shop) == before
        assert shop.leftovers() == []
    traffic.nothing_lost()


def test_overtaken_and_with_a_controller_that_is_killed_at_its_writes_it_ends_the_same(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    before = spec(shop)
    shop.policy({"weight": 10, "hold": "1s"}, {"weight": 50, "hold": "1s"}, {"weight": 100}, route="virtualService")
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.set_image(V3)
    shop.wait_phase(V2, "Superseded")
    seen: set[int] = set()

    def killed_or_done() -> bool:
        generation = int(shop.get("virtualservice", "web")["metadata"]["generation"])
        if generation not in seen:
            seen.add(generation)
            controller.kill()
            controller.start()
        return shop.phase(V3) == "Completed"

    shop.wait(killed_or_done, "the release to complete in spite of it all", 120)
    assert len(seen) >= 3, "it was killed at each write of the VirtualService"
    shop.wait_quiet(V3)
    assert spec(shop) == before
    assert shop.leftovers() == []
    traffic.nothing_lost()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"http": [{"route": [{"destination": {"host": "web.default"}}]}]}, "a policy splits in its own namespace"),
        ({"http": [{"delegate": {"name": "inner"}}]}, "itself but leaves it to inner"),
        ({"http": [{"route": [{"destination": {"host": "web", "subset": "v1"}}]}]}, "no DestinationRule"),
    ],
)
def test_what_is_wrong_with_a_virtual_service_is_told_before_anything_is_written(
    shop: Shop, controller: Controller, changed: Json, told: str
) -> None:
    shop.open(ingress=False, replicas=1)
    shop.apply(EDGE, virtual_service(shop, **changed))
    shop.policy({"weight": 10}, route="virtualService", ready=False)
    shop.wait(lambda: told in " ".join(shop.davy("status", "web", check=False).stdout.split()), told)
    assert marks(shop.get("virtualservice", "web")) == []


# --- Istio as an implementation of the Gateway API ---


@pytest.fixture(scope="module")
def http_route(installed: Lab) -> Iterator[Bed]:
    shop = Shop(installed, f"istio-{next(_numbers)}")
    shop.kubectl("create", "namespace", shop.namespace)
    everyone = {"namespaces": {"from": "All"}}
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "hostname": shop.host, "allowedRoutes": everyone}
    at = {"type": "Hostname", "value": "istio-ingressgateway.istio-system.svc.cluster.local"}
    gateway: Json = {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": shop.namespace, "namespace": "istio-system"},  # where the proxy's own Service is
        "spec": {"gatewayClassName": "istio", "listeners": [listener], "addresses": [at]},
    }
    shop.lab.kubectl("apply", "-f", "-", input=json.dumps(gateway))
    route: Json = {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {
            "parentRefs": [{"name": shop.namespace, "namespace": "istio-system"}],
            "hostnames": [shop.host],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        },
    }
    with bed(shop, HTTP_ROUTE, route, url=installed.inside_istio_url) as made:
        yield made
    shop.lab.kubectl("delete", "gateways.gateway.networking.k8s.io", shop.namespace, "--namespace", "istio-system")


@pytest.mark.parametrize(
    "case", ["weight 10", "a header's value or a cookie's value", "a header's value and a cookie's value"]
)
def test_an_http_route_splits_through_istio_too(http_route: Bed, case: str) -> None:
    check(http_route, case)


def test_nobody_reaches_the_canary_through_istio_when_the_http_route_is_given_back(http_route: Bed) -> None:
    check_restored(http_route)
    assert marks(http_route.shop.get("httproute", "web")) == []

"""Releases by a VirtualService, through a real istiod and Envoy."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conformance import answered
from tests.cluster.routes import EDGE, virtual_service
from tests.cluster.shop import Controller, Json, Shop, Traffic, marks
from tests.conformance.suite import Sent

V2 = "hellok8s:v2"
TESTER, PLAIN = Sent({"X-Canary": "true"}), Sent()
HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}


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
    assert answered(shop, Sent({"Cookie": "a=b; canary=true"}), url) == 100
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

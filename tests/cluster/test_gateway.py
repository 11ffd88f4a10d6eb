"""Releases by an HTTPRoute, through Traefik as an implementation of the Gateway API."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conformance import answered
from tests.cluster.routes import GATEWAY, http_route
from tests.cluster.shop import Controller, Json, Shop, Traffic, marks
from tests.conformance.suite import Sent

V2 = "hellok8s:v2"
TESTER, PLAIN = Sent({"X-Canary": "true"}), Sent()
HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}
BACKEND: Json = {"name": "web", "port": 80, "weight": 7}


@pytest.fixture
def traffic(shop: Shop) -> Traffic:
    shop.open(ingress=False)
    shop.apply(GATEWAY, http_route(shop.host))
    return Traffic(shop)


def spec(shop: Shop) -> Json:
    found = shop.get("httproute", "web")
    assert marks(found) == []
    content: Json = found["spec"]
    return content


def test_a_release_takes_effect_step_by_step_and_what_others_change_meanwhile_stays(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    before = spec(shop)
    steps: list[Json] = [{"weight": weight, "approve": True} for weight in (0, 10, 50)]
    shop.policy(*steps, {"weight": 100}, route="httpRoute", match=[HEADER, COOKIE])
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert (answered(shop, TESTER), answered(shop, PLAIN)) == (100, 0)
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert abs(traffic.share("v2") - 10) < 5
    rules = shop.get("httproute", "web")["spec"]["rules"]
    last = max(i for i, rule in enumerate(rules) if len(rule.get("backendRefs", ())) > 1)
    edits = [
        {"op": "replace", "path": f"/spec/rules/{last}/timeouts/request", "value": "19s"},
        {"op": "add", "path": f"/spec/rules/{last}/timeouts/backendRequest", "value": "18s"},
        {"op": "add", "path": "/metadata/labels", "value": {"team": "shop"}},
    ]
    shop.kubectl("patch", "httproute", "web", "--type=json", "-p", json.dumps(edits))
    shop.davy("approve", "web")
    shop.wait_step(V2, 3)
    assert abs(traffic.share("v2") - 50) < 5
    assert answered(shop, Sent({"Cookie": "a=b; canary=true"})) == 100
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)
    before["rules"][2]["timeouts"] = {"request": "19s", "backendRequest": "18s"}
    assert spec(shop) == before
    assert shop.get("httproute", "web")["metadata"]["labels"] == {"team": "shop"}
    assert shop.leftovers() == []
    traffic.nothing_lost()


NAMED: Json = GATEWAY | {"metadata": {"name": "named"}}
NAMED["spec"] = GATEWAY["spec"] | {"listeners": [GATEWAY["spec"]["listeners"][0] | {"hostname": "a.example"}]}
WRONG: dict[str, tuple[Json, str]] = {
    "section": (
        {"parentRefs": [{"name": "web", "sectionName": "https"}]},
        "no listener of it has this sectionName or port",
    ),
    "parent": ({"parentRefs": [{"name": "nosuch"}]}, "no controller has answered for it"),
    "host": (
        {"parentRefs": [{"name": "named"}], "hostnames": ["b.example"]},
        "Gateway named doesn't accept it: no listener of it has a hostname that meets the route's",
    ),
    "away": ({"rules": [{"backendRefs": [{"name": "web", "namespace": "default", "port": 80}]}]}, "never sends"),
    "grant": (
        {"rules": [{"backendRefs": [BACKEND, {"name": "x", "namespace": "default", "port": 80}]}]},
        "ReferenceGrant",
    ),
}


def test_what_is_wrong_with_routes_is_told_all_at_once_before_anything_is_written(
    shop: Shop, controller: Controller
) -> None:
    shop.open(ingress=False, replicas=1)
    routes = [http_route(shop.host, **changed) | {"metadata": {"name": name}} for name, (changed, _) in WRONG.items()]
    shop.apply(GATEWAY, NAMED, *routes)
    traffic: Json = {"service": "web", "routes": [{"httpRoute": {"name": name}} for name in WRONG]}
    shop.policy({"weight": 10}, traffic=traffic, ready=False)

    def told() -> bool:
        said = " ".join(shop.davy("status", "web", check=False).stdout.split())
        parts = [one for one in said.split("spec.traffic.routes") if "httpRoute.name: " in one]
        return len(parts) >= len(WRONG) and all(
            any(f'"{name}"' in part and text in part for part in parts) for name, (_, text) in WRONG.items()
        )

    shop.wait(told, "each problem, with its route")
    assert [marks(shop.get("httproute", name)) for name in WRONG] == [[]] * len(WRONG)


def test_mirroring_is_refused_where_the_class_has_no_such_feature(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.policy({"weight": 10, "mirror": 50}, route="httpRoute", ready=False)
    said = shop.davy("status", "web", check=False).stdout
    assert 'GatewayClass "traefik" (traefik.io/gateway-controller) has no HTTPRouteRequestMirror' in " ".join(
        said.split()
    )

"""Releases by a VirtualService, through a real istiod and Envoy."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.cluster.conformance import answered
from tests.cluster.routes import EDGE, destination_rule, virtual_service
from tests.cluster.shop import SEEN, Controller, Json, Shop, Traffic, ingress_of, marks
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


def pods_of(shop: Shop, user: str) -> dict[str, set[str]]:
    """The pods of each version that answer the requests of a user; of nobody in particular without one."""
    headers = ["-H", f"Host: {shop.host}", *(["-H", f"x-user: {user}"] if user else [])]
    command = ["curl", "-s", *headers, f"{shop.lab.inside_istio_url}?[1-60]"]
    answers, _ = shop.lab.spawn(command, stdout=subprocess.PIPE, text=True).communicate(timeout=240)
    found: dict[str, set[str]] = {}
    for version, pod in sorted(re.findall(r"version (\S+), pod (\S+)", answers)):
        found.setdefault(version, set()).add(pod)
    return found


def test_a_release_takes_effect_step_by_step_and_what_others_change_meanwhile_stays(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    url = shop.lab.inside_istio_url
    before = spec(shop)
    hashed = destination_rule()
    hashed["spec"]["trafficPolicy"] = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}
    shop.apply(hashed)
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
    assert list(pods_of(shop, "7")) == ["v1", "v2"]
    assert max(map(len, pods_of(shop, "7").values())) == 1, "the hash keeps a user at one pod of each version"
    assert max(map(len, pods_of(shop, "").values())) > 1
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


WRONG: dict[str, tuple[Json, str]] = {
    "away": ({"route": [{"destination": {"host": "web.default"}}]}, "a policy splits in its own namespace"),
    "outer": ({"delegate": {"name": "inner"}}, "itself but leaves it to inner"),
    "subset": ({"route": [{"destination": {"host": "web", "subset": "v1"}}]}, "no DestinationRule"),
}


def test_what_is_wrong_with_virtual_services_is_told_all_at_once_before_anything_is_written(
    shop: Shop, controller: Controller
) -> None:
    shop.open(ingress=False, replicas=1)
    made = [virtual_service(shop, http=[http]) | {"metadata": {"name": name}} for name, (http, _) in WRONG.items()]
    shop.apply(EDGE, *made)
    routed: Json = {"service": "web", "routes": [{"virtualService": {"name": name}} for name in WRONG]}
    shop.policy({"weight": 10}, traffic=routed, ready=False)

    def told() -> bool:
        said = " ".join(shop.davy("status", "web", check=False).stdout.split())
        parts = said.split("spec.traffic.routes")
        return all(any(f'"{name}"' in part and text in part for part in parts) for name, (_, text) in WRONG.items())

    shop.wait(told, "each problem, with its VirtualService")
    assert [marks(shop.get("virtualservice", name)) for name in WRONG] == [[]] * len(WRONG)


def test_by_subsets_a_rule_that_hides_them_takes_the_release_back_and_refuses_the_next(
    shop: Shop, controller: Controller
) -> None:
    shop.open(ingress=False)
    edge = EDGE | {"metadata": {"name": shop.namespace, "namespace": "istio-system"}}
    shop.lab.kubectl("apply", "-f", "-", input=json.dumps(edge))
    users_rule = destination_rule()
    users_rule["spec"]["exportTo"] = ["istio-system"]
    gateways = {"hosts": [shop.host], "gateways": [f"istio-system/{shop.namespace}"]}
    shop.apply(users_rule, virtual_service(shop, **gateways))
    traffic = Traffic(shop, url=shop.lab.inside_istio_url)
    before = spec(shop)
    routed: Json = {"service": "web", "settle": "3s", "routes": [{"virtualService": {"name": "web", "subsets": True}}]}
    shop.policy({"weight": 50, "approve": True}, traffic=routed)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert abs(traffic.share("v2") - 50) < 13
    users_rule["spec"]["exportTo"] = ["."]
    shop.apply(users_rule)
    ended = shop.wait_phase(V2, "RolledBack")
    said = f'DestinationRule "web" has spec.exportTo ., so that the pods of Gateway {gateways["gateways"][0]}'
    assert said in ended["status"]["message"]
    shop.wait_quiet("hellok8s:v1")
    assert traffic.share("v1") == 100
    counted = traffic.load.snapshot()
    assert traffic.share("v1", requests=200) == 100
    assert set(traffic.load.snapshot().minus(counted).statuses) == {"200"}
    assert (spec(shop), shop.leftovers()) == (before, [])
    assert [one["metadata"]["name"] for one in shop.all("destinationrules")] == ["web"]
    shop.wait(lambda: shop.condition("Ready") == "False", "the policy to be refused")
    shop.set_image("hellok8s:v3")
    told = 'add istio-system or "*" to it, or leave `subsets` out of the policy'
    shop.wait(lambda: told in " ".join(shop.davy("status", "web", check=False).stdout.split()), told)
    assert shop.release("hellok8s:v3") == {}
    assert spec(shop) == before
    traffic.load.stop()


def test_an_ingress_and_a_virtual_service_of_one_service_are_split_at_once(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.apply(ingress_of(shop.host))
    before = spec(shop)
    at_ingress = Traffic(shop)
    routed: Json = {
        "service": "web",
        "settle": "20s",
        "match": [HEADER],
        "routes": [{"ingress": {"name": "web"}}, {"virtualService": {"name": "web"}}],
    }
    shop.policy({"weight": 50, "approve": True}, {"weight": 100}, traffic=routed)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    how = SEEN.match(shop.release(V2)["status"]["weight"]["how"])
    assert how is not None, shop.release(V2)["status"]["weight"]
    assert float(how[1]) < 20, "requests through both proxies were counted, before the settling time"
    assert 25 < float(how[2]) < 75
    for one, url in ((traffic, shop.lab.inside_istio_url), (at_ingress, shop.lab.inside_traefik_url)):
        assert abs(one.share("v2") - 50) < 13
        assert answered(shop, TESTER, url) == 100
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)
    assert (spec(shop), shop.leftovers()) == (before, [])
    traffic.nothing_lost()
    at_ingress.nothing_lost()

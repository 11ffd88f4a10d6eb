"""Two Deployments that take turns, on the real control plane, through Traefik under constant traffic."""

from __future__ import annotations

import pytest

from tests.cluster.routes import EDGE, GATEWAY, destination_rule, http_route, virtual_service
from tests.cluster.shop import (
    SERVICE,
    Controller,
    Json,
    Shop,
    Traffic,
    deployment,
    ingress_of,
    marks,
    policy_manifest,
)

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
APPROVED: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "approve": True}, {"weight": 100}]
FOURTHS: list[Json] = [{"weight": 25, "approve": True}, {"weight": 50, "approve": True}, {"weight": 100}]


def member(version: str, image: str, replicas: int) -> Json:
    made = deployment(image, replicas, name=f"web-{version}")
    labels = {"app": "web", "version": version}
    made["spec"]["selector"]["matchLabels"] = labels
    made["spec"]["template"]["metadata"]["labels"] = labels
    return made


def behind(name: str, **selector: str) -> Json:
    return SERVICE | {"metadata": {"name": name}, "spec": SERVICE["spec"] | {"selector": {"app": "web"} | selector}}


def open_pair(shop: Shop, *, routed: bool = True, idle: int = 0, idle_image: str = V1) -> None:
    """web-v1 with four pods and its Service (or one for both), web-v2, and the Ingress."""
    services = [behind("web", version="v1"), behind("web-canary", version="v2")] if routed else [behind("web")]
    shop.apply(member("v1", V1, 4), member("v2", idle_image, idle), *services, ingress_of(shop.host))
    shop.wait_available(4, "web-v1")
    if idle:
        shop.wait_available(idle, "web-v2")


def policy(shop: Shop, steps: list[Json], *, routed: bool = True, route: str = "ingress") -> None:
    traffic: Json = {"service": "web", "settle": "3s"} | ({"routes": [{route: {"name": "web"}}]} if routed else {})
    spec = {"target": {"pair": {"stable": "web-v1", "canary": "web-v2"}}, "traffic": traffic, "steps": steps}
    shop.apply(policy_manifest("web", spec))
    shop.wait(lambda: shop.condition("Ready") == "True", "a policy that can be used")


def sizes(shop: Shop) -> tuple[int, int]:
    first, second = (shop.get("deployment", name)["spec"]["replicas"] for name in ("web-v1", "web-v2"))
    return first, second


def settled(shop: Shop, image: str) -> None:
    shop.wait(lambda: sorted(shop.pods().values()) == [image] * 4, f"four pods of {image} and no others")


def test_a_pair_by_nginx_weight_swaps_its_places_and_comes_back_from_half(shop: Shop, controller: Controller) -> None:
    open_pair(shop)
    traffic = Traffic(shop)
    policy(shop, APPROVED)
    shop.set_image(V2, "web-v2")
    shop.wait_step(V2, 1)
    assert abs(traffic.share("v2") - 10) < 2
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert abs(traffic.share("v2") - 50) < 2
    controller.kill()
    controller.start()
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    settled(shop, V2)
    assert (traffic.share("v2"), sizes(shop)) == (100, (0, 4))
    shop.set_image(V3, "web-v1")
    shop.wait_step(V3, 1)
    shop.davy("approve", "web")
    shop.wait_step(V3, 2)
    assert abs(traffic.share("v3") - 50) < 2
    done = shop.davy("abort", "web", "--wait", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    settled(shop, V2)
    assert (traffic.share("v2"), sizes(shop)) == (100, (0, 4))
    assert [i["metadata"]["name"] for i in shop.all("ingresses")] == ["web"]
    assert {s["metadata"]["name"] for s in shop.all("services")} == {"web", "web-canary"}
    traffic.nothing_lost()


@pytest.mark.parametrize("route", ["httpRoute", "virtualService"])
def test_a_pair_by_another_route_swaps_its_places_and_leaves_the_route_as_it_was(
    shop: Shop, controller: Controller, route: str
) -> None:
    made = [GATEWAY, http_route(shop.host)] if route == "httpRoute" else [EDGE, virtual_service(shop)]
    open_pair(shop)
    shop.apply(*made, *([destination_rule()] if route == "virtualService" else []))
    shop.kubectl("delete", "ingress", "web")
    lab = shop.lab
    traffic = Traffic(shop, url=lab.inside_traefik_url if route == "httpRoute" else lab.inside_istio_url)
    before = shop.get(route.lower(), "web")["spec"]
    policy(shop, [{"weight": 50, "approve": True}, {"weight": 100}], route=route)
    shop.set_image(V2, "web-v2")
    shop.wait_step(V2, 1)
    assert abs(traffic.share("v2") - 50) < 13
    shop.davy("abort", "web", "--wait")
    settled(shop, V1)
    assert traffic.share("v1") == 100
    shop.davy("retry", "web")
    shop.wait(lambda: shop.release(V2)["spec"].get("attempt") == 2, "another attempt")
    shop.wait_step(V2, 1)
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    settled(shop, V2)
    assert (traffic.share("v2"), sizes(shop)) == (100, (0, 4))
    left = shop.get(route.lower(), "web")
    assert (left["spec"], marks(left)) == (before, [])
    rules = [one["metadata"]["name"] for one in shop.all("destinationrules")]
    assert rules == (["web"] if route == "virtualService" else [])
    traffic.nothing_lost()


def test_a_pair_under_one_service_keeps_its_total_there_and_back(shop: Shop, controller: Controller) -> None:
    open_pair(shop, routed=False)
    traffic = Traffic(shop)
    policy(shop, FOURTHS, routed=False)
    shop.set_image(V2, "web-v2")
    shop.wait_step(V2, 1)
    assert sizes(shop) == (3, 1)
    shop.wait(lambda: abs(traffic.share("v2", 400) - 25) < 4, "a quarter")
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert sizes(shop) == (2, 2)
    shop.davy("abort", "web")
    shop.wait_phase(V2, "RolledBack")
    settled(shop, V1)
    shop.davy("start", "web")
    shop.wait(lambda: shop.release(V2)["spec"].get("attempt") == 2, "another attempt")
    shop.wait_step(V2, 1)
    shop.davy("promote", "web")
    shop.wait_phase(V2, "Completed")
    settled(shop, V2)
    assert (traffic.share("v2"), sizes(shop)) == (100, (0, 4))
    traffic.nothing_lost()


def test_a_canary_made_by_hand_is_adopted_at_its_weight_and_goes_on(shop: Shop, controller: Controller) -> None:
    open_pair(shop, idle=2, idle_image=V2)
    canary = ingress_of(shop.host)
    canary["metadata"] = {
        "name": "web-canary",
        "annotations": {"nginx.ingress.kubernetes.io/canary": "true", WEIGHT: "10"},
    }
    canary["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "web-canary"
    shop.apply(canary)
    traffic = Traffic(shop)
    shop.wait(lambda: abs(traffic.share("v2") - 10) < 2, "10 % by hand")
    before = shop.get("ingress", "web-canary")["metadata"]["resourceVersion"]
    began = traffic.load.snapshot()
    told = shop.davy("adopt", "web", "--apply")
    assert "goes on from 10 %" in told.stdout
    shop.wait_step(V2, 1)
    shop.wait(lambda: traffic.load.snapshot().minus(began).answered >= 1000, "a thousand requests")
    assert abs(100 * traffic.load.snapshot().minus(began).share("v2") - 10) < 1
    assert shop.get("ingress", "web-canary")["metadata"]["resourceVersion"] == before, "not written at all"
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert abs(traffic.share("v2") - 50) < 2
    shop.davy("promote", "web")
    shop.wait_phase(V2, "Completed")
    assert traffic.share("v2") == 100
    assert shop.get("ingress", "web-canary")["metadata"]["annotations"][WEIGHT] == "0"
    assert shop.get("service", "web")["spec"]["selector"] == {"app": "web", "version": "v2"}
    traffic.nothing_lost()

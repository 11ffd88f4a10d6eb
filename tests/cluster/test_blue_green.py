"""Blue/green on the real control plane, under Traefik's traffic: the switch, and the ways back."""

from __future__ import annotations

import time

from tests.cluster.conformance import answered
from tests.cluster.shop import Controller, Json, Shop, Traffic, ingress_of
from tests.conformance.suite import Sent

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
STEPS: list[Json] = [{"weight": 0, "replicas": "100%", "approve": True}, {"weight": 100}]


def blue_green(shop: Shop, bake: str, keep_old: str) -> None:
    preview = {"service": "web", "settle": "1s", "preview": {"service": "web-preview"}}
    shop.policy(*STEPS, routed=False, traffic=preview, bake=bake, keepOld=keep_old)


def test_blue_green_switches_and_returns_from_the_bake_and_from_the_kept_pods_without_a_lost_request(
    shop: Shop, controller: Controller
) -> None:
    shop.open()
    traffic = Traffic(shop)
    stable = shop.pods()
    blue_green(shop, "5m", "5m")
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert sorted(shop.pods().values()) == [V1] * 4 + [V2] * 4
    assert shop.get("service", "web-preview")["spec"]["selector"]["app"] == "web"
    assert traffic.share("v1") == 100
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert traffic.share("v2") == 100
    asked = time.monotonic()
    shop.davy("abort", "web")
    shop.wait(lambda: traffic.share("v1", 20) == 100, "the traffic back on the old pods")
    assert time.monotonic() - asked < 60, "long before the end of the bake"
    shop.wait_phase(V2, "RolledBack")
    shop.wait_quiet(V1)
    assert shop.pods() == stable, "no old pod was restarted"
    assert shop.leftovers() == []

    blue_green(shop, "1s", "5m")
    shop.set_image(V3)
    shop.wait_step(V3, 1)
    assert shop.davy("approve", "web", "--wait").returncode == 0, "completed, with the old pods still there"
    assert sorted(shop.pods().values()) == [V1] * 4 + [V3] * 4
    assert traffic.share("v3") == 100
    shop.davy("abort", "web", "--wait")
    assert traffic.share("v1") == 100
    shop.wait_quiet(V1)
    assert shop.pods() == stable
    assert shop.leftovers() == []
    traffic.nothing_lost()


def test_the_old_pods_go_when_they_were_kept_for_long_enough(shop: Shop, controller: Controller) -> None:
    shop.open(replicas=2)
    traffic = Traffic(shop)
    blue_green(shop, "1s", "20s")
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    new = {name for name, image in shop.pods().items() if image == V2}
    assert sorted(shop.pods().values()) == [V1] * 2 + [V2] * 2
    shop.wait_quiet(V2)
    assert set(shop.pods()) == new, "the new pods are the Deployment's, none restarted"
    shop.wait(lambda: "keptUntil" not in shop.release(V2)["status"], "the end of it")
    assert shop.leftovers() == []
    assert not shop.get("deployment", "web")["spec"].get("paused")
    traffic.nothing_lost()


def test_two_services_and_two_ingresses_are_split_together_and_come_back_as_they_were(
    shop: Shop, controller: Controller
) -> None:
    """Each Ingress sends to one of the workload's Services; a second path of the first sends to the other."""
    shop.open()
    admin: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "admin"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    second = ingress_of(f"admin.{shop.host}")
    second["metadata"]["name"] = "admin"
    second["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "admin"
    first = ingress_of(shop.host)
    path = {"path": "/both", "pathType": "Prefix", "backend": {"service": {"name": "admin", "port": {"number": 80}}}}
    first["spec"]["rules"][0]["http"]["paths"].append(path)
    shop.apply(admin, first, second)
    traffic = Traffic(shop)
    before = {name: shop.get("ingress", name)["spec"] for name in ("web", "admin")}
    both = {
        "services": ["web", "admin"],
        "settle": "3s",
        "routes": [{"ingress": {"name": "web"}}, {"ingress": {"name": "admin"}}],
    }
    shop.policy({"weight": 50, "approve": True}, {"weight": 100, "approve": True}, traffic=both)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    made = sorted(i["metadata"]["name"] for i in shop.all("ingresses") if i["metadata"]["name"] not in before)
    assert made == ["admin-davylamp", "web-davylamp", "web.admin-davylamp"]
    assert abs(traffic.share("v2") - 50) < 8
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    selected = [shop.get("service", name)["spec"]["selector"]["pod-template-hash"] for name in ("web", "admin")]
    assert selected == [shop.release(V2)["spec"]["canary"]["hash"]] * 2
    assert answered(shop, Sent()) == 100
    shop.davy("approve", "web", "--wait")
    shop.wait_quiet(V2)
    left = [one for one in shop.leftovers() if one not in ("Ingress admin", "Service admin")]
    assert left == []
    assert shop.get("service", "admin")["spec"]["selector"] == {"app": "web"}
    assert {name: shop.get("ingress", name)["spec"] for name in before} == before
    traffic.nothing_lost()

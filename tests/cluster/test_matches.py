"""Releases with testers through Traefik's provider of nginx's annotations."""

from __future__ import annotations

import subprocess

from tests.cluster.conformance import answered
from tests.cluster.shop import Controller, Json, Shop, Traffic, ingress_of
from tests.conformance.suite import Sent

V2 = "hellok8s:v2"
HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}
NGINX = "nginx.ingress.kubernetes.io"
PLAIN, TESTER = Sent(), Sent({"X-Canary": "true"})


def test_testers_come_first_and_are_back_on_stable_after_a_rollback(shop: Shop, controller: Controller) -> None:
    shop.open()
    traffic = Traffic(shop, rps=20)
    shop.policy({"weight": 0, "approve": True}, {"weight": 10}, match=[HEADER])
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert answered(shop, TESTER) == 100
    assert answered(shop, PLAIN) == 0
    assert "header X-Canary: true" in shop.davy("status", "web").stdout
    shop.davy("abort", "web", "--wait")
    assert answered(shop, TESTER) == 0
    traffic.nothing_lost()


def test_a_header_and_a_cookie_value_together_are_refused_before_anything_is_written(
    shop: Shop, controller: Controller
) -> None:
    shop.open()
    shop.policy({"weight": 10}, match=[HEADER, COOKIE], ready=False)
    said = shop.davy("status", "web", check=False).stdout
    assert "spec.traffic.match[1].cookie" in said
    assert "HTTPRoute" in said
    assert shop.leftovers() == []


def client_of(shop: Shop, version: str) -> str:
    """The cookies of a client that a proxy with affinity has given this version."""

    def given() -> str:
        command = ["curl", "-sSi", "-H", f"Host: {shop.host}", shop.lab.inside_traefik_url]
        answer, _ = shop.lab.spawn(command, stdout=subprocess.PIPE, text=True).communicate(timeout=60)
        headers = [line.partition(": ")[::2] for line in answer.split("\n\n")[0].splitlines()]
        if ("X-Version", version) not in headers:
            return ""
        return "; ".join(value.partition(";")[0] for name, value in headers if name == "Set-Cookie")

    cookies: str = shop.wait(given, f"a client of {version}")
    return cookies


def test_clients_that_a_cookie_keeps_stay_whatever_the_weight_until_a_rollback_frees_them(
    shop: Shop, controller: Controller
) -> None:
    ingress = ingress_of(shop.host)
    ingress["metadata"]["annotations"] = {f"{NGINX}/affinity": "cookie", f"{NGINX}/session-cookie-name": "shop"}
    shop.open(ingress=False)
    shop.apply(ingress)
    traffic = Traffic(shop, rps=50)
    shop.policy({"weight": 20, "approve": True}, {"weight": 50, "approve": True})
    assert f"{NGINX}/affinity: cookie, which pins clients: those that have a cookie stay" in said(shop), "the warning"
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    cookies = {version: client_of(shop, version) for version in ("v1", "v2")}
    assert all("shop-wrr=" in one for one in cookies.values()), cookies
    kept = Traffic(shop, rps=50, headers={"Cookie": cookies["v2"]})
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert answered(shop, Sent({"Cookie": cookies["v1"]}), version="v1") == 100, "it stays as the weight rises"
    controller.kill()
    shop.kubectl("annotate", "ingress", "web-davylamp", f"{NGINX}/canary-weight=1", "--overwrite")
    shop.wait(lambda: traffic.share("v2", requests=100) < 20, "the weight to fall for new clients")
    assert answered(shop, Sent({"Cookie": cookies["v2"]})) == 100
    assert set(kept.load.snapshot().by_version) == {"v2"}
    controller.start()
    shop.davy("abort", "web", "--wait")
    assert answered(shop, Sent({"Cookie": cookies["v2"]}), version="v1") == 100, "it is free when the rollback is over"
    freed = "which also frees the clients that the cookie affinity of Ingress web keeps there"
    shop.wait(lambda: [one for one in shop.events() if freed in one], "the Event that says so")
    assert shop.leftovers() == []
    kept.nothing_lost()
    traffic.nothing_lost()


def said(shop: Shop) -> str:
    """What `davy status` says, on one line."""
    return " ".join(shop.davy("status", "web", check=False).stdout.split())

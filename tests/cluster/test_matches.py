"""Releases with testers through Traefik's provider of nginx's annotations."""

from __future__ import annotations

from tests.cluster.conformance import answered
from tests.cluster.shop import Controller, Json, Shop, Traffic
from tests.conformance.suite import Sent

V2 = "hellok8s:v2"
HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}
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

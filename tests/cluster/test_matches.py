"""Exposures through Traefik's provider of nginx's annotations: the conformance suite, and releases with testers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from davylab import Lab

from davylamp.routers.ingresses import INGRESS
from davylamp.routers.nginx_rules import refused
from tests.cluster.conformance import PLAIN, Bed, answered, bed, cases_of, check, check_restored, sent
from tests.cluster.shop import Controller, Json, Shop, Traffic, ingress_of

V2 = "hellok8s:v2"
HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def nginx(installed: Lab) -> Iterator[Bed]:
    shop = Shop(installed, f"nginx-{next(_numbers)}")
    shop.kubectl("create", "namespace", shop.namespace)
    with bed(shop, INGRESS, ingress_of(shop.host)) as made:
        yield made


@pytest.mark.parametrize("case", cases_of(refused))
def test_who_matches_reaches_the_canary_and_of_the_others_the_weights_share(nginx: Bed, case: str) -> None:
    check(nginx, case)


def test_nobody_reaches_the_canary_when_it_is_over(nginx: Bed) -> None:
    check_restored(nginx)


def test_testers_come_first_and_are_back_on_stable_after_a_rollback(shop: Shop, controller: Controller) -> None:
    shop.open()
    traffic = Traffic(shop, rps=20)
    shop.policy({"weight": 0, "approve": True}, {"weight": 10}, match=[HEADER])
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    tester = sent(X_Canary="true")
    assert answered(shop, tester) == 100
    assert answered(shop, PLAIN) == 0
    assert "header X-Canary: true" in shop.davy("status", "web").stdout
    shop.davy("abort", "web", "--wait")
    assert answered(shop, tester) == 0
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

"""Testers by header and cookie through Traefik's provider of nginx's annotations: a thousand real requests a case."""

from __future__ import annotations

import pytest

from davylamp.embedded.load import Load
from tests.cluster.shop import Controller, Json, Shop, Traffic

V2 = "hellok8s:v2"
REQUESTS = 1000
LEAST, MOST = 60, 145
"""Of a thousand requests at 10 %: more than four standard deviations of the binomial distribution either way."""

HEADER: Json = {"header": {"name": "X-Canary", "exact": "true"}}
COOKIE: Json = {"cookie": {"name": "canary", "exact": "true"}}
ALWAYS: Json = {"cookie": {"name": "canary", "exact": "always"}}
REGEX: Json = {"header": {"name": "X-Canary", "regex": "beta-[0-9]+"}}
PREFIX: Json = {"cookie": {"name": "canary", "prefix": "be"}}
PRESENT: Json = {"header": {"name": "X-Canary", "present": True}}

CASES: dict[str, tuple[list[Json], list[tuple[str, str]], list[tuple[str, str]]]] = {
    # the matches; headers that choose the canary; headers that don't
    "a header's value": ([HEADER], [("X-Canary", "true")], [("X-Canary", "truer")]),
    "a cookie's value": (
        [COOKIE],
        [("Cookie", "canary=true"), ("Cookie", "a=b; canary=true; c=d")],
        [("Cookie", "canary=truer"), ("Cookie", "xcanary=true")],
    ),
    "a header's value and a cookie that says always": (
        [HEADER, ALWAYS],
        [("X-Canary", "true"), ("Cookie", "canary=always")],
        [("X-Canary", "false"), ("Cookie", "canary=true")],
    ),
    "a regular expression": ([REGEX], [("X-Canary", "beta-12")], [("X-Canary", "xbeta-12"), ("X-Canary", "beta-1x")]),
    "a cookie's prefix": ([PREFIX], [("Cookie", "canary=beta")], [("Cookie", "canary=abe")]),
    "a header that is there": ([PRESENT], [("X-Canary", "whatever")], [("X-Other", "true")]),
}


def answered(shop: Shop, header: tuple[str, str] | None) -> dict[str, int]:
    """Who answered the next thousand requests with this header."""
    with Load(shop.lab, host=shop.host, rps=500, headers=dict([header]) if header else {}) as load:
        shop.wait(lambda: load.snapshot().answered >= REQUESTS, "a thousand answers")
        counted = load.stop()
    assert (counted.lost, counted.failed) == (0, 0)
    return {version: REQUESTS * count // counted.answered for version, count in counted.by_version.items()}


@pytest.mark.parametrize("case", CASES)
def test_who_matches_is_always_on_the_canary_and_of_the_others_ten_percent(
    shop: Shop, controller: Controller, case: str
) -> None:
    matches, chosen, others = CASES[case]
    shop.open()
    shop.policy({"weight": 10, "approve": True}, match=matches)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    for header in chosen:
        assert answered(shop, header) == {"v2": REQUESTS}, header
    for other in (None, *others):
        assert LEAST <= answered(shop, other).get("v2", 0) <= MOST, other


def test_testers_come_first_and_are_back_on_stable_after_a_rollback(shop: Shop, controller: Controller) -> None:
    shop.open()
    traffic = Traffic(shop, rps=20)
    shop.policy({"weight": 0, "approve": True}, {"weight": 10}, match=[HEADER])
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    tester = ("X-Canary", "true")
    assert answered(shop, tester) == {"v2": REQUESTS}
    assert answered(shop, None) == {"v1": REQUESTS}
    assert "header X-Canary: true" in shop.davy("status", "web").stdout
    shop.davy("abort", "web", "--wait")
    assert answered(shop, tester) == {"v1": REQUESTS}
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

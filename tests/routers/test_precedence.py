"""Who gets a request by the rules of the Gateway API."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from davylamp.routers.precedence import Request, decide, holds, may_meet, shares

HEADER = {"name": "X-Canary", "type": "Exact", "value": "true"}


def place(value: str, kind: str = "PathPrefix", **more: Any) -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}, **more}


@pytest.mark.parametrize(
    ("match", "request_", "wanted"),
    [
        (place("/foo"), Request("/foo"), True),
        (place("/foo"), Request("/foo/bar"), True),
        (place("/foo/"), Request("/foo"), True),
        (place("/foo"), Request("/foobar"), False),
        (place("/foo", "Exact"), Request("/foo/"), False),
        (place("/v[0-9]+", "RegularExpression"), Request("/v12"), True),
        ({}, Request("/any"), True),
        ({"method": "GET"}, Request(method="POST"), False),
        ({"headers": [HEADER]}, Request(headers={"x-canary": "true"}), True),
        ({"headers": [HEADER]}, Request(headers={"x-canary": "truer"}), False),
        (
            {"headers": [{**HEADER, "type": "RegularExpression", "value": "^b"}]},
            Request(headers={"X-Canary": "be"}),
            True,
        ),
        ({"queryParams": [{"name": "v", "value": "2"}]}, Request(query={"v": "2"}), True),
        ({"queryParams": [{"name": "v", "value": "2"}]}, Request(query={"V": "2"}), False),
    ],
)
def test_a_match_holds(match: dict[str, Any], request_: Request, wanted: bool) -> None:
    assert holds(match, request_) is wanted


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (place("/a", "Exact"), place("/a", method="GET", headers=[HEADER])),
        (place("/a/b"), place("/a", method="GET", headers=[HEADER])),
        (place("/a", method="GET"), place("/a", headers=[HEADER])),
        (place("/a", headers=[HEADER]), place("/a", queryParams=[{"name": "v", "value": "2"}])),
        (place("/a", queryParams=[{"name": "v", "value": "2"}]), place("/a")),
    ],
)
def test_the_more_specific_match_comes_first_wherever_it_stands(better: Any, worse: Any) -> None:
    asked = Request("/a/b" if better["path"]["value"] == "/a/b" else "/a", "GET", {"X-Canary": "true"}, {"v": "2"})
    rules = [{"matches": [better]}, {"matches": [worse]}]
    assert (decide(rules, asked), decide(rules[::-1], asked)) == (0, 1)


def test_among_equals_the_first_rule_answers_and_without_a_match_nobody_does() -> None:
    rules = [{"matches": [place("/a")]}, {"matches": [place("/a/")]}]
    assert decide(rules, Request("/a")) == 0
    assert decide(rules, Request("/b")) is None
    assert decide([{}], Request("/b")) == 0


def test_calls_go_by_service_then_method_then_headers() -> None:
    cart = {"matches": [{"method": {"service": "shop.Cart"}}]}
    add = {"matches": [{"method": {"service": "shop.Cart", "method": "Add"}}]}
    anyone = {"matches": [{"headers": [HEADER]}]}
    headers = {"X-Canary": "true"}
    assert decide([cart, add, anyone], Request("/shop.Cart/Add", headers=headers), grpc=True) == 1
    assert decide([cart, add, anyone], Request("/shop.Cart/Get", headers=headers), grpc=True) == 0
    assert decide([cart, add, anyone], Request("/x/Get", headers=headers), grpc=True) == 2
    assert decide([cart, add, anyone], Request("/x/Get"), grpc=True) is None


def test_shares_are_parts_of_the_sum() -> None:
    refs = [{"name": "a", "weight": 3}, {"name": "b"}, {"name": "c", "namespace": "x", "weight": 0}]
    assert shares({"backendRefs": refs}) == {"a": Fraction(3, 4), "b": Fraction(1, 4)}
    assert shares({}) == {}


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (place("/a"), place("/a/b"), True),
        (place("/a"), place("/ab"), False),
        (place("/a"), place("/a/b", "Exact"), True),
        (place("/a", "Exact"), place("/b", "Exact"), False),
        (place("/a", "Exact"), place("/.*", "RegularExpression"), True),
        (place("/", method="GET"), place("/", method="POST"), False),
    ],
)
def test_matches_meet_where_a_request_could_satisfy_both(one: Any, other: Any, wanted: bool) -> None:
    assert may_meet(one, other) is wanted
    assert may_meet(other, one) is wanted

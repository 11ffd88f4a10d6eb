"""What users say: which votes count, which are refused and why, and what a browser is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from davylamp.analysis.counts import Vote, validate
from davylamp.signals import feedback
from davylamp.signals.addresses import networks
from davylamp.signals.feedback import (
    PER_MINUTE,
    Box,
    Limits,
    Refusal,
    Request,
    Rules,
    Said,
    Sides,
    address_of,
    judge,
    network_of,
    routes,
)

NOW = 1763940000.0
SIDES = Sides(
    frozenset({"7f6b13", "shop:v1", "v1", "web-7f6b13-abcde"}), frozenset({"91ac02", "shop:v2", "v2", "web-9"})
)
RULES = Rules(origins=("https://shop.example",), version_cookie="version")
BAD = {"bad": True, "user": "jane", "version": "v2"}


def said(body: dict[str, Any], headers: dict[str, str] | None = None, rules: Rules = RULES) -> Said | Refusal:
    return judge(Request("10.0.0.7", headers or {}, {}, body), rules, SIDES, b"salt", NOW)


@pytest.mark.parametrize(
    ("body", "headers", "cookies", "canary"),
    [
        ({"bad": True, "version": "v2"}, {}, {}, True),
        ({"bad": True, "version": "shop:v1"}, {}, {}, False),
        ({"bad": True, "pod": "web-9"}, {"x-version": "v1"}, {}, True),
        ({"bad": True}, {"x-version": "91ac02"}, {"version": "v1"}, True),
        ({"bad": True}, {}, {"version": "v1"}, False),
    ],
)
def test_the_version_comes_from_body_header_or_cookie(
    body: dict[str, Any], headers: dict[str, str], cookies: dict[str, str], canary: bool
) -> None:
    found = judge(Request("10.0.0.7", headers, cookies, body), RULES, SIDES, b"salt", NOW)
    assert isinstance(found, Said)
    assert found.canary is canary


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        ({"version": "v2"}, {}, 400, "bad: is missing"),
        (BAD | {"bad": "yes"}, {}, 400, 'bad: "yes" where true or false is expected'),
        (BAD | {"user": 7}, {}, 400, "user: 7 where text is expected"),
        (BAD | {"version": "v7"}, {}, 422, 'version: "v7" is neither the stable version nor the canary'),
        ({"bad": True}, {}, 400, "which version served the user? Send X-Version"),
        (BAD | {"began": NOW + 9999}, {}, 400, "began: when the user's session began"),
        (BAD | {"began": "yesterday"}, {}, 400, "began: when the user's session began"),
        (BAD, {"origin": "https://evil.example"}, 403, "pages of https://evil.example may not send feedback"),
    ],
)
def test_a_request_that_is_no_vote_is_told_why(
    body: dict[str, Any], headers: dict[str, str], status: int, message: str
) -> None:
    found = said(body, headers)
    assert isinstance(found, Refusal)
    assert found.status == status
    assert message in found.message


@pytest.mark.parametrize(
    ("header", "right"), [("Bearer secret", True), ("Bearer wrong", False), ("", False), ("Basic secret", False)]
)
def test_a_token_is_asked_for_where_there_is_one(header: str, right: bool) -> None:
    found = said(BAD, {"authorization": header}, Rules(token="secret"))
    assert isinstance(found, Said) is right


def test_only_a_hash_of_the_user_is_kept_and_it_differs_between_releases() -> None:
    one, again = said(BAD), said(BAD)
    other = judge(Request("10.0.0.7", {}, {}, BAD), RULES, SIDES, b"pepper", NOW)
    assert isinstance(one, Said)
    assert isinstance(other, Said)
    assert one == again
    assert "jane" not in repr(one)
    assert one.user != other.user


def test_a_note_is_kept_without_secrets() -> None:
    found = said(BAD | {"note": "my mail jane@example.com, password: hunter2, nothing works"})
    assert isinstance(found, Said)
    assert found.note == "my mail <email>, password: <secret>, nothing works"


def test_each_user_counts_once() -> None:
    box = Box(RULES, SIDES, b"salt")
    votes = [said(BAD), said(BAD), said(BAD | {"user": "joe", "version": "v1", "began": 5.0})]
    votes += [said(BAD | {"user": "ann", "bad": False})]
    assert [box.put(vote) for vote in votes if isinstance(vote, Said)] == [True, False, True, True]
    found = box.take(0, 10, 900, 100)
    validate(found)
    assert [(vote.canary, vote.began) for vote in found.votes] == [(True, NOW), (False, 5.0)]
    assert isinstance(found.votes[0], Vote)
    assert box.good == [0, 1]
    assert box.take(10, 20, 900, 100).votes == ()
    assert box.put(votes[0]) is False  # type: ignore[arg-type]


def test_who_sends_too_much_waits_and_others_do_not() -> None:
    limits = Limits()
    assert [limits.admit("a", NOW) for _ in range(PER_MINUTE + 2)] == [True] * PER_MINUTE + [False] * 2
    assert limits.admit("b", NOW)
    assert not limits.admit("a", NOW + 1)
    assert limits.admit("a", NOW + 6)


def test_addresses_of_one_customer_share_a_limit() -> None:
    assert network_of("2001:db8:1:2::7") == network_of("2001:db8:1:2:ffff::1") != network_of("2001:db8:1:3::7")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")


def test_the_table_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_ADDRESSES", 3)
    limits = Limits()
    for n in range(10):
        limits.admit(f"10.0.0.{n}", NOW)
    assert len(limits._buckets) == 3


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "1.2.3.4", "203.0.113.5"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(peer: str, forwarded: str, expected: str) -> None:
    assert address_of(peer, forwarded, networks(["10.0.0.0/8"])) == expected


Browser = TestClient[web.Request, web.Application]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    box = Box(RULES, SIDES, b"salt")
    app = web.Application()
    app.add_routes(routes(lambda namespace, name: box if (namespace, name) == ("shop", "web") else None, lambda: NOW))
    async with TestClient(TestServer(app)) as found:
        yield found


URL = "/feedback?namespace=shop&name=web"


async def test_a_vote_is_taken_once(browser: Browser) -> None:
    answers = [await browser.post(URL, json=BAD) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 200]
    assert [(await answer.json())["message"] for answer in answers] == ["thank you", "this user has voted already"]


@pytest.mark.parametrize(
    ("url", "data", "kind", "status", "message"),
    [
        ("/feedback", b'{"bad": true}', "application/json", 404, "no release that takes feedback is under way for /"),
        (URL, b"{", "application/json", 400, "the body is no JSON"),
        (URL, b"[]", "application/json", 400, "the body is no object"),
        (URL, b"a=b", "application/x-www-form-urlencoded", 415, "is not read: send JSON"),
        (URL, b'"' + b"x" * 9000 + b'"', "application/json", 413, "more than 8192 bytes"),
    ],
)
async def test_a_bad_request_is_answered_with_a_sentence(
    browser: Browser, url: str, data: bytes, kind: str, status: int, message: str
) -> None:
    answer = await browser.post(url, data=data, headers={"Content-Type": kind})
    assert answer.status == status
    assert message in (await answer.json())["message"]


async def test_an_address_that_sends_too_much_is_told_to_wait(browser: Browser) -> None:
    answers = [await browser.post(URL, json=BAD | {"user": str(n)}) for n in range(PER_MINUTE + 1)]
    assert [answer.status for answer in answers] == [202] * PER_MINUTE + [429]
    assert answers[-1].headers["Retry-After"] == "60"


@pytest.mark.parametrize(("origin", "allowed"), [("https://shop.example", True), ("https://evil.example", False)])
async def test_a_browser_is_told_which_pages_may(browser: Browser, origin: str, allowed: bool) -> None:
    answer = await browser.options(URL, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert answer.status == 204
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    assert answer.headers.get("Access-Control-Allow-Credentials") == ("true" if allowed else None)
    if allowed:
        assert "X-Version" in answer.headers["Access-Control-Allow-Headers"]

"""ingress-nginx's decision, with the cases of its own end-to-end tests (test/e2e/annotations/canary.go)."""

from __future__ import annotations

import random

import pytest

from davylamp.routers.decision import PREFIX, Answer, CanaryConfig, Request, Side, decide, parse

PATTERN = "^Do[A-Z][a-z]+y$"
BROKEN = "[][**da?$&*"

H = {"canary-by-header": "X-Canary"}
C = {"canary-by-cookie": "who"}


def config(rules: dict[str, str]) -> CanaryConfig:
    return parse({f"{PREFIX}{key}": value for key, value in {"canary": "true", **rules}.items()})


def answer(rules: dict[str, str], header: str | None = None, cookie: str | None = None, roll: int = 1) -> Answer:
    request = Request(
        headers={} if header is None else {"X-Canary": header},
        cookies={} if cookie is None else {"who": cookie},
        roll=roll,
    )
    return decide(config(rules), request)


def value(header: str) -> dict[str, str]:
    return H | {"canary-by-header-value": header}


def pattern(text: str) -> dict[str, str]:
    return H | {"canary-by-header-pattern": text}


W100 = {"canary-weight": "100"}


@pytest.mark.parametrize(
    ("rules", "header", "cookie", "expected"),
    [
        # acceptance case 2
        (H, "never", None, "main"),
        (H, "always", None, "canary"),
        (H, "badheadervalue", None, "main"),
        (H, None, None, "main"),
        # 4
        (value("DoCanary"), "DoCanary", None, "canary"),
        (value("DoCanary"), "always", None, "main"),
        (value("DoCanary"), "never", None, "main"),
        (value("DoCanary"), "other", None, "main"),
        # 5
        (pattern(PATTERN), "DoCanary", None, "canary"),
        (pattern(PATTERN), "Docanary", None, "main"),
        # 6: a value hides the pattern
        (value("DoCanary") | pattern(PATTERN), "DoCananry", None, "main"),
        # 7: a pattern that is an error ends the decision
        (pattern(BROKEN) | C, "DoCanary", "always", "main"),
        # 8
        (value("DoCanary") | C, "other", "always", "canary"),
        # 9
        (C, None, "always", "canary"),
        (C, None, "never", "main"),
        (C, None, "bad", "main"),
        (C, None, None, "main"),
        # 10
        ({"canary-weight": "0"}, None, None, "main"),
        (W100, None, None, "canary"),
        ({"canary-weight": "1000", "canary-weight-total": "1000"}, None, None, "canary"),
        # derived from the code
        (H | C | W100, "never", "always", "main"),
        (H | C, "always", "never", "canary"),
        (value("x") | W100, "never", None, "canary"),
        (pattern(PATTERN) | W100, "nothing", None, "canary"),
        (pattern(BROKEN) | W100, "anything", None, "main"),
        (C | W100, None, "never", "main"),
        (value("a=b"), "always", None, "canary"),  # "=" is not allowed there, so there is no value
        (pattern("Do"), "xDoy", None, "canary"),  # not anchored
        (pattern("do"), "xDoy", None, "main"),  # nor without case
        (pattern("a{1,3}"), "aa", None, "main"),  # a comma is not allowed, so there is no pattern
        (pattern("(?!x)a"), "always", None, "canary"),  # nor an exclamation mark
        (pattern("a b"), "a b", None, "main"),  # nor a space
        (value("a b"), "a b", None, "canary"),  # a value may have one
        (H, "", None, "main"),
    ],
)
def test_header_before_cookie_before_weight(
    rules: dict[str, str], header: str | None, cookie: str | None, expected: Answer
) -> None:
    assert answer(rules, header, cookie) == expected


@pytest.mark.parametrize(("header", "expected"), [("never", "main"), ("always", "canary")])
def test_a_header_of_another_name_counts_once_the_rule_is_renamed(header: str, expected: Answer) -> None:
    renamed = config({"canary-by-header": "H2"})
    assert decide(renamed, Request(headers={"h2": header})) == expected
    assert decide(renamed, Request(headers={"X-Canary": header})) == "main"


@pytest.mark.parametrize("name", ["x-canary", "X_CANARY", "X-CANARY"])
def test_the_name_of_a_header_is_without_case_and_dashes_are_underscores(name: str) -> None:
    assert decide(config(H), Request(headers={name: "always"})) == "canary"


def test_the_name_of_a_cookie_is_without_case() -> None:
    assert decide(config(C), Request(cookies={"WHO": "always"})) == "canary"


@pytest.mark.parametrize(
    ("weight", "total", "expected"),
    [
        ("50", None, 50),
        ("100", "200", 50),
        ("50", "50", 50),  # a total of at most 100 counts as 100
        ("5", "10", 5),
        ("150", None, 100),
        ("-1", None, 0),
        ("ten", None, 0),
        ("+5", None, 5),
        (" 5", None, 0),
        ("1_0", None, 0),
        ("10", "many", 10),
        ("99999999999999999999", None, 0),  # overflows
        ("10", "-5", 10),
    ],
)
def test_the_share_of_requests_without_header_and_cookie(weight: str, total: str | None, expected: float) -> None:
    rules = {"canary-weight": weight} | ({} if total is None else {"canary-weight-total": total})
    found = config(rules)
    assert found.share == expected
    answers = [decide(found, Request(roll=roll)) for roll in range(1, found.total + 1)]
    assert 100 * answers.count("canary") / found.total == expected


@pytest.mark.parametrize("rules", [{"canary-weight": "50"}, {"canary-weight": "100", "canary-weight-total": "200"}])
def test_half_of_200_requests_reach_each_side(rules: dict[str, str]) -> None:  # acceptance case 11
    found, dice = config(rules), random.Random(11)
    answers = [decide(found, Request(roll=dice.randint(1, found.total))) for _ in range(200)]
    assert answers.count("main") >= 80
    assert answers.count("canary") >= 80


@pytest.mark.parametrize(
    ("affinity", "main_ready", "canary_ready", "header", "expected"),
    [
        (None, False, True, "always", "503"),  # acceptance case 13
        (None, True, False, "never", "main"),
        (None, False, True, None, "503"),  # also at weight 100
        (None, True, False, "always", "main"),
        ("main", True, True, "always", "main"),  # pinned before any rule
        ("canary", True, True, "never", "canary"),
        ("canary", True, False, None, "main"),
    ],
)
def test_endpoints_and_affinity_come_before_every_rule(
    affinity: Side | None, main_ready: bool, canary_ready: bool, header: str | None, expected: Answer
) -> None:
    request = Request(headers={"X-Canary": header} if header else {}, affinity=affinity)
    found = decide(config(H | W100), request, main_ready=main_ready, canary_ready=canary_ready)
    assert found == expected


def test_without_a_canary_main_answers() -> None:
    assert decide(None, Request(headers={"X-Canary": "always"})) == "main"


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_a_canary_is_one_by_gos_true(value: str) -> None:
    assert parse({f"{PREFIX}canary": value}).enabled


@pytest.mark.parametrize("value", ["", "yes", "tRUE", "on", " true", "0", "false"])
def test_everything_else_is_no_canary(value: str) -> None:
    assert not parse({f"{PREFIX}canary": value}).enabled


@pytest.mark.parametrize(
    ("rules", "ruled"),
    [({}, False), ({"canary-weight": "0"}, False), (W100, True), (H, True), (C, True), (pattern("x"), True)],
)
def test_rules_without_the_mark_of_a_canary_can_be_told(rules: dict[str, str], ruled: bool) -> None:
    assert config(rules).ruled is ruled

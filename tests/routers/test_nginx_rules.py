"""Matches as nginx annotations: read by ingress-nginx's own decision, they mean what the match means."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from davylamp.api.types import Match, TextMatch
from davylamp.core.matching import Request, chosen
from davylamp.core.world import Exposure
from davylamp.routers import decision
from davylamp.routers.nginx_rules import annotations_of, matches_of, refused


def header(name: str = "X-Canary", **value: object) -> Match:
    return Match(header=TextMatch(name, **value))  # type: ignore[arg-type]


def cookie(name: str = "canary", **value: object) -> Match:
    return Match(cookie=TextMatch(name, **value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ([header(exact="true")], {"header": "X-Canary", "header-value": "true"}),
        ([header(exact="always")], {"header": "X-Canary"}),
        ([header(exact="a b")], {"header": "X-Canary", "header-pattern": r"^(a\x20b$)"}),
        ([header(exact="v1.2")], {"header": "X-Canary", "header-value": "v1.2"}),
        ([header(prefix="be.ta")], {"header": "X-Canary", "header-pattern": r"^(be\x2eta)"}),
        ([header(regex="a|b+")], {"header": "X-Canary", "header-pattern": "^((a|b+)$)"}),
        ([header(present=True)], {"header": "X-Canary", "header-pattern": "^()"}),
        ([header(exact="a"), header("x-canary", exact="b")], {"header": "X-Canary", "header-pattern": "^(a$|b$)"}),
        ([cookie(exact="always")], {"cookie": "canary"}),
        ([cookie(exact="true")], {"header": "Cookie", "header-pattern": r"(^|\x3b\s*)canary=(true\s*(\x3b|$))"}),
        ([cookie(present=True)], {"header": "Cookie", "header-pattern": r"(^|\x3b\s*)canary=()"}),
        (
            [header(exact="true"), cookie(exact="always")],
            {"header": "X-Canary", "header-value": "true", "cookie": "canary"},
        ),
        (
            [cookie("beta", exact="1"), cookie(exact="always")],
            {"header": "Cookie", "header-pattern": r"(^|\x3b\s*)beta=(1\s*(\x3b|$))", "cookie": "canary"},
        ),
    ],
)
def test_matches_become_annotations(matches: list[Match], expected: dict[str, str]) -> None:
    exposure = Exposure(10, tuple(matches))
    assert list(refused(exposure)) == []
    prefix = f"{decision.PREFIX}canary-by-"
    named = {key.removeprefix(prefix): value for key, value in annotations_of(exposure).items()}
    assert named.pop(f"{decision.PREFIX}canary-weight") == "10"
    assert named == expected


@pytest.mark.parametrize(
    ("matches", "field", "part"),
    [
        ([header(exact="true"), cookie(exact="true")], "cookie", 'taken by header "x-canary" already: make it the'),
        ([cookie(exact="true"), header(exact="true")], "header", 'taken by the value of cookie "canary" already'),
        ([header(exact="a"), header("X-Other", exact="b")], "header", "taken by header"),
        ([cookie(exact="always"), cookie("other", exact="always"), header(exact="a")], "header", "taken by"),
        ([Match(header=TextMatch("A", exact="1"), cookie=TextMatch("b", exact="2"))], "", "several things at once"),
        (
            [Match(query=TextMatch("q", exact="1"))],
            "query.exact",
            "can't match a query parameter by exact: split by an",
        ),
        ([Match(source_labels={"a": "b"})], "sourceLabels", "can't see where a request comes from"),
        ([header(regex="a{1,3}")], "header.regex", "can't have ','"),
        ([header("X!Y", exact="1")], "header.name", "characters other than letters"),
        ([cookie(regex="a.*")], "cookie.regex", "would run on into the next cookie"),
    ],
)
def test_what_annotations_can_not_say_is_refused_with_a_way_out(matches: list[Match], field: str, part: str) -> None:
    (found,) = refused(Exposure(10, tuple(matches)))
    assert (found.match, found.field) == (len(matches) - 1, field)
    assert part in found.message


def test_mirroring_is_refused() -> None:
    (found,) = refused(Exposure(0, mirror=10))
    assert found.field == "mirror"
    assert "HTTPRoute" in found.message


# --- the annotations mean what the match means ---

VALUES = st.text(st.sampled_from("abtrue.-/:*+()[]|?$^\\ =&"), max_size=6).filter(lambda text: text == text.strip())
COOKIE_VALUES = st.text(st.sampled_from("abtrue.-/:*+()[]|?$^=&"), max_size=6)
PLAIN_REGEXES = st.sampled_from(["a|b", "[ab]+", "true", "(a|tr)ue?", "a*b?", "t", "a{2}"])


def operators(values: st.SearchStrategy[str]) -> st.SearchStrategy[TextMatch]:
    named = st.sampled_from(["canary", "X-Canary"])
    return st.one_of(
        st.builds(TextMatch, named, exact=values.filter(lambda value: value != "always")),
        st.builds(TextMatch, named, prefix=values.filter(bool)),
        st.builds(TextMatch, named, regex=PLAIN_REGEXES),
        st.builds(TextMatch, named, present=st.just(True)),
    )


def answer(exposure: Exposure, request: Request) -> decision.Answer:
    config = decision.parse(annotations_of(exposure) | {decision.CANARY: "true"})
    assert config.header or config.cookie, "every annotation was taken"
    headers = dict(request.headers)
    if request.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in request.cookies.items())
    return decision.decide(config, decision.Request(headers=headers, cookies=request.cookies, roll=100))


@given(
    st.lists(operators(VALUES), min_size=1, max_size=3),
    st.one_of(VALUES, st.sampled_from(["true", "ab", "a", "trueX"])),
)
def test_a_header_rule_chooses_exactly_those_that_the_match_chooses(wanted: list[TextMatch], value: str) -> None:
    exposure = Exposure(0, tuple(Match(header=TextMatch("H", w.exact, w.prefix, w.regex, w.present)) for w in wanted))
    assume(not list(refused(exposure)))
    for headers in ({"h": value}, {}):
        request = Request(headers=headers)
        assert (answer(exposure, request) == "canary") == chosen(exposure.match, request)


@given(
    st.lists(operators(COOKIE_VALUES), min_size=1, max_size=3),
    st.dictionaries(
        st.sampled_from(["canary", "xcanary", "canary2", "a"]),
        st.one_of(COOKIE_VALUES, st.sampled_from(["true", "ab", "canary=true"])),
        max_size=3,
    ),
)
def test_a_cookie_rule_chooses_exactly_those_that_the_match_chooses(
    wanted: list[TextMatch], cookies: dict[str, str]
) -> None:
    exposure = Exposure(
        0, tuple(Match(cookie=TextMatch("canary", w.exact, w.prefix, w.regex, w.present)) for w in wanted)
    )
    assume(not list(refused(exposure)))
    request = Request(cookies=cookies)
    assert (answer(exposure, request) == "canary") == chosen(exposure.match, request)


@pytest.mark.parametrize(
    "matches",
    [
        [header(exact="true")],
        [header(exact="always")],
        [cookie(exact="always")],
        [header(regex="a+"), cookie(exact="always")],
    ],
)
def test_what_is_read_back_chooses_the_same(matches: list[Match]) -> None:
    config = decision.parse(annotations_of(Exposure(0, tuple(matches))) | {decision.CANARY: "true"})
    back = matches_of(config)
    for value in ("true", "always", "a", "aa", "b", ""):
        for request in (Request(headers={"X-Canary": value}), Request(cookies={"canary": value})):
            assert chosen(back, request) == chosen(tuple(matches), request)


def test_never_keeps_a_client_on_stable_only_where_the_value_is_always() -> None:
    for match, expected in ((header(exact="always"), "main"), (header(exact="true"), "canary")):
        config = decision.parse(annotations_of(Exposure(100, (match,))) | {decision.CANARY: "true"})
        assert decision.decide(config, decision.Request(headers={"X-Canary": "never"})) == expected


def test_the_patterns_have_no_python_of_their_own() -> None:
    pattern = annotations_of(Exposure(0, (cookie(exact="a.b"),)))[decision.HEADER_PATTERN]
    assert re.fullmatch(r"[-\w()^|$=\\*]+", pattern)

"""What is wrong with a match in itself: told with its field, what was found and what would be right."""

from __future__ import annotations

import pytest

from davylamp.api.types import Match, TextMatch
from davylamp.routers.matches import problems_of_match


def header(name: str = "X-Canary", **value: object) -> Match:
    return Match(header=TextMatch(name, **value))  # type: ignore[arg-type]


def cookie(name: str = "canary", **value: object) -> Match:
    return Match(cookie=TextMatch(name, **value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "match",
    [
        header(exact="true"),
        header(present=True),
        header(regex="(a|b)+-[0-9]{1,3}"),
        header(regex="(foo|fob|f)*"),
        header(regex=r"([0-9]{1,3}\.)+[0-9]+"),
        header(regex="(?i)beta-(1|2|10)"),
        header(regex=r"(?P<tier>gold|silver)\\Z"),
        header(regex="a*b*[^b]*"),
        header(regex="(ab?c)*" + "x" * 200),
        cookie(exact="true"),
        cookie(prefix="beta-"),
        Match(query=TextMatch("v e", regex=".*")),
        Match(header=TextMatch("A", exact="1"), cookie=TextMatch("b", present=True), source_labels={"team": "shop"}),
        Match(source_labels={"team": "shop", "app.kubernetes.io/name": "a_b.c", "empty": ""}),
    ],
)
def test_nothing_is_wrong_with(match: Match) -> None:
    assert list(problems_of_match("m", match)) == []


@pytest.mark.parametrize(
    ("match", "path", "part"),
    [
        (Match(), "m", "asks for nothing: give a header or a cookie"),
        (Match(source_labels={}), "m.sourceLabels", "is empty: give at least one label"),
        (Match(source_labels={"team": "sh op"}), "m.sourceLabels", 'no pod can have the label "team: sh op"'),
        (Match(source_labels={"-a/b": "c"}), "m.sourceLabels", 'no pod can have the label "-a/b: c"'),
        (Match(source_labels={"team": "a" * 64}), "m.sourceLabels", "at most 63 letters"),
        (header("", exact="a"), "m.header.name", "is empty: give the header's name"),
        (header("X Canary", exact="a"), "m.header.name", "HTTP allows no ' ' in it"),
        (header("X-Canary:", exact="a"), "m.header.name", "HTTP allows no ':' in it"),
        (header("Host", exact="a"), "m.header.name", "steers the connection"),
        (header("cookie", exact="a"), "m.header.name", "use {cookie: {name: …}}"),
        (header(), "m.header", "doesn't say which values: set exactly one of"),
        (header(exact="a", regex="b"), "m.header", "has exact and regex: set exactly one of"),
        (header(exact=""), "m.header.exact", "use present: true"),
        (header(exact=" a"), "m.header.exact", "begins or ends with a space"),
        (header(exact="a\n"), "m.header.exact", "other than printable ASCII"),
        (header(exact="é"), "m.header.exact", "other than printable ASCII"),
        (header(prefix=""), "m.header.prefix", "use present: true"),
        (header(exact="a" * 257), "m.header.exact", "has 257 characters"),
        (cookie(exact='"true"'), "m.cookie.exact", "without quotes"),
        (cookie(exact="a;b"), "m.cookie.exact", "no ';' in it"),
        (header(regex=""), "m.header.regex", "is empty"),
        (header(regex="(a"), "m.header.regex", "is no regular expression: missing )"),
        (header(regex="a(?=b)"), "m.header.regex", "looks ahead or behind, which RE2 doesn't know"),
        (header(regex=r"(a)\1"), "m.header.regex", "refers back to a group"),
        (header(regex="(a+)+"), "m.header.regex", "exponential time"),
        (header(regex="((a|b*)c)*"), "m.header.regex", "exponential time"),
        (header(regex="a{2000}"), "m.header.regex", "RE2 takes 1000"),
        (header(regex="(a|a)*"), "m.header.regex", "in two ways"),
        (header(regex="(a|aa)+b"), "m.header.regex", "in two ways"),
        (header(regex="([a-z]|[0-9a-f])*"), "m.header.regex", "in two ways"),
        (header(regex=r"(\w|\d)+"), "m.header.regex", "in two ways"),
        (header(regex="(ab|a|b)+"), "m.header.regex", "in two ways"),
        (header(regex="(a{1,3})+"), "m.header.regex", "in two ways"),
        (header(regex="(a?b?)+c"), "m.header.regex", "in two ways"),
        (header(regex="a*.*b"), "m.header.regex", "two repetitions in a row"),
        (header(regex=r"a\Z"), "m.header.regex", "escape of Python's"),
        (header(regex=r"\u0041"), "m.header.regex", "escape of Python's"),
        (header(regex="a(?#b)"), "m.header.regex", "has a comment"),
        (header(regex="(?x)a b"), "m.header.regex", "sets a flag"),
        (header(regex="a{,3}"), "m.header.regex", "without its lower bound"),
        (header(regex="[a-"), "m.header.regex", "is no regular expression"),
        (header(regex=r"\p{L}"), "m.header.regex", "is no regular expression"),
        (header(regex="a++"), "m.header.regex", "possessive"),
        (header(regex="(?>a)"), "m.header.regex", "atomic group"),
    ],
)
def test_each_fault_is_told(match: Match, path: str, part: str) -> None:
    (problem,) = problems_of_match("m", match)
    assert problem.path == path
    assert part in problem.message
    assert not problem.warning


def test_all_faults_of_a_match_are_told_at_once() -> None:
    match = Match(header=TextMatch("a b", regex="("), cookie=TextMatch("c"))
    assert [problem.path for problem in problems_of_match("m", match)] == [
        "m.header.name",
        "m.header.regex",
        "m.cookie",
    ]

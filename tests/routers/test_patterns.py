"""Expressions mean the same to those who search in a value and to those who compare all of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.api.types import TextMatch
from davylamp.core.matching import value_holds
from davylamp.routers.matches import problems_of_regex
from davylamp.routers.patterns import cookie_pattern, runs_on, value_pattern

VALUE = st.text("ab.*+$^|\\-_é ", min_size=1, max_size=5)
WANTED = st.one_of(
    st.builds(TextMatch, st.just("X"), exact=VALUE),
    st.builds(TextMatch, st.just("X"), prefix=VALUE),
    st.builds(TextMatch, st.just("X"), regex=st.sampled_from(["a|b", "[ab]+", "a.*b", "(a|b)+-"])),
    st.builds(TextMatch, st.just("X"), present=st.just(True)),
)


@given(WANTED, VALUE)
def test_a_value_matches_as_it_should(wanted: TextMatch, value: str) -> None:
    pattern = value_pattern(wanted)
    assert (re.search(pattern, value) is not None) == value_holds(wanted, value)
    assert (re.fullmatch(pattern, value) is not None) == value_holds(wanted, value)
    assert list(problems_of_regex(pattern)) == []


COOKIE_VALUE = st.text("ab.*-_", min_size=1, max_size=4)
COOKIES = st.one_of(
    st.builds(TextMatch, st.just("c.1"), exact=COOKIE_VALUE),
    st.builds(TextMatch, st.just("c.1"), prefix=COOKIE_VALUE),
    st.builds(TextMatch, st.just("c.1"), regex=st.sampled_from(["a|b", "[ab]+"])),
    st.builds(TextMatch, st.just("c.1"), present=st.just(True)),
)


@given(COOKIES, st.dictionaries(st.sampled_from(["c.1", "cx1", "xc.1", "b"]), COOKIE_VALUE, min_size=1))
def test_a_cookie_is_found_among_others(wanted: TextMatch, sent: dict[str, str]) -> None:
    header = "; ".join(f"{name}={value}" for name, value in sent.items())
    pattern = cookie_pattern(wanted)
    assert (re.search(pattern, header) is not None) == value_holds(wanted, sent.get("c.1"))
    assert (re.fullmatch(pattern, header) is not None) == value_holds(wanted, sent.get("c.1"))
    assert list(problems_of_regex(pattern)) == []


@pytest.mark.parametrize(("regex", "bad"), [("a.b", True), ("[^a]", True), (r"\S+", True), ("[a-c]+|x", False)])
def test_a_cookies_expression_that_would_run_on_is_told(regex: str, bad: bool) -> None:
    assert bool(runs_on(TextMatch("c", regex=regex))) is bad

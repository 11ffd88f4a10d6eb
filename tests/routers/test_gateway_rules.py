"""Rules with a canary in them: for every request what it was before, but for the canary's share; and back again."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.api.types import Match, TextMatch
from davylamp.core import matching
from davylamp.core.world import Exposure
from davylamp.routers.gateway_rules import Place, divided, restored
from davylamp.routers.precedence import RANKINGS, Ranking, Request, Rule, decide, shares

PLACE = Place("shop", "web", "web-canary")
CALLS = Place("shop", "web", "web-canary", grpc=True)
HEADER = Match(header=TextMatch("X-Canary", exact="true"))
COOKIE = Match(cookie=TextMatch("canary", exact="true"))
BOTH = Match(header=TextMatch("X-Canary", exact="true"), cookie=TextMatch("canary", exact="true"))
QUERY = Match(query=TextMatch("v", exact="2"))
PREFIX = Match(header=TextMatch("x-other", prefix="be"))


def to(name: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    ref: dict[str, Any] = {"group": "", "kind": "Service", "name": name, "port": 80, **more}
    return ref if weight is None else {**ref, "weight": weight}


# --- every rule, every request ---

PARTS = st.sampled_from(["/", "/a", "/a/b", "/a/b/", "/ab", "/a/bcd"])
ONE = st.just("1")
BACKENDS = st.lists(
    st.builds(to, st.sampled_from(["web", "web", "other", "third"]), st.sampled_from([None, 0, 1, 7, 30])),
    min_size=1,
    max_size=3,
).filter(lambda refs: any(ref.get("weight", 1) for ref in refs))


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": {"type": draw(st.sampled_from(["PathPrefix", "PathPrefix", "Exact"])), "value": draw(PARTS)}
    }
    if draw(st.booleans()):
        found["method"] = draw(st.sampled_from(["GET", "POST"]))
    headers = draw(st.sets(st.sampled_from(["A", "B", "C"]), max_size=3))
    queries = draw(st.sets(st.sampled_from(["p", "q"]), max_size=2))
    found["headers"] = [{"type": "Exact", "name": name, "value": "1"} for name in sorted(headers)]
    found["queryParams"] = [{"type": "Exact", "name": name, "value": "1"} for name in sorted(queries)]
    return found


@st.composite
def called(draw: st.DrawFn) -> dict[str, Any]:
    asked = {"service": draw(st.sampled_from([None, "shop.Cart"])), "method": draw(st.sampled_from([None, "Add"]))}
    method = {field: value for field, value in asked.items() if value}
    headers = draw(st.sets(st.sampled_from(["A", "B", "C"]), max_size=2))
    found: dict[str, Any] = {"method": {"type": "Exact", **method}} if method else {}
    return {**found, "headers": [{"type": "Exact", "name": name, "value": "1"} for name in sorted(headers)]}


def rules_with(matches: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[Rule]]:
    rule = st.fixed_dictionaries(
        {"matches": st.lists(matches, min_size=1, max_size=2), "backendRefs": BACKENDS},
        optional={"filters": st.just([{"type": "URLRewrite"}]), "timeouts": st.just({"request": "5s"})},
    )
    return st.lists(rule, min_size=1, max_size=4)


VALUES = st.sampled_from(["1", "true", "beta", "no"])
REQUESTS = st.builds(
    matching.Request,
    headers=st.dictionaries(st.sampled_from(["A", "B", "C", "x-canary", "X-Other"]), VALUES),
    cookies=st.dictionaries(st.sampled_from(["canary", "x"]), VALUES),
    query=st.dictionaries(st.sampled_from(["p", "q", "v"]), st.sampled_from(["1", "2"])),
)
EXPOSURES = st.builds(
    Exposure,
    st.sampled_from([0, 1, 10, 50, 99]),
    st.lists(st.sampled_from([HEADER, COOKIE, BOTH, QUERY, PREFIX]), max_size=3, unique=True).map(tuple),
)
CALL_EXPOSURES = st.builds(
    Exposure,
    st.sampled_from([0, 10, 99]),
    st.lists(st.sampled_from([HEADER, PREFIX]), max_size=2, unique=True).map(tuple),
)


def as_sent(asked: matching.Request, path: str, method: str = "GET") -> Request:
    cookies = "; ".join(f"{name}={value}" for name, value in asked.cookies.items())
    return Request(path, method, {**asked.headers, **({"Cookie": cookies} if cookies else {})}, asked.query)


def answered(rules: list[Rule], request: Request, ranking: Ranking, *, grpc: bool = False) -> dict[str, Fraction]:
    index = decide(rules, request, grpc=grpc, ranking=ranking)
    return {} if index is None else shares(rules[index])


def holds(rules: list[Rule], exposure: Exposure, asked: matching.Request, request: Request, place: Place) -> None:
    before = copy.deepcopy(rules)
    written = divided(rules, exposure, place)
    assert rules == before, "nothing is changed in place"
    for ranking in RANKINGS:
        was = answered(rules, request, ranking, grpc=place.grpc)
        now = answered(written.rules, request, ranking, grpc=place.grpc)
        percent = 100 if matching.chosen(exposure.match, asked) else exposure.weight
        canary = was.get("web", Fraction(0)) * percent / 100
        parts = {**was, "web": was.get("web", Fraction(0)) - canary, "web-canary": canary}
        assert now == {name: part for name, part in parts.items() if part}
    assert all(any(ref.get("weight", 1) for ref in rule["backendRefs"]) for rule in written.rules)
    assert restored(written.rules, written.record, place) == rules


@given(
    rules_with(asked()), EXPOSURES, REQUESTS, st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab", "/a/bcd"]), VALUES
)
def test_every_request_goes_where_it_went_but_for_the_canarys_share(
    rules: list[Rule], exposure: Exposure, sent: matching.Request, path: str, method: str
) -> None:
    holds(rules, exposure, sent, as_sent(sent, path, "POST" if method == "no" else "GET"), PLACE)


@given(rules_with(called()), CALL_EXPOSURES, REQUESTS, st.sampled_from(["/shop.Cart/Add", "/shop.Cart/X", "/x/Add"]))
def test_every_call_goes_where_it_went_but_for_the_canarys_share(
    rules: list[Rule], exposure: Exposure, sent: matching.Request, path: str
) -> None:
    holds(rules, exposure, sent, as_sent(sent, path, "POST"), CALLS)


# --- single things ---

ROOT = {"path": {"type": "PathPrefix", "value": "/"}}
X_CANARY = {"type": "Exact", "name": "X-Canary", "value": "true"}


def rule(*refs: dict[str, Any], **more: Any) -> Rule:
    return {"matches": [ROOT], "backendRefs": list(refs), **more}


@pytest.mark.parametrize(
    ("refs", "weight", "wanted"),
    [
        ([to("web", 1)], 10, {"web": 90, "web-canary": 10}),
        ([to("web", 70000)], 50, {"web": 50, "web-canary": 50}),
        ([to("web")], 1, {"web": 99, "web-canary": 1}),
        ([to("web", 1), to("other", 0)], 99, {"web": 1, "web-canary": 99, "other": 0}),
        ([to("web", 3), to("other", 1)], 10, {"web": 27, "web-canary": 3, "other": 10}),
        ([to("web", 50), to("other", 50)], 50, {"web": 1, "web-canary": 1, "other": 2}),
        ([to("web", 9999), to("other", 1)], 1, {"web": 989901, "web-canary": 9999, "other": 100}),
    ],
)
def test_weights_are_whole_numbers_and_exact(refs: list[dict[str, Any]], weight: int, wanted: dict[str, int]) -> None:
    written = divided([rule(*refs)], Exposure(weight), PLACE)
    assert {ref["name"]: ref["weight"] for ref in written.rules[0]["backendRefs"]} == wanted
    assert restored(written.rules, written.record, PLACE) == [rule(*refs)]


def test_weights_that_cannot_be_divided_exactly_are_refused() -> None:
    (problem,) = divided([rule(to("web", 99991), to("other", 1))], Exposure(1), PLACE).problems
    assert problem.field == "weight"
    assert "at most 1000000 is allowed" in problem.message


def test_a_rule_for_a_match_has_everything_that_its_rule_has_but_the_name() -> None:
    users = rule(
        to("web", 1, filters=[{"new": 1}]), name="all", filters=[{"type": "X"}], timeouts={"request": "5s"}, x=[1]
    )
    written = divided([users], Exposure(0, (HEADER,)), PLACE)
    ours = {
        "matches": [{**ROOT, "headers": [X_CANARY]}],
        "backendRefs": [to("web-canary", 1, filters=[{"new": 1}])],
        "filters": [{"type": "X"}],
        "timeouts": {"request": "5s"},
        "x": [1],
    }
    assert written.rules == [users, ours]


def test_a_rule_that_replaces_a_prefix_gets_one_rule_for_each_of_its_matches() -> None:
    replaces = {
        "type": "URLRewrite",
        "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}},
    }
    written = divided([rule(to("web"), filters=[replaces])], Exposure(0, (HEADER, COOKIE)), PLACE)
    assert [len(one["matches"]) for one in written.rules] == [1, 1, 1]


def test_a_rule_that_would_be_overtaken_gets_a_copy_with_the_match() -> None:
    other = {"matches": [{**ROOT, "headers": [{"type": "Exact", "name": "A", "value": "1"}]}], "backendRefs": [to("o")]}
    written = divided([other, rule(to("web"))], Exposure(0, (BOTH,)), PLACE)
    assert [one["backendRefs"][0]["name"] for one in written.rules] == ["o", "o", "web", "web-canary"]
    assert divided([other, rule(to("web"))], Exposure(0, (HEADER,)), PLACE).rules[1]["backendRefs"][0]["name"] == "web"


@pytest.mark.parametrize(
    ("users", "other", "exposure", "request_"),
    [
        # two headers weigh as much as two characters of a path where criteria are added up
        (
            {"path": {"type": "PathPrefix", "value": "/api"}},
            {"path": {"type": "PathPrefix", "value": "/api/x"}},
            Exposure(0, (BOTH,)),
            Request("/api/x", headers={"X-Canary": "true", "Cookie": "canary=true"}),
        ),
        # one header comes before any number of parameters where criteria are compared one after the other
        (
            ROOT,
            {**ROOT, "queryParams": [{"name": f"p{number}", "value": "1"} for number in range(11)]},
            Exposure(0, (HEADER,)),
            Request(headers={"X-Canary": "true"}, query={f"p{number}": "1" for number in range(11)}),
        ),
    ],
)
def test_neither_order_of_precedence_lets_a_rule_be_overtaken(
    users: dict[str, Any], other: dict[str, Any], exposure: Exposure, request_: Request
) -> None:
    written = divided([rule(to("web"), matches=[users]), rule(to("other"), matches=[other])], exposure, PLACE)
    for ranking in RANKINGS:
        assert answered(written.rules, request_, ranking) == {"other": 1}


def test_copies_for_the_canary_are_a_filter_of_the_users_rule() -> None:
    users = [rule(to("web", 5)), rule(to("web", 5), filters=[{"type": "X"}])]
    written = divided(users, Exposure(10, (), 30), PLACE)
    target = {"group": "", "kind": "Service", "name": "web-canary", "port": 80}
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": target, "percent": 30}}
    assert [one["filters"] for one in written.rules] == [[mirror], [{"type": "X"}, mirror]]
    assert restored(written.rules, written.record, PLACE) == users
    whole = divided(users, Exposure(0, (), 100), PLACE)
    assert "percent" not in whole.rules[0]["filters"][0]["requestMirror"]
    assert restored(whole.rules, whole.record, PLACE) == users


def many(count: int) -> list[Rule]:
    return [rule(to("web")) for _ in range(count)]


@pytest.mark.parametrize(
    ("rules", "exposure", "part"),
    [
        (many(9), Exposure(0, (HEADER,)), "it would have 18 rules, and the API allows 16"),
        ([rule(to("web"), matches=[ROOT] * 64)], Exposure(0, (HEADER, COOKIE)), "192 matches in all"),
        ([rule(*[to("web")] * 9)], Exposure(10), "18 backendRefs, and the API allows 16"),
        ([rule(to("web"), filters=[{}] * 16)], Exposure(0, (), 5), "17 filters, and the API allows 16"),
        (
            [rule(to("web"), matches=[{"headers": [{"name": "x-canary"}]}])],
            Exposure(0, (HEADER,)),
            "asks for the header",
        ),
        (
            [rule(to("web")), rule(to("o"), matches=[{"queryParams": [{"name": "v"}]}])],
            Exposure(0, (QUERY,)),
            "spec.rules[1]",
        ),
        (
            [rule(to("web"), matches=[{"headers": [{"name": str(i)} for i in range(16)]}])],
            Exposure(0, (HEADER,)),
            "16 headers",
        ),
    ],
)
def test_what_the_api_would_not_take_is_refused(rules: list[Rule], exposure: Exposure, part: str) -> None:
    assert part in divided(rules, exposure, PLACE).problems[0].message


# --- edits by others, while it is split ---

USERS = [rule(to("web", 3), to("other", 1), timeouts={"request": "5s"}), rule(to("web", 5))]
SPLIT = divided(USERS, Exposure(10, (HEADER,), 50), PLACE)


def edited(change: Any) -> list[Rule]:
    rules = copy.deepcopy(SPLIT.rules)
    change(rules)
    return restored(rules, SPLIT.record, PLACE)


def test_a_field_that_others_change_stays_changed() -> None:
    assert edited(lambda rules: rules[0].update(timeouts={"request": "9s"}, retry={"attempts": 2})) == [
        {**USERS[0], "timeouts": {"request": "9s"}, "retry": {"attempts": 2}},
        USERS[1],
    ]


def test_a_rule_that_others_add_or_move_stays() -> None:
    new = rule(to("third"), matches=[{"headers": [X_CANARY]}])
    assert edited(lambda rules: rules.insert(0, new)) == [new, *USERS]
    assert edited(lambda rules: rules.reverse()) == USERS[::-1]


def test_a_list_of_backends_that_others_change_loses_the_canary_and_keeps_its_shares() -> None:
    def change(rules: list[Rule]) -> None:
        rules[0]["backendRefs"].append(to("third", 5))

    found = edited(change)[0]["backendRefs"]
    assert found == [to("web", 30), to("other", 10), to("third", 5)]


def test_whole_rules_that_others_apply_anew_are_theirs() -> None:
    own = [rule(to("web", 1), matches=[{**ROOT, "headers": [X_CANARY]}]), rule(to("web", 2))]
    assert restored(own, SPLIT.record, PLACE) == own
    elsewhere = [rule(to("third", 1), matches=SPLIT.rules[1]["matches"]), rule(to("web", 2))]
    assert restored(elsewhere, SPLIT.record, PLACE) == elsewhere


def test_without_the_record_the_canary_is_still_taken_out() -> None:
    found = restored(SPLIT.rules, None, PLACE)
    assert not any(ref["name"] == "web-canary" for one in found for ref in one["backendRefs"])
    assert not any(one.get("filters") for one in found)

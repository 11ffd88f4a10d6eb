"""A VirtualService during a release: what is written, how it is given back, and who gets which request."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from davylamp.api.objects import VirtualService
from davylamp.api.types import Match, TextMatch
from davylamp.core import matching, names
from davylamp.core.world import Exposure, Route, RouteContext
from davylamp.routers import istio_decision
from davylamp.routers.istio import VirtualServiceRoute
from davylamp.routers.istio_rules import Clash, entries
from tests.builders import NAMESPACE, meta

Json = dict[str, Any]
CONTEXT = RouteContext(
    release="web-7f6b13-1", release_uid="r1", namespace=NAMESPACE, service="web", canary_service="web-canary"
)
HEADER = Match(header=TextMatch("X-Canary", exact="true"))
COOKIE = Match(cookie=TextMatch("canary", exact="true"))


def to(host: str, weight: int | None = None, **more: Any) -> Json:
    destination: Json = {"host": host, **{key: more.pop(key) for key in ("port", "subset") if key in more}}
    weighted: Json = {} if weight is None else {"weight": weight}
    return {"destination": destination, **more, **weighted}


def http(*targets: Json, **more: Any) -> Json:
    return {"route": list(targets), **more}


def vs(*routes: Json, annotations: dict[str, str] | None = None, **spec: Any) -> VirtualService:
    known = msgspec.structs.replace(meta("VirtualService", "web"), annotations=annotations or {})
    return VirtualService(known, {"hosts": ["web"], "http": list(routes)} | spec)


def bound(found: VirtualService, *routes: str, service: str = "web", subsets: bool = False) -> VirtualServiceRoute:
    return VirtualServiceRoute(NAMESPACE, "web", service, routes, found, subsets=subsets)


def after(found: VirtualService, exposure: Exposure | None, *routes: str, subsets: bool = False) -> VirtualService:
    """What the API server has once all that `exposure` wants is written; in one write, after which nothing is left."""
    wanted = bound(found, *routes, subsets=subsets).desired(exposure, CONTEXT)
    assert (wanted.present, wanted.absent) == ((), ())
    assert len(wanted.patches) <= 1
    for _, patch in wanted.patches:
        assert patch["metadata"]["resourceVersion"] == found.metadata.resource_version
        found = merged(found, patch)
    assert bound(found, *routes, subsets=subsets).desired(exposure, CONTEXT).reached
    return found


def merged(found: VirtualService, patch: Json) -> VirtualService:
    """`found` after a merge patch; the spec's fields are replaced whole."""
    annotations = dict(found.metadata.annotations) | patch["metadata"].get("annotations", {})
    annotations = {key: value for key, value in annotations.items() if value is not None}
    metadata = msgspec.structs.replace(found.metadata, annotations=annotations, resource_version="8")
    spec = json.loads(json.dumps(found.spec | patch.get("spec", {})))
    return VirtualService(metadata, spec)


def shares(route: Json) -> dict[str, int]:
    return {t["destination"]["host"]: t["weight"] for t in route["route"]}


# --- there ---


@pytest.mark.parametrize(
    ("targets", "weight", "written"),
    [
        ([to("web")], 10, [("web", 90), ("web-canary", 10)]),
        ([to("web", 100)], 50, [("web", 50), ("web-canary", 50)]),
        (
            [to("web.shop.svc.cluster.local")],
            1,
            [("web.shop.svc.cluster.local", 99), ("web-canary.shop.svc.cluster.local", 1)],
        ),
        ([to("web", 80), to("other", 20)], 10, [("web", 72), ("web-canary", 8), ("other", 20)]),
        ([to("web", 80), to("other", 20)], 1, [("web", 396), ("web-canary", 4), ("other", 100)]),
        ([to("web", 1), to("other", 2)], 25, [("web", 3), ("web-canary", 1), ("other", 8)]),
        ([to("web"), to("other", 20)], 25, [("web", None), ("other", 20)]),
        ([to("other")], 25, [("other", None)]),
    ],
)
def test_the_share_of_the_service_is_divided_and_that_of_others_stays(
    targets: list[Json], weight: int, written: list[tuple[str, int | None]]
) -> None:
    found = after(vs(http(*targets)), Exposure(weight))
    (route,) = found.spec["http"]
    assert [(t["destination"]["host"], t.get("weight")) for t in route["route"]] == written


def test_the_canary_gets_the_same_port_and_headers_and_no_subset() -> None:
    target = to("web", port={"number": 80}, subset="v1", headers={"request": {"set": {"a": "b"}}})
    (route,) = after(vs(http(target)), Exposure(30)).spec["http"]
    stable, canary = route["route"]
    assert stable == {**target, "weight": 70}
    assert canary == {
        "destination": {"host": "web-canary", "port": {"number": 80}},
        "headers": {"request": {"set": {"a": "b"}}},
        "weight": 30,
    }


def test_only_the_named_routes_are_split() -> None:
    routes = [http(to("web"), name="a"), http(to("web"), name="b"), http(to("web"))]
    found = after(vs(*routes, tcp=[http(to("web"))]), Exposure(30), "b")
    assert [shares(r) if "weight" in r["route"][0] else None for r in found.spec["http"]] == [
        None,
        {"web": 70, "web-canary": 30},
        None,
    ]
    assert "weight" not in found.spec["tcp"][0]["route"][0]


def test_tcp_and_tls_routes_get_the_weight() -> None:
    found = after(vs(tcp=[http(to("web"))], tls=[http(to("web", 100))]), Exposure(20))
    assert [shares(found.spec[p][0]) for p in ("tcp", "tls")] == [{"web": 80, "web-canary": 20}] * 2


def test_those_who_are_chosen_have_a_route_of_their_own_before() -> None:
    original = http(
        to("web", 80),
        to("other", 20),
        name="x",
        match=[{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}],
        timeout="3s",
    )
    first, second = after(vs(original), Exposure(0, (HEADER,))).spec["http"]
    assert second == original
    assert first == {
        "name": "davylamp.web.1",
        "timeout": "3s",
        "match": [
            {"uri": {"prefix": "/a"}, "headers": {"x-canary": {"exact": "true"}}},
            {"uri": {"prefix": "/b"}, "headers": {"x-canary": {"exact": "true"}}},
        ],
        "route": [to("web-canary")],
    }


@pytest.mark.parametrize(
    ("given", "mirrors"),
    [
        ({}, []),
        ({"mirror": {"host": "tap"}}, [{"destination": {"host": "tap"}}]),
        (
            {"mirror": {"host": "tap"}, "mirrorPercentage": {"value": 5}},
            [{"destination": {"host": "tap"}, "percentage": {"value": 5}}],
        ),
        (
            {"mirror": {"host": "tap"}, "mirrorPercent": 5},
            [{"destination": {"host": "tap"}, "percentage": {"value": 5}}],
        ),
        ({"mirrors": [{"destination": {"host": "tap"}}]}, [{"destination": {"host": "tap"}}]),
    ],
)
def test_a_mirror_is_added_to_those_that_there_are(given: Json, mirrors: list[Json]) -> None:
    before = vs(http(to("web"), **given))
    found = after(before, Exposure(0, mirror=30))
    (route,) = found.spec["http"]
    assert route["mirrors"] == [*mirrors, {"destination": {"host": "web-canary"}, "percentage": {"value": 30}}]
    assert not set(route) & {"mirror", "mirrorPercentage", "mirrorPercent"}
    assert bound(found).effective(CONTEXT) == Exposure(0, mirror=30)
    assert after(found, None) == back(before)


def back(before: VirtualService) -> VirtualService:
    """As it was, but for the resource version of our writes."""
    return msgspec.structs.replace(before, metadata=msgspec.structs.replace(before.metadata, resource_version="8"))


# --- back ---

WEIGHTS = st.none() | st.integers(1, 100)
STRING_MATCH = st.sampled_from([{"exact": "true"}, {"exact": "no"}, {"prefix": "t"}, {"regex": "t[a-z]+"}, {}])
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "uri": st.sampled_from([{"prefix": "/"}, {"prefix": "/a"}, {"exact": "/b"}, {"regex": "/[ab]"}]),
        "headers": st.dictionaries(st.sampled_from(["x-canary", "x-other"]), STRING_MATCH, min_size=1),
        "withoutHeaders": st.dictionaries(st.sampled_from(["x-canary", "x-other"]), STRING_MATCH, min_size=1),
        "queryParams": st.dictionaries(st.sampled_from(["beta"]), STRING_MATCH, min_size=1),
        "sourceLabels": st.sampled_from([{"team": "shop"}, {"team": "other"}]),
        "gateways": st.sampled_from([["mesh"], ["mesh", "edge"], ["edge"]]),
    },
)
TARGETS = st.lists(st.tuples(st.sampled_from(["web", "other", "third"]), WEIGHTS), min_size=1, max_size=3).map(
    lambda found: [to(host, weight) for host, weight in found]
)
ROUTES = st.lists(
    st.fixed_dictionaries(
        {"route": TARGETS},
        optional={
            "match": st.lists(ENTRY, min_size=1, max_size=2),
            "name": st.sampled_from(["a", "b"]),
            "timeout": st.just("3s"),
            "unheardOf": st.just({"kept": [1, None]}),
            "mirror": st.just({"host": "tap"}),
        },
    ),
    min_size=1,
    max_size=4,
)
VALUE = st.sampled_from(["true", "no", "tru", "x"])
TEXT = st.one_of(
    st.builds(TextMatch, st.just(""), exact=VALUE),
    st.builds(TextMatch, st.just(""), prefix=st.sampled_from(["t", "tr", "n"])),
    st.builds(TextMatch, st.just(""), regex=st.sampled_from(["t[a-z]+", "no|x"])),
    st.builds(TextMatch, st.just(""), present=st.just(True)),
)
MATCH = st.builds(
    Match,
    header=st.none() | TEXT.map(lambda t: msgspec.structs.replace(t, name="X-Canary")),
    cookie=st.none() | TEXT.map(lambda t: msgspec.structs.replace(t, name="can.ary")),
    query=st.none() | TEXT.map(lambda t: msgspec.structs.replace(t, name="beta")),
    source_labels=st.none() | st.just({"team": "shop"}),
).filter(lambda match: match != Match())
EXPOSURES = st.builds(
    Exposure, st.integers(0, 99), st.lists(MATCH, max_size=2).map(tuple), st.sampled_from([0, 0, 1, 100])
)


@given(ROUTES, st.lists(EXPOSURES, min_size=1, max_size=3), st.booleans())
def test_whatever_a_release_writes_is_given_back_exactly(
    routes: list[Json], exposures: list[Exposure], subsets: bool
) -> None:
    before = vs(*routes)
    found = before
    for exposure in exposures:
        found = after(found, exposure, subsets=subsets)
    found = after(found, None, subsets=subsets)
    assert (found.spec, found.metadata.annotations) == (before.spec, {})


@given(ROUTES, ROUTES, EXPOSURES)
def test_routes_that_others_put_in_meanwhile_stay(routes: list[Json], added: list[Json], exposure: Exposure) -> None:
    found = after(vs(*routes), exposure)
    found = msgspec.structs.replace(
        found, spec={**found.spec, "http": [*added, *found.spec["http"]], "exportTo": ["."]}
    )
    found = after(after(found, exposure), None)
    assert found.spec == {"hosts": ["web"], "http": [*added, *routes], "exportTo": ["."]}


@given(ROUTES, EXPOSURES)
def test_what_others_change_of_a_route_stays(routes: list[Json], exposure: Exposure) -> None:
    found = after(vs(*routes), exposure)
    edited = [
        r if str(r.get("name", "")).startswith("davylamp.") else {**r, "retries": {"attempts": 2}}
        for r in found.spec["http"]
    ]
    found = msgspec.structs.replace(found, spec={**found.spec, "http": edited})
    found = after(after(found, exposure), None)
    assert found.spec["http"] == [{**route, "retries": {"attempts": 2}} for route in routes]


@pytest.mark.parametrize(
    ("written", "edit", "left"),
    [
        # a foreign hand on our weights: put right, and then as before
        (10, [to("web", 100), to("web-canary", 0)], [to("web")]),
        (10, [to("web", 50), to("web-canary", 50)], [to("web")]),
        # its own new weights: they are its own
        (10, [to("web", 30), to("other", 70)], [to("web", 30), to("other", 70)]),
        # the stable side taken out
        (10, [to("web-canary", 100)], [to("web")]),
        # a header added to our very list
        (10, [to("web", 90, headers={}), to("web-canary", 10)], [to("web", headers={})]),
    ],
)
def test_a_list_of_destinations_that_somebody_edited_is_theirs_without_ours(
    written: int, edit: list[Json], left: list[Json]
) -> None:
    found = after(vs(http(to("web"))), Exposure(written))
    found = msgspec.structs.replace(found, spec={**found.spec, "http": [http(*edit)]})
    assert after(found, None).spec["http"] == [http(*left)]
    again = after(found, Exposure(written))
    assert bound(again).effective(CONTEXT) == Exposure(written)
    assert after(again, None).spec["http"] == [http(*left)]


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        ([to("web", 40, subset="davylamp-stable"), to("web", 60, subset="davylamp-canary")], [to("web")]),
        ([to("web", 30), to("other", 70)], [to("web", 30), to("other", 70)]),
        ([to("web", 100, subset="davylamp-canary")], [to("web")]),
        ([to("web", 90, subset="davylamp-stable", headers={})], [to("web", 90, headers={})]),
    ],
)
def test_by_subsets_too_what_somebody_edited_is_theirs_without_ours(edit: list[Json], left: list[Json]) -> None:
    found = after(vs(http(to("web"))), Exposure(10), subsets=True)
    found = msgspec.structs.replace(found, spec={**found.spec, "http": [http(*edit)]})
    again = after(found, Exposure(10), subsets=True)
    assert bound(again, subsets=True).effective(CONTEXT) == Exposure(10)
    assert after(again, None, subsets=True).spec["http"] == [http(*left)]


@given(EXPOSURES)
def test_by_subsets_the_objects_mean_what_was_asked(exposure: Exposure) -> None:
    found = bound(after(vs(http(to("web"))), exposure, subsets=True), subsets=True)
    seen = found.effective(CONTEXT) or Exposure(0)
    assert (seen.weight, seen.mirror) == (exposure.weight, exposure.mirror)
    assert found.hindrance(CONTEXT) == ""


def test_a_route_that_is_edited_inside_and_outside_of_what_we_wrote_gets_its_weights_back() -> None:
    before = vs(http(to("web", 80), to("other", 20)), http(to("web"), timeout="3s"))
    found = after(before, Exposure(1))
    routes = json.loads(json.dumps(found.spec["http"]))
    for route in routes:
        route["timeout"] = "9s"
        route["route"][0]["headers"] = {"response": {"set": {"x-by": "web"}}}
    found = msgspec.structs.replace(found, spec={**found.spec, "http": routes})
    by: dict[str, Any] = {"headers": {"response": {"set": {"x-by": "web"}}}}
    assert after(after(found, Exposure(50)), None).spec["http"] == [
        http(to("web", 80, **by), to("other", 20), timeout="9s"),
        http(to("web", **by), timeout="9s"),
    ]


@pytest.mark.parametrize("spoilt", [None, "", "[{]", '{"web": 1}'])
def test_without_what_was_remembered_only_ours_is_taken_out(spoilt: str | None) -> None:
    found = after(vs(http(to("web", 80), to("other", 20))), Exposure(25, (HEADER,), 5))
    annotations = {} if spoilt is None else {names.ROUTED: spoilt}
    found = msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, annotations=annotations))
    found = after(found, None)
    assert found.spec["http"] == [http(to("web", 80), to("other", 20))]
    assert found.metadata.annotations == {}


def test_two_services_of_one_virtual_service_are_split_side_by_side() -> None:
    before = vs(http(to("web", 50), to("cart", 50)), http(to("cart")))
    cart = RouteContext(
        release="cart-1", release_uid="r2", namespace=NAMESPACE, service="cart", canary_service="cart-canary"
    )
    tester = Match(header=TextMatch("x-canary", exact="true"))
    wanted = Exposure(10, (tester,)), Exposure(1, (tester,))

    def cart_after(found: VirtualService, exposure: Exposure | None) -> VirtualService:
        for _, patch in bound(found, service="cart").desired(exposure, cart).patches:
            found = merged(found, patch)
        return found

    found = cart_after(after(before, wanted[0]), wanted[1])
    assert bound(found).effective(CONTEXT) == wanted[0]
    assert bound(found, service="cart").effective(cart) == wanted[1]
    again = after(found, wanted[0])
    assert again.spec == found.spec
    assert bound(again, service="cart").desired(wanted[1], cart).reached, "the two don't fight"
    found = cart_after(again, None)
    assert bound(found).effective(CONTEXT) == wanted[0]
    assert after(found, None).spec == before.spec


def test_a_virtual_service_that_is_gone_wants_nothing() -> None:
    gone: Route = VirtualServiceRoute(NAMESPACE, "web", "web")
    assert gone.desired(Exposure(10), CONTEXT).reached
    assert gone.effective(CONTEXT) is None
    assert bound(vs(http(to("web")))).hindrance(CONTEXT) == ""
    assert "gone" in VirtualServiceRoute(NAMESPACE, "web", "web").hindrance(CONTEXT)
    assert "no longer sends" in bound(vs(http(to("other")))).hindrance(CONTEXT)


# --- who gets which request ---

REQUESTS = st.builds(
    matching.Request,
    headers=st.fixed_dictionaries({}, optional={"X-Canary": VALUE, "x-other": VALUE}),
    cookies=st.fixed_dictionaries(
        {}, optional={"a": st.just("b"), "can.ary": VALUE, "xcan.ary": VALUE, "canxary": VALUE}
    ),
    query=st.fixed_dictionaries({}, optional={"beta": VALUE}),
    source_labels=st.sampled_from([{}, {"team": "shop"}, {"team": "other", "x": "y"}]),
)


def as_istio(request: matching.Request, path: str, gateway: str) -> istio_decision.Request:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if request.cookies:
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in request.cookies.items())
    labels = request.source_labels if gateway == "mesh" else {}
    return istio_decision.Request(path, headers=headers, query=request.query, gateway=gateway, source_labels=labels)


def sent(spec: Json, request: istio_decision.Request) -> dict[str, float]:
    """Hosts and their parts of such requests."""
    route = istio_decision.first(spec, request)
    found: dict[str, float] = {}
    for destination, share in istio_decision.shares(route) if route is not None else ():
        found[destination["host"]] = found.get(destination["host"], 0) + share
    return found


# Istio ignores the labels in an entry that names gateways.
@example(
    [http(to("web"), match=[{"gateways": ["mesh"], "sourceLabels": {"team": "other"}}])],
    Exposure(0, (Match(source_labels={"team": "shop"}),)),
    matching.Request(source_labels={"team": "shop"}),
    "/",
    "mesh",
)
@given(ROUTES, EXPOSURES, REQUESTS, st.sampled_from(["/", "/a/b", "/b"]), st.sampled_from(["mesh", "edge"]))
@settings(max_examples=200)
def test_the_chosen_reach_the_canary_by_the_weight_others_do_and_nobody_else_notices(
    routes: list[Json], exposure: Exposure, request: matching.Request, path: str, gateway: str
) -> None:
    before = vs(*routes)
    if any(refusal.match is not None for refusal in bound(before).refusals(exposure)):
        return
    asked = as_istio(request, path, gateway)
    found = sent(after(before, exposure).spec, asked)
    plain = sent(before.spec, asked)
    seen = msgspec.structs.replace(request, source_labels=asked.source_labels)
    if not plain.get("web"):
        assert found == plain
    elif matching.chosen(exposure.match, seen):
        assert found == {"web-canary": 1}
    else:
        expected = {host: share for host, share in plain.items() if host != "web"}
        expected["web"] = plain["web"] * (100 - exposure.weight) / 100
        if exposure.weight:
            expected["web-canary"] = plain["web"] * exposure.weight / 100
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("theirs", "mine", "both"),
    [
        ({}, {"exact": "true"}, {"exact": "true"}),
        ({"regex": "*"}, {"exact": "true"}, {"exact": "true"}),
        ({"exact": "true"}, {"exact": "true"}, {"exact": "true"}),
        ({"exact": "true"}, {"exact": "false"}, None),
        ({"exact": "true"}, {"prefix": "t"}, {"exact": "true"}),
        ({"prefix": "tr"}, {"prefix": "t"}, {"prefix": "tr"}),
        ({"prefix": "x"}, {"prefix": "t"}, None),
        ({"regex": "t.*"}, {"exact": "true"}, {"exact": "true"}),
        ({"regex": "t.*"}, {"exact": "false"}, None),
        ({"exact": "true"}, {"present": True}, {"exact": "true"}),
    ],
)
def test_two_conditions_on_one_header_become_one(theirs: Json, mine: Json, both: Json | None) -> None:
    found = entries(Match(header=TextMatch("X-Canary", **mine)), [{"headers": {"X-canary": theirs}}])
    assert found == ([] if both is None else [{"headers": {"X-canary": both}}])


def test_two_patterns_on_one_header_are_refused_with_their_place() -> None:
    match = Match(header=TextMatch("X-Canary", regex="b.*"))
    with pytest.raises(Clash):
        entries(match, [{"headers": {"x-canary": {"regex": "a.*"}}}])
    found = vs(http(to("web"), match=[{"headers": {"x-canary": {"regex": "a.*"}}}]), http(to("web")))
    (refusal,) = bound(found).refusals(Exposure(10, (HEADER, match)))
    assert refusal.match == 1
    assert "spec.http[0] asks for header X-Canary already" in refusal.message


def test_source_labels_are_not_lost_beside_gateways() -> None:
    """Istio ignores an entry's sourceLabels where it has gateways: everybody would be chosen."""
    match = Match(source_labels={"team": "shop"})
    assert entries(match, [{"gateways": ["edge"]}]) == []
    assert entries(match, [{"gateways": ["edge", "mesh"]}]) == [{"sourceLabels": {"team": "shop"}}]


@pytest.mark.parametrize(
    ("found", "exposure", "told"),
    [
        (
            vs(http(to("web")), gateways=["edge"]),
            Exposure(1, (Match(source_labels={"a": "b"}),)),
            '"mesh" is not among',
        ),
        (vs(tcp=[http(to("web"))]), Exposure(1, (HEADER,)), "only TCP or TLS routes"),
        (vs(tcp=[http(to("web"))]), Exposure(1, mirror=5), "only TCP or TLS routes"),
        (vs(http(to("web"))), Exposure(1, (Match(cookie=TextMatch("c", regex="a.*")),)), "run on into the next cookie"),
    ],
)
def test_what_can_not_be_had_is_refused(found: VirtualService, exposure: Exposure, told: str) -> None:
    (refusal,) = bound(found).refusals(exposure)
    assert told in refusal.message


@given(EXPOSURES)
def test_what_the_objects_mean_is_what_was_asked(exposure: Exposure) -> None:
    found = after(vs(http(to("web"))), exposure)
    seen = bound(found).effective(CONTEXT)
    lower = [lowered(match) for match in exposure.match]
    unique = tuple(match for number, match in enumerate(lower) if match not in lower[:number])
    nothing = not (exposure.weight or exposure.match or exposure.mirror)
    assert seen == (None if nothing else Exposure(exposure.weight, unique, exposure.mirror))


def lowered(match: Match) -> Match:
    """Names of headers are read back as they are written, in lower case."""
    header = match.header
    if header is None:
        return match
    return msgspec.structs.replace(match, header=msgspec.structs.replace(header, name=header.name.lower()))

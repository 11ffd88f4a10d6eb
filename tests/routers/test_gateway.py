"""HTTPRoutes: the one patch that splits them, what their status says, and how they come back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from davylamp.api.objects import GatewayClass, GRPCRoute, HTTPRoute, Meta
from davylamp.api.types import GatewayRoute as GatewayRef
from davylamp.api.types import Match, Route, Step, TextMatch, Traffic
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.world import Exposure, RouteContext, Wanted
from davylamp.routers.gateway import GatewayRoute
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.restoring import annotation, recorded
from tests.builders import NAMESPACE, deployment, meta, policy, service
from tests.routers.shop import problems

CONTEXT = RouteContext("web-1", "r1", NAMESPACE, "web", "web-canary")
REF = Ref("HTTPRoute", NAMESPACE, "web")
TRAEFIK = "traefik.io/gateway-controller"
HEADER = Match(header=TextMatch("X-Canary", exact="true"))
COOKIE = Match(cookie=TextMatch("canary", exact="true"))
Json = dict[str, Any]


def backend(name: str = "web", weight: int = 1, **more: Any) -> Json:
    return {"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight, **more}


def rule(*backends: Json, **more: Any) -> Json:
    return {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": list(backends), **more}


def said(
    accepted: str = "Accepted", resolved: str = "ResolvedRefs", *, at: int = 1, parent: str = "web", **more: Any
) -> Json:
    """What an implementation says of a parent; a reason of its own is a refusal."""
    conditions = [
        {"type": kind, "status": str(reason == kind), "reason": reason, "observedGeneration": at}
        for kind, reason in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    conditions += [
        {"type": kind, "status": "True", "reason": "UnsupportedValue", "message": text} for kind, text in more.items()
    ]
    return {"parentRef": {"name": parent}, "controllerName": TRAEFIK, "conditions": conditions}


def http_route(
    *rules: Json,
    name: str = "web",
    status: list[Json] | None = None,
    generation: int = 1,
    annotations: Any = None,
    **spec: Any,
) -> HTTPRoute:
    found = meta("HTTPRoute", name, annotations=annotations)
    return HTTPRoute(
        metadata=msgspec.structs.replace(found, generation=generation, resource_version="7"),
        spec={"parentRefs": [{"name": "web"}], "rules": list(rules) or [rule(backend())], **spec},
        status={"parents": [said()] if status is None else status},
    )


def gateway_class(*features: str, controller: str = TRAEFIK) -> GatewayClass:
    return GatewayClass(
        metadata=Meta(name="traefik"),
        spec={"controllerName": controller},
        status={"supportedFeatures": [{"name": name} for name in features]},
    )


def bound(route: HTTPRoute | None, *features: str) -> GatewayRoute:
    return GatewayRoute(NAMESPACE, "HTTPRoute", "web", "web", route, {"traefik": gateway_class(*features)})


def patched(route: HTTPRoute, wanted: Wanted) -> HTTPRoute:
    """The route after the patch, with a generation more."""
    ((_, patch),) = wanted.patches
    given = {key: value for key, value in patch["metadata"]["annotations"].items() if value is not None}
    kept = {
        key: value for key, value in route.metadata.annotations.items() if key not in patch["metadata"]["annotations"]
    }
    changed = msgspec.structs.replace(
        route.metadata, annotations=kept | given, generation=route.metadata.generation + 1
    )
    spec = json.loads(json.dumps(route.spec | patch.get("spec", {})))
    return msgspec.structs.replace(route, metadata=changed, spec=spec)


def exposed(route: HTTPRoute, exposure: Exposure | None) -> HTTPRoute:
    return patched(route, bound(route).desired(exposure, CONTEXT))


# --- the patch ---


def test_a_weight_is_one_patch_that_also_remembers_how_it_was() -> None:
    ((ref, patch),) = bound(http_route(rule(backend(weight=7), x=1))).desired(Exposure(10), CONTEXT).patches
    assert ref == REF
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["spec"] == {"rules": [rule(backend(weight=90), backend("web-canary", 10), x=1)]}
    found = recorded(patch["metadata"]["annotations"], "web")
    assert found is not None
    assert found.changed[0].was == [backend(weight=7)]


@pytest.mark.parametrize(
    "exposure", [Exposure(1), Exposure(99, (HEADER, COOKIE)), Exposure(0, (HEADER,)), Exposure(10, (), 50)]
)
def test_it_is_split_in_one_write_and_comes_back_in_one(exposure: Exposure) -> None:
    before = http_route(rule(backend(weight=7), timeouts={"request": "5s"}), rule(backend("other")))
    split = exposed(before, exposure)
    assert bound(split).desired(exposure, CONTEXT).reached
    assert bound(split).effective(CONTEXT) == exposure
    more = exposed(split, Exposure(60, exposure.match))
    assert bound(more).effective(CONTEXT) == Exposure(60, exposure.match)
    after = exposed(more, None)
    assert (after.spec, after.metadata.annotations) == (before.spec, before.metadata.annotations)
    assert bound(after).desired(None, CONTEXT).reached
    assert bound(after).effective(CONTEXT) is None


def test_nothing_to_split_is_nothing_to_write() -> None:
    assert bound(http_route()).desired(Exposure(0), CONTEXT).reached
    assert bound(None).desired(Exposure(10), CONTEXT).reached
    assert bound(None).desired(None, CONTEXT).reached


def test_what_others_do_to_our_part_is_put_right_and_what_they_do_to_theirs_is_followed() -> None:
    split = exposed(http_route(), Exposure(10, (HEADER,)))
    rules = json.loads(json.dumps(split.spec["rules"]))
    rules[0]["timeouts"] = {"request": "9s"}
    del rules[1]
    right = exposed(msgspec.structs.replace(split, spec=split.spec | {"rules": rules}), Exposure(10, (HEADER,)))
    assert [one["timeouts"] for one in right.spec["rules"]] == [{"request": "9s"}] * 2
    assert exposed(right, None).spec["rules"] == [rule(backend(), timeouts={"request": "9s"})]


def test_a_route_that_is_applied_anew_is_divided_anew() -> None:
    split = exposed(http_route(), Exposure(10))
    anew = msgspec.structs.replace(split, spec=split.spec | {"rules": [rule(backend(weight=3), x=2)]})
    assert bound(anew).effective(CONTEXT) is None
    assert exposed(exposed(anew, Exposure(10)), None).spec["rules"] == [rule(backend(weight=3), x=2)]


def test_two_services_of_one_route_are_released_at_once() -> None:
    before = http_route(rule(backend()), rule(backend("api", 4)))
    web = exposed(before, Exposure(10))
    api = GatewayRoute(NAMESPACE, "HTTPRoute", "web", "api", web)
    both = patched(web, api.desired(Exposure(20), CONTEXT))
    assert bound(both).effective(CONTEXT) == Exposure(10)
    only_api = exposed(both, None)
    last = patched(only_api, GatewayRoute(NAMESPACE, "HTTPRoute", "web", "api", only_api).desired(None, CONTEXT))
    assert (last.spec, last.metadata.annotations) == (before.spec, before.metadata.annotations)


@pytest.mark.parametrize("value", ["", "x", "[]", '{"web": 1}', '{"web": {"changed": 2}}'])
def test_a_record_that_cannot_be_read_is_none(value: str) -> None:
    assert recorded({names.ROUTED: value}, "web") is None
    assert annotation({names.ROUTED: value}, "web", None) is None


# --- the status ---


TEN = Exposure(10)


def test_it_has_converged_when_every_parent_has_taken_this_generation() -> None:
    def waits(*parents: Json, exposure: Exposure | None = TEN, generation: int = 2) -> str:
        route = http_route(status=list(parents), generation=generation, parentRefs=[{"name": "web"}, {"name": "b"}])
        return bound(route).converged(exposure, CONTEXT)

    assert waits(said(at=2)) == ""
    assert waits(said(at=1)) == "waiting for Gateway web to take the route"
    assert waits(said(at=1), exposure=None) == "waiting for Gateway web to take the route"
    assert waits(said(at=2), said(at=1, parent="b")) == "waiting for Gateway b to take the route"
    assert waits(said(at=2), said("NoMatchingParent", at=2, parent="b")) == ""
    refused = said("UnsupportedValue", at=2)
    assert waits(refused) == "Gateway web doesn't accept the route: UnsupportedValue"
    assert waits(refused, exposure=None) == "", "what is refused brings no requests to the canary"
    assert "can't resolve all" in waits(said(resolved="BackendNotFound", at=2))
    assert waits(said(at=2, PartiallyInvalid="Dropped Rule 1")) == (
        "Gateway web drops some of the route's rules: UnsupportedValue: Dropped Rule 1"
    )
    assert waits(said(at=2), said("Refused", at=1, parent="gone")) == "", "a parent that the route no longer has"


def test_an_exposure_never_converges_on_a_route_that_is_gone_or_sends_elsewhere_or_cannot_say_it() -> None:
    assert bound(None).converged(Exposure(10), CONTEXT) == "HTTPRoute web is gone"
    assert bound(None).converged(None, CONTEXT) == ""
    other = http_route(rule(backend("other")))
    assert bound(other).converged(Exposure(10), CONTEXT) == "HTTPRoute web no longer sends to Service web"
    heavy = http_route(rule(backend(weight=99991), backend("other")))
    assert "can't be divided exactly" in bound(heavy).converged(Exposure(1), CONTEXT)


# --- what it can't do ---


@pytest.mark.parametrize(
    ("features", "exposure", "field", "part"),
    [
        (
            (),
            Exposure(10, (), 100),
            "mirror",
            'GatewayClass "traefik" (traefik.io/gateway-controller) has no HTTPRouteR',
        ),
        (("HTTPRouteRequestMirror",), Exposure(10, (), 50), "mirror", "has no HTTPRouteRequestPercentageMirror"),
        (("X",), Exposure(1, (Match(query=TextMatch("v", exact="1")),)), "query", "HTTPRouteQueryParamMatching"),
        ((), Exposure(1, (Match(cookie=TextMatch("c", regex="a.*")),)), "cookie.regex", "run on into the next cookie"),
        ((), Exposure(1, (Match(source_labels={"a": "b"}),)), "sourceLabels", "VirtualService"),
    ],
)
def test_what_an_implementation_cannot_do_is_refused(
    features: tuple[str, ...], exposure: Exposure, field: str, part: str
) -> None:
    (refusal,) = bound(http_route(), *features).refusals(exposure)
    assert refusal.field == field
    assert part in refusal.message


@pytest.mark.parametrize(
    ("features", "exposure"),
    [
        (("HTTPRouteRequestMirror",), Exposure(10, (), 100)),
        (("HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"), Exposure(10, (), 5)),
        ((), Exposure(1, (Match(query=TextMatch("v", exact="1")), HEADER, COOKIE))),
        ((), Exposure(1, (Match(header=TextMatch("a", present=True), cookie=TextMatch("c", prefix="x")),))),
    ],
)
def test_what_it_can_do_is_not_refused(features: tuple[str, ...], exposure: Exposure) -> None:
    assert bound(http_route(), *features).refusals(exposure) == ()


@pytest.mark.parametrize(("features", "refused"), [((), False), (("HTTPRouteQueryParamMatching",), True)])
def test_istio_mirrors_though_its_class_lists_no_features(features: tuple[str, ...], refused: bool) -> None:
    istio = "istio.io/gateway-controller"
    route = http_route(status=[{**said(), "controllerName": istio}])
    classes = {"istio": gateway_class(*features, controller=istio)}
    found = GatewayRoute(NAMESPACE, "HTTPRoute", "web", "web", route, classes).refusals(Exposure(10, (), 50))
    assert bool(found) == refused


def test_calls_have_no_cookies_and_no_query() -> None:
    calls = GRPCRoute(metadata=meta("GRPCRoute", "web"), spec={"rules": [{"backendRefs": [backend()]}]})
    route = GatewayRoute(NAMESPACE, "GRPCRoute", "web", "web", calls)
    assert [refusal.field for refusal in route.refusals(Exposure(1, (COOKIE, HEADER)))] == ["cookie.exact"]
    ((_, patch),) = route.desired(Exposure(0, (HEADER,)), CONTEXT).patches
    header = {"type": "Exact", "name": "X-Canary", "value": "true"}
    assert patch["spec"]["rules"][1] == {"backendRefs": [backend("web-canary")], "matches": [{"headers": [header]}]}


# --- policies ---


def found_problems(
    *routes: HTTPRoute, name: str = "web", steps: tuple[Step, ...] = (Step(10), Step(100)), **traffic: Any
) -> list[str]:
    given = Traffic(**{"service": "web", "routes": (Route(http_route=GatewayRef(name)),), **traffic})
    objects = NamespaceObjects.of(
        NAMESPACE, (deployment(), service(), *routes), {}, {"traefik": gateway_class("HTTPRouteRequestMirror")}
    )
    wanted = policy(traffic=given, steps=steps)
    objects.put(wanted)
    return problems(wanted, objects)


def test_a_good_route_has_no_problems() -> None:
    assert found_problems(http_route()) == []
    assert found_problems(http_route(), routes=(), service=None, detect=True) == []


@pytest.mark.parametrize(
    ("route", "part"),
    [
        (http_route(name="wbe"), 'no HTTPRoute "web" in shop; those that send to Service "web": wbe'),
        (http_route(rule(backend("api"))), 'never sends to Service "web", only to api; no HTTPRoute does'),
        (http_route(rule(backend(namespace="else"))), "only to no Service of this namespace"),
        (http_route(rule(backend(weight=0), backend("api"))), "only with weight 0"),
        (http_route(rule(backend()), rule(backend("api", 0))), "spec.rules[1] has only backends with weight 0"),
        (http_route(parentRefs=[]), "has no parentRefs"),
        (http_route(status=[]), "no controller has answered for it: is there Gateway web"),
        (http_route(generation=2), "no controller has answered for it as it is now"),
        (http_route(status=[said("NoMatchingParent")]), "Gateway web doesn't accept it: no listener of it has this"),
        (http_route(status=[said("NoMatchingListenerHostname")]), "no listener of it has a hostname that meets"),
        (http_route(status=[said("UnsupportedValue")]), "doesn't accept it: UnsupportedValue"),
        (http_route(status=[said(resolved="RefNotPermitted")]), "(a ReferenceGrant is missing)"),
        (http_route(status=[said(resolved="BackendNotFound")]), "can't resolve all of the route's backends"),
        (http_route(status=[said(PartiallyInvalid="x")]), "drops some of the route's rules"),
    ],
)
def test_what_is_wrong_with_a_route_is_told_with_its_field(route: HTTPRoute, part: str) -> None:
    (problem,) = found_problems(route)
    assert problem.startswith("spec.traffic.routes[0].httpRoute.name: ")
    assert part in problem


def test_a_second_route_and_a_parent_that_refuses_and_sessions_are_warnings() -> None:
    second = http_route(name="internal")
    found = found_problems(
        http_route(
            rule(backend(), sessionPersistence={}),
            parentRefs=[{"name": "web"}, {"name": "b", "sectionName": "x"}],
            status=[said(), said("NoMatchingParent", parent="b") | {"parentRef": {"name": "b", "sectionName": "x"}}],
        ),
        second,
    )
    assert [problem.partition(" ")[0] for problem in found] == ["warning"] * 3
    assert "Gateway b (sectionName x) doesn't accept it" in found[0]
    assert "sessionPersistence, which pins clients" in found[1]
    assert 'HTTPRoute "internal" sends to Service "web" too and is not split' in found[2]


def test_a_route_that_is_being_split_is_not_judged_by_its_status() -> None:
    split = exposed(http_route(), Exposure(10))
    assert found_problems(split) == []


def test_a_rule_is_not_divided_by_two_policies() -> None:
    named = (Route(http_route=GatewayRef("web")),)
    other = policy("api", traffic=Traffic(service="api", routes=named))
    mine = policy(traffic=Traffic(service="web", routes=named))
    for rules, expected in (
        ([rule(backend(), backend("api"))], ['spec.rules[0] sends to Service "api" too, which policy "api" splits']),
        ([rule(backend()), rule(backend("api"))], []),
    ):
        route = http_route(*rules)
        found = NamespaceObjects.of(NAMESPACE, (deployment(), service(), route, other, mine), {}, {})
        told = [text for text in problems(mine, found) if not text.startswith("warning")]
        assert len(told) == len(expected)
        assert all(part in text for part, text in zip(expected, told, strict=True))


def test_a_rule_is_not_divided_for_two_services_of_one_policy() -> None:
    named = Traffic(services=("web", "admin"), routes=(Route(http_route=GatewayRef("web")),))
    mine, admin = policy(traffic=named), service("admin", selector={"app": "web"})
    for rules, expected in (
        ([rule(backend(), backend("admin"))], 'spec.rules[0] sends to Service "admin" too, which policy "web" splits'),
        ([rule(backend()), rule(backend("admin"))], ""),
    ):
        found = NamespaceObjects.of(NAMESPACE, (deployment(), service(), admin, http_route(*rules), mine), {}, {})
        told = [text for text in problems(mine, found) if not text.startswith("warning")]
        assert (expected in told[0]) if expected else told == []


def test_a_mirror_that_the_class_cannot_do_is_told_at_its_step() -> None:
    assert found_problems(http_route(), steps=(Step(10, mirror=100), Step(100))) == []
    (problem,) = found_problems(http_route(), steps=(Step(10, mirror=50), Step(100)))
    assert problem.startswith("spec.steps[0].mirror: HTTPRoute web: ")


def test_a_route_that_nobody_accepts_is_not_detected() -> None:
    (first, *_) = found_problems(http_route(status=[]), routes=(), service=None, detect=True)
    assert 'HTTPRoute "web" is not split: no controller has answered for it' in first

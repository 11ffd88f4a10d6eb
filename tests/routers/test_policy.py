"""What is wrong with a policy in itself: every field with its path and a message that says what would be right."""

from __future__ import annotations

import pytest

from davylamp.api.analysis import Analysis, Check, Errors, Logs, Threshold
from davylamp.api.types import (
    IngressRoute,
    Match,
    Pair,
    Preview,
    ReleasePolicy,
    Route,
    Step,
    Target,
    TextMatch,
    Traffic,
    VirtualServiceRoute,
)
from davylamp.routers.policy import problems_of_policy
from tests.builders import policy

FLEET = Target(match_labels={"tier": "frontend"})


def problems(given: ReleasePolicy) -> list[str]:
    return [("warning " if p.warning else "") + str(p) for p in problems_of_policy(given)]


def ready(*steps: Step) -> ReleasePolicy:
    """A policy with these steps, and a last one of 100 that says nothing wrong."""
    return policy(steps=(*steps, Step(100)))


def route(name: str) -> Route:
    return Route(ingress=IngressRoute(name=name))


BLUE_GREEN = (Step(0, replicas="100%", approve=True), Step(100))
GROUP = Match(cookie=TextMatch("group", exact="b"))
ERRORS = Analysis(checks=(Check(errors=Errors()),))


@pytest.mark.parametrize(
    "given",
    [
        policy(),
        policy(traffic=None, steps=[Step(20), Step(100)]),
        policy(target=FLEET, detect=True),
        policy(routes=()),
        policy(steps=[Step(100)]),
        policy(steps=[Step(20, replicas=2), Step(30, replicas="50%", hold="1h30m"), Step(100, hold="0s")]),
        ready(Step(0, replicas=2, hold="5m")),
        policy(max_extra_pods=0),  # with routes it doesn't matter
        policy(progress_deadline="10m", max_extra_pods="25%"),
        policy(routes=(), steps=BLUE_GREEN, bake="10m", keep_old="1h"),
        policy(traffic=Traffic("web", preview=Preview("web-preview")), steps=[Step(0, approve=True), Step(100)]),
        policy(traffic=Traffic(services=("web", "api"), routes=(route("web"),))),
        policy(steps=[Step(10)], bake="10m"),
        policy(steps=[Step(0, match=(GROUP,), compare=True), Step(100)], analysis=ERRORS),
    ],
)
def test_nothing_is_wrong_with(given: ReleasePolicy) -> None:
    assert problems(given) == []


PAIR = Pair("web-v1", "web-v2")
WAYS = "name for one Deployment, matchLabels for all Deployments with these labels, or pair for two that take turns"
NOT_A_DURATION = "is not a duration: write for example 30s, 10m or 1h30m"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # target
        (
            policy(target=Target()),
            f"spec.target: names no Deployment: give {WAYS}",
        ),
        (
            policy(target=Target(name="")),
            f"spec.target: names no Deployment: give {WAYS}",
        ),
        (
            policy(target=Target(name="web", match_labels={"a": "b"}), detect=True),
            f'spec.target: has both name ("web") and matchLabels: give {WAYS}',
        ),
        (policy(target=Target(name="web", pair=PAIR)), f'spec.target: has both name ("web") and pair: give {WAYS}'),
        (
            policy(target=Target(name="web", pair=PAIR, match_labels={"a": "b"}), traffic=None),
            f'spec.target: has name ("web") and matchLabels and pair: give {WAYS}',
        ),
        (
            policy(target=Target(pair=Pair("web-v1", "web-v1"))),
            'spec.target.pair.canary: "web-v1" is the stable one as well: a pair is two Deployments',
        ),
        (
            policy(target=Target(pair=PAIR), on_failure="revert"),
            "spec.onFailure: revert puts stable's template back into the Deployment that has both versions; of a pair "
            "the rejected one stays in the idle Deployment and gets no requests: leave onFailure out",
        ),
        (
            policy(target=Target(match_labels={}), detect=True),
            "spec.target.matchLabels: is empty, which would be every Deployment in shop: give at least one label, for "
            "example {tier: frontend}",
        ),
        # steps
        (
            policy(steps=[]),
            "spec.steps: is empty: give at least one step, for example [{weight: 10, hold: 10m}, {weight: 100}]",
        ),
        (ready(Step(50), Step(10)), "spec.steps[1].weight: 10 comes after 50; weights must rise"),
        (
            ready(Step(10, hold="1m"), Step(10, approve=True)),
            "spec.steps[1].weight: 10 comes after 10; weights must rise (hold and approve can be in one step)",
        ),
        (
            ready(Step(10, replicas=2), Step(10, replicas=3)),
            "spec.steps[1].weight: 10 comes after 10; weights must rise (hold and approve can be in one step)",
        ),
        (
            policy(steps=[Step(100), Step(100, hold="5m")]),
            "spec.steps[1].weight: 100 comes after 100; weights must rise (hold and approve can be in one step)",
        ),
        (ready(Step(101)), "spec.steps[0].weight: 101 is outside 0..100"),
        (ready(Step(-1)), "spec.steps[0].weight: -1 is outside 0..100"),
        (
            policy(steps=[Step(50)]),
            "warning spec.steps[0].weight: the last step is 50 %; when it is over, promotion follows directly, from "
            "50 % to all. Add {weight: 100, hold: 10m} to watch the new version alone before the old pods go",
        ),
        (
            ready(Step(0)),
            "warning spec.steps[0].weight: 0 sends nothing to the canary, and starts no pods: leave the step out, or "
            "give it replicas to see the pods start before they get traffic",
        ),
        (
            policy(routes=(), steps=[Step(0, replicas=2), Step(20), Step(100)]),
            "spec.steps[0].weight: 0 % can't be had with 2 canary pods: without a route every ready pod gets its "
            "share. Leave the step out, go from 0 to 100 at once, or split by a route",
        ),
        (ready(Step(10, hold="10")), f'spec.steps[0].hold: "10" {NOT_A_DURATION}; did you mean 10s or 10m?'),
        (ready(Step(10, hold="")), f'spec.steps[0].hold: "" {NOT_A_DURATION}'),
        (ready(Step(10, hold="soon")), f'spec.steps[0].hold: "soon" {NOT_A_DURATION}'),
        (ready(Step(10, hold="5m1h")), f'spec.steps[0].hold: "5m1h" {NOT_A_DURATION}'),
        (
            ready(Step(10, replicas="abc")),
            'spec.steps[0].replicas: "abc" is not a number of pods: write for example 2 or "25%"',
        ),
        (ready(Step(10, replicas=-1)), "spec.steps[0].replicas: -1 is below 0"),
        (
            ready(Step(10, replicas=0)),
            "spec.steps[0].replicas: 0 is no canary pod at all for 10 % of the traffic: give at least 1",
        ),
        (
            ready(Step(10, replicas="0%")),
            "spec.steps[0].replicas: 0% is no canary pod at all for 10 % of the traffic: give at least 1",
        ),
        # traffic
        (
            policy(traffic=None, steps=[Step(100, hold="5m")]),
            "spec.steps[0].weight: 100 % without a Service is the promotion itself, which can't wait: leave hold out, "
            "or name the Service in traffic.service",
        ),
        (
            policy(traffic=None, steps=[Step(100, hold="5m", approve=True)]),
            "spec.steps[0].weight: 100 % without a Service is the promotion itself, which can't wait: leave hold and "
            "approve out, or name the Service in traffic.service",
        ),
        (
            policy(traffic=Traffic(detect=True, service="web")),
            "spec.traffic.detect: finds the Service and the routes by itself, and service is given too: leave out one "
            "or the other",
        ),
        (
            policy(traffic=Traffic(detect=True, service="web", routes=(route("web"),))),
            "spec.traffic.detect: finds the Service and the routes by itself, and service and routes are given too: "
            "leave out one or the other",
        ),
        (
            policy(service=None),
            "spec.traffic.service: is missing: routes split the traffic of one Service, so name it",
        ),
        (
            policy(traffic=Traffic(settle="5s")),
            "spec.traffic: names no Service: give service, or detect: true, or leave traffic out for a workload "
            "without a Service",
        ),
        (
            policy(target=FLEET),
            'spec.traffic.service: "web" would be the Service of every Deployment that matchLabels finds: with '
            "matchLabels use traffic: {detect: true}, which finds each one's own",
        ),
        (
            policy(traffic=Traffic(service="web", routes=(Route(),))),
            "spec.traffic.routes[0]: names nothing: give an Ingress, for example {ingress: {name: web}}",
        ),
        (policy(routes=["a", "b", "a"]), 'spec.traffic.routes[2].ingress.name: "a" is named twice'),
        (
            policy(traffic=Traffic(service="web", settle="5")),
            f'spec.traffic.settle: "5" {NOT_A_DURATION}; did you mean 5s or 5m?',
        ),
        # the rest
        (
            policy(progress_deadline="600"),
            f'spec.progressDeadline: "600" {NOT_A_DURATION}; did you mean 600s or 600m?',
        ),
        (policy(progress_deadline="0s"), 'spec.progressDeadline: "0s" leaves no time at all: write for example 10m'),
        (
            policy(max_extra_pods="many"),
            'spec.maxExtraPods: "many" is not a number of pods: write for example 2 or "25%"',
        ),
        (policy(max_extra_pods=-1), "spec.maxExtraPods: -1 is below 0"),
        (
            policy(routes=(), max_extra_pods="0%"),
            "spec.maxExtraPods: 0% allows no canary pod, and without routes traffic follows the number of pods: allow "
            "at least 1, or split by a route",
        ),
        (policy(history_limit=0), "spec.historyLimit: 0 is outside 1..100"),
    ],
)
def test_a_bad_field_is_told_with_its_path_and_what_would_be_right(given: ReleasePolicy, expected: str) -> None:
    assert problems(given) == [expected]


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_fields() -> None:
    given = policy(
        target=Target(),
        traffic=Traffic(detect=True, service="web", settle="5"),
        steps=[Step(50, hold="10"), Step(10), Step(200), Step(30, replicas="x")],
        progress_deadline="1",
        max_extra_pods="x",
    )
    assert [p.path for p in problems_of_policy(given)] == [
        "spec.target",
        "spec.steps[0].hold",
        "spec.steps[1].weight",
        "spec.steps[2].weight",
        "spec.steps[3].replicas",
        "spec.steps[3].weight",
        "spec.traffic.detect",
        "spec.traffic.settle",
        "spec.progressDeadline",
        "spec.maxExtraPods",
    ]


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ((Check(logs=Logs()), Check(name="more", logs=Logs())), "spec.analysis.checks[1].logs"),
        ((Check(threshold=Threshold(query="up", max=1)),), "spec.analysis.checks[0].threshold.query"),
    ],
)
def test_an_analysis_that_cannot_be_done_keeps_the_policy_from_being_used(
    checks: tuple[Check, ...], expected: str
) -> None:
    found = [p.path for p in problems_of_policy(policy(analysis=Analysis(checks=checks))) if not p.warning]
    assert found == [expected]


def previewed(name: str, **traffic: object) -> ReleasePolicy:
    return policy(traffic=Traffic("web", preview=Preview(name), **traffic), steps=BLUE_GREEN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (policy(bake="10"), 'spec.bake: "10" is not a duration: write for example 30s, 10m or 1h30m; did you'),
        (policy(bake="0s"), 'spec.bake: "0s" leaves no time at all: write for example 10m'),
        (policy(keep_old="1d"), 'spec.keepOld: "1d" is not a duration'),
        (
            policy(steps=[Step(10), Step(100, hold="5m")], bake="10m"),
            "spec.bake: says how long the last step at 100 % lasts, and so does spec.steps[1].hold (5m): leave one",
        ),
        (
            policy(traffic=None, steps=[Step(10)], bake="10m"),
            "spec.bake: 100 % without a Service is the promotion itself, which can't wait: leave hold out",
        ),
        (policy(traffic=None, keep_old="10m"), "spec.keepOld: without a Service nothing keeps the old pods"),
        (previewed(""), "spec.traffic.preview.service: is empty"),
        (previewed("web"), 'spec.traffic.preview.service: "web" is the users\' own Service: give testers another'),
        (previewed("web-canary"), 'spec.traffic.preview.service: "web-canary" is the name of a Service that each'),
        (
            policy(traffic=Traffic(detect=True, preview=Preview("p"))),
            "spec.traffic.detect: finds the Service and the routes by itself, and preview is given too",
        ),
        (
            policy(traffic=Traffic("web", services=("web", "api"))),
            'spec.traffic.services: service ("web") is given too: name all in services',
        ),
        (policy(traffic=Traffic(services=("web",))), "spec.traffic.services: has one name only: write service: web"),
        (policy(traffic=Traffic(services=("a", "b", "a"))), 'spec.traffic.services[2]: "a" is named twice'),
        (
            policy(target=FLEET, traffic=Traffic(services=("a", "b"))),
            'spec.traffic.service: "a" would be the Service of every Deployment',
        ),
        (
            policy(steps=[Step(0, match=(GROUP,), compare=True), Step(100)]),
            "spec.steps[0].compare: needs an analysis",
        ),
        (
            policy(steps=[Step(0, replicas=1, compare=True), Step(100)], analysis=ERRORS),
            "spec.steps[0].compare: at 0 % without a match the new version gets no requests to compare",
        ),
        (
            policy(steps=[Step(10), Step(100, compare=True)], analysis=ERRORS),
            "spec.steps[1].compare: at 100 % the old version gets no requests to compare with",
        ),
    ],
)
def test_blue_green_and_tests_of_two_versions_that_cannot_be(given: ReleasePolicy, expected: str) -> None:
    assert [problem for problem in problems(given) if problem.startswith(expected)], problems(given)


def test_by_subsets_every_request_for_the_service_has_to_come_through_such_a_route() -> None:
    by_subsets = Route(virtual_service=VirtualServiceRoute("web", subsets=True))
    part = Route(virtual_service=VirtualServiceRoute("web", ("a",), subsets=True))
    ingress = Route(ingress=IngressRoute("web"))
    assert problems(policy(traffic=Traffic(service="web", routes=(by_subsets,)))) == []
    (told,) = problems(policy(traffic=Traffic(service="web", routes=(by_subsets, ingress))))
    assert told.startswith("spec.traffic.routes[1]: isn't split by subsets, and another route is")
    (told,) = problems(policy(traffic=Traffic(service="web", routes=(part,))))
    assert told.startswith("spec.traffic.routes[0].virtualService.routes: leaves HTTP routes out")

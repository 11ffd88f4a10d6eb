"""What a policy is told about its VirtualServices before anything is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from davylamp.api.objects import DestinationRule, VirtualService
from davylamp.api.types import Match, ReleasePolicy, Route, Step, TextMatch, Traffic, VirtualServiceRoute
from davylamp.routers.istio import VirtualServiceRoute as Bound
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import bind
from tests.builders import NAMESPACE, deployment, ingress, meta, policy, service
from tests.routers.shop import cluster, problems, resolved, without

Json = dict[str, Any]
AT = "spec.traffic.routes[0].virtualService.name"


def to(host: str, weight: int | None = None, subset: str | None = None) -> Json:
    destination = {"host": host} | ({} if subset is None else {"subset": subset})
    return {"destination": destination} | ({} if weight is None else {"weight": weight})


def vs(*targets: Json, name: str = "web", **spec: Any) -> VirtualService:
    routes = [{"route": list(targets)}] if targets else []
    return VirtualService(meta("VirtualService", name), {"hosts": [f"{name}.example"], "http": routes} | spec)


def rule(*subsets: Json, name: str = "web", host: str = "web", **spec: Any) -> DestinationRule:
    return DestinationRule(meta("DestinationRule", name), {"host": host, "subsets": list(subsets)} | spec)


def shop(*objects: Any) -> NamespaceObjects:
    return without(cluster(*objects), ingress())


def asks(*routes: str, name: str = "web", match: tuple[Match, ...] = (), **step: Any) -> ReleasePolicy:
    given = policy()
    traffic = Traffic("web", (Route(virtual_service=VirtualServiceRoute(name, routes)),), match)
    spec = msgspec.structs.replace(given.spec, traffic=traffic, steps=(Step(10, **step), Step(100, hold="1m")))
    return msgspec.structs.replace(given, spec=spec)


@pytest.mark.parametrize(
    ("objects", "asked", "told"),
    [
        ([], asks(), [f'{AT}: no VirtualService "web" in shop; there is none at all']),
        (
            [vs(to("web"), name="wbe")],
            asks(),
            [f'{AT}: no VirtualService "web" in shop; those that send to Service "web": wbe'],
        ),
        (
            [vs(to("cart")), vs(to("web"), name="b")],
            asks(),
            [f'{AT}: VirtualService "web" never sends to Service "web", only to cart; those that do: b'],
        ),
        (
            [vs(to("web.other"))],
            asks(),
            [
                f'{AT}: VirtualService "web" never sends to Service "web" of shop, only to web.other: '
                "a policy splits in its own namespace; no VirtualService does"
            ],
        ),
        (
            [vs(to("web", 0), to("cart", 100))],
            asks(),
            [
                f'{AT}: VirtualService "web" never sends to Service "web": its destination there has weight 0; '
                "no VirtualService does"
            ],
        ),
        (
            [vs(http=[{"delegate": {"name": "inner", "namespace": "far"}}])],
            asks(),
            [
                f'{AT}: VirtualService "web" never sends to Service "web" itself but leaves it to inner of namespace '
                "far: name the one that sends to it; no VirtualService does"
            ],
        ),
        (
            [vs(http=[{"name": "api", "route": [to("web")]}])],
            asks("apii"),
            [f'{AT}: VirtualService "web" has no HTTP route named "apii"; did you mean api?'],
        ),
        (
            [vs(http=[{"name": "api", "route": [to("cart")]}, {"route": [to("web")]}])],
            asks("api"),
            [
                f'{AT}: VirtualService "web": HTTP route "api" never sends to Service "web"',
            ],
        ),
        (
            [vs(http=[{"name": "api", "route": [to("web")]}, {"route": [to("web")]}])],
            asks("api"),
            [
                f'warning {AT}: VirtualService "web": spec.http[1] sends to Service "web" too and is not named: '
                "requests there stay on the stable pods until the last step"
            ],
        ),
        (
            [vs(to("web", 50), to("cart", -50))],
            asks(),
            [f'{AT}: VirtualService "web": spec.http[0] has the weight -50; weights are whole numbers from 0'],
        ),
        (
            [vs(to("web", 30), to("cart", 30), to("api", 20))],
            asks(),
            [
                f'warning {AT}: VirtualService "web": spec.http[0] has weights that sum to 80 and not to 100; Istio '
                "takes them as parts of the sum, so 30 is 37.5 %, 20 is 25 %"
            ],
        ),
        (
            [vs(http=[{"route": [to("web")]}, {"route": [to("cart", 0), to("api", 0)]}])],
            asks(),
            [
                f'{AT}: VirtualService "web": spec.http[1] has only weights of 0, which Istio refuses: give one of '
                "them a weight"
            ],
        ),
        (
            [vs(to("web", 100), to("cart"))],
            asks(),
            [
                f'warning {AT}: VirtualService "web": spec.http[0] has several destinations and no weight for cart, '
                "which gets nothing"
            ],
        ),
        (
            [vs(to("web")), vs(to("cart"), name="b", hosts=["web.example"])],
            asks(),
            [
                f'warning {AT}: VirtualService "web": VirtualService "b" has web.example too, and which of the two '
                "counts is not certain: write one VirtualService for a host"
            ],
        ),
        (
            [vs(to("web")), vs(to("web"), name="b")],
            asks(),
            [
                'warning spec.traffic.routes: VirtualService "b" sends to Service "web" too and is not split: '
                "its requests stay on the stable pods until the last step"
            ],
        ),
        (
            [vs(to("web")), rule(trafficPolicy={"loadBalancer": {"simple": "RANDOM"}})],
            asks(),
            [],
        ),
        (
            [vs(to("web")), rule(trafficPolicy={"loadBalancer": {"consistentHash": {"useSourceIp": True}}})],
            asks(),
            [
                f'warning {AT}: VirtualService "web": DestinationRule "web" has a consistentHash: a client keeps to '
                "one pod of a version, but Istio chooses the version anew for each request; match a cookie or a "
                "header where clients have to stay on one"
            ],
        ),
        (
            [vs(to("web", subset="v1"))],
            asks(),
            [
                f'{AT}: VirtualService "web": spec.http[0].route[0] names subset "v1", which no DestinationRule for '
                'Service "web" has: 503 for its share; there is none'
            ],
        ),
        (
            [vs(to("web", subset="v1")), rule({"name": "v1", "labels": {"pod-template-hash": "abc"}})],
            asks(),
            [
                f'{AT}: VirtualService "web": spec.http[0].route[0] names subset "v1", which DestinationRule "web" '
                "ties to the pods of one ReplicaSet (pod-template-hash=abc): after the release there are none; take "
                "that label out of the subset"
            ],
        ),
        (
            [vs(to("web", subset="v1")), rule({"name": "v1", "labels": {"version": "v1"}})],
            asks(),
            [
                f'{AT}: VirtualService "web": spec.http[0].route[0] names subset "v1", which DestinationRule "web" '
                'ties to pods with version=v1; those of Deployment "web" have none of it, so nobody would answer '
                "after the release: give the subset labels that stay"
            ],
        ),
        ([vs(to("web", subset="all")), rule({"name": "all", "labels": {"app": "web"}})], asks(), []),
        ([vs(to("web.shop.svc.cluster.local"))], asks(), []),
        (
            [vs(to("web"))],
            asks(match=(Match(header=TextMatch("X-Canary", exact="true"), source_labels={"a": "b"}),), mirror=7),
            [],
        ),
        (
            [vs(to("web"))],
            asks(match=(Match(header=TextMatch("X-Canary", regex="(?=a)b")),)),
            [
                'spec.traffic.match[0].header.regex: "(?=a)b" looks ahead or behind, which RE2 doesn\'t know: '
                "write it without"
            ],
        ),
        (
            [vs(http=[], tcp=[{"route": [to("web")]}])],
            asks(mirror=5),
            [
                "spec.steps[0].mirror: VirtualService web: only TCP or TLS routes send to the Service, where requests "
                "are not looked at: use the weight alone"
            ],
        ),
    ],
)
def test_what_can_not_work_is_told_with_its_place(objects: list[Any], asked: ReleasePolicy, told: list[str]) -> None:
    assert problems(asked, shop(deployment(), service(), *objects)) == told


def test_detection_finds_the_virtual_services_that_send_to_the_service() -> None:
    given = policy()
    found = shop(vs(to("web")), vs(to("cart"), name="cart"), vs(to("web", 0), to("cart", 1), name="zero"))
    traffic = Traffic(detect=True)
    given = msgspec.structs.replace(given, spec=msgspec.structs.replace(given.spec, traffic=traffic))
    assert resolved(given, found).traffic.routes == (Route(virtual_service=VirtualServiceRoute("web")),)


def test_a_route_is_bound_with_the_rules_that_have_a_say() -> None:
    objects = shop(vs(to("web")), rule(), rule(name="cart", host="cart"))
    (bound,) = bind(resolved(asks("a"), shop(vs(http=[{"name": "a", "route": [to("web")]}]))).traffic, objects)
    assert isinstance(bound, Bound)
    assert (bound.namespace, bound.vs_name, bound.routes) == (NAMESPACE, "web", ("a",))
    assert [str(ref) for ref in bound.refs] == ["VirtualService shop/web", "DestinationRule shop/web"]


@pytest.mark.parametrize(
    ("subsets", "where"),
    [(False, "stay on the stable pods until the last step"), (True, "reach both versions, by the number of pods")],
)
def test_what_is_not_split_is_told_with_where_its_requests_go(subsets: bool, where: str) -> None:
    route = Route(virtual_service=VirtualServiceRoute("web", subsets=subsets))
    given = msgspec.structs.replace(asks().spec, traffic=Traffic("web", (route,)))
    told = problems(msgspec.structs.replace(asks(), spec=given), cluster(vs(to("web"))))
    assert [one for one in told if 'Ingress "web" sends to Service "web" too' in one and where in one], told


def test_by_subsets_a_destination_has_no_other_subset() -> None:
    named = rule(subsets=[{"name": "v1", "labels": {}}])
    (told,) = problems(split_by_subsets(), shop(deployment(), service(), named, vs(to("web", subset="v1"))))
    assert 'spec.http[0].route[0] names subset "v1", and the policy asks to split by subsets' in told


SEEN = " would not know the subsets and answer 503; add "
OUT = " to it, or leave `subsets` out of the policy"


@pytest.mark.parametrize(
    ("rule_", "of", "told"),
    [
        ({}, {"gateways": ["edge", "mesh"]}, ""),
        ({"exportTo": []}, {"gateways": ["far/edge"]}, ""),
        ({"exportTo": [".", "*"]}, {"gateways": ["edge", "mesh"]}, ""),
        ({"exportTo": ["far"]}, {"gateways": ["far/edge"]}, ""),
        ({"exportTo": ["."]}, {"exportTo": ["shop"]}, ""),
        (
            {"exportTo": ["."]},
            {"gateways": ["far/edge"]},
            f'has spec.exportTo ., so that the pods of Gateway far/edge{SEEN}far or "*"{OUT}',
        ),
        (
            {"exportTo": ["."]},
            {"gateways": ["edge"]},
            f'has spec.exportTo ., so that the pods of Gateway edge, which may run in another namespace,{SEEN}"*"{OUT}',
        ),
        (
            {"exportTo": ["shop", "far"]},
            {"gateways": ["shop/edge", "far/edge", "mesh"], "exportTo": ["shop", "near"]},
            "has spec.exportTo shop, far, so that the pods of Gateway edge, which may run in another namespace, and "
            f'sidecars (the VirtualService is for those of near, shop){SEEN}"*"{OUT}',
        ),
        (
            {"exportTo": ["."]},
            {},
            f'has spec.exportTo ., so that sidecars (the VirtualService is for those of *){SEEN}"*"{OUT}',
        ),
        (
            {"exportTo": ["."]},
            {"hosts": []},
            f'has spec.exportTo ., so that whoever has the VirtualService that delegates to this one{SEEN}"*"{OUT}',
        ),
        (
            {"workloadSelector": {"matchLabels": {"app": "web"}}},
            {},
            "has a spec.workloadSelector, so that all clients but those that it selects would not know the subsets and "
            "answer 503; take it out, or leave `subsets` out of the policy",
        ),
    ],
)
def test_by_subsets_a_rule_that_not_everybody_sees_who_has_the_virtual_service_is_refused(
    rule_: Json, of: Json, told: str
) -> None:
    objects = shop(rule(**rule_), vs(to("web"), **of))
    expected = [f'{AT}: VirtualService "web": DestinationRule "web" {told}'] if told else []
    assert problems(split_by_subsets(), objects) == expected
    assert problems(asks(), objects) == [], "with a Service for each version it is all the same"


def split_by_subsets() -> ReleasePolicy:
    traffic = Traffic("web", (Route(virtual_service=VirtualServiceRoute("web", subsets=True)),))
    return msgspec.structs.replace(asks(), spec=msgspec.structs.replace(asks().spec, traffic=traffic))

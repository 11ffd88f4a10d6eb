"""What is wrong with a pair: each with the path of its field, what was found, and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from davylamp.api.types import IngressRoute, Pair, ReleasePolicy, Route, Step, Target, Traffic
from davylamp.routers.namespace import NamespaceObjects, Watched
from davylamp.routers.review import resolve, review
from tests.builders import NAMESPACE, deployment, ingress, policy, service
from tests.routers.shop import CANARY, CLASSES

V1, V2 = {"app": "web", "version": "v1"}, {"app": "web", "version": "v2"}
BASE: tuple[Watched, ...] = (
    deployment("web-v1", selector=V1),
    deployment("web-v2", selector=V2, replicas=0),
    service("web", selector=V1),
    service("web-canary", selector=V2),
    ingress("web"),
)
BY_HAND = ingress("web-canary", [("web.example", "/", "web-canary")], annotations=CANARY, age=1)


def of(
    *, canary_service: str | None = None, by_hand: str | None = None, routed: bool = True, **spec: Any
) -> ReleasePolicy:
    routes = (Route(ingress=IngressRoute("web", canary=by_hand)),) if routed else ()
    traffic = spec.pop("traffic", Traffic("web", routes, canary_service=canary_service))
    return policy(target=spec.pop("target", Target(pair=Pair("web-v1", "web-v2"))), traffic=traffic, **spec)


def problems(given: ReleasePolicy, *objects: Watched, gone: tuple[str, ...] = ()) -> list[str]:
    """Of `given` among the objects of the pair, `objects` in place of those of their names, without `gone`."""
    found = {(type(obj), obj.metadata.name): obj for obj in (*BASE, *objects, given)}
    here = NamespaceObjects.of(NAMESPACE, [o for o in found.values() if o.metadata.name not in gone], CLASSES)
    resolution = resolve(given, here.deployments.get("web-v1"), here)
    assert resolution.problems == review(given, here)
    return [("warning " if p.warning else "") + str(p) for p in resolution.problems]


def test_a_pair_behind_two_services_finds_the_canarys_own() -> None:
    here = NamespaceObjects.of(NAMESPACE, [*BASE, given := of()], CLASSES)
    resolution = resolve(given, None, here)
    assert resolution.problems == ()
    assert (resolution.traffic.service, resolution.traffic.canary_service) == ("web", "web-canary")


@pytest.mark.parametrize(
    ("given", "objects"),
    [
        (of(canary_service="web-canary"), ()),
        (of(by_hand="web-canary"), (BY_HAND,)),
        (of(), (service("all", selector={"app": "web"}),)),
        (of(), (deployment("web-v1", selector=V1, strategy="Recreate"),)),
        (of(routed=False, steps=[Step(50), Step(100)]), (service("web", selector={"app": "web"}),)),
        (of(traffic=None, steps=[Step(25), Step(100, hold="5m")]), ()),
    ],
)
def test_nothing_is_wrong_with(given: ReleasePolicy, objects: tuple[Watched, ...]) -> None:
    assert problems(given, *objects) == []


@pytest.mark.parametrize(
    ("given", "objects", "gone", "expected"),
    [
        (
            of(target=Target(pair=Pair("web-v1", "web-v3"))),
            (),
            (),
            'spec.target.pair.canary: no Deployment "web-v3" in shop; did you mean web-v2 or web-v1?',
        ),
        (of(), (), ("web-v1",), 'spec.target.pair.stable: no Deployment "web-v1" in shop; did you mean web-v2?'),
        (
            of(),
            (policy("other", target=Target(name="web-v2")),),
            (),
            'spec.target.pair: Deployment "web-v2" is the target of the ReleasePolicies "other" and "web": only one '
            "may have it, so none of them is used for it",
        ),
        (
            of(routed=False, steps=[Step(50), Step(100)]),
            (),
            (),
            'spec.traffic.service: Service "web" selects only the pods of Deployment "web-v1": without a route it has '
            "to select both's, so take version out of its selector, or name a route in spec.traffic.routes",
        ),
        (
            of(),
            (),
            ("web-canary",),
            'spec.traffic.canaryService: is missing, and no other Service selects the pods of "web-v1" or "web-v2" '
            "alone: a route needs a Service for each; make one for the canary, or leave routes out to split by the "
            "number of pods",
        ),
        (
            of(),
            (service("preview", selector=V2),),
            (),
            'spec.traffic.canaryService: is missing, and several Services select the pods of "web-v1" or "web-v2" '
            "alone: preview, web-canary; name one of them",
        ),
        (
            of(canary_service="web"),
            (),
            (),
            'spec.traffic.canaryService: "web" is spec.traffic.service as well: a route needs two Services to split '
            "between",
        ),
        (
            of(canary_service="web-canry"),
            (),
            (),
            'spec.traffic.canaryService: no Service "web-canry" in shop; did you mean web-canary?',
        ),
        (
            of(canary_service="web-canary", routed=False),
            (service("web", selector={"app": "web"}),),
            (),
            "spec.traffic.canaryService: needs a route: without one the requests of spec.traffic.service go to the "
            "pods of both Deployments",
        ),
        (
            of(canary_service="web-canary"),
            (service("web-canary", selector={"app": "shop"}),),
            (),
            'spec.traffic.canaryService: Service "web-canary" doesn\'t select the pods of Deployment "web-v1": it '
            "wants app=shop; it has to be able to select either's, by the labels that tell them apart",
        ),
        (
            of(by_hand="web-canry"),
            (BY_HAND,),
            (),
            'spec.traffic.routes[0].ingress.canary: no Ingress "web-canry" in shop; did you mean web-canary?',
        ),
        (
            of(by_hand="other"),
            (ingress("other", [("web.example", "/", "web-canary")], annotations=CANARY, class_name="plain"),),
            (),
            'spec.traffic.routes[0].ingress.canary: Ingress "other" has class "plain", and Ingress "web" has "nginx"',
        ),
        (
            of(by_hand="other"),
            (ingress("other", [("other.example", "/", "web-canary")]),),
            (),
            'spec.traffic.routes[0].ingress.canary: Ingress "other" is no canary: it has no annotation '
            'nginx.ingress.kubernetes.io/canary: "true"',
        ),
        (
            of(by_hand="other"),
            (ingress("other", [("web.example", "/shop", "web-canary")], annotations=CANARY),),
            (),
            'spec.traffic.routes[0].ingress.canary: Ingress "other" lacks web.example/ of Ingress "web": host, path '
            "and pathType have to be the same",
        ),
        (
            of(by_hand="other"),
            (ingress("other", [("web.example", "/", "web-preview")], annotations=CANARY),),
            (),
            'spec.traffic.routes[0].ingress.canary: Ingress "other" sends to Service web-preview, not only to the '
            'canary\'s, "web-canary"',
        ),
        (
            of(),
            (BY_HAND,),
            (),
            'spec.traffic.routes[0].ingress.name: Ingress "web": Ingress "web-canary" is a canary at web.example/ '
            "already, and only the oldest one counts: delete it, or `davy adopt web-canary`",
        ),
        (
            of(routed=False, steps=[Step(30), Step(100)]),
            (service("web", selector={"app": "web"}),),
            (),
            "warning spec.steps[0].weight: 30 % can't be reached with 4 pods altogether: the nearest is 25.0 % (1 of "
            "4); a route (spec.traffic.routes) splits by any weight",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_path_and_what_would_be_right(
    given: ReleasePolicy, objects: tuple[Watched, ...], gone: tuple[str, ...], expected: str
) -> None:
    assert expected in problems(given, *objects, gone=gone)


def test_selectors_that_overlap_are_told() -> None:
    same = {"app": "web"}
    found = problems(
        of(), deployment("web-v1", selector=same, pod_labels=V1), deployment("web-v2", selector=same, pod_labels=V2)
    )
    assert any(text.startswith("spec.target.pair: the pods of Deployments") for text in found)


def test_what_is_only_for_a_pair_is_told() -> None:
    given = policy(
        traffic=Traffic("web", (Route(ingress=IngressRoute("web", canary="web-canary")),), canary_service="web-canary")
    )
    found = [
        str(problem)
        for problem in review(
            given, NamespaceObjects.of(NAMESPACE, [deployment(), service(), ingress(), given], CLASSES)
        )
    ]
    assert found == [
        "spec.traffic.canaryService: is only for a pair (spec.target.pair): for one Deployment a release makes the "
        "canary's Service",
        "spec.traffic.routes[0].ingress.canary: is only for a pair (spec.target.pair): for one Deployment a release "
        "makes the canary Ingress",
    ]

"""Blue/green and several Services, seen with the cluster: what is found, and what can't be."""

from __future__ import annotations

import pytest

from davylamp.api.types import IngressRoute, Preview, ReleasePolicy, Route, Step, Traffic
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import bind
from tests.builders import deployment, ingress, policy, service
from tests.routers.shop import OURS, cluster, problems, resolved

BLUE_GREEN = (Step(0, replicas="100%", approve=True), Step(100))
WEB = Route(ingress=IngressRoute("web"))
ADMIN = service("admin", selector={"app": "web"})
BOTH = ingress(rules=[("web.example", "/", "web"), ("web.example", "/admin", "admin")])


def previewed(name: str = "web-preview") -> ReleasePolicy:
    return policy(traffic=Traffic("web", preview=Preview(name)), steps=BLUE_GREEN)


def several(*routes: str, names: tuple[str, ...] = ("web", "admin")) -> ReleasePolicy:
    found = tuple(Route(ingress=IngressRoute(name)) for name in routes)
    return policy(traffic=Traffic(services=names, routes=found), steps=[Step(50, hold="1m"), Step(100, hold="1m")])


@pytest.mark.parametrize(
    "objects",
    [
        cluster(),
        cluster(service("web-preview", selector={"app": "web"})),
        cluster(service("web-preview", selector={"app": "web", "pod-template-hash": "x"}, labels=OURS)),
    ],
)
def test_a_preview_service_is_made_or_one_that_fits_is_moved(objects: NamespaceObjects) -> None:
    assert problems(previewed(), objects) == []
    assert resolved(previewed(), objects).traffic.preview == "web-preview"


def test_a_preview_service_of_other_pods_is_refused() -> None:
    objects = cluster(service("web-preview", selector={"app": "api"}))
    assert problems(previewed(), objects) == [
        'spec.traffic.preview.service: Service "web-preview" doesn\'t select the pods of Deployment "web": it wants '
        "app=api, they have app=web"
    ]


@pytest.mark.parametrize("given", [{}, {"keep_old": "1h", "steps": (Step(20), Step(100))}])
def test_without_room_for_all_pods_there_is_no_blue_green(given: dict[str, object]) -> None:
    asked = policy(**{"routes": (), "steps": BLUE_GREEN, "max_extra_pods": 2, **given})  # type: ignore[arg-type]
    assert [problem for problem in problems(asked, cluster()) if not problem.startswith("warning")] == [
        'spec.steps[1].weight: 100 % needs as many canary pods as Deployment "web" has, 4, more than maxExtraPods '
        "allows (2): nothing can be held there. Put hold or approve on the step before, or set maxExtraPods: "
        '"100%"'
    ]


def test_a_route_of_several_services_is_bound_for_each() -> None:
    objects = cluster(ADMIN, BOTH)
    found = resolved(several("web"), objects)
    assert found.usable
    assert (found.traffic.service, found.traffic.services) == ("web", ("web", "admin"))
    assert found.found.services == ("web", "admin")
    assert [(route.name, route.service) for route in bind(found.traffic, objects)] == [
        ("Ingress web", "web"),
        ("Ingress web", "admin"),
    ]


def test_each_route_is_bound_only_for_the_services_that_it_sends_to() -> None:
    objects = cluster(ADMIN, ingress("admin", [("admin.example", "/", "admin")]))
    found = resolved(several("web", "admin"), objects)
    assert found.usable
    assert [(route.name, route.service) for route in bind(found.traffic, objects)] == [
        ("Ingress web", "web"),
        ("Ingress admin", "admin"),
    ]


@pytest.mark.parametrize(
    ("given", "objects", "expected"),
    [
        (
            several("web", names=("web", "adnim")),
            cluster(ADMIN, BOTH),
            'spec.traffic.services[1]: no Service "adnim" in shop; those that select the pods of Deployment "web": '
            "admin, web",
        ),
        (
            several("web"),
            cluster(service("admin", selector={"app": "api"}), BOTH),
            'spec.traffic.services[1]: Service "admin" doesn\'t select the pods of Deployment "web": it wants app=api, '
            "they have app=web",
        ),
        (
            several("web"),
            cluster(ADMIN, ingress(rules=[("x", "/", "api")]), deployment()),
            'spec.traffic.routes[0].ingress.name: Ingress "web" never sends to Service "web", only to api; no Ingress '
            "does",
        ),
        (
            several("web"),
            cluster(ADMIN, BOTH, service("admin-canary")),
            'spec.traffic.services[1]: Service "admin-canary" exists and is not ours, but a release makes one of that '
            "name: rename it",
        ),
    ],
)
def test_what_is_wrong_with_several_services(given: ReleasePolicy, objects: NamespaceObjects, expected: str) -> None:
    assert problems(given, objects) == [expected]


def test_a_service_of_the_same_pods_that_is_not_named_is_a_warning() -> None:
    assert problems(policy(), cluster(ADMIN)) == [
        'warning spec.traffic.service: Service "admin" selects the same pods and gets the canary\'s as soon as they '
        "are ready, whatever the weight: name all, services: [web, admin]"
    ]
    assert problems(several("web"), cluster(ADMIN, BOTH)) == []
    assert problems(previewed("admin"), cluster(ADMIN)) == []

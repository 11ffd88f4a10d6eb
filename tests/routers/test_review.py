"""What a policy means in the cluster, and everything that is wrong with it there."""

from __future__ import annotations

from davylamp.api.objects import HASH_LABEL
from davylamp.api.types import Found, IngressRoute, Route
from davylamp.core.world import Traffic
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.nginx import NginxRoute
from davylamp.routers.review import Resolution, bind, resolve, review
from tests.builders import NAMESPACE, deployment, ingress, ingress_class, policy, service
from tests.routers.shop import CANARY, CLASSES, FLEET, OURS, cluster, problems, resolved, without

WEB = Route(ingress=IngressRoute("web"))


def test_a_policy_that_fits_names_the_service_and_the_ingresses() -> None:
    found = resolved(policy(), cluster())
    assert found == Resolution(
        Traffic(service="web", routes=(WEB,), settle_seconds=5.0),
        (),
        Found(deployment="web", service="web", routes=(WEB,)),
    )
    assert found.usable


def test_without_routes_there_is_a_service_and_without_traffic_there_is_nothing() -> None:
    assert resolved(policy(routes=()), cluster()).traffic == Traffic(service="web")
    assert resolved(policy(traffic=None), cluster()).traffic == Traffic()


def test_detection_finds_the_service_and_every_ingress_that_sends_to_it() -> None:
    internal = ingress("internal", [("internal.example", "/", "web"), ("internal.example", "/api", "api")])
    objects = cluster(internal, service("api"), ingress("other", [("x", "/", "api")]))
    found = resolved(policy(detect=True), objects)
    assert (found.traffic.service, tuple(route.name for route in found.traffic.routes)) == ("web", ("internal", "web"))
    assert found.problems == ()


def test_detection_without_an_ingress_splits_by_pods() -> None:
    objects = without(cluster(), ingress())
    found = resolved(policy(detect=True), objects)
    assert found.traffic == Traffic(service="web")
    assert found.usable


def test_detection_passes_over_services_that_cant_be_the_one() -> None:
    headless = service("web-headless", selector={"app": "web"}, cluster_ip="None")
    everything = service("all", selector={"part-of": "shop"})
    other = deployment("api", pod_labels={"app": "api", "part-of": "shop"})
    web = deployment(pod_labels={"app": "web", "part-of": "shop"}, selector={"app": "web"})
    ours = service("web-canary", selector={"app": "web", HASH_LABEL: "x"}, labels=OURS)
    assert resolved(policy(detect=True), cluster(headless, everything, other, web, ours)).traffic.service == "web"


def test_a_release_under_way_is_no_problem_of_its_own_policy() -> None:
    pinned = service(selector={"app": "web", HASH_LABEL: "abc"}, annotations={"davylamp.dev/pinned-by": "web-1"})
    canary_service = service("web-canary", selector={"app": "web", HASH_LABEL: "x"}, labels=OURS)
    canary = ingress("web-davylamp", [("web.example", "/", "web-canary")], annotations=CANARY, labels=OURS, age=9)
    objects = cluster(pinned, canary_service, canary, deployment(paused=True, image="hellok8s:v2"))
    for given in (policy(), policy(detect=True)):
        assert problems(given, objects) == []
        assert resolved(given, objects).traffic.routes == (WEB,)


def test_a_deployment_scaled_to_zero_is_fine() -> None:
    assert problems(policy(routes=()), cluster(deployment(replicas=0))) == []


def test_each_deployment_of_a_fleet_is_told_of() -> None:
    label = {"tier": "frontend"}
    objects = NamespaceObjects.of(
        NAMESPACE,
        [deployment(name, labels=label) for name in ("a", "b", "c")] + [service("a"), service("c"), ingress("c", [])],
        CLASSES,
    )
    given = policy("fleet", target=FLEET, detect=True)
    assert [(p.path, p.message) for p in review(given, objects)] == [
        (
            "spec.traffic.detect",
            'no Service selects the pods of Deployment "b" (app=b): leave traffic out for a workload without one',
        )
    ]
    assert resolve(given, objects.deployments["a"], objects).usable
    assert not resolve(given, objects.deployments["b"], objects).usable


def test_ingresses_of_another_class_are_another_controllers_and_no_rivals() -> None:
    internal = ingress_class("internal", "k8s.io/ingress-nginx-internal")
    rival = ingress("rival", [("web.example", "/", "web2")], annotations=CANARY, class_name="internal")
    legacy = ingress("legacy", [("web.example", "/", "legacy")], class_name="internal")
    assert problems(policy(), cluster(rival, legacy, classes=[*CLASSES.values(), internal])) == []


# --- routers ---


def test_bind_gives_a_route_for_each_ingress_with_what_is_there_now() -> None:
    canary = ingress("web-davylamp", [("web.example", "/", "web-canary")], annotations=CANARY, labels=OURS)
    rival = ingress("rival", [("web.example", "/", "x"), ("web.example", "/y", "x")], annotations=CANARY)
    beside = ingress("beside", [("web.example", "/y", "y")])
    elsewhere = ingress("elsewhere", [("e", "/", "e")])
    other_class = ingress("inside", [("web.example", "/", "web")], class_name="nginx-internal")
    objects = cluster(canary, rival, beside, elsewhere, other_class)
    (route, gone) = bind(Traffic(service="web", routes=(WEB, Route(ingress=IngressRoute("gone")))), objects)
    assert isinstance(route, NginxRoute)
    assert isinstance(gone, NginxRoute)
    assert (route.ingress, route.canary) == (objects.ingresses["web"], canary)
    assert {i.metadata.name for i in route.others} == {"rival", "beside"}
    assert (gone.ingress, gone.canary) == (None, None)

"""Bad input that can be seen in the cluster: each is told with its field, what was found and what would be right."""

from __future__ import annotations

import pytest

from davylamp.api.objects import HASH_LABEL, IngressClass
from davylamp.api.types import ReleasePolicy, Step, Target
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import review
from tests.builders import NAMESPACE, deployment, ingress, ingress_class, policy, service
from tests.routers.shop import CANARY, FLEET, OURS, cluster, problems, resolved, without


def test_everything_is_told_at_once() -> None:
    objects = cluster(
        deployment(strategy="Recreate"),
        service(selector={"app": "web", "version": "v1"}),
        ingress(annotations={"nginx.ingress.kubernetes.io/affinity": "cookie"}),
    )
    given = policy(routes=["wbe", "web"], steps=[Step(50, hold="10"), Step(10)])
    assert [p.path for p in review(given, objects)] == [
        "spec.steps[0].hold",
        "spec.steps[1].weight",
        "spec.steps[1].weight",
        "spec.target",
        "spec.traffic.service",
        "spec.traffic.routes[0].ingress.name",
        "spec.traffic.routes[1].ingress.name",
    ]


@pytest.mark.parametrize(
    ("given", "objects", "expected"),
    [
        (
            policy(target=Target(name="wbe")),
            cluster(),
            'spec.target.name: no Deployment "wbe" in shop; did you mean web?',
        ),
        (
            policy(target=Target(name="payments")),
            cluster(deployment("api")),
            'spec.target.name: no Deployment "payments" in shop; there are: api, web',
        ),
        (
            policy(target=Target(name="web")),
            NamespaceObjects(NAMESPACE),
            'spec.target.name: no Deployment "web" in shop; there is none at all',
        ),
        (
            policy(),
            cluster(deployment(strategy="Recreate")),
            'spec.target: Deployment "web" has strategy Recreate, which never runs two versions at a time: set '
            "spec.strategy.type to RollingUpdate",
        ),
        (
            policy(),
            cluster(policy(), policy("second", target=Target(name="web"))),
            'spec.target: Deployment "web" is the target of the ReleasePolicies "second" and "web": only one may have '
            "it, so none of them is used for it",
        ),
        (
            policy(),
            cluster(deployment(labels={"tier": "frontend"}), policy("fleet", target=FLEET, detect=True)),
            'spec.target: Deployment "web" is the target of the ReleasePolicies "fleet" and "web": only one may have '
            "it, so none of them is used for it",
        ),
    ],
)
def test_a_bad_target(given: ReleasePolicy, objects: NamespaceObjects, expected: str) -> None:
    assert problems(given, objects) == [expected]


def test_a_fleet_without_a_deployment_is_only_a_warning() -> None:
    found = review(policy("fleet", target=FLEET, detect=True), cluster())
    assert [(p.path, p.message, p.warning) for p in found] == [
        ("spec.target.matchLabels", "no Deployment in shop has tier=frontend", True)
    ]


def test_deployments_that_select_each_others_pods_are_told_in_both_directions() -> None:
    broad = deployment("all", selector={"part-of": "shop"})
    web = deployment(pod_labels={"app": "web", "part-of": "shop"}, selector={"app": "web"})
    objects = cluster(broad, web, service(selector={"app": "web", "part-of": "shop"}))
    assert problems(policy(), objects) == [
        'spec.target: Deployment "all" selects the pods of Deployment "web" as well (part-of=shop): give each its own '
        "labels"
    ]
    assert problems(policy("all", traffic=None), objects) == [
        'spec.target: Deployment "all" selects the pods of Deployment "web" as well (part-of=shop): give each its own '
        "labels"
    ]


@pytest.mark.parametrize(
    ("given", "objects", "expected"),
    [
        (
            policy(service="wbe", routes=()),
            cluster(service("web-internal", selector={"app": "web"})),
            'no Service "wbe" in shop; those that select the pods of Deployment "web": web, web-internal',
        ),
        (
            policy(service="wbe", routes=()),
            without(cluster(service("apl")), service()),
            'no Service "wbe" in shop; there are: apl',
        ),
        (
            policy(),
            cluster(service(selector={"app": "web", "version": "v1"})),
            'Service "web" doesn\'t select the pods of Deployment "web": it wants version=v1, they have no such label',
        ),
        (
            policy(),
            cluster(service(selector={"app": "shop"})),
            'Service "web" doesn\'t select the pods of Deployment "web": it wants app=shop, they have app=web',
        ),
        (
            policy(),
            cluster(
                deployment(pod_labels={"app": "web", "part-of": "shop"}, selector={"app": "web"}),
                deployment("api", pod_labels={"app": "api", "part-of": "shop"}, selector={"app": "api"}),
                service(selector={"part-of": "shop"}),
            ),
            'Service "web" selects pods of other Deployments too (api), which would get none of its requests during a '
            "release: give it a selector that only the pods of web have",
        ),
        (
            policy(),
            cluster(service(type="ExternalName", selector={})),
            'Service "web" has type ExternalName: it is a name in DNS and selects no pods; name the Service behind it',
        ),
        (
            policy(),
            cluster(service(cluster_ip="None")),
            'Service "web" is headless (clusterIP: None): its clients choose pods themselves from DNS answers that '
            "they may keep, so no share can be set or seen; name a Service with an address, or leave traffic out",
        ),
        (
            policy(),
            cluster(service(selector={})),
            'Service "web" has no selector: its endpoints are somebody else\'s, so no pods can be told apart',
        ),
        (
            policy(),
            cluster(service(not_ready=True)),
            'Service "web" has publishNotReadyAddresses: true: canary pods would get requests before they are ready',
        ),
        (
            policy(),
            cluster(service(selector={"app": "web", HASH_LABEL: "abc"})),
            'Service "web" selects by pod-template-hash itself (abc): that label changes with each version and is set '
            "here by a release; take it out of the selector",
        ),
        (
            policy(service="web-canary", routes=()),
            cluster(service("web-canary", selector={"app": "web", HASH_LABEL: "abc"}, labels=OURS)),
            'Service "web-canary" is a release\'s own canary Service: name the one that it was made from',
        ),
        (
            policy(),
            cluster(service("web-canary", selector={"app": "other"})),
            'Service "web-canary" exists and is not ours, but a release makes one of that name: rename it',
        ),
    ],
)
def test_a_bad_service(given: ReleasePolicy, objects: NamespaceObjects, expected: str) -> None:
    assert problems(given, objects) == [f"spec.traffic.service: {expected}"]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (
            cluster(service("web-two", selector={"app": "web"})),
            'Deployment "web" is behind several Services: web, web-two; give it a policy of its own that names all of '
            "them in traffic.services",
        ),
        (
            without(cluster(), service()),
            'no Service selects the pods of Deployment "web" (app=web): leave traffic out for a workload without one',
        ),
        (
            cluster(service(cluster_ip="None", not_ready=True)),
            'no Service fits Deployment "web": Service "web" is headless (clusterIP: None): its clients choose pods '
            "themselves from DNS answers that they may keep, so no share can be set or seen; name a Service with an "
            'address, or leave traffic out; Service "web" has publishNotReadyAddresses: true: canary pods would get '
            "requests before they are ready",
        ),
        (
            cluster(service("web-canary")),
            'Service "web-canary" exists and is not ours, but a release makes one of that name: rename it',
        ),
        (
            cluster(ingress("rival", [("web.example", "/", "web2")], annotations=CANARY)),
            'Ingress "web": Ingress "rival" is a canary at web.example/ already, and only the oldest one counts: '
            "delete it, or `davy adopt rival`",
        ),
    ],
)
def test_a_detection_that_fails_says_why(objects: NamespaceObjects, expected: str) -> None:
    given = policy(detect=True, steps=[Step(20), Step(50), Step(100)])
    assert problems(given, objects) == [f"spec.traffic.detect: {expected}"]


WHAT_WORKS = (
    "weights need ingress-nginx, Traefik 3.7 or newer with its provider of nginx's annotations, or Higress; without a "
    "route, traffic follows the number of pods"
)


@pytest.mark.parametrize(
    ("given", "objects", "expected"),
    [
        (
            policy(routes=["wbe"]),
            cluster(ingress("web-internal", [("i", "/", "web")], class_name="nginx")),
            'no Ingress "wbe" in shop; those that send to Service "web": web, web-internal',
        ),
        (
            policy(routes=["wbe"]),
            cluster(ingress(rules=[("x", "/", "api")]), service("api")),
            'no Ingress "wbe" in shop; did you mean web?',
        ),
        (
            policy(routes=["api"]),
            cluster(ingress("api", [("x", "/", "api"), ("y", "/", "auth")])),
            'Ingress "api" never sends to Service "web", only to api, auth; those that do: web',
        ),
        (
            policy(),
            cluster(ingress(rules=[("x", "/", "api")])),
            'Ingress "web" never sends to Service "web", only to api; no Ingress does',
        ),
        (
            policy(),
            cluster(ingress(rules=[], bare=["a", "b"])),
            'Ingress "web" never sends to Service "web": spec.rules[0], spec.rules[1] have no http paths, so the '
            "default backend answers there; no Ingress does",
        ),
        (
            policy(),
            cluster(ingress(rules=[], default="web")),
            'Ingress "web" sends to Service "web" only as its default backend, which can\'t be split: write a rule '
            "with a path for it",
        ),
        (
            policy(routes=["old"]),
            cluster(ingress("old", [("x", "/", "web")], annotations=CANARY)),
            'Ingress "old" is a canary itself (nginx.ingress.kubernetes.io/canary): name the Ingress that it belongs '
            "to",
        ),
        (
            policy(),
            cluster(ingress("rival", [("web.example", "/", "web2")], annotations=CANARY)),
            'Ingress "web": Ingress "rival" is a canary at web.example/ already, and only the oldest one counts: '
            "delete it, or `davy adopt rival`",
        ),
        (
            policy(),
            cluster(
                ingress("internal", [("i.example", "/", "web")]),
                ingress("rival", [("i.example", "/", "web2")], annotations=CANARY),
            ),
            'Ingress "web": Ingress "rival" is a canary at i.example/ of Ingress internal already, and only the '
            "oldest one counts: delete it, or `davy adopt rival`",
        ),
        (
            policy(),
            cluster(ingress("older", [("web.example", "/", "legacy")])),
            'Ingress "web": Ingress "older" has web.example/ too and sends it to Service "legacy"; only one of them '
            "answers: take it out of the other",
        ),
        (
            policy(),
            cluster(ingress("web-davylamp", [("x", "/", "y")])),
            'Ingress "web-davylamp" exists and is not ours, but a release makes one of that name: rename it',
        ),
        (
            policy(),
            cluster(ingress(rules=[("web.example", "", "web", 80, "ImplementationSpecific")])),
            'Ingress "web" has a rule with an empty path, which ingress-nginx takes for / but doesn\'t find in a '
            "canary: write path: /",
        ),
        (
            policy(),
            cluster(ingress(annotations={"nginx.ingress.kubernetes.io/ssl-passthrough": "true"})),
            'Ingress "web" has nginx.ingress.kubernetes.io/ssl-passthrough: requests are not seen there, so they '
            "can't be split",
        ),
        (
            policy(),
            cluster(ingress(class_name="alb"), classes=[ingress_class("alb", "ingress.k8s.aws/alb")]),
            f'Ingress "web": class "alb" belongs to ingress.k8s.aws/alb: {WHAT_WORKS}',
        ),
        (
            policy(),
            cluster(classes=[ingress_class("nginx", "nginx.org/ingress-controller")]),
            f'Ingress "web": class "nginx" belongs to nginx.org/ingress-controller: {WHAT_WORKS}',
        ),
        (
            policy(),
            cluster(ingress(class_name="ngnix")),
            'Ingress "web": class "ngnix" does not exist as an IngressClass; there are: nginx',
        ),
        (
            policy(),
            cluster(ingress(class_name=None)),
            'Ingress "web": no class is set, and there is no default one: set spec.ingressClassName (there are: nginx)',
        ),
    ],
)
def test_a_bad_ingress(given: ReleasePolicy, objects: NamespaceObjects, expected: str) -> None:
    assert problems(given, objects) == [f"spec.traffic.routes[0].ingress.name: {expected}"]


@pytest.mark.parametrize(
    ("given", "objects", "expected"),
    [
        (
            policy(),
            cluster(ingress(annotations={"nginx.ingress.kubernetes.io/affinity": "cookie"})),
            'spec.traffic.routes[0].ingress.name: Ingress "web" has nginx.ingress.kubernetes.io/affinity: cookie, '
            "which pins clients: those that have a cookie stay on their version whatever the weight, until our canary "
            "Ingress is deleted",
        ),
        (
            policy(),
            cluster(ingress(bare=["bare.example"])),
            'spec.traffic.routes[0].ingress.name: Ingress "web": spec.rules[1] has no http paths, so the default '
            "backend answers there and nothing is split",
        ),
        (
            policy(),
            cluster(classes=[ingress_class("nginx", "traefik.io/ingress-controller")]),
            'spec.traffic.routes[0].ingress.name: Ingress "web": class "nginx" belongs to '
            "traefik.io/ingress-controller: only its provider of nginx's annotations splits by weight (Traefik 3.7 or "
            "newer, --providers.kubernetesingressnginx with this class); its plain Ingress provider would take the "
            "canary for an ordinary Ingress",
        ),
        (
            policy(),
            cluster(classes=[ingress_class("nginx", "higress.io/higress-controller")]),
            'spec.traffic.routes[0].ingress.name: Ingress "web": class "nginx" belongs to '
            "higress.io/higress-controller: a request that has a match's header or cookie at all is not weighted "
            "there, whatever its value, and the value `never` keeps nobody on stable",
        ),
        (
            policy(),
            cluster(ingress(class_name="own"), classes=None),
            'spec.traffic.routes[0].ingress.name: Ingress "web": class "own" is not checked, since IngressClasses may '
            f"not be read here: {WHAT_WORKS}",
        ),
        (
            policy(),
            cluster(
                ingress("outside", [("o", "/", "web")], class_name="alb"),
                classes=[ingress_class(), ingress_class("alb", "ingress.k8s.aws/alb")],
            ),
            'spec.traffic.routes: Ingress "outside" sends to Service "web" too and is not split: its requests stay on '
            "the stable pods until the last step",
        ),
        (
            policy(detect=True),
            cluster(ingress(class_name="alb"), classes=[ingress_class("alb", "ingress.k8s.aws/alb")]),
            'spec.traffic.detect: Ingress "web" is not split: class "alb" belongs to ingress.k8s.aws/alb: '
            f"{WHAT_WORKS}",
        ),
        (
            policy(routes=(), steps=[Step(10), Step(100)]),
            cluster(),
            "spec.steps[0].weight: 10 % can't be reached with 4 pods: the nearest is 20.0 % (1 of 5); it needs 9 pods "
            "or more, or a route (spec.traffic.routes) that splits by any weight",
        ),
    ],
)
def test_what_works_but_should_be_known_is_a_warning(
    given: ReleasePolicy, objects: NamespaceObjects, expected: str
) -> None:
    assert problems(given, objects) == [f"warning {expected}"]
    assert resolved(given, objects).usable


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            policy(detect=True, steps=[Step(0, replicas=2), Step(20), Step(100)]),
            "spec.steps[0].weight: 0 % can't be had with 2 canary pods: without a route every ready pod gets its "
            "share. Leave the step out, go from 0 to 100 at once, or split by a route",
        ),
        (
            policy(detect=True, max_extra_pods=0),
            "spec.maxExtraPods: 0 allows no canary pod, and without routes traffic follows the number of pods: allow "
            "at least 1, or split by a route",
        ),
    ],
)
def test_what_only_routes_can_do_is_an_error_where_detection_finds_none(given: ReleasePolicy, expected: str) -> None:
    assert problems(given, cluster()) == []
    assert problems(given, without(cluster(), ingress())) == [expected]


@pytest.mark.parametrize(
    ("class_name", "annotation", "classes"),
    [
        ("nginx", None, [ingress_class()]),
        ("internal", None, [ingress_class("internal", "k8s.io/ingress-nginx-internal")]),
        (None, "nginx", []),  # the annotation works without an IngressClass
        (None, None, [ingress_class(default=True)]),
        (None, None, [ingress_class("old", "x.y/z", default=True), ingress_class(default=True, age=5)]),
        ("nginx", None, None),
    ],
)
def test_supported_classes(class_name: str | None, annotation: str | None, classes: list[IngressClass] | None) -> None:
    annotations = {"kubernetes.io/ingress.class": annotation} if annotation else {}
    objects = cluster(ingress(class_name=class_name, annotations=annotations), classes=classes)
    assert problems(policy(), objects) == []


def test_a_full_canary_without_room_for_it_cannot_be_held() -> None:
    given = policy(routes=(), steps=[Step(20), Step(100, hold="5m")], max_extra_pods=2)
    assert problems(given, cluster()) == [
        'spec.steps[1].weight: 100 % needs as many canary pods as Deployment "web" has, 4, more than maxExtraPods '
        "allows (2): nothing can be held there. Put hold or approve on the step before, or set maxExtraPods: "
        '"100%"'
    ]


def test_an_ingress_that_doesnt_fit_is_left_out_and_the_others_stay() -> None:
    objects = cluster(ingress("bad", [("b", "/", "web")], class_name="alb"))
    found = resolved(policy(routes=["bad", "web"]), objects)
    assert tuple(route.name for route in found.traffic.routes) == ("web",)
    assert not found.usable

"""What is found of a canary made by hand, and the policy that goes on from there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from davylamp.api.types import ReleasePolicy
from davylamp.routers.adoption import Unfit, canaries, found
from davylamp.routers.namespace import NamespaceObjects, Watched
from davylamp.routers.review import review
from tests.builders import NAMESPACE, deployment, ingress, service
from tests.routers.shop import CLASSES
from tests.routers.test_pairs import BASE, V1

PREFIX = "nginx.ingress.kubernetes.io/canary"
FACTS_COOKIE = "(^|[^-._~a-zA-Z0-9])canary=true([^-._~a-zA-Z0-9]|$)"


def by_hand(service: str = "web-canary", place: str = "/", **rules: str) -> Watched:
    annotations = {PREFIX: "true"} | {f"{PREFIX}-{key.replace('_', '-')}": value for key, value in rules.items()}
    return ingress("web-canary", [("web.example", place, service)], annotations=annotations, age=1)


def among(*objects: Watched) -> NamespaceObjects:
    return NamespaceObjects.of(NAMESPACE, [*BASE, *objects], CLASSES)


@pytest.mark.parametrize(
    ("rules", "weights", "match"),
    [
        ({"weight": "10"}, [10, 50, 100], None),
        ({"weight": "50"}, [50, 100], None),
        ({"weight": "100"}, [100], None),
        ({"weight": "25", "weight_total": "500"}, [5, 50, 100], None),
        ({"weight": "0"}, [10, 50, 100], None),
        (
            {"weight": "10", "by_header": "X-Canary", "by_header_value": "true", "by_cookie": "canary"},
            [10, 50, 100],
            [{"header": {"name": "X-Canary", "exact": "true"}}, {"cookie": {"name": "canary", "exact": "always"}}],
        ),
        (
            {"by_header": "Cookie", "by_header_pattern": FACTS_COOKIE},
            [0, 10, 50, 100],
            [{"cookie": {"name": "canary", "exact": "true"}}],
        ),
    ],
)
def test_the_policy_begins_at_the_present_exposure_and_can_be_used(
    rules: dict[str, str], weights: list[int], match: list[Any] | None
) -> None:
    objects = among(by_hand(**rules))
    (canary,) = canaries(objects)
    one = found(canary, objects)
    manifest = one.policy(NAMESPACE)
    assert [step["weight"] for step in manifest["spec"]["steps"]] == weights
    assert manifest["spec"]["traffic"].get("match") == match
    assert manifest["spec"]["target"] == {"pair": {"stable": "web-v1", "canary": "web-v2"}}
    policy = msgspec.convert(manifest, ReleasePolicy)
    objects.put(policy)
    assert [problem for problem in review(policy, objects) if not problem.warning] == []
    assert one.names == {"web", "web-canary", "web-v1", "web-v2"}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (
            [by_hand(weight="1", weight_total="1000")],
            "Ingress web-canary sends 0.1 % (1 of 1000), and a step's weight is a whole one: set "
            "nginx.ingress.kubernetes.io/canary-weight to a whole percent first",
        ),
        (
            [by_hand(by_header="X-Canary", by_header_pattern="a|b")],
            "Ingress web-canary has nginx.ingress.kubernetes.io/canary-by-header-pattern: a|b, which can't be turned "
            "into a match without doubt: write the policy by hand, with traffic.match",
        ),
        (
            [by_hand(place="/shop", weight="10")],
            "Ingress web-canary has web.example/shop, and no main Ingress has the same host, path and pathType",
        ),
        ([by_hand("none", weight="10")], "Service none doesn't exist"),
        (
            [by_hand(weight="10"), service("web-canary", selector={"app": "web"})],
            "Service web-canary selects the pods of several Deployments, web-v1, web-v2; it has to be one",
        ),
        (
            [by_hand(weight="10"), service("web-canary", selector={"app": "nobody"})],
            "Service web-canary selects the pods of no Deployment; it has to be one",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_said(objects: list[Watched], expected: str) -> None:
    index = among(*objects)
    with pytest.raises(Unfit) as raised:
        found(canaries(index)[0], index)
    assert str(raised.value) == expected


def test_a_canary_of_one_deployment_is_no_pair() -> None:
    index = among(deployment("web-v1", selector={"app": "web"}, pod_labels=V1), by_hand(weight="10"))
    policy = msgspec.convert(found(canaries(index)[0], index).policy(NAMESPACE), ReleasePolicy)
    index.put(policy)
    assert any("can't be told apart" in str(problem) for problem in review(policy, index))

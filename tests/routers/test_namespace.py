"""The dictionaries that follow the watches: the same answers as from looking at everything."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davylamp.api.objects import Deployment, Ingress, Service
from davylamp.api.types import ReleasePolicy, Target
from davylamp.core.world import Traffic
from davylamp.routers.namespace import NamespaceObjects, Watched, pod_labels
from davylamp.routers.review import bind, resolve, review
from tests.builders import NAMESPACE, deployment, ingress, ingress_class, policy, service

NAMES = st.sampled_from(["a", "b", "c"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]), min_size=1)
OBJECTS: st.SearchStrategy[Watched] = st.one_of(
    st.builds(lambda n, s, p: deployment(n, selector=s, pod_labels=p, labels=p), NAMES, LABELS, LABELS),
    st.builds(lambda n, s: service(n, selector=s), NAMES, LABELS),
    st.builds(lambda n, host, s: ingress(n, [(host, "/", s)]), NAMES, NAMES, NAMES),
    st.builds(lambda n, t, s, i: policy(n, target=Target(name=t), service=s, routes=[i]), NAMES, NAMES, NAMES, NAMES),
    st.builds(lambda n, labels: policy(n, target=Target(match_labels=labels), detect=True), NAMES, LABELS),
)


@given(st.lists(st.tuples(OBJECTS, st.booleans()), max_size=25))
@settings(max_examples=150)
def test_any_order_of_changes_leads_to_the_answers_of_the_objects_that_are_left(
    changes: list[tuple[Watched, bool]],
) -> None:
    index = NamespaceObjects(NAMESPACE)
    for obj, there in changes:
        (index.put if there else index.remove)(obj)
    left: list[Watched] = [*index.policies.values(), *index.deployments.values()]
    left += [*index.services.values(), *index.ingresses.values()]
    fresh = NamespaceObjects.of(NAMESPACE, left)
    for one in index.policies.values():
        assert index.targets_of(one) == fresh.targets_of(one) == _targets(one.spec.target, index)
        assert review(one, index) == review(one, fresh)
    for found in index.deployments.values():
        labels = pod_labels(found)
        assert index.policies_of(found) == fresh.policies_of(found)
        assert {s.metadata.name for s in index.services_selecting(labels)} == {
            name for name, s in index.services.items() if s.spec.selector.items() <= labels.items()
        }
        assert set(index.deployments_selecting(labels)) == {
            name for name, d in index.deployments.items() if d.spec.selector.matches(labels)
        }
    for name in "abc":
        assert index.senders_to(name) == fresh.senders_to(name)


def _targets(target: Target, index: NamespaceObjects) -> list[Watched]:
    wanted = (target.match_labels or {}).items()
    return [
        found
        for name, found in sorted(index.deployments.items())
        if (name == target.name if target.name else wanted <= found.metadata.labels.items())
    ]


INDEX_OF: list[Watched] = [
    deployment(),
    deployment("api"),
    service(),
    service("api"),
    ingress(rules=[("web.example", "/", "web"), ("web.example", "/api", "api")]),
    policy(),
    policy("api", service="api", routes=["web"]),
]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (policy(), {"web"}),
        (policy("new", target=Target(name="gone")), {"gone"}),  # its conditions are to be written all the same
        (policy("fleet", target=Target(match_labels={"app": "api"}), detect=True), {"api"}),
        (deployment("api"), {"api"}),
        (deployment("more", pod_labels={"app": "web"}), {"more", "web"}),  # selects in the other's pods
        (deployment("more", pod_labels={"app": "api"}, selector={"app": "more"}), {"more", "api"}),
        (service("api"), {"api"}),
        (service("web-canary", selector={}), {"web"}),  # takes the name of the canary Service
        (ingress("web.api-davylamp", []), {"web", "api"}),  # and of the canary Ingress
        (ingress(), {"web", "api"}),
        (ingress("rival", [("web.example", "/", "other")]), {"web", "api"}),
        (ingress("elsewhere", [("elsewhere.example", "/", "other")]), set()),
    ],
)
def test_a_change_touches_only_the_deployments_around_it(obj: Watched, expected: set[str]) -> None:
    assert NamespaceObjects.of(NAMESPACE, INDEX_OF).touched_by(obj) == expected


@given(st.lists(OBJECTS, max_size=12), OBJECTS)
@settings(max_examples=150)
def test_what_a_change_does_not_touch_is_resolved_as_before(there: list[Watched], changed: Watched) -> None:
    index = NamespaceObjects.of(NAMESPACE, there)
    before = {name: _resolutions(index, name) for name in index.deployments}
    touched = index.touched_by(_known(index, changed) or changed)
    index.put(changed)
    touched |= index.touched_by(changed)
    for name, resolutions in before.items():
        if name not in touched and name in index.deployments:
            assert _resolutions(index, name) == resolutions


def _resolutions(index: NamespaceObjects, name: str) -> list[tuple[Traffic, list[tuple[str, bool]]]]:
    """But for the messages, which may suggest names that are not followed."""
    found = index.deployments[name]
    resolved = [resolve(one, found, index) for one in index.policies_of(found)]
    return [(one.traffic, [(p.path, p.warning) for p in one.problems]) for one in resolved]


def _known(index: NamespaceObjects, obj: Watched) -> Watched | None:
    kinds: dict[type, Mapping[str, Watched]] = {
        ReleasePolicy: index.policies,
        Deployment: index.deployments,
        Service: index.services,
        Ingress: index.ingresses,
    }
    return kinds[type(obj)].get(obj.metadata.name)


def test_a_question_costs_the_same_in_a_namespace_of_thousands() -> None:
    """Every policy is resolved within what looking through all objects once for each could never do. (Measured:
    about 0.1 ms each; the bound leaves room for a busy machine.)"""
    count = 2000
    shared = {"part-of": "shop"}
    objects = NamespaceObjects(NAMESPACE, {"nginx": ingress_class()})
    for number in range(count):
        name = f"app-{number}"
        objects.put(deployment(name, pod_labels={"app": name, **shared}, labels=shared))
        objects.put(service(name, selector={**shared, "app": name}))
        objects.put(ingress(name, [("shop.example", f"/{number}", name)]))
        objects.put(policy(name, target=Target(name=name), service=name, routes=[name]))
    begin = time.process_time()
    for name, one in objects.policies.items():
        found = resolve(one, objects.deployments[name], objects)
        assert found.usable
        assert len(bind(found.traffic, objects)) == 1
    assert time.process_time() - begin < 0.001 * count

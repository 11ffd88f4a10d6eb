"""Policies in files: strictly, everything that is wrong at once, each with its field and its line."""

from __future__ import annotations

import pytest

from davylamp.api.parse import parse_policy
from davylamp.api.types import IngressRoute, Route, Step, Target, Traffic

HEAD = "apiVersion: davylamp.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: web}\n"
GOOD = (
    HEAD
    + """
spec:
  target: {name: web}
  traffic:
    service: web
    routes: [{ingress: {name: web}}]
  steps:
    - {weight: 10, hold: 10m}
    - {weight: 50, approve: true, replicas: 25%}
    - {weight: 100}
  onFailure: revert
  maxExtraPods: 2
"""
)


def problems(text: str) -> list[str]:
    policies, found = parse_policy(text)
    assert not (policies and found)
    return [str(problem) for problem in found]


def spec(fields: str) -> str:
    """A policy in which line 5 is what is given, and nothing else is wrong."""
    kept = {"target": "{name: web}", "steps": "[{weight: 100}]"}
    rest = "".join(f"  {name}: {value}\n" for name, value in kept.items() if not fields.startswith(name))
    return f"{HEAD}spec:\n  {fields}\n{rest}"


def test_a_good_policy_is_read() -> None:
    (found,), none = parse_policy(GOOD)
    assert none == []
    assert found.metadata.name == "web"
    assert found.spec.target == Target(name="web")
    assert found.spec.traffic == Traffic(service="web", routes=(Route(ingress=IngressRoute(name="web")),))
    assert found.spec.steps[1] == Step(50, approve=True, replicas="25%")
    assert (found.spec.on_failure, found.spec.max_extra_pods) == ("revert", 2)


def test_a_stream_may_hold_several_policies_and_other_kinds() -> None:
    other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {anything: goes}\n"
    second = GOOD.replace("{name: web}\n", "{name: second}\n", 1)
    found, none = parse_policy(f"---\n{GOOD}---\n{other}---\n---\n{second}")
    assert none == []
    assert [policy.metadata.name for policy in found] == ["web", "second"]


def test_what_kubectl_get_prints_can_be_read_back() -> None:
    printed = GOOD.replace(
        "metadata: {name: web}",
        "metadata: {name: web, uid: x, resourceVersion: '5', generation: 1, creationTimestamp: 2026-01-01T00:00:00Z, "
        "managedFields: [{manager: x}], labels: {status: ok}}\nstatus: {targets: 1}",
    )
    (found,), none = parse_policy(printed)
    assert none == []
    assert found.metadata.labels == {"status": "ok"}


def test_an_empty_field_is_one_that_is_left_out() -> None:
    (found,), none = parse_policy(GOOD.replace("onFailure: revert", "onFailure:").replace("hold: 10m", "hold: null"))
    assert none == []
    assert (found.spec.on_failure, found.spec.steps[0].hold) == ("hold", None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("stpes: []", "spec.stpes: unknown field; did you mean steps?"),
        ("onfailure: hold", "spec.onfailure: unknown field; did you mean onFailure?"),
        (
            "xyz: 1",
            "spec.xyz: unknown field; there are: analysis, bake, historyLimit, keepOld, maxExtraPods, onFailure, "
            "progressDeadline, steps, target, traffic",
        ),
        ("target: {nmae: web}", "spec.target.nmae: unknown field; did you mean name?"),
        ("target: web", 'spec.target: "web" where a mapping is expected'),
        ("target:", "spec.target: is missing"),
        (
            "target: {matchLabels: {a.io/b: true}}",
            'spec.target.matchLabels[a.io/b]: true where text is expected: write "true" in quotes',
        ),
        (
            "target: {matchLabels: {a: 1.5}}",
            'spec.target.matchLabels.a: 1.5 where text is expected: write "1.5" in quotes',
        ),
        ("target: {matchLabels: {a: }}", "spec.target.matchLabels.a: nothing where text is expected"),
        (
            "target: {matchLabels: {1: x}}",
            'spec.target.matchLabels.1: the key 1 is not text: write "1" in quotes',
        ),
        ("steps: {weight: 10}", "spec.steps: a mapping where a list is expected"),
        ("steps: [10]", "spec.steps[0]: 10 where a mapping is expected"),
        ("steps: [{hold: 5m}]", "spec.steps[0].weight: is missing"),
        ("steps: [{wieght: 5}]", "spec.steps[0].wieght: unknown field; did you mean weight?"),
        ("steps: [{weight: 10%}]", 'spec.steps[0].weight: "10%" where a whole number is expected: write 10'),
        ("steps: [{weight: many}]", 'spec.steps[0].weight: "many" where a whole number is expected'),
        ("steps: [{weight: 10.5}]", "spec.steps[0].weight: 10.5 where a whole number is expected"),
        ("steps: [{weight: true}]", "spec.steps[0].weight: true where a whole number is expected"),
        ("steps: [{weight: 101}]", "spec.steps[0].weight: 101 is outside 0..100"),
        ("steps: [{weight: -1}]", "spec.steps[0].weight: -1 is outside 0..100"),
        (
            "steps: [{weight: 1, hold: 10}]",
            'spec.steps[0].hold: "10" is not a duration: write for example 30s, 10m or 1h30m; did you mean 10s or 10m?',
        ),
        (
            'steps: [{weight: 1, hold: ""}]',
            'spec.steps[0].hold: "" is not a duration: write for example 30s, 10m or 1h30m',
        ),
        ("steps: [{weight: 1, hold: []}]", "spec.steps[0].hold: a list where a duration such as 10m is expected"),
        ("steps: [{weight: 1, approve: 1}]", "spec.steps[0].approve: 1 where true or false is expected"),
        (
            "steps: [{weight: 1, replicas: 1.5}]",
            'spec.steps[0].replicas: 1.5 is not a number of pods: write for example 2 or "25%"',
        ),
        (
            "steps: [{weight: 1, replicas: two}]",
            'spec.steps[0].replicas: "two" is not a number of pods: write for example 2 or "25%"',
        ),
        ("traffic: {routes: [{ingress: web}]}", 'spec.traffic.routes[0].ingress: "web" where a mapping is expected'),
        ("traffic: {routes: [{ingress: {}}]}", "spec.traffic.routes[0].ingress.name: is missing"),
        ("traffic: {service: 8}", 'spec.traffic.service: 8 where text is expected: write "8" in quotes'),
        ("onFailure: rever", 'spec.onFailure: "rever" is none of hold, revert; did you mean revert?'),
        ("historyLimit: 0", "spec.historyLimit: 0 is outside 1..100"),
        ("steps: [{weight: 1, weight: 2}]", "spec.steps[0].weight: is given twice"),
    ],
)
def test_a_bad_field_is_told_with_its_path_and_its_line(fields: str, expected: str) -> None:
    assert problems(spec(fields)) == [f"{expected} (line 5)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["kind: no ReleasePolicy here: it is empty"]),
        ("kind: NetworkPolicy\napiVersion: networking.k8s.io/v1", ["kind: no ReleasePolicy among these documents"]),
        ("kind: Release\napiVersion: davylamp.dev/v1alpha1", ["kind: no ReleasePolicy among these documents"]),
        ("kind: Deployment", ["kind: no ReleasePolicy among these documents"]),
        ("a: [", ["line 1: is not YAML: expected the node content, but found '<stream end>'"]),
        ("a: 1\n b: 2", ["line 2: is not YAML: mapping values are not allowed here"]),
        ("- a", ["document: a list where a ReleasePolicy is expected (line 1)"]),
        (
            GOOD.replace("kind: ReleasePolicy", "kind: ReleasePolicies"),
            ['kind: "ReleasePolicies" where ReleasePolicy is expected (line 2)'],
        ),
        (
            GOOD.replace("v1alpha1", "v1"),
            ['apiVersion: "davylamp.dev/v1" where davylamp.dev/v1alpha1 is expected (line 1)'],
        ),
        (GOOD.replace("\nspec:", "\nspek:"), ["spek: unknown field; did you mean spec? (line 5)"]),
        (HEAD, ["spec: is missing (line 1)"]),
        (GOOD.replace("metadata: {name: web}\n", ""), ["metadata: is missing: it needs at least a name (line 1)"]),
        (GOOD.replace("metadata: {name: web}", "metadata: {}"), ["metadata.name: is missing (line 3)"]),
        (
            GOOD.replace("metadata: {name: web}", "metadata: {name: 5, lables: {}}"),
            [
                "metadata.lables: unknown field; did you mean labels? (line 3)",
                'metadata.name: 5 where text is expected: write "5" in quotes (line 3)',
            ],
        ),
        (GOOD.replace("name: web", "name: !!python/object x", 1), None),
    ],
)
def test_a_document_that_is_no_policy_is_told(text: str, expected: list[str] | None) -> None:
    found = problems(text)
    if expected is None:
        assert "could not determine a constructor for the tag" in found[0]
    else:
        assert found == expected


def test_everything_is_told_at_once_in_the_order_of_the_lines_and_good_documents_are_kept() -> None:
    bad = (
        HEAD
        + """spec:
  target: {nmae: web}
  steps:
    - {weight: 10%, hold: 10}
    - {weight: 200}
  onFailure: never
"""
    )
    found, told = parse_policy(f"{bad}---\n{GOOD}")
    assert [policy.metadata.name for policy in found] == ["web"]
    assert [(p.path, p.message.rpartition("(")[2]) for p in told] == [
        ("spec.target.nmae", "line 5)"),
        ("spec.steps[0].weight", "line 7)"),
        ("spec.steps[0].hold", "line 7)"),
        ("spec.steps[1].weight", "line 8)"),
        ("spec.onFailure", "line 9)"),
    ]

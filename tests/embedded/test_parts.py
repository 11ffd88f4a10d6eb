"""The pure parts of the API server: paths, durations, patches, sets of fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.embedded import cel, fieldsets, jsonpath, patches
from davylamp.embedded.schema import quantity
from davylamp.embedded.texts import duration

OBJECT = {
    "spec": {"target": {"name": "web"}, "list": [{"a": 1}, {"a": 2}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]},
    "metadata": {"annotations": {"a.b/c": "x"}},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.target.name", ["web"]),
        (".spec.target.*", ["web"]),
        (".spec.list[1].a", [2]),
        (".spec.list[*].a", [1, 2]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".metadata.annotations['a.b/c']", ["x"]),
        (r".metadata.annotations.a\.b/c", ["x"]),
        (".spec.none.at.all", []),
        (".spec.list[7]", []),
    ],
)
def test_a_json_path_finds_what_it_names(path: str, expected: list[Any]) -> None:
    assert jsonpath.find(path, OBJECT) == expected


def test_a_json_path_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="from '\\[1:2\\]' on"):
        jsonpath.check(".a[1:2]")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (3600, "60m"),
        (3 * 3600 + 120, "3h2m"),
        (9 * 3600, "9h"),
        (50 * 3600, "2d2h"),
        (30 * 86400, "30d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)
def test_a_duration_is_worded_as_kubectl_words_it(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(2, "2"), (0.5, "500m"), (1.0, "1"), (0.25, "250m")])
def test_a_number_becomes_a_canonical_quantity(number: float, text: str) -> None:
    assert quantity(number) == text


# --- properties ---

JSON = st.recursive(
    st.integers(0, 9) | st.sampled_from(["x", "y"]) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_is_idempotent_and_mutates_nothing(target: dict[str, Any], patch: dict[str, Any]) -> None:
    before = repr(target)
    once = patches.merge(target, patch)
    assert patches.merge(once, patch) == once
    assert repr(target) == before


@given(OBJECTS)
def test_a_merge_patch_with_what_is_there_is_the_same_object(target: dict[str, Any]) -> None:
    assert patches.merge(target, target) is target


TREES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(("f:a", "f:b", "f:c", ".")), inner, max_size=3),
    max_leaves=6,
).map(lambda tree: _proper(tree, root=True))


def _proper(tree: dict[str, Any], *, root: bool = False) -> dict[str, Any]:
    """In normal form: `.` has nothing in it, stands only beside others, and not at the root."""
    result = {key: {} if key == "." else _proper(child) for key, child in tree.items()}
    return {key: child for key, child in result.items() if key != "."} if root or result.keys() == {"."} else result


def members(tree: dict[str, Any]) -> set[str]:
    return set(fieldsets.paths(tree))


@given(TREES, TREES)
def test_sets_of_fields_are_sets(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert members(fieldsets.union(a, b)) == members(a) | members(b)
    assert members(fieldsets.minus(a, b)) == members(a) - members(b)
    assert members(fieldsets.common(a, b)) == members(a) & members(b)


@given(OBJECTS, OBJECTS)
def test_what_differs_between_objects_is_owned_or_gone(old: dict[str, Any], new: dict[str, Any]) -> None:
    changed, removed = fieldsets.difference(None, old, new)
    assert bool(changed or removed) == (old != new)
    assert members(changed) <= members(fieldsets.members(None, new))


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("!isIP(self)", "web.example", True),
        ("isIP(self)", "2001:db8::1", True),
        ("isIP(self)", "10.0.0.1/8", False),
        ("isURL(self)", "https://web.example:8443/x", True),
        ("isURL(self)", "web.example", False),
        ("isURL(self)", "https://web.example:port/", False),
        ("url(self).getScheme() in ['http', 'https']", "https://web.example", True),
        ("url(self).getHostname() == 'web.example' && url(self).getPort() == '8443'", "http://web.example:8443/", True),
        ("self.find('[0-9]+') == '12'", "a12b", True),
    ],
)
def test_functions_that_kubernetes_adds_to_cel(rule: str, value: str, expected: bool) -> None:
    assert cel.evaluate(rule, value) is expected


def test_a_function_of_kubernetes_that_is_not_here_is_told_from_a_mistake() -> None:
    with pytest.raises(cel.Unsupported, match="quantity"):
        cel.compiled("quantity(self).isGreaterThan(quantity('1Gi'))")
    with pytest.raises(cel.CelError) as mistake:
        cel.compiled("qantity(self) > 1")
    assert not isinstance(mistake.value, cel.Unsupported)

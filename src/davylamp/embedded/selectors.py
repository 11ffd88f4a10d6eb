"""Label and field selectors, as the query parameters and as the objects of apps/v1 write them.

The grammar is that of k8s.io/apimachinery/pkg/labels (`a=b, c in (d,e), !f`) and pkg/fields (`a.b=c,d!=e`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from davylamp.embedded.status import StatusError, bad_request

Matches = Callable[[Mapping[str, str]], bool]
"""Whether labels satisfy a selector."""

_SET = re.compile(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_EQUALS = re.compile(r"\s*([^\s=!<>]+)\s*(==|=|!=|<|>)\s*([^\s=!<>]*)\s*")
_KEY = re.compile(r"\s*(!?)\s*([A-Za-z0-9][-A-Za-z0-9_./]*)\s*")


@functools.lru_cache(maxsize=4096)
def labels(text: str) -> Matches:
    """The label selector in `text`; an empty one matches all. Raises StatusError 400."""
    return _all_of([_requirement(part) for part in _split(text)])


def of_object(selector: Mapping[str, Any] | None) -> Matches:
    """A LabelSelector object (matchLabels, matchExpressions). None matches nothing, an empty one all."""
    if selector is None:
        return lambda labels: False
    tests = [_equal(key, value) for key, value in (selector.get("matchLabels") or {}).items()]
    for entry in selector.get("matchExpressions") or ():
        tests.append(_expression(entry["key"], entry["operator"], entry.get("values") or ()))
    return _all_of(tests)


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


Fields = tuple[tuple[str, str, bool], ...]
"""Path, value, and whether it must be equal (or unequal)."""


@functools.lru_cache(maxsize=1024)
def fields(text: str) -> Fields:
    """The field selector in `text`. Raises StatusError 400."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid field selector {text!r}: {part!r} is not path=value")
        found.append((match[1].strip(), match[3].strip(), match[2] != "!="))
    return tuple(found)


def fields_match(wanted: Fields, obj: Mapping[str, Any]) -> bool:
    return all((_value_at(obj, path) == value) == equal for path, value, equal in wanted)


def chosen(objects: list[dict[str, Any]], label_selector: str, field_selector: str) -> list[dict[str, Any]]:
    """Those that both selectors match. Raises StatusError 400."""
    if label_selector:
        matches = labels(label_selector)
        objects = [obj for obj in objects if matches(labels_of(obj))]
    if field_selector:
        wanted = fields(field_selector)
        objects = [obj for obj in objects if fields_match(wanted, obj)]
    return objects


def _value_at(obj: Any, path: str) -> str:
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    if obj is None:
        return ""
    return str(obj).lower() if isinstance(obj, bool) else str(obj)


def _split(text: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts = re.findall(r"(?:[^,(]|\([^)]*\))+", text)
    return [part for part in parts if part.strip()]


def _requirement(part: str) -> Matches:
    if found := _SET.fullmatch(part):
        values = [value.strip() for value in found[3].split(",")]
        return _expression(found[1], "In" if found[2] == "in" else "NotIn", values)
    if found := _EQUALS.fullmatch(part):
        key, operator, value = found.groups()
        if operator in ("=", "=="):
            return _equal(key, value)
        if operator == "!=":
            return _expression(key, "NotIn", [value])
        return _compare(key, operator, value)
    if found := _KEY.fullmatch(part):
        return _expression(found[2], "DoesNotExist" if found[1] else "Exists", ())
    raise bad_request(
        f"unable to parse requirement: found {part.strip()!r}, expected key, key=value or key in (values)"
    )


def _equal(key: str, value: str) -> Matches:
    return lambda labels: labels.get(key) == value


def _compare(key: str, operator: str, value: str) -> Matches:
    if not value.lstrip("-").isdigit():
        raise bad_request(
            f"unable to parse requirement: values: Invalid value: {value!r}: must be an integer for {operator}"
        )
    bound = int(value)

    def test(labels: Mapping[str, str]) -> bool:
        found = labels.get(key, "")
        if not found.lstrip("-").isdigit():
            return False
        return int(found) > bound if operator == ">" else int(found) < bound

    return test


def _expression(key: str, operator: str, values: Sequence[str]) -> Matches:
    match operator:
        case "In":
            return lambda labels: labels.get(key) in values
        case "NotIn":
            return lambda labels: key not in labels or labels[key] not in values
        case "Exists":
            return lambda labels: key in labels
        case "DoesNotExist":
            return lambda labels: key not in labels
    raise StatusError(422, "Invalid", f"{operator!r} is not a valid label selector operator")


def _all_of(tests: Sequence[Matches]) -> Matches:
    if len(tests) == 1:
        return tests[0]
    return lambda labels: all(test(labels) for test in tests)

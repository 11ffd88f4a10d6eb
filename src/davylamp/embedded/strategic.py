"""Strategic merge patch: lists are merged by the keys that the schema names (apimachinery, pkg/util/strategicpatch).

Nothing is mutated; untouched parts stay the same objects.
"""

from __future__ import annotations

from typing import Any

from davylamp.embedded.schema import Schema
from davylamp.embedded.status import bad_request

Object = dict[str, Any]

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
ORDER = "$setElementOrder/"
DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"


def merge(schema: Schema | None, target: Any, patch: Object) -> Any:
    """`target` with `patch` carried out. Raises StatusError 400 for a patch that makes no sense."""
    directive = patch.get(DIRECTIVE)
    if directive == "delete":
        return {}
    if directive == "replace":
        return _plain(patch)
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type: {directive}")
    result: Object = dict(target) if isinstance(target, dict) else {}
    if RETAIN in patch:
        result = {key: value for key, value in result.items() if key in patch[RETAIN]}
    for key, value in patch.items():
        if key.startswith(DELETE_PRIMITIVE):
            name = key.removeprefix(DELETE_PRIMITIVE)
            result[name] = [entry for entry in result.get(name) or () if entry not in value]
        elif not key.startswith("$"):
            _merge_field(schema, result, key, value, patch)
    for key, order in patch.items():
        name = key.removeprefix(ORDER)
        if key.startswith(ORDER) and name not in patch and isinstance(result.get(name), list):
            child = schema.field(name) if schema else None
            result[name] = _ordered(result[name], result[name], order, child.merge_key if child else "")
    return target if result == target else result


def _merge_field(schema: Schema | None, result: Object, key: str, value: Any, patch: Object) -> None:
    child = schema.field(key) if schema else None
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        replaces = child is not None and "replace" in child.strategy
        new = _plain(value) if replaces else merge(child, result.get(key), value)
        if value.get(DIRECTIVE) == "delete":
            result.pop(key, None)
        else:
            result[key] = new
    elif isinstance(value, list) and child is not None and "merge" in child.strategy:
        result[key] = _merge_list(child, result.get(key) or [], value, patch.get(ORDER + key))
    else:
        result[key] = _plain(value)


def _plain(value: Any) -> Any:
    """`value` without directives."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items() if not key.startswith("$") and entry is not None}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _merge_list(schema: Schema, target: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    key = schema.merge_key
    if not key:
        found = [*target, *(entry for entry in patch if entry not in target)]
        return _ordered(found, target, order or patch, "")
    if any(entry.get(DIRECTIVE) == "replace" for entry in patch):
        return [_plain(entry) for entry in patch if DIRECTIVE not in entry]
    result = list(target)
    for entry in patch:
        if key not in entry:
            raise bad_request(f"map: {entry} does not contain declared merge key: {key}")
        place = next((i for i, old in enumerate(result) if old.get(key) == entry[key]), None)
        if entry.get(DIRECTIVE) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(_plain(entry))
        else:
            result[place] = merge(schema.items, result[place], entry)
    listed = order or [entry for entry in patch if entry.get(DIRECTIVE) != "delete"]
    return _ordered(result, target, listed, key)


def _ordered(entries: list[Any], server: list[Any], order: list[Any], key: str) -> list[Any]:
    """Entries of the patch in the patch's order, the server's own in theirs; where both were there before, as they
    were, else the patch's first (normalizeElementOrder, mergeSortedSlice)."""

    def identity(entry: Any) -> Any:
        return entry.get(key) if key and isinstance(entry, dict) else entry

    wanted = [identity(entry) for entry in order]
    before = [identity(entry) for entry in server]
    ours = sorted((e for e in entries if identity(e) in wanted), key=lambda e: wanted.index(identity(e)))
    left = [entry for entry in entries if identity(entry) not in wanted]
    result: list[Any] = []
    while left and ours:
        first, second = identity(left[0]), identity(ours[0])
        known = first in before and second in before
        result.append(left.pop(0) if known and before.index(first) < before.index(second) else ours.pop(0))
    return [*result, *left, *ours]

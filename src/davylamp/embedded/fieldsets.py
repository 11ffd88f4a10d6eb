"""Sets of fields as managedFields writes them (FieldsV1), and values seen through a schema as such sets.

A set is a tree of dicts: `f:name` is a field, `k:{"name":"x"}` an entry of a list that is a map, `v:"x"` one of a list
that is a set. A node without children is a member; one with children is a member itself only if it has `.`.
(sigs.k8s.io/structured-merge-diff, fieldpath and typed.) Nothing is mutated.
"""

from __future__ import annotations

from typing import Any

import msgspec

from davylamp.embedded.schema import Schema

Tree = dict[str, Any]
SELF = "."
KEY_DEFAULTS = {"protocol": "TCP"}
"""Keys of lists that may be left out (core/v1's ports); the published OpenAPI documents don't tell."""


def _member(tree: Tree) -> bool:
    return not tree or SELF in tree


def union(a: Tree, b: Tree) -> Tree:
    """Two roots joined."""
    if a is b:
        return a
    result = dict(a)
    for key, child in b.items():
        mine = result.get(key)
        result[key] = child if mine is None else _joined(mine, child)
    return result


def _joined(a: Tree, b: Tree) -> Tree:
    result = union(a, b)
    if result and (_member(a) or _member(b)):
        result.setdefault(SELF, {})
    return {} if result.keys() == {SELF} else result


def minus(a: Tree, b: Tree) -> Tree:
    """The members of `a` that are not in `b`."""
    result: Tree = {}
    for key, child in a.items():
        if key == SELF:
            continue
        other = b.get(key)
        if other is None:
            result[key] = child
            continue
        left = minus(child, other)
        stays = _member(child) and not _member(other)
        if stays:
            result[key] = left | {SELF: {}} if left else {}
        elif left:
            result[key] = left
    return result


def common(a: Tree, b: Tree) -> Tree:
    """The members of both."""
    result: Tree = {}
    for key in a.keys() & b.keys() - {SELF}:
        both = common(a[key], b[key])
        if _member(a[key]) and _member(b[key]):
            result[key] = both | {SELF: {}} if both else {}
        elif both:
            result[key] = both
    return result


def paths(tree: Tree, prefix: str = "") -> list[str]:
    """The members as people read them: `.spec.replicas`, `.containers[name="app"].image`."""
    found = []
    for key, child in sorted(tree.items()):
        if key == SELF:
            continue
        at = prefix + _readable(key)
        if _member(child):
            found.append(at)
        found += paths(child, at)
    return found


def _readable(key: str) -> str:
    kind, _, text = key.partition(":")
    if kind == "f":
        return f".{text}"
    if kind == "k":
        entries = msgspec.json.decode(text)
        return "[" + ",".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in entries.items()) + "]"
    return f"[{'=' if kind == 'v' else ''}{text}]"


# --- values as sets ---


def granular(schema: Schema | None, value: Any) -> bool:
    """Whether the parts of a value have owners of their own."""
    if isinstance(value, dict):
        return schema is None or not schema.atomic_map
    return isinstance(value, list) and schema is not None and schema.list_type in ("map", "set")


def parts(schema: Schema | None, value: Any) -> dict[str, tuple[Schema | None, Any]]:
    """The parts of a granular value, by path element."""
    if isinstance(value, dict):
        return {f"f:{key}": (schema.field(key) if schema else None, entry) for key, entry in value.items()}
    assert schema is not None  # else a list is atomic
    if schema.list_type == "set":
        return {f"v:{msgspec.json.encode(entry).decode()}": (None, entry) for entry in value}
    return {key_of(schema, entry): (schema.items, entry) for entry in value}


def key_of(schema: Schema, entry: Any) -> str:
    """The path element of an entry of a list that is a map; keys left out have their defaults."""
    found = {}
    for key in sorted(schema.keys):
        value = entry.get(key) if isinstance(entry, dict) else None
        if value is None:
            value = KEY_DEFAULTS.get(key)
        if value is not None:
            found[key] = value
    return f"k:{msgspec.json.encode(found).decode()}"


def members(schema: Schema | None, value: Any, *, maps: bool = False) -> Tree:
    """All members of a value. `maps`: a map with free keys is a member too, as the server's own comparison has it."""
    if not granular(schema, value) or not value:
        return {}
    entries = isinstance(value, list) and schema is not None and schema.list_type == "map"
    result: Tree = {}
    for element, (child, entry) in parts(schema, value).items():
        tree = members(child, entry, maps=maps)
        result[element] = {SELF: {}, **tree} if entries and tree else tree
    if maps and isinstance(value, dict) and schema is not None and schema.additional is not None:
        result[SELF] = {}
    return result


def difference(schema: Schema | None, old: Any, new: Any) -> tuple[Tree, Tree]:
    """What was added or modified, and what was removed, between two values of a granular place."""
    changed: Tree = {}
    removed: Tree = {}
    before, after = parts(schema, old), parts(schema, new)
    entries = isinstance(new, list) and schema is not None and schema.list_type == "map"
    for element, (child, value) in after.items():
        was = before.get(element)
        if was is None:
            tree = members(child, value, maps=True)
            changed[element] = {SELF: {}, **tree} if entries and tree else tree
        elif was[1] is not value and was[1] != value:
            if granular(child, value) and granular(child, was[1]) and type(value) is type(was[1]):
                more, less = difference(child, was[1], value)
                if more:
                    changed[element] = more
                if less:
                    removed[element] = less
            else:
                changed[element] = members(child, value, maps=True)
    for element, (child, value) in before.items():
        if element not in after:
            tree = members(child, value, maps=True)
            removed[element] = {SELF: {}, **tree} if tree else tree
    return changed, removed

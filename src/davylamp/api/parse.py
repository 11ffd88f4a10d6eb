"""ReleasePolicies in YAML files, checked strictly: unknown fields, wrong types and ranges, all of them at once.

The check walks the types of `davylamp.api.types`, so a field added there is known here. What needs more than one
field, or the cluster, is `davylamp.routers.review`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec
import msgspec.inspect as mi
import yaml

from davylamp.api import API_VERSION, GROUP
from davylamp.api.problems import Problem
from davylamp.api.types import ReleasePolicy
from davylamp.api.units import DURATION_PATTERN, PERCENT_PATTERN, count, seconds, share

KIND = "ReleasePolicy"

Keys = tuple[str | int, ...]
Fault = tuple[Keys, str]
"""Where, and what is wrong there."""


def parse_policy(text: str) -> tuple[list[ReleasePolicy], list[Problem]]:
    """The ReleasePolicies in a YAML stream, and everything that is wrong with its documents.

    Documents of other kinds are passed over. A policy with a problem is left out. Each message ends in the line.
    """
    policies: list[ReleasePolicy] = []
    problems: list[Problem] = []
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        return [], [_unreadable(error)]
    of_others = False
    for node in filter(None, documents):
        faults, content = _document(node)
        if content is None and not faults:
            of_others = True
        elif faults:
            problems += _with_lines(node, faults)
        else:
            policies.append(msgspec.convert(content, ReleasePolicy))
    if not policies and not problems:
        problems.append(Problem("kind", f"no {KIND} {'among these documents' if of_others else 'here: it is empty'}"))
    return policies, problems


def problems_of(kind: type, value: Any, keys: Keys = ()) -> list[Problem]:
    """Everything that is wrong with `value`, as YAML has it, which is to be of `kind`; `keys` lead to it."""
    return [Problem(path(where) or "document", what) for where, what in _value(mi.type_info(kind), value, keys)]


def path(keys: Keys) -> str:
    """`spec.steps[1].weight`; a key that is no plain name stands in brackets."""
    text = ""
    for key in keys:
        if isinstance(key, str) and key.replace("-", "").replace("_", "").isalnum():
            text += f".{key}" if text else key
        else:
            text += f"[{key}]"
    return text


def _document(node: yaml.Node) -> tuple[list[Fault], dict[str, Any] | None]:
    """What is wrong with a document, and its content; None for one of another kind."""
    faults = list(_twice(node, ()))
    loader = yaml.SafeLoader("")
    try:
        content = loader.construct_document(node)
    except yaml.YAMLError as error:
        return [*faults, ((), str(getattr(error, "problem", error)))], None
    finally:
        loader.dispose()
    if content is None:
        return faults, None
    if not isinstance(content, dict):
        return [*faults, ((), f"{_shown(content)} where a {KIND} is expected")], None
    kind, version = content.get("kind"), str(content.get("apiVersion", ""))
    if kind != KIND and (not version.startswith(f"{GROUP}/") or kind == "Release"):
        return [], None
    faults += _head(content)
    if content.get("spec") is not None or not any(_nearest(str(key), ["spec"]) for key in content):
        faults += _struct(_info(), {"spec": content.get("spec")}, ())
    return faults, _as_read(content) if not faults else None


@cache
def _info() -> mi.StructType:
    """The type of a policy's own fields. (Its metadata is Kubernetes', and its status is not read from files.)"""
    whole = mi.type_info(ReleasePolicy)
    assert isinstance(whole, mi.StructType)
    own = tuple(field for field in whole.fields if field.encode_name == "spec")
    return mi.StructType(ReleasePolicy, own)


# --- kind and metadata ---

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
)


def _head(content: dict[str, Any]) -> Iterator[Fault]:
    for key, right in (("kind", KIND), ("apiVersion", API_VERSION)):
        if content.get(key) != right:
            yield (key,), f"{_shown(content.get(key))} where {right} is expected"
    for key in content:
        if key not in _TOP:
            yield (key,), _unknown(key, _TOP)
    metadata = content.get("metadata")
    if not isinstance(metadata, dict):
        yield ("metadata",), "is missing: it needs at least a name" if metadata is None else _expected(metadata, _MAP)
        return
    for key in metadata:
        if key not in _METADATA:
            yield ("metadata", key), _unknown(key, _METADATA)
    if not metadata.get("name"):
        yield ("metadata", "name"), "is missing"
    for key in ("name", "namespace"):
        if metadata.get(key) is not None:
            yield from _value(mi.StrType(), metadata[key], ("metadata", key))
    for key in ("labels", "annotations"):
        if metadata.get(key) is not None:
            yield from _value(mi.DictType(mi.StrType(), mi.StrType()), metadata[key], ("metadata", key))


# --- values against types ---

_MAP, _LIST = "a mapping", "a list"
_COUNT = frozenset({mi.IntType, mi.StrType})


def _value(kind: mi.Type, value: Any, keys: Keys) -> Iterator[Fault]:
    """What is wrong with `value`, which is to be of `kind`."""
    match kind:
        case mi.Metadata():
            yield from _value(kind.type, value, keys)
        case mi.StructType():
            yield from _struct(kind, value, keys) if isinstance(value, dict) else _fault(keys, value, _MAP)
        case mi.DictType():
            yield from _mapping(kind, value, keys)
        case mi.VarTupleType() | mi.ListType():
            if not isinstance(value, list):
                yield from _fault(keys, value, _LIST)
                return
            for index, item in enumerate(value):
                yield from _value(kind.item_type, item, (*keys, index))
        case mi.UnionType():
            yield from _union(kind, value, keys)
        case mi.LiteralType():
            if value not in kind.values:
                near = _near(str(value), [str(choice) for choice in kind.values])
                yield keys, f"{_shown(value)} is none of {_joined(kind.values)}{near}"
        case _:
            yield from _scalar(kind, value, keys)


def _struct(kind: mi.StructType, value: dict[Any, Any], keys: Keys) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in kind.fields}
    for key in value:
        if key not in fields:
            yield (*keys, key), _unknown(key, fields)
    misspelt = {_nearest(str(key), fields) for key in value if key not in fields}
    for name, field in fields.items():
        content = value.get(name)
        if content is not None:
            yield from _value(field.type, content, (*keys, name))
        elif field.required and name not in misspelt:
            yield (*keys, name), "is missing"


def _mapping(kind: mi.DictType, value: Any, keys: Keys) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield from _fault(keys, value, _MAP)
        return
    for key, item in value.items():
        if not isinstance(key, str):
            yield (*keys, str(key)), f'the key {_shown(key)} is not text: write "{key}" in quotes'
        yield from _value(kind.value_type, item, (*keys, str(key)))


def _union(kind: mi.UnionType, value: Any, keys: Keys) -> Iterator[Fault]:
    """One of several types: pods as a number or percentage, or simply something that may be left out."""
    kinds = [one.type if isinstance(one, mi.Metadata) else one for one in kind.types]
    given = [one for one in kinds if not isinstance(one, mi.NoneType)]
    if {type(one) for one in given} == _COUNT:
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield keys, f'{_shown(value)} is not a number of pods: write for example 2 or "25%"'
        else:
            yield from _said(lambda: count(value, 100), keys)
    elif len(given) == 1:
        yield from _value(given[0], value, keys)
    else:
        faults = [list(_value(one, value, keys)) for one in given]
        yield from () if [] in faults else faults[0]


def _scalar(kind: mi.Type, value: Any, keys: Keys) -> Iterator[Fault]:
    match kind:
        case mi.StrType() if kind.pattern == DURATION_PATTERN:
            if isinstance(value, bool | list | dict):
                yield from _fault(keys, value, "a duration such as 10m")
            else:
                yield from _said(lambda: seconds(str(value)), keys)
        case mi.StrType() if kind.pattern == PERCENT_PATTERN:
            if isinstance(value, bool | list | dict):
                yield from _fault(keys, value, "a percentage such as 1%")
            else:
                yield from _said(lambda: share(str(value)), keys)
        case mi.StrType():
            if not isinstance(value, str):
                quotable = value is not None and not isinstance(value, list | dict)
                yield from _fault(keys, value, "text", f': write "{_plain(value)}" in quotes' if quotable else "")
        case mi.BoolType():
            if not isinstance(value, bool):
                yield from _fault(keys, value, "true or false")
        case mi.IntType():
            yield from _whole_number(kind, value, keys)
        case mi.FloatType():
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield from _fault(keys, value, "a number")
            else:
                yield from _within(kind, value, keys)


def _whole_number(kind: mi.IntType, value: Any, keys: Keys) -> Iterator[Fault]:
    if isinstance(value, bool) or not isinstance(value, int):
        digits = str(value).removesuffix("%").strip()
        yield from _fault(keys, value, "a whole number", f": write {digits}" if digits.isdigit() else "")
    else:
        yield from _within(kind, value, keys)


def _within(kind: mi.IntType | mi.FloatType, value: float, keys: Keys) -> Iterator[Fault]:
    if not math.isfinite(value):
        yield from _fault(keys, value, "a finite number")
    elif (kind.ge is not None and value < kind.ge) or (kind.le is not None and value > kind.le):
        bounds = f"outside {kind.ge}..{kind.le}" if kind.le is not None else f"below {kind.ge}"
        yield keys, f"{value} is {bounds}"


def _said(check: Any, keys: Keys) -> Iterator[Fault]:
    """The message of what `check` raises, if it does."""
    try:
        check()
    except ValueError as error:
        yield keys, str(error)


# --- wording ---


def _fault(keys: Keys, value: Any, expected: str, hint: str = "") -> Iterator[Fault]:
    yield keys, _expected(value, expected) + hint


def _expected(value: Any, expected: str) -> str:
    return f"{_shown(value)} where {expected} is expected"


def _unknown(key: object, known: Iterable[str]) -> str:
    names = sorted(known)
    return f"unknown field{_near(str(key), names) or f'; there are: {_joined(names)}'}"


def _joined(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)


def _near(word: str, known: Iterable[str]) -> str:
    found = _nearest(word, known)
    return f"; did you mean {found}?" if found else ""


def _nearest(word: str, known: Iterable[str]) -> str:
    by_case = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(by_case), n=1)
    return by_case[found[0]] if found else ""


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return _MAP
        case list():
            return _LIST
        case str():
            return f'"{value}"'
    return _plain(value)


def _plain(value: Any) -> str:
    """A scalar as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- nodes ---


def _twice(node: yaml.Node, keys: Keys) -> Iterator[Fault]:
    """Keys given twice, of which YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen and key.value != "<<":
                yield (*keys, key.value), "is given twice"
            seen.add(key.value if isinstance(key.value, str) else "")
            yield from _twice(value, (*keys, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _twice(item, (*keys, index))


def _line(node: yaml.Node, keys: Keys) -> int:
    """The line, counted from 1, of what `keys` lead to, or of the last thing on the way there that exists."""
    line: int = node.start_mark.line + 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(name, value) for name, value in pairs if name.value == key]
        if not found:
            return line
        name, node = found[-1]
        line = name.start_mark.line + 1
    return line


def _as_read(content: dict[str, Any]) -> dict[str, Any]:
    """What a file says of a policy: not its status, nor what only the API server writes into its metadata."""
    metadata = {key: content["metadata"].get(key) for key in ("name", "namespace", "labels", "annotations")}
    kept: dict[str, Any] = _without_empty({"metadata": metadata, "spec": content["spec"]})
    return kept


def _without_empty(value: Any) -> Any:
    """`value` without fields that say nothing, which is the same as leaving them out (as in Kubernetes)."""
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item is not None}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _with_lines(node: yaml.Node, faults: Iterable[Fault]) -> list[Problem]:
    """In the order of the lines."""
    placed = sorted(((_line(node, keys), keys, what) for keys, what in faults), key=lambda fault: fault[0])
    return [Problem(path(keys) or "document", f"{what} (line {line})") for line, keys, what in placed]


def _unreadable(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}" if mark is not None else "file"
    return Problem(where, f"is not YAML: {getattr(error, 'problem', None) or error}")

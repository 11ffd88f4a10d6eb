"""Validation of custom objects against their CRD's schema, in the API server's words.

(kube-openapi's pkg/validation and apiextensions-apiserver's pkg/apiserver/schema/cel.) What has not changed since the
stored object is not validated again: an update is not refused for what was wrong before (CRDValidationRatcheting).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from davylamp.embedded import cel
from davylamp.embedded.cel import CelError, Rule
from davylamp.embedded.schema import TYPES, Schema
from davylamp.embedded.status import Cause, forbidden_field, invalid_value, required, show, unsupported

_NAMES = {dict: "object", list: "array", str: "string", int: "integer", float: "number", bool: "boolean"}


def problems(schema: Schema, value: Any, old: Any = None) -> list[Cause]:
    """All that is wrong with a custom object; rules in CEL are asked only of what has the right form."""
    found = _form(schema, value, "", old)
    return found or _rules(schema, value, "", old)


def _form(schema: Schema, value: Any, path: str, old: Any) -> list[Cause]:
    if old is not None and (value is old or value == old):
        return []
    if problem := _type(schema, value, path):
        return [problem]
    found = _bounds(schema.raw, value, path) if schema.bounded else []
    if schema.branching:
        found += _branches(schema, value, path)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name in schema.raw.get("required", ()):
            if name not in value:
                found.append(required(_join(path, name)))
        for key, entry in value.items():
            child = None if schema.root and key == "metadata" else schema.field(key)
            if child is not None:
                found += _form(child, entry, _join(path, key), before.get(key))
    elif isinstance(value, list) and schema.items is not None:
        for index, (entry, was) in enumerate(_paired(schema, value, old)):
            found += _form(schema.items, entry, f"{path}[{index}]", was)
        found += _duplicates(schema, value, path)
    return found


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _type(schema: Schema, value: Any, path: str) -> Cause | None:
    if value is None:
        return (
            None
            if schema.nullable
            else invalid_value(path, "null", f'{path} in body must be of type {schema.type}: "null"')
        )
    wanted: tuple[type, ...] = (int, str) if schema.int_or_string else TYPES.get(schema.type, ())
    if not wanted:
        return None
    fits = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
    if not fits and int in wanted and isinstance(value, float) and value.is_integer():
        fits = True
    if fits:
        return None
    name = "integer,string" if schema.int_or_string else schema.type
    kind = _NAMES.get(type(value), "null")
    return Cause(
        path, f'Invalid value: {show(kind)}: {path} in body must be of type {name}: "{kind}"', "FieldValueTypeInvalid"
    )


def _bounds(raw: dict[str, Any], value: Any, path: str) -> list[Cause]:
    """Numbers, lengths, patterns, enumerations, formats."""
    found: list[Cause] = []

    def wrong(why: str, shown: Any = None) -> None:
        found.append(invalid_value(path, value if shown is None else shown, f"{path} in body should {why}"))

    if "enum" in raw and value not in raw["enum"]:
        found.append(unsupported(path, value, raw["enum"]))
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = raw.get("minimum"), raw.get("maximum")
        if low is not None and (value < low or (raw.get("exclusiveMinimum") and value == low)):
            wrong(f"be greater than {'' if raw.get('exclusiveMinimum') else 'or equal to '}{low}")
        if high is not None and (value > high or (raw.get("exclusiveMaximum") and value == high)):
            wrong(f"be less than {'' if raw.get('exclusiveMaximum') else 'or equal to '}{high}")
        if raw.get("multipleOf") and value % raw["multipleOf"]:
            wrong(f"be a multiple of {raw['multipleOf']}")
    elif isinstance(value, str):
        if len(value) < raw.get("minLength", 0):
            wrong(f"be at least {raw['minLength']} chars long")
        if len(value) > raw.get("maxLength", len(value)):
            found.append(Cause(path, f"Too long: may not be more than {raw['maxLength']} bytes", "FieldValueTooLong"))
        if "pattern" in raw and not re.search(raw["pattern"], value):
            wrong(f"match '{raw['pattern']}'")
        if raw.get("format") == "date-time" and not _is_time(value):
            kind = f"{path} in body must be of type date-time: {show(value)}"
            found.append(invalid_value(path, value, kind))
    elif isinstance(value, list | dict):
        items = "Items" if isinstance(value, list) else "Properties"
        word = "items" if isinstance(value, list) else "properties"
        if len(value) < raw.get(f"min{items}", 0):
            wrong(f"have at least {raw[f'min{items}']} {word}", len(value))
        most = raw.get(f"max{items}", len(value))
        if len(value) > most:
            text = f"Too many: {len(value)}: must have at most {most} items"
            found.append(Cause(path, text, "FieldValueTooMany"))
    return found


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _branches(schema: Schema, value: Any, path: str) -> list[Cause]:
    """anyOf, oneOf, allOf and not, which in a structural schema hold only more conditions."""
    raw = schema.raw
    found: list[Cause] = []

    def fits(branch: dict[str, Any]) -> bool:
        return not _form(Schema(branch, {}), value, path, None)

    if "anyOf" in raw and not any(fits(branch) for branch in raw["anyOf"]):
        found.append(invalid_value(path, value, f"{path} in body must validate at least one schema (anyOf)"))
    if "oneOf" in raw and sum(fits(branch) for branch in raw["oneOf"]) != 1:
        found.append(invalid_value(path, value, f"{path} in body must validate one and only one schema (oneOf)"))
    if "allOf" in raw and not all(fits(branch) for branch in raw["allOf"]):
        found.append(invalid_value(path, value, f"{path} in body must validate all the schemas (allOf)"))
    if "not" in raw and fits(raw["not"]):
        found.append(invalid_value(path, value, f"{path} in body must not validate the schema (not)"))
    return found


def _duplicates(schema: Schema, value: list[Any], path: str) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    if schema.list_type not in ("set", "map"):
        return found
    for index, entry in enumerate(value):
        key = {name: entry.get(name) for name in schema.keys} if schema.list_type == "map" else entry
        text = show(key)
        if text in seen:
            found.append(Cause(f"{path}[{index}]", f"Duplicate value: {text}", "FieldValueDuplicate"))
        seen.add(text)
    return found


def _paired(schema: Schema, value: list[Any], old: Any) -> list[tuple[Any, Any]]:
    """Each entry with what it was before: in a list that is a map by its keys, else unknown."""
    if not isinstance(old, list) or schema.list_type != "map":
        return [(entry, None) for entry in value]
    before = {tuple(entry.get(key) for key in schema.keys): entry for entry in old}
    return [(entry, before.get(tuple(entry.get(key) for key in schema.keys))) for entry in value]


# --- rules ---


def _rules(schema: Schema, value: Any, path: str, old: Any) -> list[Cause]:
    if not schema.ruled or (old is not None and (value is old or value == old)):
        return []
    found = [cause for rule in schema.rules if (cause := _ask(rule, value, path, old)) is not None]
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for key, entry in value.items():
            child = None if schema.root and key == "metadata" else schema.field(key)
            if child is not None:
                found += _rules(child, entry, _join(path, key), before.get(key))
    elif isinstance(value, list) and schema.items is not None:
        for index, (entry, was) in enumerate(_paired(schema, value, old)):
            found += _rules(schema.items, entry, f"{path}[{index}]", was)
    return found


def _ask(rule: Rule, value: Any, path: str, old: Any) -> Cause | None:
    if rule.transition and old is None:
        return None
    at = f"{path}{rule.field_path}" if path else rule.field_path.removeprefix(".")
    try:
        if cel.evaluate(rule.rule, value, old):
            return None
        text = str(cel.evaluate(rule.expression, value, old)) if rule.expression else rule.message
    except CelError as error:
        return invalid_value(path, value, f"{error} evaluating rule: {rule.message or rule.rule}")
    text = text or f"failed rule: {rule.rule}"
    match rule.reason:
        case "FieldValueForbidden":
            return forbidden_field(at, text)
        case "FieldValueRequired":
            return required(at, text)
        case "FieldValueDuplicate":
            return Cause(at, f"Duplicate value: {show(value)}", rule.reason)
    return invalid_value(at, value, text)

"""Schemas of OpenAPI as the API server uses them: which fields there are, their defaults, how lists are merged.

One form for both sources: the definitions of the built-in kinds (`davylamp.embedded.schemas`) and those in CRDs.
"""

from __future__ import annotations

import binascii
import functools
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from davylamp.embedded import schemas
from davylamp.embedded.cel import Rule, rules_of

Object = dict[str, Any]

INT_OR_STRING = "int-or-string"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_OF_SIZE = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
BOUNDS = frozenset(("enum", "minimum", "maximum", "multipleOf", "pattern", "format", *_OF_SIZE))
"""What a schema can say about a value itself, beside its type."""
BRANCHES = frozenset(("anyOf", "oneOf", "allOf", "not"))


class Schema:
    """One node. Its children are made when they are first asked for, since definitions may contain themselves."""

    def __init__(self, raw: Object, definitions: Mapping[str, Object], *, root: bool = False) -> None:
        self.raw = raw
        self._definitions = definitions
        self.root = root
        self.type: str = raw.get("type", "")
        self.keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        self.list_type: str = raw.get("x-kubernetes-list-type", "")
        self.atomic_map = raw.get("x-kubernetes-map-type") == "atomic"
        self.strategy: str = raw.get("x-kubernetes-patch-strategy", "")
        self.merge_key: str = raw.get("x-kubernetes-patch-merge-key", "")
        self.int_or_string = raw.get("format") == INT_OR_STRING or bool(raw.get("x-kubernetes-int-or-string"))
        self.quantity = bool(raw.get("x-quantity"))
        self.nullable = bool(raw.get("nullable"))
        self.preserves = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.rules: tuple[Rule, ...] = rules_of(raw)
        self.bounded = not BOUNDS.isdisjoint(raw)
        self.branching = not BRANCHES.isdisjoint(raw)

    @functools.cached_property
    def properties(self) -> dict[str, Schema]:
        return {name: self._child(child) for name, child in self.raw.get("properties", {}).items()}

    @functools.cached_property
    def additional(self) -> Schema | None:
        """The schema of a map's values."""
        found = self.raw.get("additionalProperties")
        return self._child(found) if isinstance(found, dict) else None

    @functools.cached_property
    def items(self) -> Schema | None:
        found = self.raw.get("items")
        return self._child(found) if isinstance(found, dict) else None

    @functools.cached_property
    def defaults(self) -> Object:
        found = self.raw.get("properties", {})
        return {
            name: child["default"] for name, child in found.items() if isinstance(child, dict) and "default" in child
        }

    @functools.cached_property
    def ruled(self) -> bool:
        """Whether there are rules in CEL, here or further down. For schemas of CRDs, which can't contain themselves."""
        if self.rules:
            return True
        children = [child for name, child in self.properties.items() if not (self.root and name == "metadata")]
        return any(child is not None and child.ruled for child in (*children, self.additional, self.items))

    @functools.cached_property
    def open(self) -> bool:
        """Anything goes in it: nothing is known of its fields."""
        if self.preserves or self.raw.get("additionalProperties") is True:
            return True
        known = "properties" in self.raw or "additionalProperties" in self.raw
        return bool(self._definitions) and not known and self.type in ("", "object")

    def field(self, name: str) -> Schema | None:
        return self.properties.get(name) or self.additional

    def _child(self, raw: Object) -> Schema:
        """A reference is replaced by what it refers to, but for what stands beside it (merge keys, say)."""
        one: list[Object] = raw.get("allOf") or []
        reference = raw.get("$ref") or (one[0].get("$ref") if len(one) == 1 else None)
        if reference and self._definitions:
            name = reference.rpartition("/")[2]
            beside = {key: value for key, value in raw.items() if key.startswith("x-kubernetes-") or key == "default"}
            raw = {**self._definitions[name], **beside, **({"x-quantity": True} if name == QUANTITY else {})}
            if raw.get("default") == {}:
                del raw["default"]
        return Schema(raw, self._definitions)


@functools.cache
def built_in(group: str, version: str, kind: str) -> Schema:
    """The schema of a built-in kind."""
    everything = schemas.definitions()
    return Schema(everything[schemas.names()[group, version, kind]], everything, root=True)


@functools.cache
def metadata() -> Schema:
    """The schema of ObjectMeta, for custom kinds, whose own schemas only say `type: object`."""
    everything = schemas.definitions()
    return Schema(everything[schemas.META], everything)


def custom(raw: Object) -> Schema:
    """The schema in a CRD. The same text gives the same schema: a simulation makes the same CRDs a thousand times."""
    known = _read.get(id(raw))
    if known is not None and known[0] is raw:
        return known[1]
    if len(_read) >= READ:
        _read.clear()
    schema = _custom(msgspec.json.encode(raw))
    _read[id(raw)] = (raw, schema)
    return schema


READ = 64
"""Schemas kept."""
_read: dict[int, tuple[Object, Schema]] = {}
"""By the identity of what they were read from, so that the same object (nobody changes it) is not even encoded."""


@functools.lru_cache(maxsize=READ)
def _custom(raw: bytes) -> Schema:
    return Schema(msgspec.json.decode(raw), {}, root=True)


# --- known fields and defaults ---


class Shape:
    """One pass over an object: drops unknown fields (collected in `unknown`) and nulls, fills in defaults."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def of(self, schema: Schema, value: Any, old: Any = None, path: str = "") -> Any:
        """`value` in shape. Where it is the same object as `old`, which has been through this, it stays so."""
        if value is old and old is not None:
            return value
        if isinstance(value, dict):
            return self._object(schema, value, old if isinstance(old, dict) else {}, path)
        if isinstance(value, list):
            if schema.items is None:
                return value
            items = schema.items
            before = old if isinstance(old, list) and len(old) == len(value) else [None] * len(value)
            pairs = enumerate(zip(value, before, strict=True))
            new = [self.of(items, entry, was, f"{path}[{index}]") for index, (entry, was) in pairs]
            return value if all(a is b for a, b in zip(new, value, strict=True)) else new
        if schema.quantity and isinstance(value, int | float) and not isinstance(value, bool):
            return quantity(value)
        return value

    def _object(self, schema: Schema, value: Object, old: Object, path: str) -> Object:
        if schema.open and not schema.properties and not schema.embedded:
            return value
        new: Object = {}
        changed = False
        for key, entry in value.items():
            child = _child(schema, key)
            if child is None:
                if schema.open:
                    new[key] = entry
                else:
                    changed = True
                    self.unknown.append(f"{path}.{key}" if path else key)
                continue
            if entry is None and not child.nullable:
                changed = True
                continue
            shaped = self.of(child, entry, old.get(key), f"{path}.{key}" if path else key)
            changed |= shaped is not entry
            new[key] = shaped
        for key, default in schema.defaults.items():
            if key not in new:
                child = schema.properties[key]
                new[key] = self.of(child, default, None, f"{path}.{key}")
                changed = True
        return new if changed else value


def _child(schema: Schema, key: str) -> Schema | None:
    if schema.root or schema.embedded:
        if key == "metadata":
            return metadata()
        if key in ("apiVersion", "kind"):
            return _TEXT
    return schema.field(key)


_TEXT = Schema({"type": "string"}, {})


def quantity(number: float) -> str:
    """A number as a quantity in its canonical form: 2 -> "2", 0.5 -> "500m"."""
    exact = Decimal(str(number))
    if exact == exact.to_integral_value():
        return str(int(exact))
    return f"{int(exact * 1000)}m"


def mistyped(schema: Schema, value: Any, path: str = "", old: Any = None) -> str:
    """The first value of a built-in kind that is not of its field's type, as a sentence; "" where all are.

    A null is as good as a field left out, as it is to Go's decoder: kubectl sends `creationTimestamp: null`.
    """
    if value is None or (value is old and old is not None):
        return ""
    wanted = TYPES.get(schema.type)
    if schema.quantity:
        wanted = (str, int, float)
    elif schema.int_or_string:
        wanted = (int, str)
    if (
        wanted
        and not schema.open
        and (not isinstance(value, wanted) or (bool not in wanted and isinstance(value, bool)))
    ):
        found = _JSON_NAMES.get(type(value), "null")
        return f"json: cannot unmarshal {found} into Go struct field {path} of type {schema.type}"
    if problem := _unfit(schema.raw.get("format"), value, path):
        return problem
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for key, entry in value.items():
            child = _child(schema, key)
            if child is not None and (
                problem := mistyped(child, entry, f"{path}.{key}" if path else key, before.get(key))
            ):
                return problem
    elif isinstance(value, list) and schema.items is not None:
        for entry in value:
            if problem := mistyped(schema.items, entry, path):
                return problem
    return ""


def _unfit(format_: str | None, value: Any, path: str) -> str:
    """What Go's decoder says of bytes and numbers that are none."""
    if format_ == "byte" and isinstance(value, str):
        try:
            binascii.a2b_base64(value, strict_mode=True)
        except binascii.Error:
            return f"illegal base64 data in {path}"
    if format_ == "int32" and isinstance(value, int) and not -(2**31) <= value < 2**31:
        return f"json: cannot unmarshal number {value} into Go struct field {path} of type int32"
    return ""


TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_JSON_NAMES = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "bool"}

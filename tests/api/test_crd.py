"""The CRDs that are made from the types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import msgspec.inspect as mi
import pytest

from davylamp.api import crd
from davylamp.api.objects import Slim
from davylamp.api.units import DURATION_PATTERN

Json = dict[str, Any]


def schema_of(kind: str) -> Json:
    found = next(made for made in crd.crds() if made["spec"]["names"]["kind"] == kind)
    (version,) = found["spec"]["versions"]
    schema: Json = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every field below a schema, with its path."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from nodes(field, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from nodes(schema["items"], f"{path}[]")


BOTH = [field for kind in ("ReleasePolicy", "Release") for field in nodes(schema_of(kind), kind)]
OURS = [(path, field) for path, field in BOTH if path.count(".") > 1 or path.endswith((".spec", ".status"))]


def test_every_field_says_what_it_is_for() -> None:
    assert [path for path, field in OURS if not field.get("description", "").endswith(".")] == []


def test_every_field_has_a_type() -> None:
    assert [path for path, field in BOTH if not ("type" in field or "x-kubernetes-int-or-string" in field)] == []


def test_what_a_rule_looks_at_is_bounded_so_that_its_cost_is() -> None:
    """The API server refuses a CRD whose rules could cost too much; of unbounded lists it assumes the worst."""
    lists = [(path, field) for path, field in OURS if field.get("type") == "array" and ".spec" in path]
    assert [path for path, field in lists if "maxItems" not in field] == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ReleasePolicy.spec.onFailure", {"type": "string", "enum": ["hold", "revert"], "default": "hold"}),
        ("ReleasePolicy.spec.historyLimit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}),
        ("ReleasePolicy.spec.maxExtraPods", {"x-kubernetes-int-or-string": True, "default": "100%", "minimum": 0}),
        ("ReleasePolicy.spec.steps", {"type": "array", "minItems": 1, "x-kubernetes-list-type": "atomic"}),
        ("ReleasePolicy.spec.steps[].weight", {"type": "integer", "minimum": 0, "maximum": 100}),
        ("ReleasePolicy.spec.steps[].hold", {"type": "string", "pattern": DURATION_PATTERN, "minLength": 2}),
        ("ReleasePolicy.spec.steps[].approve", {"type": "boolean"}),
        ("ReleasePolicy.spec.target.matchLabels", {"type": "object", "x-kubernetes-map-type": "atomic"}),
        ("ReleasePolicy.status.conditions", {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
        ("Release.status", {"default": {"phase": "Pending"}}),
        ("Release.status.startedAt", {"type": "string", "format": "date-time"}),
        ("Release.status.weight.inEffect", {"type": "number", "default": 0}),
    ],
)
def test_types_become_schemas(path: str, expected: Json) -> None:
    field = dict(BOTH)[path]
    assert {key: field.get(key) for key in expected} == expected


def test_only_fields_without_a_default_are_required() -> None:
    assert schema_of("ReleasePolicy")["properties"]["spec"]["required"] == ["target", "steps"]
    assert schema_of("ReleasePolicy")["required"] == ["spec"]


def test_an_optional_field_is_left_out_and_never_null() -> None:
    assert [path for path, field in BOTH if "nullable" in field] == []


def test_every_field_of_a_release_stays_as_it_was_but_for_the_commands() -> None:
    spec = schema_of("Release")["properties"]["spec"]
    fixed = {rule["fieldPath"][1:] for rule in spec["x-kubernetes-validations"] if "it started with" in rule["message"]}
    assert fixed == set(spec["properties"]) - {"paused", "abort", "promote", "approved", "retry", "feedback"}


class Odd(Slim, frozen=True):
    both: int | bool = 0


class Limits(Slim, frozen=True):
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    names: dict[str, str]


def test_a_type_that_has_no_schema_is_an_error_that_names_it() -> None:
    (field,) = mi.type_info(Odd).fields  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="BoolType"):
        crd._schema(field.type)


def test_bounds_come_from_the_annotations() -> None:
    schema = crd._object(Limits)["properties"]
    assert schema["share"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert schema["names"] == {"type": "object", "additionalProperties": {"type": "string"}}


def test_the_file_in_deploy_is_what_the_types_make() -> None:
    file = Path(__file__).parents[2] / "deploy" / "crds.yaml"
    assert file.read_text() == crd.document(), "run `make generate`"

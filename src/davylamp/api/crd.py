"""The CustomResourceDefinitions of ReleasePolicy and Release, made from their types.

Types, defaults, patterns and ranges come from `davylamp.api.types`, descriptions from the string below each field
there. What a type can't say is in the tables of this module: bounds (so that the API server's cost estimate for
the rules passes), CEL rules, printer columns. `python -m davylamp.api.crd` prints the YAML.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

import msgspec
import msgspec.inspect as mi
import yaml

from davylamp.api import GROUP, VERSION
from davylamp.api import analysis as a
from davylamp.api import types as t
from davylamp.api.bounds import ANALYSIS, Rule, Schema
from davylamp.api.objects import Condition, Meta
from davylamp.api.units import DURATION_PATTERN


class Column(msgspec.Struct, frozen=True):
    """A column of `kubectl get`; priority 1 shows it with `-o wide` only."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0

    def schema(self) -> Schema:
        return {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            "description": self.description,
        } | ({"priority": self.priority} if self.priority else {})


class Kind(msgspec.Struct, frozen=True):
    """What a CRD says besides its schema."""

    type: type[msgspec.Struct]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()


def crds() -> list[dict[str, Any]]:
    """Both CustomResourceDefinitions (apiextensions.k8s.io/v1), as manifests."""
    return [_crd(kind) for kind in KINDS]


def as_yaml(manifests: list[dict[str, Any]]) -> str:
    """`manifests` as one YAML stream that `kubectl apply -f` and GitOps tools take."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True, explicit_start=True)


# --- schema from types ---


def _crd(kind: Kind) -> dict[str, Any]:
    name = kind.type.__name__
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _object(kind.type)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.schema() for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["davylamp"],
            },
            "versions": [version],
        },
    }


_TOP = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object"},
}
_TOP_DESCRIPTIONS = {
    t.ReleasePolicy: "How new versions of a Deployment, or of all Deployments with some labels, are released.",
    t.Release: "One attempt to release one version of one Deployment. Made by the controller.",
}


def _object(cls: type[msgspec.Struct]) -> Schema:
    """The schema of a struct, with the rules that belong to it."""
    info = mi.type_info(cls)
    assert isinstance(info, mi.StructType)
    top = cls in _TOP_DESCRIPTIONS
    fields = [field for field in info.fields if not _is(field.type, Meta)]
    schema: Schema = {"type": "object"}
    if top:
        schema["description"] = _TOP_DESCRIPTIONS[cls]
    required = [field.encode_name for field in fields if field.required]
    if required:
        schema["required"] = required
    schema["properties"] = (_TOP if top else {}) | {field.encode_name: _field(cls, field) for field in fields}
    rules = RULES.get(cls, ())
    if rules:
        schema["x-kubernetes-validations"] = [rule.schema() for rule in rules]
    return schema


def _field(cls: type[msgspec.Struct], field: mi.Field) -> Schema:
    description = _description(cls, field.name)
    schema: Schema = ({"description": description} if description else {}) | _schema(field.type)
    default = _default(field)
    if default is not msgspec.UNSET:
        schema["default"] = default
    return schema | EXTRA.get((cls, field.name), {})


def _schema(kind: mi.Type) -> Schema:
    match kind:
        case mi.UnionType(types=types):
            return _union([part for part in types if not isinstance(part, mi.NoneType)])
        case mi.StructType(cls=cls):
            return _CONDITION if cls is Condition else _object(cls)
        case mi.VarTupleType(item_type=item):
            mapped = {"x-kubernetes-list-type": "atomic"}
            if _is(item, Condition):
                mapped = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}  # type: ignore[dict-item]
            return {"type": "array", "items": _schema(item)} | mapped
        case mi.DictType(value_type=mi.AnyType()):
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        case mi.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value)}
        case mi.EnumType(cls=cls):
            return {"type": "string", "enum": [member.value for member in cls]}
        case mi.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case mi.IntType(ge=ge, le=le):
            return {"type": "integer"} | _given(minimum=ge, maximum=le)
        case mi.FloatType(ge=ge, le=le):
            return {"type": "number"} | _given(minimum=ge, maximum=le)
        case mi.BoolType():
            return {"type": "boolean"}
        case mi.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case mi.StrType(pattern=pattern) if pattern == DURATION_PATTERN:
            return _DURATION
        case mi.StrType(min_length=least, max_length=most, pattern=pattern):
            return {"type": "string"} | _given(minLength=least, maxLength=most, pattern=pattern)
    raise TypeError(f"no schema for {kind}")


def _union(types: list[mi.Type]) -> Schema:
    """Optional is simply not required; the only other union is a number or a percentage."""
    if len(types) == 1:
        return _schema(types[0])
    texts = [part for part in types if isinstance(part, mi.StrType)]
    if len(types) == 2 and len(texts) == 1 and any(isinstance(part, mi.IntType) for part in types):
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maxLength": 6,
            "pattern": texts[0].pattern,
        }
    raise TypeError(f"no schema for a union of {types}")


def _given(**bounds: Any) -> Schema:
    return {key: value for key, value in bounds.items() if value is not None}


def _is(kind: mi.Type, cls: type) -> bool:
    return isinstance(kind, mi.StructType) and kind.cls is cls


def _default(field: mi.Field) -> Any:
    """The default that `kubectl get -o yaml` shows. Empty ones say nothing to a reader, and are left out."""
    if field.default is msgspec.NODEFAULT or field.default in (None, "", False, (), 0):
        return msgspec.UNSET
    value = msgspec.json.decode(msgspec.json.encode(field.default))
    return msgspec.UNSET if value == {} else value


@cache
def _strings(cls: type[msgspec.Struct]) -> dict[str, str]:
    """The string literal below each field of a class, by the field's name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[field.target.id] = inspect.cleandoc(below.value.value)
    return found


def _description(cls: type[msgspec.Struct], field: str) -> str:
    return _strings(cls).get(field) or _COMMON.get(field, "")


_COMMON = {
    "spec": "What is wanted.",
    "status": "What is.",
    "observed_generation": "The generation of the spec that this status is about.",
    "conditions": "Ready, Reconciling and Stalled, as kstatus reads them.",
    "phase": "Where the release stands; in `end`, where it will.",
    "weight": "The share of the traffic that goes to the canary.",
    "time": "When it happened.",
    "started_at": "When the release began.",
    "finished_at": "When it ended.",
    "reason": "Why, in one word for programs.",
    "message": "Why, in a sentence for people.",
    "deployment": "Name of the Deployment.",
    "service": "Name of the Service whose traffic is split, if any.",
    "routes": "Where it is split.",
}
"""Descriptions of fields without one of their own, which mean the same wherever they occur."""

_DURATION: Schema = {
    "type": "string",
    "minLength": 2,
    "maxLength": 32,
    "pattern": DURATION_PATTERN,
    "x-kubernetes-validations": [
        Rule(
            f"self.matches({DURATION_PATTERN!r})",
            "must be a duration with units, for example 30s, 10m or 1h30m",
            """'"' + self + '" is not a duration: write for example 30s, 10m or 1h30m'""",
        ).schema()
    ],
}

_CONDITION: Schema = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {
        "type": {"type": "string", "maxLength": 316, "description": "What the condition is about."},
        "status": {
            "type": "string",
            "enum": ["True", "False", "Unknown"],
            "description": "Whether it holds.",
        },
        "reason": {"type": "string", "maxLength": 1024, "description": _COMMON["reason"]},
        "message": {"type": "string", "maxLength": 32768, "description": _COMMON["message"]},
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "When the status last changed.",
        },
    },
}


# --- what types can't say ---

_NAME = {"minLength": 1, "maxLength": 253}
_PERSON = {"maxLength": 253}
_REASON = {"maxLength": 1024}

EXTRA: dict[tuple[type[msgspec.Struct], str], Schema] = {
    (t.Target, "name"): _NAME,
    (t.Target, "match_labels"): {
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-validations": [
            Rule(
                "size(self) > 0",
                "name at least one label: none would target every Deployment of the namespace",
            ).schema()
        ],
    },
    (t.Pair, "stable"): _NAME,
    (t.Pair, "canary"): _NAME,
    (t.IngressRoute, "name"): _NAME,
    (t.IngressRoute, "canary"): _NAME,
    (t.GatewayRoute, "name"): _NAME,
    (t.VirtualServiceRoute, "name"): _NAME,
    (t.VirtualServiceRoute, "routes"): {"maxItems": 64, "items": {"type": "string", "maxLength": 253}},
    (t.Traffic, "service"): {"minLength": 1, "maxLength": 63},
    (t.Traffic, "services"): {
        "minItems": 2,
        "maxItems": 8,
        "items": {"type": "string", "minLength": 1, "maxLength": 63},
    },
    (t.Preview, "service"): {"minLength": 1, "maxLength": 63},
    (t.ReleaseSpec, "services"): {"maxItems": 8},
    (t.Found, "services"): {"maxItems": 8},
    (t.Traffic, "canary_service"): {"minLength": 1, "maxLength": 63},
    (t.Traffic, "routes"): {"maxItems": 32},
    (t.Traffic, "match"): {"maxItems": 16},
    (t.Step, "match"): {"maxItems": 16},
    (t.ReleaseSpec, "match"): {"maxItems": 16},
    (t.TextMatch, "name"): {"minLength": 1, "maxLength": 128},
    (t.TextMatch, "exact"): {"maxLength": 256},
    (t.TextMatch, "prefix"): {"minLength": 1, "maxLength": 256},
    (t.TextMatch, "regex"): {"minLength": 1, "maxLength": 256},
    (t.Match, "source_labels"): {
        "minProperties": 1,
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-map-type": "atomic",
    },
    (t.ReleasePolicySpec, "steps"): {"minItems": 1, "maxItems": 50},
    (t.ReleaseSpec, "steps"): {"maxItems": 50},
    **{
        (t.PairAtStart, field): {
            "maxProperties": 32,
            "additionalProperties": {"type": "string", "maxLength": 63},
            "x-kubernetes-map-type": "atomic",
        }
        for field in ("stable_labels", "canary_labels")
    },
    # Shown by `kubectl get` from the start.
    (t.ReleaseStatus, "step"): {"default": 0},
    (t.ReleaseStatus, "weight"): {"default": {}},
    (t.WeightStatus, "asked"): {"default": 0},
    (t.WeightStatus, "in_effect"): {"default": 0},
    (t.ReleaseSpec, "routes"): {"maxItems": 64},
    (t.Found, "routes"): {"maxItems": 64},
    (t.ReleasePolicyStatus, "found"): {"maxItems": 20},
    (t.Command, "by"): _PERSON,
    (t.Command, "reason"): _REASON,
    (t.ReleaseSpec, "feedback"): {"maxItems": 200},
    (t.UserVote, "user"): _PERSON,
    (t.UserVote, "note"): _REASON,
    (t.UserVote, "by"): _PERSON,
    (t.Approval, "by"): _PERSON,
    (t.Approval, "reason"): _REASON,
    # So that a new Release shows its phase before the controller has written any status.
    (t.Release, "status"): {"default": {"phase": t.Phase.PENDING.value}},
    **ANALYSIS,
}

_STEPS = (
    Rule("self.steps.map(s, s.weight).isSorted()", "weights must rise from step to step", path=".steps"),
    # CEL has no index in a list before Kubernetes 1.33; this says the same, since the weights are in order.
    Rule(
        "self.steps.all(s, has(s.match) || has(s.mirror) || self.steps.exists_one(o, o.weight == s.weight"
        " && !has(o.match) && !has(o.mirror)"
        " && (!has(o.replicas) || !has(s.replicas) || o.replicas == s.replicas)))",
        "weights must rise from step to step (two steps may share one if both give replicas, and not the same, or if "
        "one has a match or mirrors)",
        path=".steps",
    ),
)


def _one_of(cls: type[msgspec.Struct], what: str, but: tuple[str, ...] = ()) -> Rule:
    """Exactly one field of `cls` is set, whatever there is of those in `but`."""
    names = [field.encode_name for field in msgspec.structs.fields(cls) if field.name not in but]
    given = ", ".join(f"has(self.{name})" for name in names)
    listed = names[0] if len(names) == 1 else f"exactly one of {', '.join(names)}"
    return Rule(f"[{given}].exists_one(given, given)", f"{what}: set {listed}")


def _fixed(cls: type[msgspec.Struct], but: tuple[str, ...]) -> tuple[Rule, ...]:
    """The fields of `cls`, all `but` some, stay as they were at creation."""
    rules = []
    for field in msgspec.structs.fields(cls):
        name = field.encode_name
        if field.name in but:
            continue
        same = f"self.{name} == oldSelf.{name}"
        if not field.required:
            same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
        message = f"a release keeps the {name} it started with; change the ReleasePolicy for the next one"
        rules.append(Rule(same, message, path=f".{name}", reason="FieldValueForbidden"))
    return tuple(rules)


def _lasting(field: str, message: str) -> Rule:
    """An optional `field` that can't be unset again."""
    return Rule(f"!has(oldSelf.{field}) || has(self.{field})", message, path="", reason="FieldValueForbidden")


COMMANDS = ("paused", "abort", "promote", "approved", "retry", "feedback")
"""The fields of a Release's spec that people change; all others are a snapshot."""

RULES: dict[type[msgspec.Struct], tuple[Rule, ...]] = {
    t.Target: (_one_of(t.Target, "a policy targets one Deployment, all with some labels, or a pair"),),
    t.Pair: (Rule("self.stable != self.canary", "a pair is two Deployments, and here one is named twice"),),
    t.TextMatch: (
        Rule(
            "[has(self.exact), has(self.prefix), has(self.regex), has(self.present) && self.present]"
            ".exists_one(given, given)",
            "set exactly one of exact, prefix, regex and present",
        ),
    ),
    t.Match: (
        Rule(
            "has(self.header) || has(self.cookie) || has(self.query) || has(self.sourceLabels)",
            "a match asks for a header, a cookie, a query parameter or source labels",
        ),
    ),
    t.Route: (_one_of(t.Route, "a route is one object that splits traffic"),),
    t.Traffic: (
        Rule(
            "!has(self.detect) || !self.detect"
            " || (!has(self.service) && !has(self.services) && (!has(self.routes) || size(self.routes) == 0))",
            "detect finds the Service and the routes: leave out service and routes, or set detect to false",
        ),
        Rule(
            "has(self.service) || has(self.services) || (has(self.detect) && self.detect)",
            "set service, or detect: true; leave traffic out for a workload without a Service",
        ),
        Rule("!has(self.service) || !has(self.services)", "set service or services, not both"),
    ),
    t.ReleasePolicySpec: (
        *_STEPS,
        Rule(
            "!has(self.target.matchLabels) || !has(self.traffic)"
            " || (!has(self.traffic.service) && !has(self.traffic.services) && !has(self.traffic.preview))",
            "a policy for many Deployments can't name one Service: use traffic: {detect: true}",
            path=".traffic",
        ),
        Rule(
            "has(self.target.pair) || !has(self.traffic) || !has(self.traffic.canaryService)",
            "only a pair has a Service of the canary's own; for one Deployment a release makes it",
            path=".traffic",
        ),
    ),
    a.Check: (_one_of(a.Check, "a check is of one kind", but=("name",)),),
    t.Approval: (Rule("self.step >= oldSelf.step", "an approval can't be taken back", path=".step"),),
    t.ReleaseSpec: (
        *_fixed(t.ReleaseSpec, COMMANDS),
        _lasting("abort", "abort can't be taken back; `davy retry` tries the version again"),
        _lasting("promote", "promote can't be taken back; abort takes the release back"),
        _lasting("approved", "an approval can't be taken back"),
        _lasting("retry", "retry can't be taken back"),
    ),
}

_AGE = Column("Age", ".metadata.creationTimestamp", "How old the object is.", "date")

KINDS = (
    Kind(
        t.ReleasePolicy,
        "releasepolicies",
        "rpol",
        (
            Column("Target", ".spec.target.*", "Name or labels of the Deployments."),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether the policy can be used."),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, or why not."),
            Column("Targets", ".status.targets", "How many Deployments it has.", "integer", 1),
            _AGE,
        ),
    ),
    Kind(
        t.Release,
        "releases",
        "rel",
        (
            Column("Deployment", ".spec.deployment", "The Deployment that is released."),
            Column("Phase", ".status.phase", "Where the release stands."),
            Column("Step", ".status.step", "The step in effect.", "integer"),
            Column("Weight", ".status.weight.asked", "Percent of the traffic asked for.", "integer"),
            Column("In Effect", ".status.weight.inEffect", "Percent of the traffic in effect.", "number"),
            Column("Message", ".status.message", "What happens, in a sentence.", priority=1),
            _AGE,
        ),
        (".spec.deployment", ".spec.policy", ".status.phase"),
    ),
)


class _Dumper(yaml.SafeDumper):
    """Without anchors for what occurs twice; text of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def document() -> str:
    """The text of deploy/crds.yaml."""
    return f"# Made from the types in davylamp.api.types by `python -m davylamp.api.crd`.\n{as_yaml(crds())}"


if __name__ == "__main__":
    print(document(), end="")

"""Who gets a request: the rules of a route of the Gateway API in their order of precedence, as a pure function.

Read from the API's own text (gateway-api v1.6, apis/v1/httproute_types.go and grpcroute_types.go, `Matches`): an
exact path before the longest prefix, then a method, then more headers, then more query parameters; among equals the
first rule. For gRPC: more characters of the service's name, of the method's, then more headers. Where expressions are
searched for or compared whole differs between implementations; here they are searched for.

Traefik adds the same things up instead of comparing them one after the other (`buildMatchRule` and
`buildGRPCMatchRule` in its pkg/provider/kubernetes/gateway), so that two headers weigh as much as two characters of a
path. Whoever adds rules has to keep both orders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

Rule = dict[str, Any]
RuleMatch = dict[str, Any]
Rank = tuple[int, ...]
Ranking = Callable[..., Rank]
"""`rank` or `sum_rank`."""

_ROOT: RuleMatch = {"path": {"type": "PathPrefix", "value": "/"}}


class Request(msgspec.Struct, frozen=True):
    """What rules look at. A gRPC request's path is `/service/method`. Headers are looked up without case."""

    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}


def matches_of(rule: Rule, *, grpc: bool = False) -> list[RuleMatch]:
    """A rule's matches; one without any takes every request."""
    given = rule.get("matches")
    found = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return found or [{} if grpc else _ROOT]


def decide(
    rules: Sequence[Rule], request: Request, *, grpc: bool = False, ranking: Ranking | None = None
) -> int | None:
    """The index of the rule that answers; None where none does (404). `ranking` is the specification's, `rank`, unless
    another one is given."""
    order = ranking or rank
    found = [
        (order(match, grpc=grpc), -index)
        for index, rule in enumerate(rules)
        for match in matches_of(rule, grpc=grpc)
        if holds(match, request, grpc=grpc)
    ]
    return -max(found)[1] if found else None


def shares(rule: Rule) -> dict[str, Fraction]:
    """Which part of a rule's requests each backend gets, by name (`namespace/name` where it has a namespace)."""
    weights: dict[str, int] = {}
    for ref in rule.get("backendRefs") or ():
        name = "/".join(filter(None, (ref.get("namespace"), ref.get("name"))))
        weights[name] = weights.get(name, 0) + weight_of(ref)
    total = sum(weights.values())
    return {name: Fraction(weight, total) for name, weight in weights.items() if weight}


def weight_of(ref: Mapping[str, Any]) -> int:
    """A backend's weight; 1 where none is given."""
    weight = ref.get("weight")
    return weight if isinstance(weight, int) else 1


# --- one match ---


def holds(match: RuleMatch, request: Request, *, grpc: bool = False) -> bool:
    """Whether a request satisfies everything that a match asks for."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    queries = match.get("queryParams") or () if not grpc else ()
    return (
        (_called(match, request.path) if grpc else _located(match, request))
        and all(_text(asked, headers.get(str(asked.get("name", "")).lower())) for asked in match.get("headers") or ())
        and all(_text(asked, request.query.get(str(asked.get("name", "")))) for asked in queries)
    )


def _text(asked: Mapping[str, Any], value: str | None) -> bool:
    if value is None:
        return False
    return _value(str(asked.get("type", "Exact")), str(asked.get("value", "")), value)


def _value(kind: str, wanted: str, value: str) -> bool:
    return re.search(wanted, value) is not None if kind == "RegularExpression" else value == wanted


def _located(match: RuleMatch, request: Request) -> bool:
    if match.get("method") not in (None, request.method):
        return False
    kind, value = path_of(match)
    if kind == "PathPrefix":
        return within(request.path, value)
    return _value(kind, value, request.path)


def _called(match: RuleMatch, path: str) -> bool:
    asked = match.get("method") or {}
    service, _, method = path.removeprefix("/").partition("/")
    kind = str(asked.get("type", "Exact"))
    return all(
        not asked.get(field) or _value(kind, asked[field], value)
        for field, value in (("service", service), ("method", method))
    )


def within(path: str, prefix: str) -> bool:
    """Whether `path` has this prefix, element by element: `/foo` has `/foo/` and `/foo`, and `/foobar` doesn't."""
    whole = prefix.rstrip("/")
    return path == whole or path.startswith(f"{whole}/")


def path_of(match: RuleMatch) -> tuple[str, str]:
    """Type and value, with the API's defaults."""
    path = match.get("path") or {}
    return str(path.get("type", "PathPrefix")), str(path.get("value", "/"))


# --- precedence ---


def rank(match: RuleMatch, *, grpc: bool = False) -> Rank:
    """Higher wins. Where an expression on a path stands is left to implementations; here it counts as a prefix."""
    headers, queries = len(match.get("headers") or ()), len(match.get("queryParams") or ())
    if grpc:
        asked = match.get("method") or {}
        return (len(asked.get("service") or ""), len(asked.get("method") or ""), headers)
    kind, value = path_of(match)
    return (kind == "Exact", 0 if kind == "Exact" else len(value.rstrip("/")), "method" in match, headers, queries)


def sum_rank(match: RuleMatch, *, grpc: bool = False) -> Rank:
    """The same as Traefik does it: one sum, and for gRPC the length of the rule in its own words."""
    headers, queries = len(match.get("headers") or ()), len(match.get("queryParams") or ())
    if grpc:
        return (len(_in_traefiks_words(match)),)
    kind, value = path_of(match)
    place = 100000 if kind == "Exact" else 1 if (kind, value) == ("PathPrefix", "/") else 10000 + 100 * len(value)
    return (place + 1000 * ("method" in match) + 100 * headers + 10 * queries,)


def _in_traefiks_words(match: RuleMatch) -> str:
    asked = match.get("method")
    path = f"/{asked.get('service') or '[^/]+'}/{asked.get('method') or '[^/]+'}" if asked else ""
    words = [f'PathRegexp("{path}")' if asked else 'PathPrefix("/")']
    for header in match.get("headers") or ():
        call = "HeaderRegexp" if header.get("type") == "RegularExpression" else "Header"
        words.append(f"{call}({json.dumps(header.get('name'))},{json.dumps(header.get('value'))})")
    return " && ".join(words)


RANKINGS: tuple[Ranking, ...] = (rank, sum_rank)


def may_meet(one: RuleMatch, other: RuleMatch, *, grpc: bool = False) -> bool:
    """False only where no request can satisfy both for their paths or methods."""
    if grpc:
        asked, wanted = one.get("method") or {}, other.get("method") or {}
        if "RegularExpression" in (asked.get("type"), wanted.get("type")):
            return True
        pairs = ((asked.get(field), wanted.get(field)) for field in ("service", "method"))
        return all(not a or not b or a == b for a, b in pairs)
    if "method" in one and "method" in other and one["method"] != other["method"]:
        return False
    (kind, value), (other_kind, other_value) = path_of(one), path_of(other)
    if kind == "PathPrefix" and other_kind == "PathPrefix":
        return within(value, other_value) or within(other_value, value)
    if kind == "PathPrefix" and other_kind == "Exact":
        return within(other_value, value)
    if kind == "Exact" and other_kind == "PathPrefix":
        return within(value, other_value)
    return kind != other_kind or value == other_value or "RegularExpression" in (kind, other_kind)

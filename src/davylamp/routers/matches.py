"""What is wrong with a match in itself, whichever router it is for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from davylamp.api.problems import Problem
from davylamp.api.types import Match, TextMatch
from davylamp.core.matching import conditions
from davylamp.routers.ambiguity import REPEATS, ambiguous, mask_of

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""The name of a header or cookie: a token (RFC 9110, 5.6.2; RFC 6265, 4.1.1)."""
_COOKIE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
"""A cookie's value without quotes, spaces, commas, semicolons and backslashes (RFC 6265, 4.1.1)."""
_LABEL = r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?"
"""The name of a label, or its value: at most 63 characters (Kubernetes' "Labels and Selectors")."""
_LABEL_KEY = re.compile(rf"(?:[a-z0-9](?:[-.a-z0-9]{{0,251}}[a-z0-9])?/)?{_LABEL}")
_LABEL_VALUE = re.compile(rf"(?:{_LABEL})?")
_FORBIDDEN = frozenset({"host", "connection", "transfer-encoding", "content-length", "upgrade", "te", "trailer"})
"""Headers that steer the connection: proxies change or drop them before any rule sees them."""
LONGEST = 256
"""Characters of a value; proxies have limits of their own, all of them higher."""


def problems_of_match(path: str, match: Match) -> Iterator[Problem]:
    """All of them at once."""
    given = list(conditions(match))
    if not given and match.source_labels is None:
        yield Problem(
            path, 'asks for nothing: give a header or a cookie, for example {header: {name: X-Canary, exact: "true"}}'
        )
    if match.source_labels == {}:
        yield Problem(f"{path}.sourceLabels", "is empty: give at least one label, for example {team: shop}")
    for key, value in (match.source_labels or {}).items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            yield Problem(
                f"{path}.sourceLabels",
                f'no pod can have the label "{key}: {value}": at most 63 letters, digits, -, _ and . (a prefix and / '
                "before the key), with a letter or digit at both ends",
            )
    for field, wanted in given:
        yield from _condition(f"{path}.{field}", field, wanted)


def _condition(path: str, field: str, wanted: TextMatch) -> Iterator[Problem]:
    what = "query parameter" if field == "query" else field
    if not wanted.name:
        yield Problem(f"{path}.name", f"is empty: give the {what}'s name")
    elif field != "query" and not _TOKEN.fullmatch(wanted.name):
        bad = "".join(sorted(set(_TOKEN.sub("", wanted.name))))
        yield Problem(f"{path}.name", f'"{wanted.name}" can\'t be the name of a {what}: HTTP allows no {bad!r} in it')
    elif field == "header" and wanted.name.lower() in _FORBIDDEN:
        yield Problem(f"{path}.name", f'"{wanted.name}" steers the connection and never reaches a rule as it was sent')
    elif field == "header" and wanted.name.lower() == "cookie":
        yield Problem(f"{path}.name", "use {cookie: {name: …}} for a cookie; its header holds all of them")
    ways = {"exact": wanted.exact, "prefix": wanted.prefix, "regex": wanted.regex}
    named = [way for way, value in ways.items() if value is not None] + ["present"] * wanted.present
    if len(named) != 1:
        found = f"has {' and '.join(named)}" if named else "doesn't say which values"
        yield Problem(path, f"{found}: set exactly one of exact, prefix, regex and present")
    for way in named:
        value = ways.get(way)
        if value is not None:
            yield from _value(f"{path}.{way}", field, way, value)


def _value(path: str, field: str, way: str, value: str) -> Iterator[Problem]:
    if len(value) > LONGEST:
        yield Problem(path, f"has {len(value)} characters; at most {LONGEST} are compared")
    elif field != "query" and any(not 0x20 <= ord(char) < 0x7F for char in value):
        yield Problem(path, "has characters other than printable ASCII, which headers don't carry reliably")
    elif way == "regex":
        yield from (Problem(path, f'"{value}" {text}') for text in problems_of_regex(value))
    elif not value:
        yield Problem(path, "is empty, and an empty value is no value for some proxies: use present: true for any")
    elif field == "cookie" and not _COOKIE_VALUE.fullmatch(value):
        bad = "".join(sorted(set(_COOKIE_VALUE.sub("", value))))
        yield Problem(path, f"a cookie's value has no {bad!r} in it: give the value as it is sent, without quotes")
    elif value != value.strip():
        yield Problem(path, "begins or ends with a space, which HTTP takes away")


@lru_cache(1024)
def problems_of_regex(text: str) -> tuple[str, ...]:
    """Why not every proxy would take this regular expression, or would be slow with it.

    RE2 (Envoy, Traefik, Istio) knows neither look-around nor back references nor possessive repetition
    (https://github.com/google/re2/wiki/Syntax); PCRE (ingress-nginx) knows them and can take exponential time where
    a repetition can match the same text in two ways. It is read as Python's, which differs in a few things.
    """
    if not text:
        return ("is empty: use present: true for any value",)
    only_here = [what for found, what in _PYTHONS if found.search(_ESCAPED.sub("", text) if what in _PLAIN else text)]
    if only_here:
        return tuple(f"{what}, which RE2 doesn't know: write it without" for what in only_here)
    try:
        with warnings.catch_warnings(action="error"):
            tree = _parser.parse(text)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        return (f"is no regular expression: {error}",)
    return tuple(dict.fromkeys(_beyond(tree, within=False, alternatives="|" in text)))


_ESCAPED = re.compile(r"\\.", re.DOTALL)
_PYTHONS = (
    (re.compile(r"(?<!\\)(?:\\\\)*\\[ZuUN]"), "has an escape of Python's (\\Z, \\u, \\U, \\N)"),
    (re.compile(r"\(\?#"), "has a comment"),
    (re.compile(r"\(\?[a-zA-Z]*[aLux]"), "sets a flag other than i, m, s"),
    (re.compile(r"\{,\d"), "has a repetition without its lower bound"),
)
_PLAIN = ("has a comment", "sets a flag other than i, m, s", "has a repetition without its lower bound")


_UNKNOWN = {
    _constants.GROUPREF: "refers back to a group",
    _constants.GROUPREF_EXISTS: "asks whether a group matched",
    _constants.ASSERT: "looks ahead or behind",
    _constants.ASSERT_NOT: "looks ahead or behind",
    getattr(_constants, "ATOMIC_GROUP", None): "has an atomic group",
    getattr(_constants, "POSSESSIVE_REPEAT", None): "repeats possessively",
}


def _beyond(tree: Any, *, within: bool, alternatives: bool) -> Iterator[str]:
    """Walks over the parsed expression. `within` tells that it is repeated as a whole, without a bound."""
    before: Any = None
    for operation, argument in tree:
        if operation in _UNKNOWN:
            yield f"{_UNKNOWN[operation]}, which RE2 doesn't know: write it without"
        unbounded = operation in REPEATS and argument[1] == _constants.MAXREPEAT
        if operation in REPEATS and argument[1] != _constants.MAXREPEAT and argument[1] > 1000:
            yield f"repeats up to {argument[1]} times; RE2 takes 1000"
        if unbounded and within:
            yield "repeats what is repeated already, which can take a proxy exponential time: write one repetition"
        elif unbounded and not _repeating(argument[2]) and ambiguous(argument[2], alternatives=alternatives):
            yield "repeats what can match one text in two ways, which can take a proxy exponential time: write one way"
        elif unbounded and before is not None and _same(before, argument[2]):
            yield "has two repetitions in a row that match the same text, which makes a proxy slow: write one of them"
        before = argument[2] if unbounded else None
        for part in _parts(argument):
            yield from _beyond(part, within=within or unbounded, alternatives=alternatives)


def _repeating(tree: Any) -> bool:
    """Whether something in it is repeated without a bound."""
    return any(
        (operation in REPEATS and argument[1] == _constants.MAXREPEAT) or any(map(_repeating, _parts(argument)))
        for operation, argument in tree
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two repeated expressions of one character each have a character in common."""
    single = all(len(body) == 1 and body[0][0] in _SINGLE for body in (one, other))
    return single and bool(mask_of(one[0]) & mask_of(other[0]))


_SINGLE = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)


def _parts(argument: Any) -> Iterator[Any]:
    """The expressions inside an operation's argument."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for one in argument:
            yield from _parts(one)

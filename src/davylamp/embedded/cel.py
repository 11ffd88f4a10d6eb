"""The validation rules of CRDs (x-kubernetes-validations), in CEL.

Evaluated by cel-expr-python, Google's own CEL in C++. Of the functions that Kubernetes adds to CEL there are those
that rules on lists and text mostly use; a rule with another one is refused with its CRD. Values are untyped (`dyn`):
a number without a fraction counts as an int.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

Object = dict[str, Any]


class Rule(msgspec.Struct, frozen=True):
    """One entry of x-kubernetes-validations."""

    rule: str
    message: str = ""
    expression: str = ""
    """`messageExpression`."""
    reason: str = "FieldValueInvalid"
    field_path: str = ""
    transition: bool = False
    """About a change, so not asked of what is new."""


class CelError(Exception):
    """An expression that can't be compiled or evaluated."""


class Unsupported(CelError):
    """An expression that a real server takes, and that can't be evaluated here."""


_NOT_HERE = re.compile(r"undeclared reference to '(\w+)'")
_KUBERNETES = frozenset(
    re.findall(
        r"\w+",
        "ip cidr isCIDR containsIP containsCIDR family isCanonical isUnspecified isLoopback isLinkLocalMulticast "
        "isLinkLocalUnicast isGlobalUnicast masked prefixLength quantity isQuantity isInteger asInteger "
        "asApproximateFloat isGreaterThan isLessThan compareTo add sub sign semver isSemver major minor patch format "
        "named getQuery findAll sets math optional",
    )
)
"""Functions and libraries that Kubernetes has for CEL, and that are not here."""


def rules_of(raw: Object) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            entry["rule"],
            entry.get("message", ""),
            entry.get("messageExpression", ""),
            entry.get("reason", "FieldValueInvalid"),
            entry.get("fieldPath", ""),
            re.search(r"\boldSelf\b", entry["rule"]) is not None and not entry.get("optionalOldSelf"),
        )
        for entry in raw.get("x-kubernetes-validations", ())
    )


def _sorted(values: Any) -> bool:
    found = list(values)
    return all(first <= second for first, second in itertools.pairwise(found))


def _index(values: Any, wanted: Any) -> int:
    return next((index for index, value in enumerate(values) if value == wanted), -1)


def _is_ip(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text)) and "%" not in text
    except ValueError:
        return False


def _is_url(text: str) -> bool:
    """As Go's url.ParseRequestURI: absolute, or a path from the root."""
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        return False
    return bool(found.scheme and (found.netloc or found.path)) or text.startswith("/")


def _url(text: str) -> str:
    """A URL is its text here; its parts are read off it when they are asked for."""
    if not _is_url(text):
        raise ValueError(f"URL parse error during conversion from string: {text!r}")
    return text


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


@functools.cache
def _environment() -> Any:
    """All functions beside those of CEL itself (k8s.io/apiserver/pkg/cel/library)."""
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_strings

    any_list, dyn, text = cel.Type.List(cel.Type.DYN), cel.Type.DYN, cel.Type.STRING

    def member(name: str, result: Any, parameters: list[Any], function: Callable[..., Any]) -> Any:
        overload = cel.Overload(f"k8s_{name}", result, parameters, is_member=True, impl=function)
        return cel.FunctionDecl(name, [overload])

    def plain(name: str, result: Any, function: Callable[[str], Any]) -> Any:
        return cel.FunctionDecl(name, [cel.Overload(f"k8s_{name}", result, [text], is_member=False, impl=function)])

    ours = [
        plain("isIP", cel.Type.BOOL, _is_ip),
        plain("isURL", cel.Type.BOOL, _is_url),
        plain("url", text, _url),
        member("getScheme", text, [text], lambda given: urlsplit(given).scheme),
        member("getHost", text, [text], lambda given: urlsplit(given).netloc.rpartition("@")[2]),
        member("getHostname", text, [text], lambda given: urlsplit(given).hostname or ""),
        member("getPort", text, [text], lambda given: str(urlsplit(given).port or "")),
        member("getEscapedPath", text, [text], lambda given: urlsplit(given).path),
        member("isSorted", cel.Type.BOOL, [any_list], _sorted),
        member("sum", dyn, [any_list], sum),
        member("min", dyn, [any_list], min),
        member("max", dyn, [any_list], max),
        member("find", text, [text, text], _find),
    ]
    extensions = [cel.CelExtension("kubernetes", ours), ext_strings.ExtStrings()]
    return cel.NewEnv(variables={"self": dyn, "oldSelf": dyn}, extensions=extensions)


@functools.lru_cache(maxsize=1024)
def compiled(expression: str) -> Any:
    """The program of an expression. Raises CelError."""
    try:
        return _environment().compile(expression)
    except Exception as error:  # The library raises bare Exceptions.
        missing = set(_NOT_HERE.findall(str(error)))
        if missing and missing <= _KUBERNETES:
            raise Unsupported(f"Kubernetes' CEL functions {', '.join(sorted(missing))}") from error
        raise CelError(str(error)) from error


def evaluate(expression: str, self_: Any, old: Any = None) -> Any:
    """The value of an expression. Raises CelError where it has none."""
    return _value(expression, msgspec.json.encode((self_, old)))


@functools.lru_cache(maxsize=256)
def _value(expression: str, given: bytes) -> Any:
    """A simulation asks the same of the same objects a thousand times, and each answer takes its time."""
    self_, old = msgspec.json.decode(given)
    result = compiled(expression).eval(data={"self": self_, "oldSelf": old})
    if result.type().name() == "ERROR":
        raise CelError(str(result.value()))
    return result.value()

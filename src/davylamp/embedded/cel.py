"""The validation rules of CRDs (x-kubernetes-validations), in CEL.

Evaluated by cel-expr-python, Google's own CEL in C++. Of the functions that Kubernetes adds to CEL there are those
that rules on lists and text mostly use; a rule with another one is refused with its CRD. Values are untyped (`dyn`):
a number without a fraction counts as an int.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

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
    optional_old: bool = False

    @property
    def transition(self) -> bool:
        """About a change, so not asked of what is new."""
        return re.search(r"\boldSelf\b", self.rule) is not None and not self.optional_old


class CelError(Exception):
    """An expression that can't be compiled or evaluated."""


def rules_of(raw: Object) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            entry["rule"],
            entry.get("message", ""),
            entry.get("messageExpression", ""),
            entry.get("reason", "FieldValueInvalid"),
            entry.get("fieldPath", ""),
            bool(entry.get("optionalOldSelf")),
        )
        for entry in raw.get("x-kubernetes-validations", ())
    )


def _sorted(values: Any) -> bool:
    found = list(values)
    return all(first <= second for first, second in itertools.pairwise(found))


def _index(values: Any, wanted: Any) -> int:
    return next((index for index, value in enumerate(values) if value == wanted), -1)


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

    ours = [
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
        raise CelError(str(error)) from error


def evaluate(expression: str, self_: Any, old: Any = None) -> Any:
    """The value of an expression. Raises CelError where it has none."""
    result = compiled(expression).eval(data={"self": self_, "oldSelf": old})
    if result.type().name() == "ERROR":
        raise CelError(str(result.value()))
    return result.value()

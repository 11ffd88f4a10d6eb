"""The JSON paths of additionalPrinterColumns: `.a.b`, `['a.b']`, `[0]`, `.*`, `[*]`, `[?(@.a=="b")]`.

A part of Kubernetes' own dialect (k8s.io/client-go/util/jsonpath), which the libraries for JSONPath (RFC 9535) don't
speak: it has no `$`, and its backslash escapes a dot.
"""

from __future__ import annotations

import functools
import re
from typing import Any

_STEP = re.compile(
    r"""\.(?P<name>(?:[^.\[\]\\*]|\\.)+)
      | \.\* | \[\*\]
      | \[(?P<index>-?\d+)\]
      | \[['"](?P<quoted>[^'"]+)['"]\]
      | \[\?\(\s*@\.(?P<key>[^=!<>\s]+)\s*(?P<op>==|!=)\s*(?P<quote>['"]?)(?P<value>[^'")]*)(?P=quote)\s*\)\]""",
    re.VERBOSE,
)


@functools.lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[re.Match[str], ...]:
    found, position = [], 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"{path!r} is no JSON path that is understood, from {path[position:]!r} on")
        found.append(match)
        position = match.end()
    return tuple(found)


def check(path: str) -> None:
    """Raises ValueError where `path` can't be understood."""
    _steps(path)


def find(path: str, obj: Any) -> list[Any]:
    """All values at `path`. Raises ValueError."""
    found = [obj]
    for step in _steps(path):
        found = [value for current in found for value in _follow(step, current)]
    return found


def _follow(step: re.Match[str], value: Any) -> list[Any]:
    name = step["quoted"] or (step["name"].replace("\\", "") if step["name"] else None)
    if name is not None:
        return [value[name]] if isinstance(value, dict) and name in value else []
    if step["index"] is not None:
        return value[int(step["index"]) :][:1] if isinstance(value, list) else []
    values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if step["key"] is None:
        return values
    wanted, equal = step["value"], step["op"] == "=="
    return [entry for entry in values if (_text(find(f".{step['key']}", entry)) == wanted) == equal]


def _text(found: list[Any]) -> str | None:
    if not found:
        return None
    return str(found[0]).lower() if isinstance(found[0], bool) else str(found[0])

"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902), which leave what they don't touch the same object.

Nothing is mutated: the result shares every untouched part with the target, so that `is` tells what has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from davylamp.embedded.status import StatusError, bad_request


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386. A null in `patch` removes."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    changed = not isinstance(target, dict)
    for key, value in patch.items():
        if value is None:
            changed |= result.pop(key, None) is not None
            continue
        old = result.get(key)
        new = merge(old, value)
        if new is not old and (old is None or new != old):
            result[key] = new
            changed = True
    return result if changed else target


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902.

    Raises StatusError: 400 where `operations` is no list of operations, 422 where one can't be carried out (no
    such path, or a test that fails), worded as the real server does.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    for operation in operations:
        target = _operate(target, operation)
    return target


def _operate(target: Any, operation: Any) -> Any:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise bad_request("error decoding patch: an operation is an object with op and path")
    path = pointer(operation["path"])
    match operation.get("op"):
        case "add" | "replace" as op:
            if "value" not in operation:
                raise _refused()
            return _set(target, path, operation["value"], replace=op == "replace")
        case "remove":
            return _remove(target, path)
        case "test":
            if _find(target, path, missing=None) != operation.get("value"):
                raise _refused()
            return target
        case "move":
            source = pointer(operation.get("from", ""))
            return _set(_remove(target, source), path, _find(target, source), replace=False)
        case "copy":
            return _set(target, path, _find(target, pointer(operation.get("from", ""))), replace=False)
    raise bad_request(f"Unexpected kind: {operation.get('op')}")


def _refused() -> StatusError:
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request")


def pointer(text: str) -> tuple[str, ...]:
    """The parts of a JSON pointer (RFC 6901)."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


_NOTHING = object()


def _find(target: Any, path: Sequence[str], missing: Any = _NOTHING) -> Any:
    for part in path:
        if isinstance(target, dict) and part in target:
            target = target[part]
        elif isinstance(target, list) and part.isdigit() and int(part) < len(target):
            target = target[int(part)]
        elif missing is _NOTHING:
            raise _refused()
        else:
            return missing
    return target


def _set(target: Any, path: Sequence[str], value: Any, *, replace: bool) -> Any:
    if not path:
        return value
    part, *rest = path
    if isinstance(target, dict):
        # A replace of a key that is not there adds it, as it does in the real server's library.
        if rest and part not in target:
            raise _refused()
        new = _set(target[part], rest, value, replace=replace) if rest else value
        return target if part in target and target[part] is new else {**target, part: new}
    if isinstance(target, list):
        if rest or replace:
            index = _index(part, len(target))
            new = _set(target[index], rest, value, replace=replace) if rest else value
            return [*target[:index], new, *target[index + 1 :]]
        index = len(target) if part == "-" else _index(part, len(target) + 1)
        return [*target[:index], value, *target[index:]]
    raise _refused()


def _remove(target: Any, path: Sequence[str]) -> Any:
    if not path:
        raise _refused()
    part, *rest = path
    if isinstance(target, dict) and part in target:
        if rest:
            return {**target, part: _remove(target[part], rest)}
        return {key: value for key, value in target.items() if key != part}
    if isinstance(target, list):
        index = _index(part, len(target))
        kept = [_remove(target[index], rest)] if rest else []
        return [*target[:index], *kept, *target[index + 1 :]]
    raise _refused()


def _index(part: str, length: int) -> int:
    if not part.isdigit() or int(part) >= length:
        raise _refused()
    return int(part)

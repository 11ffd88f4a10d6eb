"""What those parts of the store that it calls itself need of it, so that they need not import it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from davylamp.embedded.kinds import Kinds
from davylamp.embedded.resources import Resources

Object = dict[str, Any]
Objects = list[Object]
Listener = Callable[[str, Object, Object | None], None]
"""Told of each commit: ADDED, MODIFIED or DELETED; the object as it is now (or last was); as it was before."""


class Reads(Protocol):
    """The objects of a `davylamp.embedded.store.Store`, whose methods these are."""

    resources: Resources

    def get(self, kind: str, namespace: str, name: str) -> Object | None: ...

    def list(self, kind: str, namespace: str = "") -> Objects: ...


class Writes(Reads, Protocol):
    """The same, with what changes them."""

    kinds: Kinds

    def subscribe(self, listener: Listener, kind: str = "") -> Callable[[], None]: ...

    def patch(self, kind: str, namespace: str, name: str, body: Object) -> object: ...

    def delete(self, kind: str, namespace: str, name: str) -> object: ...

"""The objects of one kind in memory, as far as a watch and our own writes have told.

One rule: an object only moves forward. What a watch says and what our own writes were answered with (`offer`) come in
any order; the higher resource version counts. Resource versions of one kind are comparable as integers (guaranteed
since Kubernetes 1.35, true before); where one isn't an integer the newer arrival counts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from davylamp.kube.kinds import kind_of

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace and name."""

Listener = Callable[[str, Any, Any], None]
"""Told of a change: kind, the object before (None: it is new), the object now (None: it is gone)."""

Index = Callable[[T], Iterable[Hashable]]


class Store(Generic[T]):
    """Objects of one kind by namespace and name, with indexes. Fed by `Reflector`s, and by `offer`.

    One reflector may feed all of it (scope ""), or several a namespace each (scope: the namespace). `kept` may leave
    out of an object what nobody reads here (client-go: an informer's transform).
    """

    def __init__(
        self, kind: str, indexes: Mapping[str, Index[T]] | None = None, kept: Callable[[T], T] = lambda obj: obj
    ) -> None:
        self.kind = kind_of(kind).name
        self._kept = kept
        self.listeners: list[Listener] = []
        self._objects: dict[Key, T] = {}
        self._index_of = dict(indexes or {})
        self._indexed: dict[str, dict[Hashable, dict[Key, None]]] = {name: {} for name in self._index_of}
        self._seen_to: dict[str, int] = {}
        """By scope, the resource version up to which the watch has told everything."""
        self._gone: dict[str, Key] = {}
        """By uid: what we deleted ourselves and the watch hasn't reported as deleted yet."""
        self._listing: dict[str, set[Key]] = {}
        """By scope, while everything is sent anew: what has been sent so far."""

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def get(self, namespace: str, name: str) -> T | None:
        return self._objects.get((namespace, name))

    def by(self, index: str, value: Hashable) -> list[T]:
        """The objects that `index` gives this value, in the order in which they came."""
        return [self._objects[key] for key in self._indexed[index].get(value, ())]

    # --- our own writes ---

    def offer(self, obj: T) -> None:
        """What the API server answered a write of ours with: the watch need not have told of it yet."""
        key, version = _key(obj), _version(obj)
        seen_to = max(self._seen_to.get("", 0), self._seen_to.get(key[0], 0))
        if key not in self._objects and version is not None and version <= seen_to:
            return  # The watch is past this write and has no such object, so it was deleted after it.
        self._put(key, obj)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """We deleted this object and it is gone, whatever the watch still says of it."""
        known = self._objects.get((namespace, name))
        if known is not None and _uid(known) == uid:
            self._gone[uid] = (namespace, name)
            self._drop((namespace, name))

    # --- the watch ---

    def saw(self, obj: T, scope: str = "") -> None:
        """The watch told of this object."""
        if scope in self._listing:
            self._listing[scope].add(_key(obj))
        self._put(_key(obj), obj)
        self.seen_to(_version(obj), scope)

    def saw_deleted(self, obj: T, scope: str = "") -> None:
        """The watch told that this object is gone."""
        self._gone.pop(_uid(obj), None)
        known = self._objects.get(_key(obj))
        if known is not None and _uid(known) == _uid(obj):
            self._drop(_key(obj))
        self.seen_to(_version(obj), scope)

    def seen_to(self, version: int | None, scope: str = "") -> None:
        """The watch has told everything up to here (a bookmark)."""
        if version is not None and scope not in self._listing:
            self._seen_to[scope] = max(self._seen_to.get(scope, 0), version)

    def begin_listing(self, scope: str = "") -> None:
        """All objects will be told anew."""
        self._listing[scope] = set()

    def end_listing(self, resource_version: str, scope: str = "") -> None:
        """All were told, as of `resource_version`. What wasn't is gone, but for newer writes of ours."""
        listed = self._listing.pop(scope, set())
        upto = _number(resource_version)
        for key in [key for key in self._objects if key not in listed and scope in ("", key[0])]:
            version = _version(self._objects[key])
            if upto is None or version is None or version <= upto:
                self._drop(key)
        self._gone = {uid: key for uid, key in self._gone.items() if key in listed or scope not in ("", key[0])}
        self.seen_to(upto, scope)

    # --- both ---

    def _put(self, key: Key, obj: T) -> None:
        if _uid(obj) in self._gone:
            return
        old = self._objects.get(key)
        if old is not None and not _newer(obj, old):
            return
        obj = self._kept(obj)
        self._objects[key] = obj
        self._reindex(key, old, obj)
        self._tell(old, obj)

    def _drop(self, key: Key) -> None:
        old = self._objects.pop(key)
        self._reindex(key, old, None)
        self._tell(old, None)

    def _reindex(self, key: Key, old: T | None, new: T | None) -> None:
        for name, index in self._index_of.items():
            entries = self._indexed[name]
            before = set(index(old)) if old is not None else set()
            after = set(index(new)) if new is not None else set()
            for value in before - after:
                entries[value].pop(key)
                if not entries[value]:
                    del entries[value]
            for value in after - before:
                entries.setdefault(value, {})[key] = None

    def _tell(self, old: T | None, new: T | None) -> None:
        for listener in self.listeners:
            listener(self.kind, old, new)


def _key(obj: Any) -> Key:
    return (obj.metadata.namespace, obj.metadata.name)


def _uid(obj: Any) -> str:
    return str(obj.metadata.uid)


def _number(resource_version: str) -> int | None:
    return int(resource_version) if resource_version.isdigit() else None


def _version(obj: Any) -> int | None:
    return _number(obj.metadata.resource_version)


def _newer(obj: Any, known: Any) -> bool:
    new, old = _version(obj), _version(known)
    return new > old if new is not None and old is not None else True


def same(old: Any, new: Any) -> bool:
    """Equal in everything that we read, but for the resource version: the change was in other fields."""
    meta = msgspec.structs.replace(new.metadata, resource_version=old.metadata.resource_version)
    return bool(msgspec.structs.replace(new, metadata=meta) == old)

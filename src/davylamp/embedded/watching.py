"""A watch of one kind: what is committed goes into a queue, seen through the watch's selectors."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from davylamp.embedded import selectors
from davylamp.embedded.store import Object, Store


class Watch:
    """Iterate over it for (type, object), without end until `end`. `close` it afterwards."""

    def __init__(self, store: Store, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> None:
        self._store = store
        self._kind = kind
        self._namespace = namespace
        self._labels = selectors.labels(labels) if labels else None
        self._fields = selectors.fields(fields) if fields else ()
        self._queue: deque[tuple[str, Object]] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._unsubscribe = store.subscribe(self._committed, kind)

    def replay(self, version: int) -> None:
        """Begin with what was committed after `version`. Raises StatusError 410 where that is too old."""
        missed = [change for change in self._store.since(version) if change.kind == self._kind]
        queued, self._queue = self._queue, deque()
        for change in missed:
            self._committed(change.type, change.new, change.old)
        if not missed:
            self._queue = queued

    def end(self) -> None:
        """End the iteration once the queue is empty."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        self._unsubscribe()

    async def __aiter__(self) -> AsyncIterator[tuple[str, Object]]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    def pending(self) -> list[tuple[str, Object]]:
        """All that is in the queue now, which is empty afterwards."""
        found = list(self._queue)
        self._queue.clear()
        return found

    async def wait(self) -> None:
        """Until there is something in the queue or the watch has ended."""
        if not self._queue and not self._ended:
            self._news.clear()
            await self._news.wait()

    @property
    def ended(self) -> bool:
        return self._ended

    def _committed(self, type_: str, new: Object, old: Object | None) -> None:
        if self._namespace and new["metadata"].get("namespace") != self._namespace:
            return
        seen = self._seen(type_, new, old)
        if seen is None:
            return
        self._queue.append(seen)
        self._news.set()

    def _seen(self, type_: str, new: Object, old: Object | None) -> tuple[str, Object] | None:
        """What the selectors make of a change: an object that begins or ceases to match comes or goes."""
        if self._labels is None and not self._fields:
            return type_, new
        matched = old is not None and self._matches(old)
        matches = type_ != "DELETED" and self._matches(new)
        if matches:
            return ("MODIFIED" if matched else "ADDED"), new
        if not matched:
            return None
        if type_ == "DELETED" or old is None:
            return "DELETED", new
        # It lives on unseen: told is what it was, at the version of the change.
        meta: dict[str, Any] = {**old["metadata"], "resourceVersion": new["metadata"]["resourceVersion"]}
        return "DELETED", {**old, "metadata": meta}

    def _matches(self, obj: Object) -> bool:
        if self._labels is not None and not self._labels(selectors.labels_of(obj)):
            return False
        return not self._fields or selectors.fields_match(self._fields, obj)

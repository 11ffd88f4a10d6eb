"""Answers without an end: watches, and logs that are followed."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import msgspec
from aiohttp import web

from davylamp.embedded import fieldlabels, logs, status
from davylamp.embedded.accepting import JSON
from davylamp.embedded.bodies import Query
from davylamp.embedded.resources import Resource
from davylamp.embedded.routes import Place
from davylamp.embedded.serving import Serving, wanted_version
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Logs, Object, Objects, Store
from davylamp.embedded.watching import Watch
from davylamp.embedded.writing import stamp

LONGEST = 1800.0
"""Seconds after which a watch ends that asked for no timeout."""
BOOKMARK_EVERY = 60.0
"""Seconds without an event after which a bookmark tells the resource version."""
BOOKMARK_BEFORE_END = 2.0
"""Seconds before its timeout at which a watch has one as well."""
INITIAL_END = "k8s.io/initial-events-end"


async def stream_watch(
    request: web.Request, serving: Serving, resource: Resource, where: Place, query: Query
) -> web.StreamResponse:
    """A watch, until its timeout or until the client goes. Raises StatusError 406, 422."""
    if query.answer.format != JSON:
        raise StatusError(406, "NotAcceptable", f"only the following media types are accepted: {JSON};stream=watch")
    if query.initial and query.match != "NotOlderThan":
        field = "sendInitialEvents"
        cause = status.forbidden_field(field, "resourceVersionMatch must be NotOlderThan if sendInitialEvents is set")
        raise status.invalid("meta.k8s.io", "ListOptions", "", [cause])
    store = serving.store
    fields = fieldlabels.stored(resource, query.fields)
    if where.name:
        fields = ",".join(filter(None, (fields, f"metadata.name={where.name}")))
    watch = Watch(store, resource.stored_as or resource.name, where.namespace, query.labels, fields)
    lines = _Lines(serving, resource, where, query)
    serving.watches.append(watch)
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    try:
        try:
            first = _first(lines, watch, fields)
        except StatusError as error:
            first = [_line("ERROR", error.status)]
            watch.end()
        with contextlib.suppress(ConnectionError):  # The client has gone.
            await answer.prepare(request)
            await answer.write(b"".join(first))
            await _follow(answer, watch, lines)
            await answer.write_eof()
    finally:
        watch.close()
        serving.watches.remove(watch)
    return answer


class _Lines:
    """How the lines of one watch are written."""

    def __init__(self, serving: Serving, resource: Resource, where: Place, query: Query) -> None:
        self.serving, self.resource, self.where, self.query = serving, resource, where, query

    def event(self, type_: str, obj: Object) -> bytes:
        shown = self.serving.outward(self.resource, obj, self.where.version)
        shown = self.serving.one(self.resource, shown, self.query)
        if self.query.answer.shape == "Table":
            shown = {**shown, "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}}
        return _line(type_, shown)

    def bookmark(self, *, initial: bool) -> bytes:
        meta: Object = {"resourceVersion": str(self.serving.store.version), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {INITIAL_END: "true"}
        group, version = self.resource.group, self.where.version
        head = {"kind": self.resource.kind, "apiVersion": f"{group}/{version}" if group else version}
        if self.query.answer.shape == "Table":
            head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [], "rows": []}  # type: ignore[dict-item]
        elif self.query.answer.shape:
            head = {"kind": self.query.answer.shape, "apiVersion": "meta.k8s.io/v1"}
        return _line("BOOKMARK", {**head, "metadata": meta})


def _first(lines: _Lines, watch: Watch, fields: str) -> list[bytes]:
    """What comes at once: all there is, or what was missed. Raises StatusError 410 or 504."""
    query, store = lines.query, lines.serving.store
    version = wanted_version(query, store.version)
    if version and not query.initial:
        watch.replay(version)
        return []
    found: Objects = store.list(
        lines.resource.stored_as or lines.resource.name, lines.where.namespace, query.labels, fields
    )
    first = [lines.event("ADDED", obj) for obj in found]
    if query.initial and query.bookmarks:
        first.append(lines.bookmark(initial=True))
    return first


async def _follow(answer: web.StreamResponse, watch: Watch, lines: _Lines) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + (lines.query.timeout or LONGEST)
    last = ends - BOOKMARK_BEFORE_END
    while True:
        if pending := watch.pending():
            await answer.write(b"".join(lines.event(type_, obj) for type_, obj in pending))
            continue
        if watch.ended:
            return
        now = loop.time()
        if now >= ends:
            return
        following = min(now + BOOKMARK_EVERY, last if now < last else ends)
        try:
            async with asyncio.timeout_at(following):
                await watch.wait()
        except TimeoutError:
            if lines.query.bookmarks and ends - loop.time() > 0:
                await answer.write(lines.bookmark(initial=False))


def _line(type_: str, obj: Object) -> bytes:
    return msgspec.json.encode({"type": type_, "object": obj}) + b"\n"


async def stream_log(request: web.Request, store: Store, where: Place) -> web.StreamResponse:
    """The log of a container, as far as it is asked for."""
    given = request.query
    name = logs.container_of(store, where.namespace, where.name, given.get("container", ""))
    previous = given.get("previous") in ("true", "1")
    raw = logs.lines_of(store, where.namespace, where.name, name, previous=previous)
    since = given.get("sinceTime", "")
    if seconds := given.get("sinceSeconds"):
        since = stamp(store.clock.now() - timedelta(seconds=int(seconds)))
    tail = given.get("tailLines")
    limit = given.get("limitBytes")
    timestamps = given.get("timestamps") in ("true", "1")
    text = logs.cut(
        raw,
        tail=int(tail) if tail else None,
        limit_bytes=int(limit) if limit else None,
        since=since,
        timestamps=timestamps,
    )
    answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
    with contextlib.suppress(ConnectionError):  # The client has gone.
        await answer.prepare(request)
        await answer.write(text)
        if given.get("follow") in ("true", "1") and store.logs is not None:
            await _follow_log(answer, store.logs, (where.namespace, where.name, name), len(raw), timestamps=timestamps)
        await answer.write_eof()
    return answer


async def _follow_log(
    answer: web.StreamResponse, source: Logs, container: tuple[str, str, str], told: int, *, timestamps: bool
) -> None:
    """What comes after the first ``told`` bytes, until the container ends."""
    news = asyncio.Event()
    with contextlib.ExitStack() as following:
        following.callback(source.follow(*container, news.set))
        while True:
            news.clear()
            more = source.read(*container, previous=False)[told:]
            told += len(more)
            if more:
                await answer.write(logs.cut(more, timestamps=timestamps))
            elif source.ended(*container):
                return
            else:
                await news.wait()

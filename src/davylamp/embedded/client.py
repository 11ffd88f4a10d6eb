"""`davylamp.kube.protocol.Api` on a store in the same process: no sockets, so that time can be virtual."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from davylamp.core.actions import Patch, Ref
from davylamp.embedded import events
from davylamp.embedded.logs import container_of, cut, lines_of
from davylamp.embedded.resources import VERSION
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import ADMIN, Object, Objects, Store
from davylamp.embedded.watching import Watch
from davylamp.embedded.writing import stamp
from davylamp.kube.errors import ApiError
from davylamp.kube.kinds import decode, kind_of, ref_of_manifest
from davylamp.kube.protocol import Page, Propagation, WatchEvent

T = TypeVar("T")
Slims = list[Any]

FIELD_MANAGER = "davylamp"
PAGE = 500
REMEMBERED = 20_000
"""Decoded objects kept, so that several watches decode each version once."""


class Local:
    """The store as one user; implements `Api`. With `dry_run` nothing is written."""

    def __init__(self, store: Store, *, user: str = ADMIN, dry_run: bool = False) -> None:
        self.store = store
        self.user = user
        self._dry_run = dry_run
        self._decoded: dict[str, tuple[Object, Any]] = {}
        self._watches: list[Watch] = []

    @property
    def namespace(self) -> str:
        """The namespace for a person who names none."""
        return "default"

    def cut(self) -> None:
        """End all watches, as a server does after a while."""
        for watch in self._watches:
            watch.end()

    async def get(self, ref: Ref) -> Object | None:
        found = self._get(ref)
        return None if found is None else self._outward(ref.kind, found)

    async def read(self, ref: Ref) -> Any | None:
        found = self._get(ref)
        return None if found is None else self.decoded(ref.kind, found)

    async def list(self, kind: str, namespace: str = "", labels: str = "") -> Slims:
        return [self.decoded(kind, obj) for obj in self._list(kind, namespace, labels)]

    async def list_raw(self, kind: str, namespace: str = "", labels: str = "") -> Objects:
        return [self._outward(kind, obj) for obj in self._list(kind, namespace, labels)]

    async def pages(self, kind: str, namespace: str = "", labels: str = "") -> AsyncGenerator[Page, None]:
        found = self._list(kind, namespace, labels)
        version = str(self.store.version)
        for start in range(0, max(len(found), 1), PAGE):
            yield Page([self.decoded(kind, obj) for obj in found[start : start + PAGE]], version)

    async def create(self, manifest: Object) -> Any:
        ref = ref_of_manifest(manifest)
        body = _as_json(manifest)
        obj = self._ask("create", ref, lambda: self.store.create(body, **self._as_us()))
        return self.decoded(ref.kind, obj)

    async def patch(self, patch: Patch) -> Any:
        ref, body = patch.ref, _as_json(patch.patch)

        def write() -> Object:
            kind = self._kind(ref.kind)
            return self.store.patch(
                kind, ref.namespace, ref.name, body, patch.type, subresource=patch.subresource, **self._as_us()
            )

        return self.decoded(ref.kind, self._ask("patch", ref, write))

    async def apply(self, manifest: Object, force: bool = True) -> Any:
        ref, body = ref_of_manifest(manifest), _as_json(manifest)

        def write() -> Object:
            kind = self.store.resources.of(body).name
            return self.store.patch(kind, ref.namespace, ref.name, body, "apply", force=force, **self._as_us())

        return self.decoded(ref.kind, self._ask("apply", ref, write))

    async def delete(self, ref: Ref, uid: str = "", propagation: Propagation = "Background") -> Any | None:
        def write() -> Object | None:
            return self.store.delete(
                self._kind(ref.kind),
                ref.namespace,
                ref.name,
                uid=uid,
                propagation=propagation,
                user=self.user,
                dry_run=self._dry_run,
            )

        left = self._ask("delete", ref, write)
        return None if left is None else self.decoded(ref.kind, left)

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        previous: bool = False,
        tail: int | None = 1,
        limit_bytes: int | None = 4096,
    ) -> str:
        ref = Ref("Pod", namespace, pod)
        raw = self._ask("logs", ref, lambda: lines_of(self.store, namespace, pod, container, previous=previous))
        return cut(raw, tail=tail, limit_bytes=limit_bytes).decode("utf-8", "replace")

    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """Always refused: there is no way through this API server to a pod."""
        text = "the embedded API server has no way to a pod (pods/proxy)"
        raise ApiError(501, "NotImplemented", text, verb="get", ref=Ref("Pod", namespace, pod))

    async def follow_logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        tail: int | None = None,
        since_seconds: int | None = None,
        timestamps: bool = False,
    ) -> AsyncGenerator[str, None]:
        ref, store = Ref("Pod", namespace, pod), self.store
        name = self._ask("logs", ref, lambda: container_of(store, namespace, pod, container))
        since = "" if since_seconds is None else stamp(store.clock.now() - timedelta(seconds=since_seconds))
        news = asyncio.Event()
        raw = self._ask("logs", ref, lambda: lines_of(store, namespace, pod, name, previous=False))
        assert store.logs is not None  # else lines_of had refused
        with contextlib.ExitStack() as following:
            following.callback(store.logs.follow(namespace, pod, name, news.set))
            for line in _text(cut(raw, tail=tail, since=since, timestamps=timestamps)):
                yield line
            while True:
                news.clear()
                more = store.logs.read(namespace, pod, name, previous=False)[len(raw) :]
                raw += more
                for line in _text(cut(more, timestamps=timestamps)):
                    yield line
                if store.logs.ended(namespace, pod, name) and not more:
                    return
                if not more:
                    await news.wait()

    async def watch(
        self, kind: str, namespace: str = "", *, resource_version: str = "", labels: str = "", initial: bool = True
    ) -> AsyncGenerator[WatchEvent, None]:
        ref = Ref(kind, namespace, "")
        name = self._ask("watch", ref, lambda: self._kind(kind))
        watch = Watch(self.store, name, namespace, labels)
        self._watches.append(watch)
        try:
            if initial:
                found = self._list(kind, namespace, labels)
                version = str(self.store.version)
                for obj in found:
                    yield self._event(kind, "ADDED", obj)
                yield WatchEvent("BOOKMARK", None, version, synced=True)
            elif resource_version:
                self._ask("watch", ref, lambda: watch.replay(int(resource_version)))
            async for type_, obj in watch:
                yield self._event(kind, type_, obj)
        finally:
            watch.close()
            self._watches.remove(watch)

    async def exists_api(self, group_version: str, resource: str) -> bool:
        group, _, version = group_version.rpartition("/")
        try:
            self.store.resources.at(group, version, resource)
        except StatusError:
            return False
        return True

    async def version(self) -> dict[str, str]:
        return dict(VERSION)

    async def whoami(self) -> str:
        return self.user

    def decoded(self, kind: str, obj: Object) -> Any:
        """An object of the store as `read` gives it; the same one is decoded once, however many ask."""
        uid = obj["metadata"]["uid"]
        known = self._decoded.get(uid)
        if known is not None and known[0] is obj:
            return known[1]
        slim = decode(kind, msgspec.json.encode(self._outward(kind, obj)))
        if len(self._decoded) >= REMEMBERED:
            self._decoded.clear()
        self._decoded[uid] = (obj, slim)
        return slim

    # --- inside ---

    def _as_us(self) -> dict[str, Any]:
        return {"user": self.user, "dry_run": self._dry_run, "field_manager": FIELD_MANAGER}

    def _kind(self, kind: str) -> str:
        """The store's name for one of davylamp's kinds."""
        row = kind_of(kind)
        found = self.store.resources.at(row.group, row.version, row.plural)
        return found.stored_as or found.name

    def _ask(self, verb: str, ref: Ref, request: Callable[[], T]) -> T:
        try:
            return request()
        except StatusError as error:
            raise ApiError(error.code, error.reason, error.message, verb=verb, ref=ref) from error

    def _get(self, ref: Ref) -> Object | None:
        try:
            return self.store.get(self._kind(ref.kind), ref.namespace, ref.name)
        except StatusError:
            return None  # A kind that isn't served has no objects: 404, which is None here.

    def _list(self, kind: str, namespace: str, labels: str) -> Objects:
        ref = Ref(kind, namespace, "")
        return self._ask("list", ref, lambda: self.store.list(self._kind(kind), namespace, labels))

    def _outward(self, kind: str, obj: Object) -> Object:
        return events.outward(obj) if kind == "Event" else obj

    def _event(self, kind: str, type_: str, obj: Object) -> WatchEvent:
        return WatchEvent(type_, self.decoded(kind, obj), obj["metadata"]["resourceVersion"])  # type: ignore[arg-type]


def _text(raw: bytes) -> list[str]:
    return raw.decode("utf-8", "replace").splitlines()


def _as_json(body: Any) -> Any:
    """A copy that shares nothing with the caller's, as after a way through a socket."""
    return msgspec.json.decode(msgspec.json.encode(body))

"""An API server in memory, and a clock that a test winds by hand.

It keeps the rules that a client can rely on: resource versions, 409 on a stale or repeated write, uid preconditions,
the status subresource, generations, finalizers, garbage collection of dependents, watches with initial events,
bookmarks and 410. It runs no controllers: a test plays those with `set_status` and ordinary writes.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from davylamp.core.actions import Patch, Ref
from davylamp.kube.errors import ApiError
from davylamp.kube.kinds import decode, kind_of, ref_of_manifest
from davylamp.kube.protocol import Page, Propagation, WatchEvent

Object = dict[str, Any]
Objects = list[Object]
Admission = Callable[[Object | None, Object], Object]
"""Changes an object on its way in: (old, or None at creation; new) -> what is stored."""

WRITES = ("create", "patch", "apply", "delete")
STATUS_KINDS = ("Deployment", "ReplicaSet", "Pod", "Service", "Ingress", "Release", "ReleasePolicy")


async def idle() -> None:
    """Let everything run that can run without time passing."""
    loop = asyncio.get_running_loop()
    for _ in range(100_000):
        await asyncio.sleep(0)
        if not loop._ready:  # type: ignore[attr-defined]
            return
    raise AssertionError("this never comes to rest: a busy loop")


class FakeTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Implements `davylamp.kube.clock.Clock`. Time stands still but for `advance`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.start = start
        self.passed = 0.0
        self._timers: list[tuple[float, int, FakeTimer, Callable[[], object]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed)

    def time(self) -> float:
        return self.passed

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer()
        heapq.heappush(self._timers, (self.passed + max(delay, 0), next(self._order), timer, callback))
        return timer

    @property
    def next_at(self) -> float | None:
        """When the next timer is due, in seconds since the start."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due on the way, each at its moment."""
        end = self.passed + seconds
        await idle()
        while (due := self.next_at) is not None and due <= end:
            self.passed = max(self.passed, due)
            _, _, timer, callback = heapq.heappop(self._timers)
            if not timer.cancelled:
                callback()
            await idle()
        self.passed = end
        await idle()


class FakeApi:
    """Implements `davylamp.kube.protocol.Api`.

    `before` is called with (verb, ref) ahead of every request and may raise; `requests` has them all.
    `admission` may change what is written. `streaming=False` refuses streaming lists, as servers before 1.32 do.
    """

    def __init__(self, clock: FakeClock | None = None, *, streaming: bool = True) -> None:
        self.clock = clock or FakeClock()
        self.streaming = streaming
        self.objects: dict[Ref, Object] = {}
        self.requests: list[tuple[str, Ref]] = []
        self.before: Callable[[str, Ref], None] | None = None
        self.admission: list[Admission] = []
        self.apis = {("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies")}
        self.user = "system:serviceaccount:davylamp-system:davylamp"
        self.texts: dict[tuple[str, str, str, bool], str] = {}
        """Logs by namespace, pod, container, previous."""
        self.resource_version = 100
        self.page_size = 500
        self._oldest = 0
        self._history: list[tuple[int, str, Ref, Object, Object | None]] = []
        self._watchers: list[asyncio.Event] = []
        self._cuts = 0

    # --- for tests ---

    @property
    def writes(self) -> list[tuple[str, Ref]]:
        return [request for request in self.requests if request[0] in WRITES]

    def of_kind(self, kind: str) -> list[Object]:
        return [obj for ref, obj in self.objects.items() if ref.kind == kind]

    def put(self, manifest: Object) -> Any:
        """Create an object as somebody else, past `before` and `requests`."""
        return self._decode(self._create(copy.deepcopy(manifest)))

    def change(self, ref: Ref, patch: Object, subresource: str = "") -> Any:
        """Merge-patch an object as somebody else."""
        return self._decode(self._write(ref, merge(self.objects[ref], patch), subresource))

    def set_status(self, ref: Ref, status: Object) -> Any:
        return self.change(ref, {"status": status}, "status")

    def remove(self, ref: Ref) -> None:
        """Delete an object as somebody else."""
        self._delete(ref)

    def cut(self) -> None:
        """End all watches, as a server does after a while."""
        self._cuts += 1
        self._wake()

    def forget_history(self) -> None:
        """Resource versions before now are too old to watch from (410)."""
        self._oldest = self.resource_version
        self._history.clear()

    # --- Api ---

    async def get(self, ref: Ref) -> Object | None:
        self._request("get", ref)
        return copy.deepcopy(self.objects.get(ref))

    async def read(self, ref: Ref) -> Any | None:
        found = await self.get(ref)
        return None if found is None else self._decode(found)

    async def list(self, kind: str, namespace: str = "", labels: str = "") -> Sequence[Any]:
        return [self._decode(obj) for obj in await self.list_raw(kind, namespace, labels)]

    async def list_raw(self, kind: str, namespace: str = "", labels: str = "") -> Sequence[Object]:
        self._request("list", Ref(kind, namespace, ""))
        return copy.deepcopy(self._select(kind, namespace, labels))

    async def pages(self, kind: str, namespace: str = "", labels: str = "") -> AsyncGenerator[Page, None]:
        found = self._select(kind, namespace, labels)
        version = str(self.resource_version)
        for start in range(0, max(len(found), 1), self.page_size):
            self._request("list", Ref(kind, namespace, ""))
            yield Page([self._decode(obj) for obj in found[start : start + self.page_size]], version)

    async def create(self, manifest: Object) -> Any:
        self._request("create", ref_of_manifest(manifest))
        return self._decode(self._create(msgspec.json.decode(msgspec.json.encode(manifest))))

    async def patch(self, patch: Patch) -> Any:
        self._request("patch", patch.ref)
        old = self._existing(patch.ref)
        if isinstance(patch.patch, dict):
            new = merge(old, msgspec.json.decode(msgspec.json.encode(patch.patch)))
        else:
            new = json_patch(old, msgspec.json.decode(msgspec.json.encode(patch.patch)))
        return self._decode(self._write(patch.ref, new, patch.subresource))

    async def apply(self, manifest: Object, force: bool = True) -> Any:
        ref = ref_of_manifest(manifest)
        self._request("apply", ref)
        manifest = msgspec.json.decode(msgspec.json.encode(manifest))
        if ref not in self.objects:
            return self._decode(self._create(manifest))
        return self._decode(self._write(ref, merge(self.objects[ref], manifest), ""))

    async def delete(self, ref: Ref, uid: str = "", propagation: Propagation = "Background") -> Any | None:
        self._request("delete", ref)
        obj = self._existing(ref)
        if uid and obj["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", f"the UID in the precondition ({uid}) does not match", ref=ref)
        if propagation == "Foreground":
            self._collect(ref, obj["metadata"]["uid"])
        left = self._delete(ref)
        return None if left is None else self._decode(left)

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
        self._request("logs", Ref("Pod", namespace, pod))
        text = self.texts.get((namespace, pod, container, previous))
        if text is None:
            raise ApiError(404, "NotFound", f'pods "{pod}" not found', verb="logs", ref=Ref("Pod", namespace, pod))
        lines = text.splitlines(keepends=True)
        return "".join(lines if tail is None else lines[-tail:])[:limit_bytes]

    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """`texts` has the answers by namespace, pod, `port/path` and False."""
        ref = Ref("Pod", namespace, pod)
        self._request("get", ref)
        text = self.texts.get((namespace, pod, f"{port}{path}", False))
        if text is None:
            raise ApiError(404, "NotFound", "404 page not found", verb="get", ref=ref)
        return text.encode()

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
        text = await self.logs(namespace, pod, container, tail=tail, limit_bytes=None)
        for line in text.splitlines():
            yield line

    async def watch(
        self, kind: str, namespace: str = "", *, resource_version: str = "", labels: str = "", initial: bool = True
    ) -> AsyncGenerator[WatchEvent, None]:
        ref = Ref(kind, namespace, "")
        self._request("watch", ref)
        if initial and not self.streaming:
            raise ApiError(422, "Invalid", "sendInitialEvents: Forbidden", verb="watch", ref=ref)
        wanted = selector(labels)
        position = int(resource_version or 0)
        if initial:
            for obj in self._select(kind, namespace, labels):
                yield self._event("ADDED", obj)
            position = self.resource_version
            yield WatchEvent("BOOKMARK", None, str(position), synced=True)
        cuts = self._cuts
        news = asyncio.Event()
        self._watchers.append(news)
        try:
            while True:
                if position < self._oldest:
                    raise ApiError(410, "Expired", "too old resource version", verb="watch", ref=ref)
                for version, type_, about, obj, before in [h for h in self._history if h[0] > position]:
                    position = version
                    if about.kind != kind or (namespace and about.namespace != namespace):
                        continue
                    event = _seen_through(wanted, type_, obj, before)
                    if event is not None:
                        yield self._event(event, obj)
                if cuts != self._cuts:
                    return
                news.clear()
                await news.wait()
        finally:
            self._watchers.remove(news)

    async def exists_api(self, group_version: str, resource: str) -> bool:
        self._request("get", Ref("APIResourceList", "", group_version))
        return (group_version, resource) in self.apis

    async def version(self) -> dict[str, str]:
        return {"gitVersion": "v1.37.2", "major": "1", "minor": "37"}

    async def whoami(self) -> str:
        return self.user

    # --- inside ---

    def _request(self, verb: str, ref: Ref) -> None:
        kind_of(ref.kind) if ref.kind != "APIResourceList" else None
        self.requests.append((verb, ref))
        if self.before is not None:
            self.before(verb, ref)

    def _decode(self, obj: Object) -> Any:
        return decode(obj["kind"], msgspec.json.encode(obj))

    def _event(self, type_: str, obj: Object) -> WatchEvent:
        return WatchEvent(type_, self._decode(obj), obj["metadata"]["resourceVersion"])  # type: ignore[arg-type]

    def _select(self, kind: str, namespace: str, labels: str) -> Objects:
        wanted = selector(labels)
        return [
            obj
            for ref, obj in self.objects.items()
            if ref.kind == kind and namespace in ("", ref.namespace) and wanted(labels_of(obj))
        ]

    def _existing(self, ref: Ref) -> Object:
        if ref not in self.objects:
            raise ApiError(404, "NotFound", f'{kind_of(ref.kind).plural} "{ref.name}" not found', ref=ref)
        return self.objects[ref]

    def _create(self, manifest: Object) -> Object:
        ref = ref_of_manifest(manifest)
        if ref in self.objects:
            text = f'{kind_of(ref.kind).plural} "{ref.name}" already exists'
            raise ApiError(409, "AlreadyExists", text, verb="create", ref=ref)
        for admit in self.admission:
            manifest = admit(None, manifest)
        meta = manifest["metadata"]
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": self._timestamp(), "generation": 1}
        meta.pop("resourceVersion", None)
        if ref.kind in STATUS_KINDS:
            manifest.pop("status", None)
        manifest.setdefault("apiVersion", kind_of(ref.kind).api_version)
        self._store("ADDED", ref, manifest, None)
        return manifest

    def _write(self, ref: Ref, new: Object, subresource: str) -> Object:
        old = self._existing(ref)
        stated = new["metadata"].get("resourceVersion")
        if stated != old["metadata"]["resourceVersion"]:
            text = f"the object has been modified (stated {stated}, it is {old['metadata']['resourceVersion']})"
            raise ApiError(409, "Conflict", text, verb="patch", ref=ref)
        if subresource == "status":
            new = {**old, "status": new.get("status", {})}
        elif ref.kind in STATUS_KINDS:
            new = (
                {**new, "status": old["status"]} if "status" in old else {k: v for k, v in new.items() if k != "status"}
            )
        for field in ("uid", "creationTimestamp", "deletionTimestamp", "generation"):
            new["metadata"] = {k: v for k, v in new["metadata"].items() if k != field}
            if field in old["metadata"]:
                new["metadata"][field] = old["metadata"][field]
        for admit in self.admission if not subresource else ():
            new = admit(old, new)
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._vanish(ref, new)
            return new
        self._store("MODIFIED", ref, new, old)
        return new

    def _delete(self, ref: Ref) -> Object | None:
        old = self._existing(ref)
        new = copy.deepcopy(old)
        if not new["metadata"].get("finalizers"):
            self._vanish(ref, new)
            return None
        if "deletionTimestamp" not in new["metadata"]:
            new["metadata"]["deletionTimestamp"] = self._timestamp()
            new["metadata"]["generation"] += 1
            self._store("MODIFIED", ref, new, old)
        return new

    def _vanish(self, ref: Ref, last: Object) -> None:
        before = self.objects.pop(ref)
        self._store("DELETED", ref, last, before)
        self._collect(ref, last["metadata"]["uid"])

    def _collect(self, owner: Ref, uid: str) -> None:
        """Delete what had only this owner."""
        living = {obj["metadata"]["uid"] for ref, obj in self.objects.items() if ref != owner}
        for other, obj in list(self.objects.items()):
            owners = {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}
            if uid in owners and not owners & living and other in self.objects:
                self._delete(other)

    def _store(self, type_: str, ref: Ref, obj: Object, before: Object | None) -> None:
        self.resource_version += 1
        obj["metadata"]["resourceVersion"] = str(self.resource_version)
        if type_ != "DELETED":
            self.objects[ref] = obj
        self._history.append((self.resource_version, type_, ref, obj, before))
        self._wake()

    def _wake(self) -> None:
        for news in self._watchers:
            news.set()

    def _timestamp(self) -> str:
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _seen_through(
    wanted: Callable[[dict[str, str]], bool], type_: str, obj: Object, before: Object | None
) -> str | None:
    """What a watch with a label selector makes of a change."""
    matched = before is not None and wanted(labels_of(before))
    matches = type_ != "DELETED" and wanted(labels_of(obj))
    if matches:
        return "MODIFIED" if matched else "ADDED"
    return "DELETED" if matched else None


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def selector(text: str) -> Callable[[dict[str, str]], bool]:
    """A label selector: `a=b,c in (d,e),f`."""
    tests: list[Callable[[dict[str, str]], bool]] = []
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", text):
        if found := re.fullmatch(r"\s*(\S+)\s+in\s+\(([^)]*)\)", part):
            key, values = found[1], [value.strip() for value in found[2].split(",")]
            tests.append(lambda labels, key=key, values=values: labels.get(key) in values)  # type: ignore[misc]
        elif "=" in part:
            key, value = part.replace("==", "=").split("=")
            tests.append(lambda labels, key=key, value=value: labels.get(key) == value)  # type: ignore[misc]
        else:
            tests.append(lambda labels, key=part: key in labels)  # type: ignore[misc]
    return lambda labels: all(test(labels) for test in tests)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Object, operations: Sequence[Object]) -> Object:
    """RFC 6902, as far as Davylamp uses it: add, replace, remove, test."""
    result = copy.deepcopy(target)
    for operation in operations:
        *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        try:
            place: Any = result
            for part in parents:
                place = place[int(part)] if isinstance(place, list) else place[part]
            index: Any = (len(place) if last == "-" else int(last)) if isinstance(place, list) else last
            if operation["op"] == "add" and isinstance(place, list):
                place.insert(index, operation["value"])
            elif operation["op"] == "add":
                place[index] = operation["value"]
            elif operation["op"] == "replace":
                _ = place[index]
                place[index] = operation["value"]
            elif operation["op"] == "remove":
                del place[index]
            elif place[index] != operation["value"]:
                raise ApiError(422, "Invalid", f"testing path {operation['path']} failed")
        except (KeyError, IndexError) as error:
            raise ApiError(422, "Invalid", f"no such path: {operation['path']}") from error
    return result

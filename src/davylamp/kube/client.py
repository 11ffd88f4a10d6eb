"""The real API server: `Api` over HTTP/1.1 with keep-alive connections.

The transport is aiohttp, whose parser is in C: 0.1 ms of CPU for a request, where httpx2 (lightkube's) takes 0.6 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from davylamp import __version__
from davylamp.core.actions import Patch, Ref
from davylamp.kube.config import Credentials, Target, load
from davylamp.kube.errors import ApiError, ConfigProblem, read_status, refusal
from davylamp.kube.kinds import Bare, Kind, decode, kind_of, ref_of_manifest
from davylamp.kube.protocol import Api, Page, Propagation, WatchEvent

__all__ = ["Api", "ApiError", "ConfigProblem", "Kube", "Page", "WatchEvent", "connect"]

FIELD_MANAGER = "davylamp"
USER_AGENT = f"davylamp/{__version__}"
PAGE = 500
"""Objects on a page of a list; client-go's number."""
REQUEST_TIMEOUT = 30.0
"""Seconds for a whole request that is no watch."""
KEEP_ALIVE = 30.0
"""Seconds for which an idle connection is kept for the next request: 256 KB each."""
SILENCE = 240.0
"""Seconds without a byte after which a watch counts as dead. The API server sends a bookmark about every minute."""
PATIENCE = 3
"""How often a request is tried that the API server turns away with 429, which says it was not carried out."""

log = logging.getLogger(__name__)

Manifests = list[dict[str, Any]]

OnRequest = Callable[[str, str, int], None]
"""Told of every request: verb (as in RBAC), kind, HTTP status (0: no answer)."""


@contextlib.asynccontextmanager
async def connect(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    user_agent: str = USER_AGENT,
    on_request: OnRequest | None = None,
) -> AsyncIterator[Kube]:
    """The cluster of a kubeconfig context, or of the pod that we are in (see `davylamp.kube.config.load`).

    Makes no request. Raises ConfigProblem where the way to the cluster can't be made out.
    """
    target = load(kubeconfig, context)
    connector = aiohttp.TCPConnector(
        limit=0, ssl=target.tls if isinstance(target.tls, ssl.SSLContext) else True, keepalive_timeout=KEEP_ALIVE
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": user_agent, "Accept": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=target.proxy or _environment_proxy(target.server),
        read_bufsize=1 << 20,
    ) as session:
        yield Kube(target, session, on_request)


class _Request(msgspec.Struct, frozen=True):
    verb: str
    method: str
    path: str
    ref: Ref
    params: dict[str, str] = {}
    body: bytes | None = None
    content_type: str = "application/json"


_ORDINARY = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT, sock_connect=10)
_WATCH = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE)
_FOLLOW = aiohttp.ClientTimeout(total=None, sock_connect=10)
_AS_US = {"fieldManager": FIELD_MANAGER}


class Kube:
    """One API server as one user; implements `Api`. Made by `connect`."""

    def __init__(self, target: Target, session: aiohttp.ClientSession, on_request: OnRequest | None) -> None:
        self.target = target
        self.on_request = on_request
        self._session = session
        self._credentials = Credentials(target.user)

    @property
    def namespace(self) -> str:
        """The namespace of the context, for a person who names none."""
        return self.target.namespace

    async def get(self, ref: Ref) -> dict[str, Any] | None:
        raw = await self._get(ref)
        return None if raw is None else msgspec.json.decode(raw, type=dict[str, Any])

    async def read(self, ref: Ref) -> Any | None:
        raw = await self._get(ref)
        return None if raw is None else decode(ref.kind, raw)

    async def _get(self, ref: Ref) -> bytes | None:
        try:
            return await self._ask(_Request("get", "GET", _path(ref), ref))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list(self, kind: str, namespace: str = "", labels: str = "") -> list[Any]:
        return [item async for page in self.pages(kind, namespace, labels) for item in page.items]

    async def list_raw(self, kind: str, namespace: str = "", labels: str = "") -> Manifests:
        row = kind_of(kind)
        head = {"apiVersion": row.api_version, "kind": kind}
        return [
            head | msgspec.json.decode(item)
            async for answer in self._lists(row, namespace, labels)
            for item in answer.items or ()
        ]

    async def pages(self, kind: str, namespace: str = "", labels: str = "") -> AsyncGenerator[Page, None]:
        async for answer in self._lists(kind_of(kind), namespace, labels):
            items = [obj for item in answer.items or () if (obj := _decode(kind, item)) is not None]
            yield Page(items, answer.metadata.resource_version)

    async def _lists(self, kind: Kind, namespace: str, labels: str) -> AsyncIterator[_List]:
        params = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        ref = Ref(kind.name, namespace, "")
        while True:
            raw = await self._ask(_Request("list", "GET", kind.path(namespace), ref, params))
            answer = _decode_list(raw)
            yield answer
            if not answer.metadata.continue_:
                return
            params["continue"] = answer.metadata.continue_

    async def create(self, manifest: dict[str, Any]) -> Any:
        ref = ref_of_manifest(manifest)
        path = kind_of(ref.kind).path(ref.namespace)
        request = _Request("create", "POST", path, ref, _AS_US, msgspec.json.encode(manifest))
        return decode(ref.kind, await self._ask(request))

    async def patch(self, patch: Patch) -> Any:
        path = _path(patch.ref, patch.subresource)
        content_type = f"application/{'merge' if patch.type == 'merge' else 'json'}-patch+json"
        body = msgspec.json.encode(patch.patch)
        raw = await self._ask(_Request("patch", "PATCH", path, patch.ref, _AS_US, body, content_type))
        return decode(patch.ref.kind, raw)

    async def apply(self, manifest: dict[str, Any], force: bool = True) -> Any:
        ref = ref_of_manifest(manifest)
        params = _AS_US | {"force": "true" if force else "false"}
        body = msgspec.json.encode(manifest)
        raw = await self._ask(_Request("apply", "PATCH", _path(ref), ref, params, body, "application/apply-patch+yaml"))
        return decode(ref.kind, raw)

    async def delete(self, ref: Ref, uid: str = "", propagation: Propagation = "Background") -> Any | None:
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        raw = await self._ask(_Request("delete", "DELETE", _path(ref), ref, body=msgspec.json.encode(options)))
        # "Gone at once" is answered with a Status for most kinds and with the last state for some.
        if read_status(raw) is not None:
            return None
        obj = decode(ref.kind, raw)
        return obj if obj.metadata.deletion_timestamp is not None else None

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
        params = _log_params(container, tailLines=tail, limitBytes=limit_bytes)
        if previous:
            params["previous"] = "true"
        ref = Ref("Pod", namespace, pod)
        raw = await self._ask(_Request("logs", "GET", _path(ref, "log"), ref, params))
        return raw.decode("utf-8", "replace")

    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        ref = Ref("Pod", namespace, pod)
        proxy = f"{kind_of('Pod').path(namespace, f'{pod}:{port}', 'proxy')}{path}"
        return await self._ask(_Request("get", "GET", proxy, ref))

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
        params = _log_params(container, tailLines=tail, sinceSeconds=since_seconds) | {"follow": "true"}
        if timestamps:
            params["timestamps"] = "true"
        ref = Ref("Pod", namespace, pod)
        async with self._answer(_Request("logs", "GET", _path(ref, "log"), ref, params), _FOLLOW) as answer:
            async for line in _lines(answer):
                yield line.decode("utf-8", "replace")

    async def watch(
        self, kind: str, namespace: str = "", *, resource_version: str = "", labels: str = "", initial: bool = True
    ) -> AsyncGenerator[WatchEvent, None]:
        params = {"watch": "true", "allowWatchBookmarks": "true"}
        if initial:
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if resource_version:
            params["resourceVersion"] = resource_version
        if labels:
            params["labelSelector"] = labels
        ref = Ref(kind, namespace, "")
        request = _Request("watch", "GET", kind_of(kind).path(namespace), ref, params)
        async with self._answer(request, _WATCH) as answer:
            async for line in _lines(answer):
                event = _event(kind, line, ref)
                if event is not None:
                    yield event

    async def exists_api(self, group_version: str, resource: str) -> bool:
        path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        try:
            raw = await self._ask(_Request("get", "GET", path, Ref("APIResourceList", "", group_version)))
        except ApiError as error:
            if error.not_found:
                return False
            raise
        found = msgspec.json.decode(raw, type=_Resources)
        return any(entry.name == resource for entry in found.resources)

    async def version(self) -> dict[str, str]:
        raw = await self._ask(_Request("get", "GET", "/version", Ref("Version", "", "")))
        return msgspec.json.decode(raw, type=dict[str, str], strict=False)

    async def whoami(self) -> str:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
        raw = await self._ask(_Request("create", "POST", path, Ref("SelfSubjectReview", "", ""), body=body))
        name = msgspec.json.decode(raw)["status"]["userInfo"].get("username", "")
        return str(name)

    async def _ask(self, request: _Request) -> bytes:
        async with self._answer(request, _ORDINARY) as answer:
            return await answer.read()

    @contextlib.asynccontextmanager
    async def _answer(self, request: _Request, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one request, with status 2xx; everything else is an ApiError."""
        code = 0
        try:
            for attempt in range(1, PATIENCE + 1):
                async with self._session.request(
                    request.method,
                    self.target.server + request.path,
                    params=request.params,
                    data=request.body,
                    headers=await self._headers(request),
                    timeout=limits,
                    allow_redirects=False,
                    server_hostname=self.target.server_name,
                ) as answer:
                    code = answer.status
                    self._count(request, code)
                    if code < 300:
                        yield answer
                        return
                    failure = refusal(code, await answer.read(), verb=request.verb, ref=request.ref, whom=self._whom)
                    pause = _retry_after(answer) if code == 429 else 0
                if attempt == PATIENCE or not self._worth_again(code, attempt):
                    raise failure
                await asyncio.sleep(pause)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if code == 0:
                self._count(request, 0)
            raise self._no_answer(error, request) from error

    async def _headers(self, request: _Request) -> dict[str, str]:
        headers = {} if request.body is None else {"Content-Type": request.content_type}
        if request.verb == "watch":
            # The API server would compress each event by itself, for each watch: its CPU is worth more than bytes.
            headers["Accept-Encoding"] = "identity"
        try:
            token = await self._credentials.header()
        except ConfigProblem as error:
            raise ApiError(0, "Unauthorized", str(error), verb=request.verb, ref=request.ref) from error
        return headers | ({"Authorization": token} if token else {})

    def _worth_again(self, code: int, attempt: int) -> bool:
        return code == 429 or (code == 401 and attempt == 1 and self._credentials.refused())

    def _count(self, request: _Request, code: int) -> None:
        if self.on_request is not None:
            self.on_request(request.verb, request.ref.kind, code)

    @property
    def _whom(self) -> str:
        return f"the API server at {self.target.server} ({self.target.where})"

    def _no_answer(self, error: Exception, request: _Request) -> ApiError:
        reason, message = "Unreachable", f"{self._whom} can't be reached: {_cause(error)}"
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            reason, message = "TLS", f"{self._whom} can't be trusted: {_cause(error)}"
        elif isinstance(error, TimeoutError):
            reason, message = "Timeout", f"{self._whom} did not answer in time"
        return ApiError(0, reason, message, verb=request.verb, ref=request.ref)


def _environment_proxy(server: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY ask for; never one for this machine itself, as in Go."""
    url = urlsplit(server)
    host = url.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(url.scheme)


def _cause(error: Exception) -> str:
    inner = getattr(error, "os_error", None) or error
    number = getattr(inner, "errno", None)
    if isinstance(number, int) and number > 0 and not isinstance(inner, ssl.SSLError):
        return os.strerror(number)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


class _ListMeta(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Resource(msgspec.Struct, frozen=True):
    name: str


class _Resources(msgspec.Struct, frozen=True):
    resources: tuple[_Resource, ...] = ()


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_decode_list = msgspec.json.Decoder(_List).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_bare = msgspec.json.Decoder(Bare).decode


def _decode(kind: str, raw: msgspec.Raw) -> Any | None:
    """The object, or None (and a warning) for one that is not of the kind's form: it must not stop the others."""
    try:
        return decode(kind, raw)
    except msgspec.ValidationError as error:
        meta = _decode_bare(raw).metadata
        log.warning("%s %s/%s is left out: %s", kind, meta.namespace, meta.name, error)
        return None


def _event(kind: str, line: bytes, ref: Ref) -> WatchEvent | None:
    try:
        found = _decode_line(line)
    except msgspec.MsgspecError as error:
        raise ApiError(0, "Unreachable", f"the watch was cut off: {error}", verb="watch", ref=ref) from error
    if found.type == "ERROR":
        status = read_status(found.object)
        code, reason, message = (status.code, status.reason, status.message) if status else (500, "", "watch failed")
        raise ApiError(code, reason, message, verb="watch", ref=ref)
    if found.type == "BOOKMARK":
        meta = _decode_bare(found.object).metadata
        synced = meta.annotations.get("k8s.io/initial-events-end") == "true"
        return WatchEvent("BOOKMARK", None, meta.resource_version, synced)
    obj = _decode(kind, found.object)
    return None if obj is None else WatchEvent(found.type, obj, obj.metadata.resource_version)  # type: ignore[arg-type]


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of a body as they come, without their ends. (aiohttp's own reading by line refuses long ones.)"""
    rest: list[bytes] = []
    async for chunk in answer.content.iter_any():
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if not others:
            continue
        if line := b"".join(rest):
            yield line
        rest = [others.pop()]
        for line in others:
            if line:
                yield line
    if line := b"".join(rest):
        yield line


def _path(ref: Ref, subresource: str = "") -> str:
    return kind_of(ref.kind).path(ref.namespace, ref.name, subresource)


def _log_params(container: str, **numbers: int | None) -> dict[str, str]:
    params = {"container": container} if container else {}
    return params | {key: str(value) for key, value in numbers.items() if value is not None}


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    """Seconds, between 0.1 and 5."""
    text = answer.headers.get("Retry-After", "1")
    return min(max(float(text), 0.1), 5.0) if text.isdigit() else 1.0

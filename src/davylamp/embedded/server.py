"""The store over HTTP, as the API server offers it: aiohttp on a loopback port."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import yaml
from aiohttp import web

from davylamp.embedded import discovery, proxy, reviews, routes, status
from davylamp.embedded.accepting import JSON, YAML
from davylamp.embedded.bodies import Query, body_of, options_of, query_of
from davylamp.embedded.resources import VERSION, Resource
from davylamp.embedded.serving import Answer, Serving
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object, Store
from davylamp.embedded.streams import stream_log, stream_watch

log = logging.getLogger(__name__)

LARGEST = 3 << 20
"""Bytes of a request; etcd's limit is 1.5 MiB."""


class Server:
    """A store on a port. `tokens` maps secrets to user names.

    A secret is shown as a bearer token, or as the first part of the path: kubectl and others on client-go send no
    token without TLS, but keep the path of a kubeconfig's `server`. Whoever shows none gets 403 for everything, since
    any user of this machine can reach the port.
    """

    def __init__(self, store: Store, tokens: Mapping[str, str]) -> None:
        self.store = store
        self._tokens = dict(tokens)
        self._serving = Serving(store)
        self._documents: dict[str, bytes] = {}
        self._documents_at = 0

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve until left; gives the address, `http://host:port`, of which `url` makes one user's."""
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            bound = runner.addresses[0]
            yield f"http://{bound[0]}:{bound[1]}"
        finally:
            await runner.cleanup()

    def cut(self) -> None:
        """End all watches, as a server does after a while."""
        self._serving.cut()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        try:
            user, path = self._user(request, path)
            return await self._answer(request, path, user)
        except StatusError as error:
            return _json(error.status, error.code)
        except Exception as error:  # An API server answers 500, it doesn't break off.
            log.exception("%s %s?%s", request.method, path, request.query_string)
            failure = StatusError(500, "InternalError", f"Internal error occurred: {type(error).__name__}: {error}")
            return _json(failure.status, 500)

    def _user(self, request: web.Request, path: str) -> tuple[str, str]:
        """Who asks, and the path without a secret. Raises StatusError 401 or 403."""
        first, _, rest = path.removeprefix("/").partition("/")
        user = self._tokens.get(first)
        if user is not None:
            path = f"/{rest}"
        if header := request.headers.get("Authorization", ""):
            user = self._tokens.get(header.removeprefix("Bearer "))
            if user is None:
                raise StatusError(401, "Unauthorized", "Unauthorized")
        if user is None:
            verb = request.method.lower()
            raise StatusError(403, "Forbidden", f'forbidden: User "system:anonymous" cannot {verb} path "{path}"')
        return request.headers.get("Impersonate-User", user), path

    async def _answer(self, request: web.Request, path: str, user: str) -> web.StreamResponse:
        parts = path.strip("/").split("/")
        depth = len(parts)
        if parts[0] in ("api", "apis") and depth > (2 if parts[0] == "api" else 3):
            return await self._objects(request, path, user)
        if request.method != "GET":
            raise status.method_not_supported()
        if path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        if path == "/version":
            return _json(VERSION)
        if parts[0] == "openapi":
            return self._openapi(request, path)
        return _json(*self._discovery(request, parts))

    # --- about itself ---

    def _discovery(self, request: web.Request, parts: list[str]) -> tuple[Object, int, str]:
        resources = self.store.resources
        versions = discovery.group_versions(resources)
        accept = request.headers.get("Accept", "")
        if parts in (["api"], ["apis"]):
            core = parts == ["api"]
            if "as=APIGroupDiscoveryList" in accept and "v=v2" in accept.replace("v=v2beta1", ""):
                kind = f"{JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                return discovery.aggregated(resources, core=core), 200, kind
            if core:
                return {"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"]}, 200, JSON
            return discovery.group_list(resources), 200, JSON
        if parts[0] not in ("api", "apis"):
            raise status.no_such_path()
        name, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2] if len(parts) > 2 else "")
        if name not in versions or (version and version not in versions[name]):
            raise status.no_such_path()
        if not version:
            return discovery.group(name, versions[name]), 200, JSON
        return discovery.resource_list(resources, name, version), 200, JSON

    def _openapi(self, request: web.Request, path: str) -> web.Response:
        """OpenAPI v3 only. Version 2 is asked for as protobuf, by clients that take v3 where there is one."""
        if self.store.kinds.revision != self._documents_at:
            self._documents, self._documents_at = {}, self.store.kinds.revision
        if path == "/openapi/v3":
            if path not in self._documents:
                index = discovery.openapi_index(self.store.resources, self.store.kinds.raw)
                self._documents[path] = msgspec.json.encode(index)
        elif path.startswith("/openapi/v3/api"):
            if path not in self._documents:
                parts = path.removeprefix("/openapi/v3/").split("/")
                group, version = ("", parts[-1]) if parts[0] == "api" else (parts[1], parts[-1])
                if version not in discovery.group_versions(self.store.resources).get(group, ()):
                    raise status.no_such_path()
                document = discovery.openapi(self.store.resources, self.store.kinds.raw, group, version)
                self._documents[path] = msgspec.json.encode(document)
        elif path == "/openapi/v2":
            raise StatusError(406, "NotAcceptable", "the embedded API server has OpenAPI v3 only, at /openapi/v3")
        else:
            raise status.no_such_path()
        return web.Response(body=self._documents[path], content_type=JSON)

    # --- objects ---

    async def _objects(self, request: web.Request, path: str, user: str) -> web.StreamResponse:
        where = routes.place(path)
        review = discovery.REVIEWS.get((where.group, where.plural))
        if review is not None and request.method == "POST":
            body = await body_of(request)
            return _json(reviews.answer(where.plural, body, user, self._tokens), 201)
        resource = self.store.resources.at(where.group, where.version, where.plural)
        _check_place(resource, where, request.method)
        if where.subresource == "proxy":
            return await proxy.passed_on(request, proxy.target(self.store, where), where.rest)
        if request.method == "GET" and where.subresource == "log":
            return await stream_log(request, self.store, where)
        query = query_of(request)
        if request.method == "GET" and query.watch and not where.subresource:
            return await stream_watch(request, self._serving, resource, where, query)
        answer = await self._ordinary(request, resource, where, query, user)
        body = answer.body
        if request.method != "GET" and body.get("kind") == resource.kind:
            body = self._serving.one(resource, body, query)
        if query.answer.format == YAML:
            return _answer(yaml.safe_dump(body).encode(), answer.code, YAML, answer.warnings)
        return _json(body, answer.code, warnings=answer.warnings)

    async def _ordinary(
        self, request: web.Request, resource: Resource, where: routes.Place, query: Query, user: str
    ) -> Answer:
        serving = self._serving
        if request.method == "GET":
            return serving.get(resource, where, query) if where.name else serving.list(resource, where, query)
        if request.method == "DELETE":
            options = await options_of(request, query)
            if where.name:
                return serving.delete(resource, where, options, user)
            return serving.delete_collection(resource, where, query, options, user)
        if request.method == "POST" and resource.unmade:
            raise status.not_implemented(resource.unmade)
        body = await body_of(request)
        if request.method == "POST":
            return serving.create(resource, where, query, body, user)
        if request.method == "PUT" and where.name:
            return serving.update(resource, where, query, body, user)
        if request.method == "PATCH" and where.name:
            return serving.patch(resource, where, query, body, request.content_type, user)
        raise status.method_not_supported()


def url(address: str, secret: str) -> str:
    """The server as the user to whom a secret belongs has it: to be kept as secret as a password."""
    return f"{address}/{secret}"


def _check_place(resource: Resource, where: routes.Place, method: str) -> None:
    if where.namespace and not resource.namespaced:
        raise status.no_such_path()
    if where.name and resource.namespaced and not where.namespace:
        raise status.no_such_path()
    known = {name for name, _, _ in discovery.subresources(resource)}
    if where.subresource and where.subresource not in known:
        raise status.no_such_path()


def _json(body: Any, code: int = 200, content_type: str = JSON, warnings: tuple[str, ...] = ()) -> web.Response:
    return _answer(msgspec.json.encode(body), code, content_type, warnings)


def _answer(raw: bytes, code: int, content_type: str, warnings: tuple[str, ...]) -> web.Response:
    answer = web.Response(body=raw, status=code, headers={"Content-Type": content_type})
    for text in warnings:
        answer.headers.add("Warning", f'299 - "{text}"')
    return answer

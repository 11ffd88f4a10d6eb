from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from davylamp.core.actions import Patch, Ref
from davylamp.kube.client import Kube, connect
from davylamp.kube.errors import ApiError

WEB = Ref("Service", "shop", "web")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def kubeconfig(path: Path, server: str, user: dict[str, Any] | None = None) -> str:
    content = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


class Server:
    """An API server of canned answers: one for each request, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.path, dict(request.query), json.loads(body) if body else None))
        self.headers.append(dict(request.headers))
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return await answer(request)

    def says(self, *bodies: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        for body in bodies:

            async def answer(request: web.Request, body: Any = body) -> web.StreamResponse:
                return web.json_response(body, status=status, headers=headers)

            self.answers.append(answer)

    def streams(self, *lines: Any, cut: bool = False) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            text = "".join(json.dumps(line) + "\n" for line in lines).encode()
            middle = len(text) // 2
            await response.write(text[:middle])
            await asyncio.sleep(0.01)
            await response.write(text[middle:])
            if cut and request.transport is not None:
                request.transport.abort()
            return response

        self.answers.append(answer)

    def refuses(self, code: int, reason: str, message: str, **headers: str) -> None:
        status = {"kind": "Status", "code": code, "reason": reason, "message": message}
        self.says(status, status=code, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def kube(server: Server, tmp_path: Path) -> AsyncIterator[Kube]:
    async with connect(kubeconfig(tmp_path / "config", server.url)) as kube:
        yield kube


def service(version: str = "1", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": version, **metadata},
        "spec": {"selector": {"app": "web"}, "sessionAffinity": "None"},
    }


async def test_reading_gives_the_slim_object_and_getting_the_whole_one(server: Server, kube: Kube) -> None:
    server.says(service())
    found = await kube.read(WEB)
    assert found is not None
    assert found.spec.selector == {"app": "web"}
    whole = await kube.get(WEB)
    assert whole is not None
    assert whole["spec"]["sessionAffinity"] == "None"
    assert server.requests[0][:2] == ("GET", "/api/v1/namespaces/shop/services/web")
    assert server.headers[0]["Authorization"] == "Bearer secret"


async def test_what_is_not_there_is_none(server: Server, kube: Kube) -> None:
    server.refuses(404, "NotFound", 'services "web" not found')
    assert await kube.read(WEB) is None


async def test_a_list_is_fetched_in_pages(server: Server, kube: Kube) -> None:
    server.says(
        {"metadata": {"resourceVersion": "9", "continue": "token"}, "items": [service("1")]},
        {"metadata": {"resourceVersion": "9"}, "items": [service("2")]},
    )
    found = await kube.list("Service", labels="app=web")
    assert [s.metadata.resource_version for s in found] == ["1", "2"]
    assert [query.get("continue") for _, _, query, _ in server.requests] == [None, "token"]
    assert all(query["labelSelector"] == "app=web" for _, _, query, _ in server.requests)


async def test_an_object_that_is_not_of_its_kind_is_left_out_and_named(
    server: Server, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    broken = service() | {"spec": {"ports": "none"}}
    server.says({"metadata": {}, "items": [broken, service("2")]})
    assert len(await kube.list("Service")) == 1
    assert "Service shop/web is left out" in caplog.text


@pytest.mark.parametrize(
    ("patch", "content_type"),
    [
        (Patch(WEB, {"spec": {}}), "application/merge-patch+json"),
        (Patch(WEB, [{"op": "remove", "path": "/spec"}], type="json"), "application/json-patch+json"),
    ],
)
async def test_patches_say_of_which_type_they_are(server: Server, kube: Kube, patch: Patch, content_type: str) -> None:
    server.says(service("2"))
    assert (await kube.patch(patch)).metadata.resource_version == "2"
    assert server.headers[0]["Content-Type"] == content_type
    assert server.requests[0][3] == patch.patch


async def test_a_status_is_patched_where_it_is(server: Server, kube: Kube) -> None:
    server.says(service())
    await kube.patch(Patch(WEB, {"status": {}}, subresource="status"))
    assert server.requests[0][1] == "/api/v1/namespaces/shop/services/web/status"


async def test_apply_is_server_side_and_ours(server: Server, kube: Kube) -> None:
    server.says(service())
    await kube.apply(service())
    method, path, query, _ = server.requests[0]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/shop/services/web")
    assert query == {"fieldManager": "davylamp", "force": "true"}
    assert server.headers[0]["Content-Type"] == "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ({"kind": "Status", "status": "Success", "details": {"uid": "u"}}, False),
        (service(), False),
        (service(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["x/y"]), True),
    ],
    ids=["status", "last state", "still there"],
)
async def test_deleting_tells_whether_the_object_lives_on(
    server: Server, kube: Kube, answer: dict[str, Any], left: bool
) -> None:
    server.says(answer)
    assert (await kube.delete(WEB, "u") is not None) is left
    assert server.requests[0][3] == {"propagationPolicy": "Background", "preconditions": {"uid": "u"}}


@pytest.mark.parametrize(
    ("code", "reason", "message", "shown", "property_"),
    [
        (409, "Conflict", "the object has been modified", "has been modified", "conflict"),
        (409, "AlreadyExists", 'services "web" already exists', "already exists", "already_exists"),
        (403, "Forbidden", 'services is forbidden: User "u" cannot create', 'User "u" cannot create', "forbidden"),
        (401, "Unauthorized", "Unauthorized", "does not know who is asking", "unauthorized"),
        (422, "Invalid", "spec.ports: Required value", "spec.ports", "invalid"),
    ],
)
async def test_a_refusal_says_what_was_asked_of_what_and_why(
    server: Server, kube: Kube, code: int, reason: str, message: str, shown: str, property_: str
) -> None:
    server.refuses(code, reason, message)
    with pytest.raises(ApiError, match=f"create Service shop/web: .*{shown}") as caught:
        await kube.create(service())
    assert (caught.value.code, getattr(caught.value, property_)) == (code, True)
    assert len(server.requests) == 1


async def test_an_answer_of_somebody_else_is_shown_as_it_is(server: Server, kube: Kube) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway</html>")

    server.answers.append(page)
    with pytest.raises(ApiError, match="answered 502: <html>bad gateway"):
        await kube.list("Service")


async def test_being_turned_away_for_a_moment_is_tried_again(server: Server, kube: Kube) -> None:
    server.refuses(429, "TooManyRequests", "slow down", **{"Retry-After": "0"})
    server.says(service())
    assert (await kube.create(service())).metadata.name == "web"
    assert len(server.requests) == 2


async def test_nobody_there_says_where_that_would_have_been(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with connect(kubeconfig(tmp_path / "config", url)) as kube:
        with pytest.raises(ApiError, match=rf"{url}.*context x.*can't be reached: .*[Rr]efused") as caught:
            await kube.read(WEB)
    assert caught.value.unreachable


async def test_a_server_without_tls_where_tls_was_expected_is_named(server: Server, tmp_path: Path) -> None:
    async with connect(kubeconfig(tmp_path / "config", server.url.replace("http:", "https:"))) as kube:
        with pytest.raises(ApiError) as caught:
            await kube.read(WEB)
    assert caught.value.code == 0
    assert caught.value.reason in ("TLS", "Unreachable")


async def test_a_watch_brings_objects_bookmarks_and_the_end_of_what_there_was(server: Server, kube: Kube) -> None:
    ended = {"metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}
    server.streams(
        {"type": "ADDED", "object": service("5")},
        {"type": "BOOKMARK", "object": ended},
        {"type": "MODIFIED", "object": service("8")},
        {"type": "DELETED", "object": service("9")},
    )
    events = [event async for event in kube.watch("Service", "shop")]
    assert [(e.type, e.resource_version, e.synced) for e in events] == [
        ("ADDED", "5", False),
        ("BOOKMARK", "7", True),
        ("MODIFIED", "8", False),
        ("DELETED", "9", False),
    ]
    query = server.requests[0][2]
    assert query["sendInitialEvents"] == "true"
    assert query["resourceVersionMatch"] == "NotOlderThan"


async def test_a_watch_too_old_to_go_on_from_says_so(server: Server, kube: Kube) -> None:
    server.streams({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}})
    with pytest.raises(ApiError) as caught:
        _ = [event async for event in kube.watch("Service", resource_version="3", initial=False)]
    assert caught.value.gone
    assert server.requests[0][2] == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "3"}


async def test_a_watch_that_breaks_off_is_an_error_and_not_an_end(server: Server, kube: Kube) -> None:
    server.streams({"type": "ADDED", "object": service("5")}, cut=True)
    with pytest.raises(ApiError) as caught:
        _ = [event async for event in kube.watch("Service")]
    assert caught.value.unreachable


async def test_logs_are_asked_for_by_container_and_end(server: Server, kube: Kube) -> None:
    async def text(request: web.Request) -> web.StreamResponse:
        return web.Response(text="one\ntwo\n")

    server.answers.append(text)
    assert await kube.logs("shop", "web-1", "app", previous=True, tail=2) == "one\ntwo\n"
    assert server.requests[0][2] == {"container": "app", "previous": "true", "tailLines": "2", "limitBytes": "4096"}
    assert [line async for line in kube.follow_logs("shop", "web-1")] == ["one", "two"]


@pytest.mark.parametrize(("status", "resources", "offered"), [(200, ["deployments"], True), (200, [], False)])
async def test_what_the_server_offers(
    server: Server, kube: Kube, status: int, resources: list[str], offered: bool
) -> None:
    server.says({"resources": [{"name": name} for name in resources]}, status=status)
    assert await kube.exists_api("apps/v1", "deployments") is offered
    assert server.requests[0][1] == "/apis/apps/v1"


async def test_a_group_that_the_server_does_not_know_is_not_offered(server: Server, kube: Kube) -> None:
    server.refuses(404, "NotFound", "the server could not find the requested resource")
    assert await kube.exists_api("x.io/v1", "things") is False


async def test_every_request_is_counted_with_its_verb_kind_and_outcome(server: Server, tmp_path: Path) -> None:
    counted: list[tuple[str, str, int]] = []
    server.says(service())
    server.refuses(409, "Conflict", "x")
    async with connect(
        kubeconfig(tmp_path / "config", server.url), on_request=lambda *what: counted.append(what)
    ) as kube:
        await kube.read(WEB)
        with pytest.raises(ApiError):
            await kube.patch(Patch(WEB, {}))
    assert counted == [("get", "Service", 200), ("patch", "Service", 409)]


async def test_a_token_that_is_no_longer_taken_is_read_again(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    async def check(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer new":
            return web.json_response(service())
        token.write_text("new")
        return web.json_response({"kind": "Status", "code": 401}, status=401)

    server.answers.append(check)
    async with connect(kubeconfig(tmp_path / "config", server.url, {"tokenFile": str(token)})) as kube:
        assert await kube.read(WEB) is not None


async def test_a_plugin_gives_the_token(server: Server, tmp_path: Path) -> None:
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "from-plugin"}}
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/sh",
        "args": ["-c", f"echo '{json.dumps(credential)}'; test -n \"$KUBERNETES_EXEC_INFO$GREETING\""],
        "env": [{"name": "GREETING", "value": "hello"}],
        "interactiveMode": "Never",
    }
    server.says(service())
    async with connect(kubeconfig(tmp_path / "config", server.url, {"exec": plugin})) as kube:
        await kube.read(WEB)
        await kube.read(WEB)
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer from-plugin"] * 2


async def test_a_plugin_that_fails_is_an_error_of_the_request(server: Server, tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}
    async with connect(kubeconfig(tmp_path / "config", server.url, {"exec": plugin})) as kube:
        with pytest.raises(ApiError, match="get Service shop/web: exec plugin no-such-plugin can't be started"):
            await kube.read(WEB)


async def test_watches_are_not_compressed(server: Server, kube: Kube) -> None:
    server.streams({"type": "ADDED", "object": service("5")})
    _ = [event async for event in kube.watch("Service")]
    assert server.headers[0]["Accept-Encoding"] == "identity"

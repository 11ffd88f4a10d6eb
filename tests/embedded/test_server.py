"""The server, where its clients are at fault."""

from __future__ import annotations

import contextlib
import logging

import pytest
from aiohttp import ClientError, ClientSession, web
from aiohttp.client_exceptions import ClientConnectionResetError

from davylamp.embedded.server import Server, url
from davylamp.embedded.store import Store
from davylamp.kube.clock import SystemClock

USERS = {"secret": "admin", "other": "somebody"}
CRD = b"k8s\0\x0a\x33\x0a\x17apiextensions.k8s.io/v1\x12\x18CustomResourceDefinition\x12\0"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


async def test_a_client_that_has_gone_when_a_watch_has_news_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(web.StreamResponse, "write", gone)
    with caplog.at_level(logging.WARNING):
        async with Server(Store(SystemClock()), USERS).running() as address, ClientSession() as session:
            with contextlib.suppress(ClientError):
                await session.get(f"{url(address, 'secret')}/api/v1/configmaps?watch=true")
    assert caplog.records == []


@pytest.mark.parametrize(
    "path",
    ["", "/api", "/api/v1/pods", "/api/v1/pods?watch=true", "/openapi/v3", "/healthz", "/wrong/api/v1/pods", "//"],
)
@pytest.mark.parametrize(("headers", "code"), [({}, 403), ({"Authorization": "Bearer wrong"}, 401)])
async def test_who_shows_no_secret_is_refused_whatever_the_path(path: str, headers: dict[str, str], code: int) -> None:
    async with Server(Store(SystemClock()), USERS).running() as address, ClientSession() as session:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            async with session.request(method, f"{address}{path}", headers=headers) as answer:
                assert answer.status == code
                assert (await answer.json())["kind"] == "Status"


@pytest.mark.parametrize(
    ("prefix", "headers", "user"),
    [
        ("", {"Authorization": "Bearer secret"}, "admin"),
        ("/secret", {}, "admin"),
        ("/other", {}, "somebody"),
        ("/other", {"Authorization": "Bearer secret"}, "admin"),
        ("/other", {"Impersonate-User": "admin"}, "admin"),
    ],
)
async def test_a_secret_is_shown_as_token_or_in_the_path(prefix: str, headers: dict[str, str], user: str) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    async with (
        Server(Store(SystemClock()), USERS).running() as address,
        ClientSession() as session,
        session.post(f"{address}{prefix}{REVIEW}", json=body, headers=headers) as answer,
    ):
        assert (await answer.json())["status"]["userInfo"]["username"] == user


async def test_a_wrong_token_is_refused_also_behind_a_right_path() -> None:
    async with (
        Server(Store(SystemClock()), USERS).running() as address,
        ClientSession() as session,
        session.get(f"{address}/secret/api", headers={"Authorization": "Bearer wrong"}) as answer,
    ):
        assert answer.status == 401


async def test_the_log_of_an_error_does_not_tell_the_secret(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(SystemClock())
    monkeypatch.setattr(store, "list", None)
    async with (
        Server(store, USERS).running() as address,
        ClientSession() as session,
        session.get(f"{address}/secret/api/v1/pods?limit=1") as answer,
    ):
        assert answer.status == 500
    assert "/api/v1/pods?limit=1" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("path", "content_type", "body", "code", "said"),
    [
        (
            "/apis/batch/v1/namespaces/default/jobs",
            "application/json",
            b"{}",
            501,
            "no controller that would run a Job",
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            "application/vnd.kubernetes.protobuf",
            b"k8s\0",
            501,
            "no controller",
        ),
        (CRDS, "application/vnd.kubernetes.protobuf", CRD, 415, "no protobuf of apiextensions.k8s.io/v1 Custom"),
        (CRDS, "application/cbor", b"", 415, "no CBOR: send it as application/json"),
    ],
)
async def test_what_is_not_supported_says_so(path: str, content_type: str, body: bytes, code: int, said: str) -> None:
    async with Server(Store(SystemClock()), USERS).running() as address, ClientSession() as session:
        headers = {"Content-Type": content_type}
        async with session.post(f"{url(address, 'secret')}{path}", data=body, headers=headers) as answer:
            told = await answer.json()
            assert (answer.status, told["kind"]) == (code, "Status")
            assert said in told["message"]

"""The server, where its clients are at fault."""

from __future__ import annotations

import contextlib
import logging

import pytest
from aiohttp import ClientError, ClientSession, web
from aiohttp.client_exceptions import ClientConnectionResetError

from davylamp.embedded.server import Server
from davylamp.embedded.store import Store
from davylamp.kube.clock import SystemClock


async def test_a_client_that_has_gone_when_a_watch_has_news_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(web.StreamResponse, "write", gone)
    with caplog.at_level(logging.WARNING):
        async with Server(Store(SystemClock())).running() as address, ClientSession() as session:
            with contextlib.suppress(ClientError):
                await session.get(f"{address}/api/v1/configmaps?watch=true")
    assert caplog.records == []

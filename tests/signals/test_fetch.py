"""One request with bounds: what comes back from servers that misbehave."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.fetch import Unavailable, client, fetch

BOMB = gzip.compress(bytes(20_000_000), 9)


async def _plain(request: web.Request) -> web.Response:
    return web.Response(text="a 1\n")


async def _gzip(request: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"a 1\n"), headers={"Content-Encoding": "gzip"})


async def _bomb(request: web.Request) -> web.Response:
    return web.Response(body=BOMB, headers={"Content-Encoding": "gzip"})


async def _liar(request: web.Request) -> web.Response:
    return web.Response(body=b"a 1\n", headers={"Content-Encoding": "gzip"})


async def _half(request: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"a 1\n" * 1000)[:20], headers={"Content-Encoding": "gzip"})


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"a 1\n" * 10_000)


async def _silent(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "10"})
    await response.prepare(request)
    request.transport.close()  # type: ignore[union-attr]
    return response


async def _round(request: web.Request) -> web.Response:
    raise web.HTTPFound("/round")


@pytest.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    app = web.Application()
    ways = {"plain": _plain, "gzip": _gzip, "bomb": _bomb, "liar": _liar, "half": _half, "endless": _endless}
    app.add_routes([web.get(f"/{name}", way) for name, way in (ways | {"silent": _silent, "round": _round}).items()])
    async with TestServer(app) as running:
        yield running


@pytest.mark.parametrize("path", ["plain", "gzip"])
async def test_an_answer_is_unpacked(server: BaseTestServer, path: str) -> None:
    async with client(LOOPBACK) as session:
        answer = await fetch(session, "GET", str(server.make_url(path)), seconds=5, max_bytes=1000)
    assert (answer.status, answer.body) == (200, b"a 1\n")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("bomb", "the answer has more than 1 MB"),
        ("endless", "the answer has more than 1 MB"),
        ("liar", "the answer says it is gzip, but it is not"),
        ("half", "the answer was cut off"),
        ("silent", "the answer was cut off"),
        ("round", "more than 3 redirects"),
    ],
)
async def test_an_answer_that_can_not_be_used_says_why(server: BaseTestServer, path: str, message: str) -> None:
    async with client(LOOPBACK) as session:
        with pytest.raises(Unavailable, match=message):
            await fetch(session, "GET", str(server.make_url(path)), seconds=5, max_bytes=1_000_000)


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://prometheus", "http://"])
async def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    async with client() as session:
        with pytest.raises(Unavailable, match="is no address: write for example http"):
            await fetch(session, "GET", url, seconds=5, max_bytes=1000)


async def test_a_header_that_would_be_two_is_refused(server: BaseTestServer) -> None:
    url = str(server.make_url("plain"))
    async with client(LOOPBACK) as session:
        with pytest.raises(Unavailable, match="the request can't be made"):
            await fetch(session, "GET", url, seconds=5, max_bytes=9, headers={"X": "a\r\nY: b"})

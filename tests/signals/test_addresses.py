"""Addresses that are refused, and that no way of writing or redirecting gets around it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import BaseTestServer, TestServer

from davylamp.signals.addresses import LOOPBACK, networks, refusal
from davylamp.signals.fetch import Unavailable, client, fetch


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("169.254.169.254", "link-local (cloud metadata)"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "AWS"),
        ("fd20:ce::254", "Google"),
        ("100.100.100.200", "Alibaba"),
        ("127.0.0.1", "loopback"),
        ("127.8.9.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::1", "link-local"),
        ("224.0.0.1", "multicast"),
    ],
)
def test_an_address_inside_is_refused(address: str, why: str) -> None:
    assert why in refusal(address)


@pytest.mark.parametrize("address", ["10.96.0.10", "192.168.1.7", "100.64.0.9", "8.8.8.8", "fd12::1", "2001:db8::1"])
def test_an_address_of_the_cluster_or_the_world_is_not(address: str) -> None:
    assert refusal(address) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "::1"])
def test_what_an_option_allows_is_allowed(address: str) -> None:
    assert "loopback" in refusal(address)
    assert refusal(address, (*LOOPBACK, *networks(["::ffff:0:0/96"]))) == ""


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r'"10\.0\.0\.0/33" is no network'):
        networks(["127.0.0.1", "10.0.0.0/33"])


class Names(AbstractResolver):
    """Resolves every name to one address; each time to the next, as a rebinding name server does."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    async def fine(request: web.Request) -> web.Response:
        return web.Response(text="fine")

    app = web.Application()
    app.add_routes([web.get("/away", away), web.get("/", fine)])
    async with TestServer(app, host="127.0.0.2") as running:
        yield running


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://[::1]:{port}/",
        "http://inside.example:{port}/",
        "http://2130706433:{port}/",
        "http://metadata.google.internal/",
        "http://127.0.0.2:{port}/away?to=http://169.254.169.254/latest/meta-data",
        "http://127.0.0.2:{port}/away?to=http://inside.example:{port}/",
        "http://127.0.0.2:{port}/away?to=http://127.0.0.2:{port}/away?to=http://127.0.0.1:{port}/",
    ],
)
async def test_neither_names_nor_redirects_lead_inside(server: BaseTestServer, url: str) -> None:
    allowed = networks(["127.0.0.2"])
    async with client(allowed, resolver=Names("127.0.0.1")) as session:
        with pytest.raises(Unavailable) as raised:
            await fetch(session, "GET", url.format(port=server.port), seconds=5, max_bytes=1000)
    assert not raised.value.again, raised.value


async def test_a_name_is_checked_at_the_address_that_is_connected_to(server: BaseTestServer) -> None:
    """First it resolves to what is allowed, then to what is not: the second connection is refused."""
    names = Names("127.0.0.2", "127.0.0.1")
    url = f"http://prometheus.example:{server.port}/"
    async with client(networks(["127.0.0.2"]), resolver=names) as session:
        assert (await fetch(session, "GET", url, seconds=5, max_bytes=100)).body == b"fine"
    async with client(networks(["127.0.0.2"]), resolver=names) as session:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1 is loopback"):
            await fetch(session, "GET", url, seconds=5, max_bytes=100)

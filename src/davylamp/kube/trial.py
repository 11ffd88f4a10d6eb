"""The same API server, but every write is only tried: checked, admitted, answered, and not stored (dryRun=All)."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

import aiohttp

from davylamp.kube.client import USER_AGENT, Kube


@contextlib.asynccontextmanager
async def trial(kube: Kube) -> AsyncIterator[Kube]:
    """A second client for the cluster of `kube`, as the same user."""
    target = kube.target
    connector = aiohttp.TCPConnector(ssl=target.tls if isinstance(target.tls, ssl.SSLContext) else True)
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        proxy=target.proxy,
        middlewares=(_only_try,),
    ) as session:
        yield Kube(target, session, None)


async def _only_try(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    if request.method != "GET":
        request.url = request.url.update_query(dryRun="All")
    return await handler(request)

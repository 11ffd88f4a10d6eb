"""The little of a Kubernetes client that a kubelet needs: requests, and the lines of a watch."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """A session with the API server. ``connections`` bounds how many requests run at once; ``tls`` is for https."""

    def __init__(self, server: str, token: str, tls: ssl.SSLContext | None = None, connections: int = 32) -> None:
        self.server = server
        self.token = token
        self.tls = tls
        self.connections = connections

    async def __aenter__(self) -> Api:
        # The watch has a connection of its own beside the bounded ones.
        self.session = aiohttp.ClientSession(
            base_url=self.server,
            headers={"Authorization": f"Bearer {self.token}"},
            connector=aiohttp.TCPConnector(limit=self.connections + 1, ssl=self.tls or True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        """The answer's body. Raises ApiError, or aiohttp.ClientError when there was no answer."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data else None
        async with self.session.request(method, path, data=data, headers=headers) as response:
            content = await response.read()
            if response.status >= 300:
                raise ApiError(response.status, message_of(content))
            return content

    async def watch(self, path: str, **params: str) -> AsyncIterator[bytes]:
        """The lines of a watch, until the server ends it."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self.session.get(path, params={"watch": "true", **params}, timeout=timeout) as response:
            if response.status >= 300:
                raise ApiError(response.status, message_of(await response.read()))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line


def message_of(content: bytes) -> str:
    """The message of a Status object, or the text itself."""
    try:
        return str(msgspec.json.decode(content)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return content.decode(errors="replace")[:300]

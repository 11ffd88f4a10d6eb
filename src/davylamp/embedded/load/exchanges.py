"""Requests and answers as bytes on one connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from davylamp.embedded.load.counts import NO_VERSION


class Answer(msgspec.Struct, frozen=True):
    status: int
    version: str
    keep_alive: bool


class Exchanges(Protocol):
    """A connection's requests and answers as bytes, one at a time."""

    over: bool
    """The server wants no more requests on it."""

    def request(self, head: str) -> bytes:
        """What to send for the next one, of which this is the head, as HTTP/1.1 writes it."""

    def feed(self, data: bytes) -> Answer | None:
        """An answer once it is whole. Raises ValueError for what is none."""

    def reply(self) -> bytes:
        """What has to be sent for the protocol's own sake."""


class Parser:
    """`Exchanges` in HTTP/1.1. We don't pipeline."""

    def __init__(self) -> None:
        self.buffer = b""
        self.over = False

    def request(self, head: str) -> bytes:
        return head.encode()

    def reply(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> Answer | None:
        """An answer once it is whole. Raises ValueError for what is not HTTP/1.1, or has no length."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        protocol, _, rest = first.partition(" ")
        if not protocol.startswith("HTTP/1."):
            raise ValueError(f"not an HTTP/1.1 answer: {first[:60]!r}")
        status = int(rest[:3])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "content-length" in headers:
            end = int(headers["content-length"])
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            if (length := _chunked_length(body)) is None:
                return None
            end = length
        elif status in (204, 304):
            end = 0
        else:
            raise ValueError("an answer with neither Content-Length nor chunks")
        if len(body) < end:
            return None
        self.buffer = body[end:]
        keep_alive = headers.get("connection", "").lower() != "close"
        return Answer(status, headers.get("x-version", NO_VERSION), keep_alive)


def _chunked_length(body: bytes) -> int | None:
    """How many bytes a chunked body takes, or None if it is not whole. Trailers are not expected."""
    position = 0
    while True:
        line_end = body.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(body[position:line_end].partition(b";")[0], 16)
        position = line_end + 2 + size + 2
        if position > len(body):
            return None
        if size == 0:
            return position


def head_of(path: str, headers: Mapping[str, str], *, call: bool = False) -> str:
    """A request's head, as HTTP/1.1 writes it, of a GET or of a gRPC call."""
    all_of_them = {**headers, **({"Content-Type": "application/grpc", "TE": "trailers"} if call else {})}
    lines = [f"{name}: {value}" for name, value in all_of_them.items()]
    return "\r\n".join([f"{'POST' if call else 'GET'} {path} HTTP/1.1", *lines, "", ""])

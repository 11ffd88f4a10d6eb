"""What containers wrote: one file for each run of a container, each line behind the time at which it came.

The lines of a file look like those that `kubectl logs --timestamps` prints, so serving them is cutting them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

MESSAGE_LINES, MESSAGE_BYTES = 80, 2048  # of a termination message taken from the log, as in a real kubelet


class Options(msgspec.Struct, frozen=True):
    """The query of GET /containerLogs."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: str = ""  # a stamp(): lines before it are left out


def options_of(query: dict[str, str], now: datetime) -> Options:
    """Raises ValueError for a number or a time that is none."""
    since = ""
    if seconds := query.get("sinceSeconds"):
        since = stamp(now - timedelta(seconds=int(seconds)))
    elif moment := query.get("sinceTime"):
        since = stamp(datetime.fromisoformat(moment))
    return Options(
        follow=query.get("follow") == "true",
        timestamps=query.get("timestamps") == "true",
        tail_lines=int(query["tailLines"]) if "tailLines" in query else None,
        limit_bytes=int(query["limitBytes"]) if "limitBytes" in query else None,
        since=since,
    )


def stamp(moment: datetime) -> str:
    """RFC 3339 with nine digits always, so that stamps compare as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class ContainerLog(asyncio.Protocol):
    """The reading end of a container's stdout and stderr, and the file behind it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path.open("ab", buffering=0)
        self.partial = b""
        self.closed = asyncio.Event()
        self.followers: set[Callable[[], None]] = set()  # called when there is more, and at the end

    def data_received(self, data: bytes) -> None:
        *lines, self.partial = (self.partial + data).split(b"\n")
        self._write(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.partial:
            self._write([self.partial])
        self.file.close()
        self.closed.set()
        self._wake()

    async def ended(self, within: float) -> None:
        """Until the pipe is closed, or so many seconds. (`asyncio.wait_for` of Python 3.11 loses a cancellation that
        comes in the moment of the end.)"""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.closed.wait()

    def _write(self, lines: list[bytes]) -> None:
        if lines:
            now = stamp(datetime.now(UTC)).encode()
            self.file.write(b"".join(b"%b %b\n" % (now, line) for line in lines))
            self._wake()

    def _wake(self) -> None:
        for follower in tuple(self.followers):
            follower()

    def tail(self) -> str:
        """The end of the log, for a termination message."""
        lines = self.path.read_bytes().splitlines(keepends=True)[-MESSAGE_LINES:]
        text = b"".join(line.partition(b" ")[2] for line in lines)
        return text[-MESSAGE_BYTES:].decode(errors="replace")

    async def read(self, options: Options) -> AsyncIterator[bytes]:
        """What `kubectl logs` shows; with follow, until the container ends."""
        news = asyncio.Event()
        self.followers.add(news.set)
        left = options.limit_bytes
        try:
            with self.path.open("rb") as file:
                content = file.read()
                lines = select(content[: content.rfind(b"\n") + 1], options)
                file.seek(content.rfind(b"\n") + 1)
                while True:
                    if left is not None:
                        lines, left = lines[:left], left - len(lines[:left])
                    if lines:
                        yield lines
                    if left == 0 or not options.follow:
                        return
                    lines = b""
                    while not lines:
                        news.clear()
                        lines = _shown(file.readlines(), options)
                        if not lines:
                            if self.closed.is_set():
                                return
                            await news.wait()
        finally:
            self.followers.discard(news.set)


def select(content: bytes, options: Options) -> bytes:
    """The lines of a whole file that the options ask for."""
    lines = content.splitlines(keepends=True)
    if options.since:
        since = options.since.encode()
        lines = [line for line in lines if line.partition(b" ")[0] >= since]
    if options.tail_lines is not None:
        lines = lines[max(0, len(lines) - options.tail_lines) :]
    return _shown(lines, options)


def _shown(lines: list[bytes], options: Options) -> bytes:
    return b"".join(lines if options.timestamps else (line.partition(b" ")[2] for line in lines))

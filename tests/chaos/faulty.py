"""An `Api` whose writes can fail in every way in which writes fail, and whose watches can be cut or late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

import msgspec

from davylamp.core.actions import Patch, Ref
from davylamp.embedded.client import Local
from davylamp.kube.clock import Clock, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Propagation, WatchEvent

Moment = Literal["before", "after"]


class Crash(msgspec.Struct, frozen=True):
    """The process dies around this write: before it reaches the API server, or before its answer is read."""

    moment: Moment


class Refused(msgspec.Struct, frozen=True):
    """The API server answers with an error and does nothing."""

    code: int
    reason: str


class Lost(msgspec.Struct, frozen=True):
    """The write is done, and no answer comes."""


class Slow(msgspec.Struct, frozen=True):
    """The write is done after so many seconds."""

    seconds: float


Fault = Crash | Refused | Lost | Slow
CONFLICT = Refused(409, "Conflict")


class Faulty:
    """`inner`, asked by one process. `fault` is asked ahead of each write (with its number from 1, its verb and its
    object) for what is to go wrong with it; `crashed` is called when the process dies."""

    def __init__(self, inner: Local, clock: Clock) -> None:
        self.inner = inner
        self.clock = clock
        self.fault: Callable[[int, str, Ref], Fault | None] = lambda number, verb, ref: None
        self.crashed: Callable[[], object] = lambda: None
        self.writes: list[tuple[str, Ref]] = []
        self.lag = 0.0
        """Seconds by which watches are late."""
        self.refused: ApiError | None = None
        """What the next watch is answered with that goes on from a resource version."""
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def create(self, manifest: dict[str, Any]) -> Any:
        meta = manifest["metadata"]
        ref = Ref(manifest["kind"], meta.get("namespace", ""), meta["name"])
        return await self._write("create", ref, lambda: self.inner.create(manifest))

    async def patch(self, patch: Patch) -> Any:
        return await self._write("patch", patch.ref, lambda: self.inner.patch(patch))

    async def delete(self, ref: Ref, uid: str = "", propagation: Propagation = "Background") -> Any:
        return await self._write("delete", ref, lambda: self.inner.delete(ref, uid, propagation))

    def cut(self, code: int = 0) -> None:
        """End all watches. With a `code` the first of them that goes on is refused: 410 has it begin anew."""
        if code:
            reason = "Expired" if code == 410 else "InternalError" if code == 500 else "TooManyRequests"
            self.refused = ApiError(code, reason, "made up by a test", verb="watch")
        self.inner.cut()

    async def watch(self, *args: Any, **kwargs: Any) -> AsyncGenerator[WatchEvent, None]:
        if kwargs.get("resource_version") and (refused := self.refused):
            self.refused = None
            raise refused
        async for event in self.inner.watch(*args, **kwargs):
            if self.lag:
                await sleep(self.clock, self.lag)
            if self.dead:
                await asyncio.Future()
            yield event

    async def _write(self, verb: str, ref: Ref, write: Callable[[], Any]) -> Any:
        if self.dead:
            await asyncio.Future()
        self.writes.append((verb, ref))
        match self.fault(len(self.writes), verb, ref):
            case Crash(moment):
                if moment == "after":
                    await write()
                self.dead = True
                self.crashed()
                await asyncio.Future()
            case Refused(code, reason):
                raise ApiError(code, reason, f"made up by a test: {reason}", verb=verb, ref=ref)
            case Lost():
                await write()
                raise ApiError(0, "Timeout", "the answer got lost", verb=verb, ref=ref)
            case Slow(seconds):
                await sleep(self.clock, seconds)
        return await write()

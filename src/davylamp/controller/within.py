"""A time limit that costs nothing where there is nothing to wait for."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def within(seconds: float, work: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
    """What `work` comes to; TimeoutError where it takes longer, as under `asyncio.timeout`.

    The time counts from when `work` first waits for something. Until then nothing could interrupt it, and many a look
    never waits: of such a one the timer would be a third of its cost.
    """
    try:
        awaited = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    return (yield from _timed(seconds, work, awaited).__await__())


async def _timed(seconds: float, work: Coroutine[Any, Any, T], awaited: Any) -> T:
    async with asyncio.timeout(seconds):
        return await _rest(work, awaited)


@types.coroutine
def _rest(work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, None, T]:
    """`await work` from where it waits for `awaited`."""
    try:
        while True:
            try:
                yield awaited
            except BaseException as thrown:
                awaited = work.throw(thrown)
            else:
                awaited = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result

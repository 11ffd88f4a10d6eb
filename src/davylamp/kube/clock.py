"""Time as a parameter, so that tests and simulations can have their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> object:
        """The callback is not called any more."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The time of day, in UTC."""

    def time(self) -> float:
        """Seconds that never go back, from a beginning that means nothing."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in `delay` seconds."""


class SystemClock:
    """The time of this machine and of the running event loop."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait on `clock`."""
    over = asyncio.Event()
    timer = clock.call_later(seconds, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()

"""Virtual time: an event loop in which an hour passes as fast as everything in it can be computed.

Its selector never sleeps: when nothing is ready, the time jumps to the next timer. Ordinary asyncio code runs in it
unchanged, but for sockets, threads and subprocesses: nothing outside of the process could keep up.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from davylamp.kube.clock import Timer

START = datetime(2026, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Standstill(Exception):
    """Everything waits, and nothing is going to happen."""


class _Selector(selectors.BaseSelector):
    """Has nothing to watch (but the loop's pipe to itself), and lets time pass instead of waiting."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return self._keys[number]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("every task waits for something that nothing is going to do")
        self.passed += max(timeout, 0)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` begins at 0 and jumps."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed


class LoopClock:
    """The time of an event loop as a `davylamp.kube.clock.Clock`: `start`, and on from there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start = start - timedelta(seconds=loop.time())

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())

    def time(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self._loop.call_later(delay, callback) if delay > 0 else self._loop.call_soon(callback)


def run(main: Callable[[LoopClock], Coroutine[Any, Any, T]], start: datetime = START) -> T:
    """Run `main` in virtual time to its end, and return what it returns. Raises Standstill where it never ends."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(LoopClock(runner.get_loop(), start)))

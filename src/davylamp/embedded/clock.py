"""Virtual time: an event loop in which an hour passes as fast as everything in it can be computed.

It never sleeps: when nothing is ready, the time jumps to the next timer. Ordinary asyncio code runs in it unchanged,
but for sockets, threads and subprocesses: nothing outside of the process could keep up.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

from davylamp.kube.clock import Timer

START = datetime(2026, 1, 1, tzinfo=UTC)

AT_ONCE = 1e-9
"""Seconds that are no difference, as for asyncio's own loops."""

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Standstill(Exception):
    """Everything waits, and nothing is going to happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose `time()` begins at 0 and jumps. There is nothing in it to wait for but timers."""

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        """A heap: what is due at the same time comes in the order in which it was asked for."""
        self._asked = itertools.count()

    def time(self) -> float:
        return self._passed

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._asked), timer))
        return timer

    # --- what asyncio's loops have where they differ ---

    def _run_once(self) -> None:
        """One round: all that is ready. Where nothing is, time goes on to the next timer."""
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Standstill("every task waits for something that nothing is going to do")
            self._passed = max(self._passed, timers[0][0])
        while timers and timers[0][0] < self._passed + AT_ONCE:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left out when it is due."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


class LoopClock:
    """The time of an event loop as a `davylamp.kube.clock.Clock`: `start`, and on from there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start = start - timedelta(seconds=loop.time())
        self._told = (loop.time(), start)
        """What `now` said last: in virtual time much happens at the same moment."""

    def now(self) -> datetime:
        time = self._loop.time()
        if time != self._told[0]:
            self._told = (time, self._start + timedelta(seconds=time))
        return self._told[1]

    def time(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self._loop.call_later(delay, callback) if delay > 0 else self._loop.call_soon(callback)


def run(main: Callable[[LoopClock], Coroutine[Any, Any, T]], start: datetime = START) -> T:
    """Run `main` in virtual time to its end, and return what it returns. Raises Standstill where it never ends."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(LoopClock(runner.get_loop(), start)))

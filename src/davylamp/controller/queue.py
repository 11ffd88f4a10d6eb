"""A queue of keys to look at, as in client-go's workqueue: it holds keys, not events.

A key that is added while it waits is there once. A key that is added while it is worked on waits until that is done,
so it is never worked on twice at once, and is looked at again afterwards.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from davylamp.kube.clock import Clock, Timer

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF, LAST_BACKOFF = 0.005, 60.0
"""Seconds to wait after a first failure; doubled at each further one up to the last."""


class Queue(Generic[K]):
    """For workers in one event loop: `get`, work, `done`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        """What has to be looked at: waiting in `_ready`, or in work and added again."""
        self._working: dict[K, float] = {}
        """What is being worked on, and since when."""
        self._due: dict[K, float] = {}
        """When a key is to be added; the earliest wish counts."""
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """How many keys wait to be worked on."""
        return len(self._ready)

    @property
    def oldest_work(self) -> float:
        """Seconds for which the longest piece of work has been going on; 0 for none."""
        return self._clock.time() - min(self._working.values()) if self._working else 0.0

    def add(self, key: K) -> None:
        """Look at `key` as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Look at `key` in `seconds`, or earlier where that was asked for."""
        if seconds <= 0:
            self.add(key)
            return
        at = self._clock.time() + seconds
        if key in self._dirty and key not in self._working:
            # It is about to be looked at, and whoever does so decides anew when to look again.
            return
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            self._order += 1
            heapq.heappush(self._heap, (at, self._order, key))
            self._set_timer()

    def fail(self, key: K, at_least: float = 0.0) -> float:
        """Look at `key` again later, and later each time. Returns in how many seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = max(at_least, min(FIRST_BACKOFF * 2.0 ** min(failures, 30), LAST_BACKOFF))
        self.add_after(key, seconds)
        return seconds

    def succeed(self, key: K) -> None:
        """The next failure is a first one again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; the caller owes a `done`."""
        while not self._ready:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # This wake-up was for a worker that is going.
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._working[key] = self._clock.time()
        return key

    def seen(self, key: K) -> None:
        """Whoever works on `key` looks at everything from now on: what was added until now is in it."""
        if key in self._working:
            self._dirty.discard(key)

    def done(self, key: K) -> None:
        """The work on `key` is over; if it was added meanwhile it waits again."""
        self._working.pop(key, None)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def clear(self) -> None:
        """Forget everything that waits, now or later (another process is leading)."""
        self._ready.clear()
        self._dirty.clear()
        self._due.clear()
        self._heap.clear()
        self._failures.clear()
        self._set_timer()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        """One timer, for the earliest of what is due."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        at = self._heap[0][0] if self._heap else float("inf")
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.call_later(at - self._clock.time(), self._add_due) if self._heap else None

    def _add_due(self) -> None:
        now = self._clock.time()
        self._timer, self._timer_at = None, float("inf")
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                self.add(key)
        self._set_timer()

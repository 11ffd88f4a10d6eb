"""Measurements that a test makes up."""

from __future__ import annotations

import asyncio

from davylamp.analysis import counts as c
from davylamp.api.types import Release
from davylamp.signals.feedback import Box
from davylamp.signals.gather import Look, Pods


class Made:
    """Stands for the pods' answers: requests and failures a second, of stable and the canary. None: no answer."""

    def __init__(self) -> None:
        self.rates: tuple[float, float, float, float] | None = (450, 0.0, 450, 0.0)
        self.looks: list[float] = []
        self.opened = 0
        self.box: Box | None = None
        self.failing = 0
        """So many looks get no answer."""
        self.hangs = False
        """Whether, instead of no answer, there is none for a long time."""
        self._until: float | None = None
        self._due = [0.0] * 4
        """Parts of a request or failure."""

    async def open(self, release: Release, pods: Pods, container: str, now: float) -> Made:
        self.opened += 1
        self._until = None
        return self

    async def look(self, release: Release, pods: Pods, now: float) -> Look:
        self.looks.append(now)
        until, self._until = self._until, now
        if self.rates is None or self.failing:
            self._until, self.failing = None, max(0, self.failing - 1)
            if self.hangs:
                await asyncio.sleep(1000)
            return Look((), ("pod web-1: connection refused",))
        if until is None or now <= until:
            return Look((), ())
        for place, rate in enumerate(self.rates):
            self._due[place] += rate * (now - until)
        n0, k0, n1, k1 = (int(due + 1e-6) for due in self._due)
        self._due = [due - int(due + 1e-6) for due in self._due]
        return Look((("errors", c.Events(until, now, (c.Pod("a", n0, k0),), (c.Pod("b", n1, k1),))),), ())

    def explained(self, message: str) -> str:
        return message

    async def close(self) -> None: ...

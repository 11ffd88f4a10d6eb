"""How many requests each version's pods have answered since the last look: for whether a split has taken effect.

Less is needed than for a verdict, no failures and no latencies, and it has to be had within seconds: the pods are asked
themselves, a few of each version, and each only where one of its version has answered before. A pod counts in an
interval if it was seen at both of its ends.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable

import aiohttp
import msgspec

from davylamp.analysis.effect import Interval
from davylamp.signals.conventions import Choice, Names, counter, read, vague
from davylamp.signals.exposition import BadExposition, Exposition
from davylamp.signals.scrape import Scrape, Target, merged, scrape

MOST = 10
"""Pods of each version that are asked, the same ones each time."""
SECONDS = 1.0
"""How long a pod may take to answer."""
MAX_BYTES = 4_000_000
_PARALLEL = 8


class Pods(msgspec.Struct, frozen=True):
    """Where the pods of the two versions can be asked, and how often each is probed (in a second)."""

    stable: tuple[Target, ...]
    canary: tuple[Target, ...]
    probes: tuple[float, float] = (0.0, 0.0)


class _Pod(msgspec.Struct, frozen=True):
    """A pod at the last look."""

    at: float
    clear: float
    """Requests by series that tell their path."""
    vague: float
    """By others, where probes and our own questions may be among them."""
    noise: float = 0.0
    """Of those that are still to be expected."""


class _Delta(msgspec.Struct, frozen=True):
    pod: str
    users: int
    at_most: int


class _Side:
    """One version's pods."""

    def __init__(self) -> None:
        self.where: int | None = None
        """Which of a pod's addresses has metrics."""
        self.choice: Choice | None = None
        self.before: dict[str, _Pod] = {}

    def take(self, found: Iterable[Scrape], names: Names, probes: float) -> list[_Delta]:
        """What the pods have counted since they were last seen."""
        answered = [one for one in found if one.exposition is not None]
        if self.choice is None or not any(one.clear or one.vague for one in self.before.values()):
            # Whatever counts now and did not before stood at 0.
            self.choice = counter(merged(answered), names) or self.choice
        deltas, now = [], {}
        for one in answered:
            assert one.exposition is not None
            name, old = one.target.pod, self.before.get(one.target.pod)
            clear, vague = _counted(one.exposition, self.choice)
            now[name] = _Pod(one.at, clear, vague, 2.0 if probes else 0.0)  # a probe may come at any moment
            if old is None or clear < old.clear or vague < old.vague:
                continue
            noise = min(old.noise + 1 + probes * (one.at - old.at), 3 + 2 * probes)
            others = vague - old.vague
            ours = min(others, float(int(noise)))
            now[name] = _Pod(one.at, clear, vague, noise - ours)
            users = clear - old.clear + others
            deltas.append(_Delta(name, round(users - ours), round(users)))
        self.before = now
        return deltas


class Requests:
    """Of one release. What the last look found is all that it keeps."""

    def __init__(self, session: aiohttp.ClientSession, names: Names) -> None:
        self._session = session
        self._names = names
        self._stable, self._canary = _Side(), _Side()
        self._at: float | None = None
        self.blind = False
        """No pod has metrics. That stays so."""

    @property
    def known(self) -> bool:
        """Whether the canary's pods are known to count: else nothing follows from nothing."""
        return self._canary.choice is not None

    async def look(self, now: float, pods: Pods) -> Interval | None:
        """What was counted since the last look; `now` in seconds since the epoch. None where that can't be told, as
        in the first look. Cancelling it loses nothing but this look."""
        if self.blind:
            return None
        sides = ((self._stable, _some(pods.stable)), (self._canary, _some(pods.canary)))
        found = await asyncio.gather(*(self._ask(side, targets, now) for side, targets in sides))
        if all(targets and side.where is None for side, targets in sides):
            self.blind = True
            return None
        stable = self._stable.take(found[0], self._names, pods.probes[0])
        canary = self._canary.take(found[1], self._names, pods.probes[1])
        before, self._at = self._at, now
        if before is None or not stable or not canary or self._stable.choice is None:
            return None
        return Interval(
            now - before,
            sum(one.users for one in stable),
            sum(one.users for one in canary),
            sum(one.at_most for one in canary),
            len(stable) / len(pods.stable),
            len(canary) / len(pods.canary),
        )

    async def _ask(self, side: _Side, targets: tuple[Target, ...], now: float) -> list[Scrape]:
        """The first alone, until it is known where these pods have metrics; then all at once, there."""
        if targets and side.where is None:
            first = (await self._scrape(targets[:1], now))[0]
            if first.exposition is None:
                return []
            side.where = first.target.urls.index(first.url)
        at = side.where or 0
        return await self._scrape([msgspec.structs.replace(one, urls=one.urls[at : at + 1]) for one in targets], now)

    async def _scrape(self, targets: Iterable[Target], now: float) -> list[Scrape]:
        return await scrape(self._session, targets, now, seconds=SECONDS, max_bytes=MAX_BYTES, parallel=_PARALLEL)


def _counted(exposition: Exposition, choice: Choice | None) -> tuple[float, float]:
    """Requests by series that tell their path, and by others."""
    if choice is None:
        return 0.0, 0.0
    try:
        found = read(exposition, choice).requests
    except BadExposition:
        return 0.0, 0.0
    unclear = sum(value for key, value in found.items() if vague(key))
    return sum(found.values()) - unclear, unclear


def _some(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    if len(targets) <= MOST:
        return targets
    return tuple(sorted(targets, key=lambda one: hashlib.blake2b(one.pod.encode(), digest_size=8).digest())[:MOST])

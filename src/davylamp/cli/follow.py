"""Following one workload until something is so: what `--wait` and `davy watch` have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from davylamp.cli.exits import TIMED_OUT, Failure
from davylamp.cli.picture import Picture
from davylamp.view.lines import Look
from davylamp.view.model import WorkloadView
from davylamp.view.table import one_line

T = TypeVar("T")

NEGLECTED = 20.0
"""Seconds in which a running controller does what it decided: it needs milliseconds, and a restart takes a few."""
LOOK_AGAIN = 60.0
"""Seconds after which a view is made again although nothing was told: what is said of time has changed."""


async def follow(
    picture: Picture,
    namespace: str,
    name: str,
    see: Callable[[WorkloadView], T | None],
    *,
    limit: float | None = None,
    tick: float = LOOK_AGAIN,
) -> T:
    """Show each new view to `see` until it answers. `tick` is the longest time in seconds between two views.

    Raises Failure with TIMED_OUT after `limit` seconds.
    """
    last: list[WorkloadView] = []
    try:
        async with asyncio.timeout(limit):
            return await _follow(picture, namespace, name, see, tick, last)
    except TimeoutError:
        what = f"{namespace}/{name}"
        stands = f" ({last[-1].state}: {last[-1].message})" if last else ""
        raise Failure(f"{what}: not finished within the timeout{stands}", TIMED_OUT) from None


async def _follow(
    picture: Picture,
    namespace: str,
    name: str,
    see: Callable[[WorkloadView], T | None],
    tick: float,
    last: list[WorkloadView],
) -> T:
    async with asyncio.TaskGroup() as group:
        watches = await picture.follow(namespace, name, group)
        while True:
            picture.changed.clear()
            shown = picture.view(namespace, name)
            last[:] = [shown]
            answer = see(shown)
            if answer is not None:
                for watch in watches:
                    watch.cancel()
                return answer
            await _until(picture.changed, _pause(shown, picture.now, tick))


def _pause(view: WorkloadView, now: datetime, tick: float) -> float:
    """Seconds until something changes by itself, at most `tick`."""
    if view.acting:
        tick = min(tick, NEGLECTED)
    due = view.waits.until if view.waits is not None else None
    left = (due - now + timedelta(milliseconds=50)).total_seconds() if due is not None and due > now else tick
    return min(left, tick)


class Journal:
    """One line for each change, with its time."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._last = ""
        self._turning = False

    def line(self, view: WorkloadView, now: datetime) -> str:
        """The line to write, "" where nothing has changed."""
        turning = view.state == "RollingBack"
        line = one_line(view, self._look, now, why=False)
        if line == self._last:
            return ""
        self._last = line
        if turning and not self._turning:
            line = one_line(view, self._look, now)
        self._turning = turning
        return f"{self._look.at(now, now)}  {line}"


class Neglect:
    """Notices that what the controller should do is not done."""

    def __init__(self) -> None:
        self._doing = ""
        self._since: datetime | None = None

    def hint(self, view: WorkloadView, now: datetime) -> str:
        """What to say about it, "" while all is well."""
        doing = f"{view.state} {view.message}" if view.acting else ""
        if not doing or doing != self._doing or self._since is None:
            self._doing, self._since = doing, now
            return ""
        if now - self._since < timedelta(seconds=NEGLECTED):
            return ""
        return f"nothing has been done about this since {self._since.astimezone():%H:%M:%S}: does the controller run?"


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

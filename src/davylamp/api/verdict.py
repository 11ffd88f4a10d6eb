"""What a Release's status says of its analysis: the verdict with its numbers for people, and what programs go on from.

All of it is written by the controller that leads, and bounded in size.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from davylamp.api.objects import Slim

Answer = Literal["worse", "good enough", "not enough data"]


class Counted(Slim, frozen=True):
    """One version since the analysis began, as far as it was measured."""

    requests: int = 0
    """Requests that were counted."""
    failures: int = 0
    """Those of them that failed."""
    slow: float | None = None
    """Seconds within which the requests of the check's quantile were answered (99 % by default), if known."""


class CheckStatus(Slim, frozen=True):
    """One check of the policy."""

    name: str
    """What the check is called."""
    message: str
    """What it has seen, in words and numbers."""
    good: bool = False
    """Whether it is content."""
    evidence: float = 1
    """That the canary is worse, to 1; it suffices at `needed`."""
    needed: float = 100
    """How much evidence would suffice if only this check spoke."""
    requests: tuple[int, ...] = ()
    """Of stable and of the canary."""
    failures: tuple[int, ...] = ()
    """Those of them that failed, were slow or the like."""


class AnalysisStatus(Slim, frozen=True):
    answer: Answer = "not enough data"
    """worse, good enough or not enough data."""
    message: str = ""
    """Why, in words and numbers, and what is still needed."""
    since: datetime | None = None
    """Since when the answer is this one."""
    looked_at: datetime | None = None
    """When the last look was that is counted in here."""
    looks: int = 0
    """How many looks are counted in here."""
    blind: bool = False
    """Whether a check is without data; the release is held meanwhile."""
    pending: bool = False
    """Whether a check elsewhere (a Job that runs, the judge) has yet to say what it finds; steps wait for it."""
    stable: Counted = Counted()
    """What the stable version has served."""
    canary: Counted = Counted()
    """What the canary has served."""
    checks: tuple[CheckStatus, ...] = ()
    """Each check of the policy."""
    limits: tuple[str, ...] = ()
    """What the verdict does not cover."""
    problems: tuple[str, ...] = ()
    """What kept the last look from seeing everything."""
    history: str = ""
    """The counts and the evidence over time, as JSON; `davy verdict` shows them."""
    state: str = ""
    """What the controller goes on from after a restart, as JSON."""


class Slower(msgspec.Struct, frozen=True, array_like=True):
    """What one look brought to a check of latency, so that its evidence can be recomputed."""

    asked: tuple[int, int, int]
    """Requests of stable, of the canary, and of those of its pods that were not known to be warm."""
    bounds: tuple[tuple[float, int, int, int, float, float], ...]
    """For each bucket bound that is followed: the bound, how many of each of these were slower, and how far stable's
    pods differed (chi-square and degrees of freedom)."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """One check at one moment, in the history: counts since the analysis began, so that nothing is lost between two
    points when others go."""

    at: int
    """Seconds since the epoch."""
    check: str
    evidence: float
    requests: tuple[int, int]
    """Of stable and of the canary."""
    failures: tuple[int, int]
    aside: tuple[int, int] = (0, 0)
    """Of the canary's requests and failures those of pods that were not known to be warm."""
    slower: Slower | None = None
    """Latency only, and while there are few looks: what this one brought."""


def points_of(history: str) -> list[Point]:
    """The points of an AnalysisStatus' history, the oldest first; empty where there are none that can be read."""
    try:
        return msgspec.json.decode(history, type=list[Point]) if history else []
    except msgspec.DecodeError:
        return []

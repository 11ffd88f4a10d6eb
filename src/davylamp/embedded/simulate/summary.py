"""Many releases in numbers: how often taken back, how soon, how many requests it took; how long a good one takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from davylamp.api.types import Phase
from davylamp.embedded.simulate.run import Outcome

_Z = 1.959964
"""Of the normal distribution, for 95 %."""


class Share(msgspec.Struct, frozen=True, rename="camel"):
    """So many of so many, and the Wilson interval for the chance at 95 % (Wilson 1927)."""

    count: int
    of: int
    share: float
    low: float
    high: float


class Spread(msgspec.Struct, frozen=True, rename="camel"):
    """Quantiles of what was seen (nearest rank)."""

    least: float
    median: float
    p95: float
    most: float


class Distribution(msgspec.Struct, frozen=True, rename="camel"):
    """Of `runs` releases of one kind of version."""

    runs: int
    taken_back: Share
    completed: Share
    not_ended: int
    """Given up watching."""
    reasons: dict[str, int]
    """Why they were taken back, in a word."""
    until_back: Spread | None
    """Seconds from the start of a release to its end, of those taken back."""
    exposed: Spread | None
    """Seconds in which the new version got requests, of those taken back."""
    requests: Spread | None
    """Requests that the new version got, of those taken back."""
    failed: Spread | None
    """Those of them that failed."""
    until_completed: Spread | None
    """Seconds from the start of a release to its end, of those completed."""


def share(count: int, of: int) -> Share:
    """Raises ValueError where nothing was tried."""
    if of <= 0:
        raise ValueError(f"of: {of} runs give no share; at least 1 is needed")
    part = count / of
    middle, scale = part + _Z**2 / (2 * of), 1 + _Z**2 / of
    half = _Z * math.sqrt(part * (1 - part) / of + _Z**2 / (4 * of**2))
    low, high = (middle - half) / scale if count else 0.0, (middle + half) / scale if count < of else 1.0
    return Share(count, of, part, low, high)


def spread(values: Sequence[float]) -> Spread | None:
    """None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    median, p95 = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.5, 0.95))
    return Spread(ordered[0], median, p95, ordered[-1])


def distribution(found: Iterable[Outcome]) -> Distribution:
    """Of all of them, in whatever order. Raises ValueError where there are none."""
    outcomes = list(found)
    back = [one for one in outcomes if one.phase not in (None, Phase.COMPLETED)]
    done = [one for one in outcomes if one.phase is Phase.COMPLETED]
    return Distribution(
        runs=len(outcomes),
        taken_back=share(len(back), len(outcomes)),
        completed=share(len(done), len(outcomes)),
        not_ended=sum(one.phase is None for one in outcomes),
        reasons=dict(Counter(one.reason for one in back).most_common()),
        until_back=spread([one.seconds for one in back]),
        exposed=spread([one.exposed for one in back]),
        requests=spread([one.served.canary for one in back]),
        failed=spread([one.served.canary_failed for one in back]),
        until_completed=spread([one.seconds for one in done]),
    )

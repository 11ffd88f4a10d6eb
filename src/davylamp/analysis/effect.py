"""Whether the split of the requests has changed as it should: a sequential test that may be looked at any time.

Before a change the canary gets the share `before` of the requests, after it `after`; proxies learn of it one by one and
at moments that nobody tells. What is refuted is "the share stays below a boundary" (above it, where it is to fall),
two fifths of the way from `before` to `after`: so the old split is not taken for the new one, nor one that few of
several proxies have made. For one request that reaches the canary with a chance t of at most b, the likelihood ratio of
`after` and b has the expectation t*p/b + (1-t)*(1-p)/(1-b) <= 1, so that products of it are e-processes.

The change comes at an unknown look, and what was counted before it speaks for the old split. So there is an e-process
for each look j, which is 1 until then; their mean with the weights 1/(j(j+1)) is an e-process, too: by Ville's
inequality it ever reaches 1/ERROR with a probability of at most ERROR while the old split is served, however often one
looks. (Mixtures over the moment of a change: Shin, Ramdas & Rinaldo, "E-detectors", arXiv:2203.03532; the recursion is
that of Shiryaev and Roberts.) Refuting the boundary takes about (4.6 + 2*log looks) / KL(after, boundary) requests.

Requests must reach the canary independently of each other: not where a cookie keeps clients at their version.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

ERROR = 0.01
"""How often the old split may be taken for the new one."""
WAY = 0.4
"""Where the boundary lies between before (0) and after (1). A split that has gone two thirds of the way crosses it."""
STRAY = 0.005
"""Share of requests on the wrong side that a split to one side alone may still have: those that were under way."""
ENOUGH = 200
"""Requests that a measured share before the change must rest on."""
LITTLE = 0.1
"""The share before that is taken for one that nobody knows, where the canary is to get nothing."""
BEFORE = 2.33
"""Standard errors by which a share before the change may have been measured too low or too high: 1 %."""
DOUBT = math.log(10)
"""Log evidence for the old split, in the last moments, by which the new one is not believed without proof."""
MOVED = 3.0
"""Standard errors by which a share has left the one before."""
_HELD = 64
"""Looks that are remembered one by one."""

Answer = Literal["seen", "unclear", "against"]


class Claim(msgspec.Struct, frozen=True):
    """What should have happened: shares of the requests that reach the canary, from 0 to 1, and differing."""

    before: float
    after: float
    sure: bool = True
    """False: nobody knows how it was before. It can be told then that the canary gets requests still, and no more."""

    @property
    def boundary(self) -> float:
        return self.before + WAY * (self.after - self.before)


class Interval(msgspec.Struct, frozen=True):
    """Requests between two looks. Of each version the part `of` of its pods was asked."""

    seconds: float
    stable: int
    canary: int
    at_most: int = 0
    """Requests of the canary, where it can't be told whether some of them were probes; at least `canary`."""
    of_stable: float = 1.0
    of_canary: float = 1.0


class State(msgspec.Struct, frozen=True):
    looks: int = 0
    log: float = -math.inf
    """Of the sum of the e-processes that have begun, each by its weight."""
    run: float = 0.0
    """Log likelihood ratio since the change seems to have come; and what was counted since then:"""
    seconds: float = 0.0
    stable: int = 0
    canary: int = 0
    recent: tuple[tuple[float, float, int, int], ...] = ()
    """Of the last looks: seconds, log likelihood ratio at most, requests of stable and of the canary."""
    still: bool = True
    """Nobody reached the side that is to get nothing, in the last look (True where no side is)."""


def claim(
    before: float, after: float, measured: tuple[int, int] | None, *, sure: bool = True, all_of_it: bool = False
) -> Claim | None:
    """What to test; None where nothing can be told.

    `before` and `after` are the shares that the weights mean, `measured` the requests of stable and canary that were
    counted before the change. They tell who else there is: clients that are chosen whatever the weight, and requests
    that come past the routes. Where there are enough of them, the share before is the measured one, and `after` is
    corrected alike, unless the change moves `all_of_it`. Without them `before` is believed, if it is `sure` that nobody
    is chosen. Then more cannot have reached the canary, and a count of more is of something else. Where it is neither
    known nor measured, it can still be seen whether the canary gets nothing, if that is what should be.
    """
    total = sum(measured) if measured is not None else 0
    seen = measured[1] / total if measured is not None and total >= ENOUGH else None
    if seen is None or (sure and seen > before):
        nothing = Claim(LITTLE, after, sure=False) if all_of_it and after == 0 else None
        return _apart(before, after) if sure else nothing
    if not all_of_it and before < 1:
        chosen = (seen - before) / (1 - before)
        after = chosen + (1 - chosen) * after if seen >= before else after * seen / before
    slack = BEFORE * math.sqrt(max(seen * (1 - seen), 1 / total) / total)
    rises = after > seen
    found = _apart(min(1.0, seen + slack) if rises else max(0.0, seen - slack), after)
    return found if found is not None and rises == (found.after > found.before) else None


def _apart(before: float, after: float) -> Claim | None:
    return Claim(before, after) if abs(after - before) > 1e-6 else None


def take(state: State, claim: Claim, found: Interval) -> State:
    """The state after one more look."""
    looks = state.looks + 1
    gain = _gain(claim, found, found.canary)
    weight = -math.log(looks * (looks + 1))
    log = _added(state.log, weight) + gain
    began = state.run <= 0
    run = max(state.run, 0.0) + gain
    doubtful = _gain(claim, found, max(found.at_most, found.canary))
    better = max(gain, doubtful) if claim.after > claim.before else min(gain, doubtful)
    return State(
        looks,
        log,
        run,
        found.seconds + (0.0 if began else state.seconds),
        found.stable + (0 if began else state.stable),
        found.canary + (0 if began else state.canary),
        (*state.recent, (found.seconds, better, found.stable, max(found.at_most, found.canary)))[-_HELD:],
        {0.0: not found.canary, 1.0: not found.stable}.get(claim.after, True),
    )


def _gain(claim: Claim, found: Interval, canary: int) -> float:
    """Log likelihood ratio of the share after and the boundary."""
    span = claim.after - claim.before
    stray = min(STRAY, abs(span) / 20)
    after = _among(min(max(claim.after, stray), 1 - stray), found)
    boundary = _among(claim.boundary, found)
    return canary * math.log(after / boundary) + found.stable * math.log((1 - after) / (1 - boundary))


def _among(share: float, found: Interval) -> float:
    """A share of all requests as one of those that are counted."""
    canary = share * found.of_canary
    return canary / (canary + (1 - share) * found.of_stable)


def _added(one: float, two: float) -> float:
    """log(exp(one) + exp(two))."""
    top = max(one, two)
    return top + math.log(math.exp(one - top) + math.exp(two - top))


def evidence(state: State) -> float:
    """Log of the e-value against "the old split is served to this moment"."""
    return _added(state.log, -math.log(state.looks + 1))  # those that haven't begun are 1


def answer(state: State, window: float) -> Answer:
    """What is known now. `against`: the looks of the last `window` seconds speak for the old split."""
    if evidence(state) >= -math.log(ERROR) and state.still:
        return "seen"
    recent = _lately(state, window)
    return "against" if sum(look[1] for look in recent) <= -DOUBT else "unclear"


def moved(state: State, claim: Claim, window: float) -> bool:
    """Whether in the last `window` seconds the share has left the one before, though it may not be what it should."""
    stable, canary = lately(state, window)
    total = stable + canary
    if canary < 5 or stable + canary == 0:
        return False
    error = math.sqrt(max(claim.before * (1 - claim.before), 1 / total) / total)
    away = (canary / total - claim.before) * (1 if claim.after > claim.before else -1)
    return away > MOVED * error


def lately(state: State, window: float) -> tuple[int, int]:
    """Requests of stable and of the canary in the looks of the last `window` seconds."""
    recent = _lately(state, window)
    return sum(look[2] for look in recent), sum(look[3] for look in recent)


def _lately(state: State, window: float) -> list[tuple[float, float, int, int]]:
    found: list[tuple[float, float, int, int]] = []
    left = window
    for look in reversed(state.recent):
        if left <= 0:
            break
        found.append(look)
        left -= look[0]
    return found

"""Cold starts: what young pods show is kept aside until they, warm, confirm it.

A pod's first requests fill caches, open connections and compile code; more of them fail or are slow, whatever the
version. Nobody knows how long that takes. So there are two accounts of the same bets (`shares`):

- everything: on the failures of all of the canary's pods, from the first request on;
- the warm ones': on those of pods that are known to be warm, and of no others.

Until they have confirmed it, the smaller of the two counts. Where the young pods are known to fail in less than FEW of
their requests, the warm ones confirm it as soon as their account has made CONFIRMED of its stake. So little is lost
where a version is bad from its start and that takes time to be seen. Where they fail more, the warm pods' account has
to suffice by itself; with so many failures it soon does. What is promised:

- A canary that is no worse from its first request on is rejected as seldom as ever: never more counts than the account
  of everything has.
- A canary with a cold start in which more than FEW fail, and that is no worse once its pods are warm, is rejected as
  seldom as ever: no more counts than the warm pods' account has. With a smaller cold start it is rejected with a
  probability of at most 1/CONFIRMED; docs/analysis.md says how seldom in fact.

Most of the warm account's stake is on what the other account has found likely so far (bets may depend on anything that
was known before), the rest is spread as at the beginning, for a version that is bad in another way than its start was.

A pod is warm `warm_up` seconds after its first request, or as soon as it is seen to be, after a third of that: young
pods are no slower than stable's (the latency check sees that) and are known to fail in less than RARE of their
requests. Young pods of which half the requests fail are not cold but broken, and all counts at once.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from davylamp.analysis import rare, shares
from davylamp.analysis.shares import Array

CONFIRMED = 10.0
FEW = 0.04
RARE = 0.025
"""A share of failures so small that waiting for the end of the warm-up would cost more than a cold start does."""
_LEARNED = 0.8
"""The part of the warm account's stake that follows what was found in the other."""
_MOSTLY, _PARTLY = math.log(_LEARNED), math.log1p(-_LEARNED)
_BROKEN = 0.5
_SURE = 1.28
"""Standard errors: one-sided 90 %."""
_PLAINLY = 2.5
"""Standard errors. Little is lost where warm pods are taken for slow, so less than usual is asked for."""
_ENOUGH = 100
"""Requests from which it is known whether young pods are slow."""
_FIRST = 1 / 3
"""Of the warm-up: a pod that is younger is never seen to be warm."""


class Warm(msgspec.Struct, frozen=True, array_like=True):
    """The warm pods' account."""

    spread: bytes = shares.OPENING
    """Log factors of the part that is spread over all alternatives."""
    learned: float = 0.0
    """Log factor of the part that follows what was found."""
    failures: int = 0
    requests: int = 0
    """Of all young pods so far."""


def young(age: float | None, warm_up: float) -> bool:
    """Whether a pod of this `age` may still be warming up."""
    return age is not None and age < warm_up


def warm(state: Warm, age: float | None, warm_up: float, *, fast: bool) -> bool:
    """Whether a pod is known to be warm, before what this interval brings is looked at. `fast`: young pods have been
    seen to be no slower than stable's."""
    if not young(age, warm_up):
        return True
    return fast and age is not None and age >= _FIRST * warm_up and at_most(state.failures, state.requests) < RARE


def bet(state: Warm, learned: float, spread: bytes, failures: int, requests: int) -> Warm:
    """The account after an interval. `learned` is what the bets on warm pods have added to the log of a stake that is
    spread as that of the account of everything was before it, `spread` the part that is spread over all alternatives
    after them; and failures and requests of the young pods."""
    return Warm(spread, state.learned + learned, state.failures + failures, state.requests + requests)


def confirmed(learned: Array | float, spread: Array | float) -> Array:
    """Log of what the account has made of its stake of 1, in both of its parts."""
    return np.logaddexp(_MOSTLY + np.asarray(learned), _PARTLY + np.asarray(spread))


def counts(state: Warm, everything: float, spread: float) -> float:
    """How much of the log evidence `everything` counts. `spread` is the log of what the account's part that is spread
    over all alternatives has made of its stake."""
    if state.failures >= max(_BROKEN * state.requests, 1):
        return everything
    found = rare.either(_MOSTLY + state.learned, _PARTLY + spread)
    enough = found >= math.log(CONFIRMED) and (not state.failures or at_most(state.failures, state.requests) < FEW)
    return everything if enough else min(everything, found)


def no_slower(slow: Array, asked: float, stable_slow: Array, stable_asked: float, tolerate: float) -> bool:
    """Whether young pods, of whose `asked` requests so many are slower than each of several bounds, are seen to be no
    slower than stable's at the same time (two proportions)."""
    if asked < _ENOUGH or stable_asked < _ENOUGH:
        return False
    pooled = (slow + stable_slow) / (asked + stable_asked)
    error = np.sqrt(pooled * (1 - pooled) * (1 / asked + tolerate**2 / stable_asked))
    return not bool(((slow > 1) & (slow / asked - tolerate * stable_slow / stable_asked > _PLAINLY * error)).any())


def at_most(failures: int, requests: int) -> float:
    """The largest share of failures that pods of which so many requests failed may have (90 %; Byar's approximation
    for Poisson counts)."""
    if not requests:
        return 1.0
    more = failures + 1.0
    return float(more * (1 - 1 / (9 * more) + _SURE / (3 * math.sqrt(more))) ** 3 / requests)

"""Durations: at each bucket bound, being slower than it is an event, and the evidence is the mean over the bounds.

Evidence values may depend on each other in any way and their mean is one (Vovk & Wang, Annals of Statistics 2021), so
the whole distribution is compared without choosing a quantile, with any buckets that the versions have in common. Good
enough is judged at one bound only, the one at the check's quantile: few requests are slower than the last bounds, so
that nothing could ever be said there.

Intervals in which only stable serves say nothing about the canary, but what to expect: which bounds divide the
requests, stable's rates, how far its pods differ. If both serve from the first interval on, the bounds are chosen from
its counts of both together.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from davylamp.analysis import blocks, common, rare, shares
from davylamp.analysis import duel as d
from davylamp.analysis.common import ASKED, BESIDE, CHI, FREEDOM, LESS, MORE, SLOW, WIDTH, YOUNG
from davylamp.analysis.counts import Histogram, Latencies
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.shares import Array
from davylamp.analysis.warmup import Warm, bet, no_slower, young

Places = NDArray[np.int64]
Bounds = tuple[float, ...]

MOST = 12
"""Bounds that are followed, at most."""
_ENOUGH = 300
"""Requests from which a quantile is read off. (Of 100 a single one that was far slower often chose the bound.)"""
_ABOVE = 1
"""Bounds above the slowest request that are followed too: a worse version may be slower than anything seen."""

_OPENING = shares.pack(np.zeros(len(blocks.WORSE)))


class Latency(msgspec.Struct, frozen=True, tag="latency", dict=True):
    bounds: tuple[float, ...] = ()
    """Those followed; chosen at the first interval in which stable serves."""
    followed: bytes = b""
    """A row of numbers for each bound; `common` has the names of the columns."""
    bound: float | None = None
    """The one at the quantile."""
    until_then: bytes = b""
    """Before it is chosen: requests, and those slower, at each bound that is followed."""
    duel: d.Duel = msgspec.field(default_factory=lambda: d.begin(_OPENING))
    """At that bound; before it is chosen only the requests are counted."""
    warm: Warm = Warm()
    """What warm pods have shown, at all bounds."""
    beside: int = 0
    """Requests of stable's pods in the intervals in which pods of the canary were young."""

    @functools.cached_property
    def sums(self) -> common.Sums:
        """To be read only."""
        kept = (self.warm.spread, self.duel.worse + self.duel.better)
        spread, at_the_bound = (shares.unpack(raw).reshape(-1, CHI) for raw in kept)
        return common.Sums(shares.unpack(self.followed).reshape(-1, WIDTH), spread, at_the_bound)

    @property
    def table(self) -> Array:
        """What is `followed`."""
        return self.sums.table

    @functools.cached_property
    def capital(self) -> float:
        """Log of what all bets have made of a stake of 1, of all pods, cold or warm."""
        return rare.log_mean(self.table[:, :CHI].ravel().tolist()) if self.bounds else 0.0

    @functools.cached_property
    def spread(self) -> float:
        """Log of what the warm pods' account has made of the part of its stake that is spread."""
        return rare.log_mean(self.sums.spread.ravel().tolist())


class Unusable(ValueError):
    """These counts can't be compared; the message says why."""


def begin() -> Latency:
    return Latency()


def look(state: Latency, found: Latencies, check: Check, rules: Rules) -> tuple[Latency, tuple[str, ...]]:
    """The state after the counts `found`, and the pods that are not known to be warm.

    Raises Unusable if stable and canary have no bucket bound in common, or none of those followed so far.
    """
    stable = [pod for pod in found.stable if any(pod.counts)]
    canary = [pod for pod in found.canary if any(pod.counts)]
    pods = [*stable, *canary]
    shared = _shared(pods)
    if stable and canary and not shared:
        raise Unusable("stable and canary have no bucket bound in common")
    fresh = [young(pod.age, rules.warm_up) for pod in canary]
    cold = tuple([pod.pod for pod, new in zip(canary, fresh, strict=True) if new])
    seconds = found.end - found.start
    if not stable:
        now = d.Round(0, sum([sum(pod.counts) for pod in canary]), 0, 0, seconds)
        after = msgspec.structs.replace(state, duel=d.meet(state.duel, now, rules.ratios, settled=False))
        after.__dict__.update(state.__dict__)  # the same sums
        return after, cold
    if not state.bounds or not (_places(state.bounds, shared)[1] or state.table[:, [MORE, LESS]].any()):
        state = _follow(state, shared, pods)
    columns, bounds = _places(state.bounds, shared)
    if not bounds:
        raise Unusable(f"the buckets changed: none of the bounds {_list(state.bounds)} is left, found {_list(shared)}")
    slower = _slower(pods, bounds)
    if state.bound is None:
        state = _choose(state, np.add.reduce(slower), columns, check)
    place = -1 if state.bound is None else state.bounds.index(state.bound)
    made = common.Interval(slower, len(stable), _warm(len(stable), tuple(fresh)), columns, place)
    return _bet(state, made, seconds, rules), cold


class Brought(NamedTuple):
    """What counts bring at the bounds that are followed: with the state before it is all that makes the state after."""

    asked: tuple[int, int, int]
    """Requests of stable, of the canary, and of its young pods."""
    bounds: tuple[tuple[float, int, int, int, float, float], ...]
    """Each bound, how many of these were slower, and the dispersion between stable's pods."""


def brought(state: Latency, found: Latencies, rules: Rules) -> Brought:
    """What `found` brought to the `state` that it led to."""
    stable = [pod for pod in found.stable if any(pod.counts)]
    canary = [pod for pod in found.canary if any(pod.counts)]
    shared = _shared([*stable, *canary]) if stable else ()
    bounds = tuple(bound for bound in state.bounds if bound in shared)
    old, new = (_slower(pods, bounds) for pods in (stable, canary))
    fresh = np.array([young(pod.age, rules.warm_up) for pod in canary], bool)
    sides = [np.add.reduce(each) for each in (old, new, new[fresh])]
    differing: tuple[Any, Any] = blocks.dispersion(old[:, :-1], old[:, -1]) if stable else ((), ())
    columns = [*(side[:-1] for side in sides), *differing]
    rows = [
        (float(le), int(k0), int(k1), int(cold), float(chi), float(free))
        for le, k0, k1, cold, chi, free in zip(bounds, *columns, strict=True)
    ]
    return Brought((int(sides[0][-1]), int(sides[1][-1]), int(sides[2][-1])), tuple(rows))


def _bet(state: Latency, made: common.Interval, seconds: float, rules: Rules) -> Latency:
    """The state after an interval with requests of stable."""
    sums, found = common.after(state.sums, made, rules.tolerate, rules.good_enough)
    n0, n1, n = int(found.n0), int(found.n1), int(found.n)
    learned = found.own - state.capital if n else 0.0
    account = bet(state.warm, learned, shares.pack(sums.spread), 0, n1 - n)
    duel = state.duel
    if made.place >= 0 and made.columns[made.place] >= 0:
        this = d.Round(n0, n1, int(found.k0), int(found.k1), seconds, d.Common(found.rate, found.power))
        worse, better = shares.pack(sums.duel[0]), shares.pack(sums.duel[1])
        its = rare.Sums(worse, better, duel.harmless, (found.worse, found.better, 0.0))
        duel = d.meet(duel, this, rules.ratios, settled=n == n1, sums=its)
    beside = state.beside + (n0 if n < n1 else 0)
    after = Latency(state.bounds, shares.pack(sums.table), state.bound, state.until_then, duel, account, beside)
    # Nothing of these need be computed again.
    after.__dict__.update(sums=sums, capital=found.table, spread=found.spread)
    return after


def _choose(state: Latency, both: Array, columns: Places, check: Check) -> Latency:
    """With the bound at the quantile, once there are requests enough; `both` are those of both versions that were
    slower than the bounds that have a column, and, last, all."""
    seen = shares.unpack(state.until_then).reshape(2, -1) if state.until_then else np.zeros((2, len(state.bounds)))
    mine = np.flatnonzero(columns >= 0)
    seen[0, mine] += both[-1]
    seen[1, mine] += both[:-1]
    asked, slower = seen[:, mine]
    if asked.min() < _ENOUGH:
        return msgspec.structs.replace(state, until_then=shares.pack(seen))
    bound = _at(check.quantile, np.array(state.bounds)[mine], slower / asked)
    return msgspec.structs.replace(state, bound=bound, until_then=b"")


def fast(state: Latency, rules: Rules) -> bool:
    """Whether the canary's young pods have been seen to be no slower than stable's."""
    slow, stable = state.table[:, [YOUNG, BESIDE]].T
    return no_slower(slow, state.warm.requests, stable, state.beside, rules.tolerate)


def compared(state: Latency) -> bool:
    """Whether there was an interval in which both versions served."""
    return min(state.duel.tally.requests) > 0 or bool(state.table[:, [MORE, LESS]].any())


def how(state: Latency) -> d.Common | None:
    """How the next bet at the quantile's bound will be made; None before there is one."""
    if state.bound is None:
        return None
    row = state.table[state.bounds.index(state.bound)].tolist()
    return d.Common(common.expected(row[SLOW], row[ASKED]), common.tempering(row[CHI], row[FREEDOM]))


def against(state: Latency) -> float:
    """Log evidence that the canary is slower than tolerated, of all pods, cold or warm."""
    return state.capital


def culprit(state: Latency) -> tuple[float, float] | None:
    """The bound with the most evidence, and how many times as many of the canary's requests are slower than it."""
    if not state.bounds:
        return None
    at = int(_by_bound(state).argmax())
    more, less = state.table[at, [MORE, LESS]]
    return state.bounds[at], float(more / less) if less > 0 else float("inf")


def _by_bound(state: Latency) -> Array:
    return shares.log_mean(state.table[:, :CHI])


def _shared(pods: list[Histogram]) -> Bounds:
    """The bounds that all have in common. Nearly always all are the same tuple, which is then hashed once."""
    kinds = {id(pod.bounds): pod.bounds for pod in pods}
    return _common(frozenset(kinds.values()))


@functools.lru_cache(maxsize=256)
def _common(kinds: frozenset[Bounds]) -> Bounds:
    return tuple(sorted(set.intersection(*(set(bounds) for bounds in kinds)))) if kinds else ()


@functools.lru_cache(maxsize=256)
def _places(followed: Bounds, shared: Bounds) -> tuple[Places, Bounds]:
    """The bounds that both have, and before them where each of those `followed` stands among them; -1 if it doesn't."""
    both = tuple(bound for bound in followed if bound in shared)
    return np.array([both.index(bound) if bound in shared else -1 for bound in followed], np.int64), both


@functools.lru_cache(maxsize=256)
def _warm(stable: int, fresh: tuple[bool, ...]) -> NDArray[np.bool_]:
    """Of stable's pods and the canary's, which are warm."""
    return np.array([*[True] * stable, *(not new for new in fresh)], bool)


@functools.lru_cache(maxsize=256)
def _above(own: Bounds, bounds: Bounds) -> Array:
    """The matrix that makes of requests by bucket those above each of `bounds`, and, last, all."""
    above = np.arange(len(own) + 1)[:, None] > np.searchsorted(own, bounds)
    return np.hstack([above, np.ones((len(own) + 1, 1))]).astype(float)


def _slower(pods: list[Histogram], bounds: Bounds) -> Array:
    """Of each of `pods` (a row): how many requests took longer than each of `bounds`, which all pods have; and, last,
    how many there were."""
    if not pods:
        return np.zeros((0, len(bounds) + 1))
    own = pods[0].bounds
    if [pod.bounds for pod in pods].count(own) == len(pods):
        return np.array([pod.counts for pod in pods], float) @ _above(own, bounds)
    return np.stack([np.array(pod.counts, float) @ _above(pod.bounds, bounds) for pod in pods])


def _follow(state: Latency, bounds: Bounds, pods: list[Histogram]) -> Latency:
    """Follow the bounds that divide the requests, and the next above; evenly chosen if they are too many."""
    *slower, total = np.add.reduce(_slower(pods, bounds)).tolist()
    last = sum(k > 0 for k in slower) + _ABOVE
    useful = [bound for bound, k in zip(bounds[:last], slower, strict=False) if k < total]
    kept = useful or list(bounds)
    if len(kept) > MOST:
        kept = [kept[round(i)] for i in np.linspace(0, len(kept) - 1, MOST)]
    nothing = shares.pack(np.zeros((len(kept), WIDTH)))
    account = msgspec.structs.replace(state.warm, spread=shares.pack(np.zeros(len(kept) * CHI)))
    return msgspec.structs.replace(
        state, bounds=tuple(kept), followed=nothing, bound=None, until_then=b"", warm=account
    )


def _at(quantile: float, bounds: Array, slower: Array) -> float:
    """The largest bound that at least the share 1 - quantile of the requests exceeds; the smallest if none is."""
    reached = [float(bound) for bound, part in zip(bounds, slower, strict=True) if part >= 1 - quantile]
    return max(reached, default=float(bounds[0]))


def _list(bounds: Bounds) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds) or "none"

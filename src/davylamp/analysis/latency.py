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

from davylamp.analysis import blocks, once, shares
from davylamp.analysis import duel as d
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


_KEPT = 0.9
"""What an interval counts for in what is expected of stable, compared with the next."""

CHI = len(blocks.WORSE)  # the columns before it: log capital for each alternative
FREEDOM, MORE, LESS, SLOW, ASKED, YOUNG, BESIDE = range(CHI + 1, CHI + 8)
"""Sums of the dispersion between stable's pods; the Mantel-Haenszel sums (`duel.Tally`); stable's slow requests and all
of them, lately; slow requests of young pods of the canary, and of stable's at the same time."""
_WIDTH = BESIDE + 1
_OPENING = shares.pack(np.zeros(len(blocks.WORSE)))


class Latency(msgspec.Struct, frozen=True, tag="latency", dict=True):
    bounds: tuple[float, ...] = ()
    """Those followed; chosen at the first interval in which stable serves."""
    followed: bytes = b""
    """A row of numbers for each bound; see the names of the columns below."""
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
    def table(self) -> Array:
        """What is `followed`, to be read only."""
        return shares.unpack(self.followed).reshape(-1, _WIDTH)

    @functools.cached_property
    def capital(self) -> float:
        """Log of what all bets have made of a stake of 1, of all pods, cold or warm."""
        return once.log_mean(self.table[:, :CHI]) if self.bounds else 0.0

    @functools.cached_property
    def spread(self) -> float:
        """Log of what the warm pods' account has made of the part of its stake that is spread."""
        return once.log_mean(shares.unpack(self.warm.spread))


class Unusable(ValueError):
    """These counts can't be compared; the message says why."""


def begin() -> Latency:
    return Latency()


def claims(rules: Rules) -> d.Claims:
    return d.Claims(rules.tolerate, rules.good_enough, None)


def look(state: Latency, found: Latencies, check: Check, rules: Rules) -> tuple[Latency, tuple[str, ...]]:
    """The state after the counts `found`, and the pods that are not known to be warm.

    Raises Unusable if stable and canary have no bucket bound in common, or none of those followed so far.
    """
    stable = [pod for pod in found.stable if any(pod.counts)]
    canary = [pod for pod in found.canary if any(pod.counts)]
    shared = _common(frozenset(pod.bounds for pod in [*stable, *canary]))
    if stable and canary and not shared:
        raise Unusable("stable and canary have no bucket bound in common")
    fresh = [young(pod.age, rules.warm_up) for pod in canary]
    cold = tuple(pod.pod for pod, new in zip(canary, fresh, strict=True) if new)
    if not stable:
        now = d.Round(0, sum([sum(pod.counts) for pod in canary]), 0, 0, found.end - found.start)
        return msgspec.structs.replace(state, duel=d.meet(state.duel, now, claims(rules), settled=False)), cold
    if not state.bounds or not (_places(state.bounds, shared)[1] or state.table[:, [MORE, LESS]].any()):
        state = _follow(state, shared, [*stable, *canary])
    mine, bounds = _places(state.bounds, shared)
    if not bounds:
        raise Unusable(f"the buckets changed: none of the bounds {_list(state.bounds)} is left, found {_list(shared)}")
    counted = _slower([*stable, *canary], bounds)
    old, new = counted[: len(stable)], counted[len(stable) :]
    slow0, slow1 = np.add.reduce(old), np.add.reduce(new)
    n0, n1 = int(slow0[-1]), int(slow1[-1])
    spread = once.dispersion(old[:, :-1], old[:, -1], slow0)
    warm = np.add.reduce(new[~np.array(fresh)]) if cold else slow1
    now = d.Round(n0, n1, 0, 0, found.end - found.start)
    made = _Interval(now, mine, slow0[:-1], slow1[:-1], int(warm[-1]), warm[:-1], spread)
    return _bet(state, made, check, rules), cold


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
    shared = _common(frozenset(pod.bounds for pod in [*stable, *canary])) if stable else ()
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


class _Interval(NamedTuple):
    """What an interval brought: at the followed bounds at the places `mine`, so many requests were slower."""

    round: d.Round
    mine: Places
    k0: Array
    k1: Array
    warm: int
    """Requests of the canary's pods that are warm."""
    warm_k1: Array
    spread: tuple[Array, Array]
    """Between stable's pods."""


def _bet(state: Latency, made: _Interval, check: Check, rules: Rules) -> Latency:
    mine, now, k0, k1 = made.mine, made.round, made.k0, made.k1
    n0, n1 = int(now.n0), int(now.n1)
    fresh = n1 - made.warm
    whole = len(mine) == len(state.bounds)
    followed = state.table.copy()
    rows = followed if whole else followed[mine]
    column = rows.T
    column[CHI] += made.spread[0]
    column[FREEDOM] += made.spread[1]
    rate, power = _expected(column), blocks.tempering(column[CHI], column[FREEDOM])
    every = once.blocks_at(k0, k1, n0, n1, rules.tolerate, rate, power)
    rows[:, :CHI] += every
    column[MORE] += k1 * (n0 / (n0 + n1))
    column[LESS] += k0 * (n1 / (n0 + n1))
    column[SLOW : ASKED + 1] *= _KEPT
    column[SLOW] += k0
    column[ASKED] += n0
    if fresh:
        column[YOUNG] += k1 - made.warm_k1
        column[BESIDE] += k0
    learned, spread, grown = 0.0, state.warm.spread, (state.capital, state.spread)
    if made.warm:
        bets = every
        if fresh:
            bets = once.blocks_at(k0, made.warm_k1, n0, made.warm, rules.tolerate, rate, power)
        bets = _at_places(bets, mine, len(followed))
        both = np.empty((2, *bets.shape))
        np.add(state.table[:, :CHI], bets, both[0])
        np.add(shares.unpack(spread).reshape(-1, CHI), bets, both[1])
        grown = once.log_means(both)
        learned, spread = grown[0] - state.capital, shares.pack(both[1])
    account = bet(state.warm, learned, spread, 0, fresh)
    if not whole:
        followed[mine] = rows
    bound, until_then = state.bound, state.until_then
    if bound is None:
        bound, until_then = _chosen(state, made, check)
    duel = state.duel
    if bound is not None and (place := _place(state.bounds, bound, mine)) is not None:
        how = d.Common(float(rate[place]), float(power[place]))
        this = d.Round(n0, n1, int(k0[place]), int(k1[place]), now.seconds, how)
        duel = d.meet(duel, this, claims(rules), settled=not fresh, against=every[place].tolist())
    beside = state.beside + (n0 if fresh else 0)
    after = Latency(state.bounds, shares.pack(followed), bound, until_then, duel, account, beside)
    # Nothing of these need be computed again.
    after.__dict__.update(table=followed, spread=grown[1])
    if not fresh:
        after.__dict__["capital"] = grown[0]  # the same bets
    return after


def _chosen(state: Latency, made: _Interval, check: Check) -> tuple[float | None, bytes]:
    """The bound at the quantile and b"", once there are requests enough; None and the requests until then."""
    mine, now = made.mine, made.round
    seen = shares.unpack(state.until_then).reshape(2, -1) if state.until_then else np.zeros((2, len(state.bounds)))
    seen[:, mine] += (np.full(len(mine), now.n0 + now.n1), made.k0 + made.k1)
    asked, slower = seen[:, mine]
    if asked.min() < _ENOUGH:
        return None, shares.pack(seen)
    return _at(check.quantile, np.array(state.bounds)[mine], slower / asked), b""


def _place(followed: Bounds, bound: float, mine: Places) -> int | None:
    """Where `bound` is among those of the places `mine`; None where it isn't."""
    place = followed.index(bound)
    return place if len(mine) == len(followed) else next(iter(np.flatnonzero(mine == place).tolist()), None)


def _at_places(rows: Array, places: Places, count: int) -> Array:
    """All of `count` rows, of which there are only those at `places`."""
    if len(places) == count:
        return rows
    found = np.zeros((count, CHI))
    found[places] = rows
    return found


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
    row = state.table[[state.bounds.index(state.bound)]]
    return d.Common(float(_expected(row.T)[0]), float(blocks.tempering(row[0, CHI], row[0, FREEDOM])))


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


def _expected(column: Array) -> Array:
    """Stable's rate of slow requests, from the intervals before; NaN at the first."""
    asked = column[ASKED]
    rate = (column[SLOW] + 0.5) / (asked + 1)
    return rate if np.minimum.reduce(asked) > 0 else np.where(asked > 0, rate, np.nan)


@functools.lru_cache(maxsize=256)
def _common(kinds: frozenset[Bounds]) -> Bounds:
    return tuple(sorted(set.intersection(*(set(bounds) for bounds in kinds)))) if kinds else ()


@functools.lru_cache(maxsize=256)
def _places(followed: Bounds, shared: Bounds) -> tuple[Places, Bounds]:
    """Where the bounds that both have stand in `followed`, and they."""
    both = tuple(bound for bound in followed if bound in shared)
    return np.array([followed.index(bound) for bound in both], int), both


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
    if all(pod.bounds == own for pod in pods):
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
    nothing = shares.pack(np.zeros((len(kept), _WIDTH)))
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

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
        return once.log_mean(self.table[:, :CHI].ravel()) if self.bounds else 0.0


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
    asked, slower = _slower([*stable, *canary], shared)
    asked0, slower0, asked1, slower1 = (
        asked[: len(stable)],
        slower[: len(stable)],
        asked[len(stable) :],
        slower[len(stable) :],
    )
    (n0, slow0), (n1, slow1) = _sum(asked0, slower0), _sum(asked1, slower1)
    now = d.Round(n0, n1, 0, 0, found.end - found.start)
    mine, theirs = _places(state.bounds, shared)
    if not len(mine) and not state.table[:, [MORE, LESS]].any():
        state = _follow(state, shared, slow0 + slow1, n0 + n1)
        mine, theirs = _places(state.bounds, shared)
    if not len(mine):
        raise Unusable(f"the buckets changed: none of the bounds {_list(state.bounds)} is left, found {_list(shared)}")
    spread = blocks.dispersion(slower0[:, theirs], asked0)
    n, slow = n1, slow1
    if cold:
        warm = ~np.array(fresh)
        n, slow = _sum(asked1[warm], slower1[warm])
    made = _Interval(now, mine, slow0[theirs], slow1[theirs], n, slow[theirs], spread)
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
    (asked0, slower0), (asked1, slower1) = (_slower(pods, bounds) for pods in (stable, canary))
    fresh = np.array([young(pod.age, rules.warm_up) for pod in canary], bool)
    sides = [_sum(asked0, slower0), _sum(asked1, slower1), _sum(asked1[fresh], slower1[fresh])]
    differing: tuple[Any, Any] = blocks.dispersion(slower0, asked0) if stable else ((), ())
    columns = [*(slow for _, slow in sides), *differing]
    rows = [
        (float(le), int(k0), int(k1), int(cold), float(chi), float(free))
        for le, k0, k1, cold, chi, free in zip(bounds, *columns, strict=True)
    ]
    return Brought((sides[0][0], sides[1][0], sides[2][0]), tuple(rows))


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
    n0, n1, fresh = now.n0, now.n1, now.n1 - made.warm
    whole = len(mine) == len(state.bounds)
    followed = state.table.copy()
    rows = followed if whole else followed[mine]
    rows[:, CHI] += made.spread[0]
    rows[:, FREEDOM] += made.spread[1]
    rate, power = _expected(rows), blocks.tempering(rows[:, CHI], rows[:, FREEDOM])
    every = once.blocks_at(k0, k1, n0, n1, rules.tolerate, rate, power)
    rows[:, :CHI] += every
    rows[:, MORE] += k1 * n0 / (n0 + n1)
    rows[:, LESS] += k0 * n1 / (n0 + n1)
    rows[:, SLOW] = _KEPT * rows[:, SLOW] + k0
    rows[:, ASKED] = _KEPT * rows[:, ASKED] + n0
    if fresh:
        rows[:, YOUNG] += k1 - made.warm_k1
        rows[:, BESIDE] += k0
    learned, spread = 0.0, state.warm.spread
    if made.warm:
        bets = every
        if fresh:
            bets = once.blocks_at(k0, made.warm_k1, n0, made.warm, rules.tolerate, rate, power)
        bets = _at_places(bets, mine, len(followed))
        grown = once.log_mean(state.table[:, :CHI].ravel() + bets)
        learned = grown - state.capital
        spread = shares.pack(shares.unpack(spread) + bets)
    account = bet(state.warm, learned, spread, 0, round(fresh))
    if not whole:
        followed[mine] = rows
    bound, until_then = state.bound, state.until_then
    if bound is None:
        seen = shares.unpack(until_then).reshape(2, -1) if until_then else np.zeros((2, len(state.bounds)))
        seen[:, mine] += (np.full(len(mine), n0 + n1), k0 + k1)
        asked, slower = seen[:, mine]
        enough = asked.min() >= _ENOUGH
        bound = _at(check.quantile, np.array(state.bounds)[mine], slower / asked) if enough else None
        until_then = b"" if enough else shares.pack(seen)
    duel = state.duel
    for place in np.flatnonzero(mine == state.bounds.index(bound)) if bound is not None else ():
        how = d.Common(float(rate[place]), float(power[place]))
        this = d.Round(n0, n1, int(k0[place]), int(k1[place]), now.seconds, how)
        duel = d.meet(duel, this, claims(rules), settled=not fresh, against=every[place].tolist())
    beside = state.beside + (round(n0) if fresh else 0)
    after = Latency(state.bounds, shares.pack(followed), bound, until_then, duel, account, beside)
    after.__dict__["table"] = followed
    if made.warm and not fresh:
        after.__dict__["capital"] = grown  # the same bets: nothing of it need be computed again
    return after


def _at_places(rows: Array, places: Places, count: int) -> Array:
    """In a row all of `count` rows, of which there are only those at `places`."""
    if len(places) == count:
        return rows.ravel()
    found = np.zeros((count, CHI))
    found[places] = rows
    return found.ravel()


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
    return d.Common(float(_expected(row)[0]), float(blocks.tempering(row[0, CHI], row[0, FREEDOM])))


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


def _expected(rows: Array) -> Array:
    """Stable's rate of slow requests, from the intervals before; NaN at the first."""
    asked = rows[:, ASKED]
    return np.where(asked > 0, (rows[:, SLOW] + 0.5) / (asked + 1), np.nan)


@functools.lru_cache(maxsize=256)
def _common(kinds: frozenset[Bounds]) -> Bounds:
    return tuple(sorted(set.intersection(*(set(bounds) for bounds in kinds)))) if kinds else ()


@functools.lru_cache(maxsize=256)
def _places(followed: Bounds, shared: Bounds) -> tuple[Places, Places]:
    """Where the bounds that both have stand in each of them."""
    both = [bound for bound in followed if bound in shared]
    mine, theirs = ([each.index(bound) for bound in both] for each in (followed, shared))
    return np.array(mine, int), np.array(theirs, int)


@functools.lru_cache(maxsize=256)
def _columns(own: Bounds, bounds: Bounds) -> Places:
    return np.searchsorted(own, bounds)


def _slower(pods: list[Histogram], bounds: Bounds) -> tuple[Array, Array]:
    """Requests of each of `pods`, and how many of them took longer than each of `bounds`, which all pods have."""
    kinds: dict[Bounds, list[int]] = {}
    for place, pod in enumerate(pods):
        kinds.setdefault(pod.bounds, []).append(place)
    if len(kinds) == 1:
        upto = np.array([pod.counts for pod in pods], float).cumsum(1)
        return upto[:, -1], upto[:, -1:] - upto[:, _columns(pods[0].bounds, bounds)]
    requests, slower = np.zeros(len(pods)), np.zeros((len(pods), len(bounds)))
    for own, places in kinds.items():
        upto = np.array([pods[place].counts for place in places], float).cumsum(1)
        requests[places] = upto[:, -1]
        slower[places] = upto[:, -1:] - upto[:, _columns(own, bounds)]
    return requests, slower


def _follow(state: Latency, bounds: Bounds, slower: Array, total: int) -> Latency:
    """Follow the bounds that divide the requests, and the next above; evenly chosen if they are too many."""
    last = int((slower > 0).sum()) + _ABOVE
    useful = [float(bound) for bound, k in zip(bounds[:last], slower, strict=False) if k < total]
    kept = useful or [float(bound) for bound in bounds]
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


def _sum(asked: Array, slower: Array) -> tuple[int, Array]:
    """Requests of all pods, and how many of them were slower than each bound."""
    return int(np.add.reduce(asked)), np.add.reduce(slower, 0)


def _list(bounds: Bounds) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds) or "none"

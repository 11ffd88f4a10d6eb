"""Durations: at each bucket bound, being slower than it is an event, and the evidence is the mean over the bounds.

Evidence values may depend on each other in any way and their mean is one (Vovk & Wang, Annals of Statistics 2021), so
the whole distribution is compared without choosing a quantile, with any buckets that the versions have in common. Good
enough is judged at one bound only, the one at the check's quantile: few requests are slower than the last bounds, so
that nothing could ever be said there.

Which bounds are used is chosen from the first interval's counts of both versions together. That costs nothing: the
bets are on how the slow requests of an interval are divided, and hold given how many there are.
"""

from __future__ import annotations

import msgspec
import numpy as np

from davylamp.analysis import duel as d
from davylamp.analysis import shares
from davylamp.analysis.counts import Histogram, Latencies
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.shares import Array
from davylamp.analysis.warmup import plainly_more, young

MOST = 12
"""Bounds that are followed, at most."""
_ENOUGH = 100
"""Requests from which a quantile is read off."""
_ABOVE = 3
"""Bounds above the slowest request that are followed too: a worse version may be slower than anything seen."""


class Latency(msgspec.Struct, frozen=True, tag="latency"):
    bounds: tuple[float, ...] = ()
    """Those followed; chosen at the first interval with data of both versions."""
    worse: bytes = b""
    """Log capital for each bound and alternative."""
    sums: bytes = b""
    """Mantel-Haenszel sums for each bound (see `duel.Tally`)."""
    bound: float | None = None
    """The one at the quantile."""
    duel: d.Duel = msgspec.field(default_factory=d.begin)
    """At that bound; before it is chosen only the requests are counted."""


class Unusable(ValueError):
    """These counts can't be compared; the message says why."""


def begin() -> Latency:
    return Latency()


def claims(rules: Rules) -> d.Claims:
    return d.Claims(rules.tolerate, rules.good_enough, None)


def look(state: Latency, counts: Latencies, check: Check, rules: Rules) -> tuple[Latency, tuple[str, ...]]:
    """The state after `counts`, and the pods that were left out as cold.

    Raises Unusable if stable and canary have no bucket bound in common, or none of those followed so far.
    """
    stable = [pod for pod in counts.stable if sum(pod.counts)]
    canary = [pod for pod in counts.canary if sum(pod.counts)]
    shared = _common([*stable, *canary])
    if stable and canary and not len(shared):
        raise Unusable("stable and canary have no bucket bound in common")
    n0, slow0 = _slower(stable, shared)
    cold = tuple(pod.pod for pod in canary if _cold(pod, shared, slow0, n0, rules.warm_up))
    n1, slow1 = _slower([pod for pod in canary if pod.pod not in cold], shared)
    seconds = counts.end - counts.start
    settled = not any(young(pod.age, rules.warm_up) for pod in counts.canary)
    if not (n0 and n1):
        idle = d.Round(n0, n1, 0, 0, seconds)
        return msgspec.structs.replace(state, duel=d.meet(state.duel, idle, claims(rules), settled=False)), cold
    state = state if state.bounds else _follow(state, shared, slow0 + slow1, n0 + n1)
    places = {bound: place for place, bound in enumerate(shared)}
    present = [(i, places[bound]) for i, bound in enumerate(state.bounds) if bound in places]
    if not present:
        raise Unusable(f"the buckets changed: none of the bounds {_list(state.bounds)} is left, found {_list(shared)}")
    mine, theirs = (np.array(part) for part in zip(*present, strict=True))
    worse = d.unpack(state.worse).reshape(-1, len(shares.WORSE))
    sums = d.unpack(state.sums).reshape(-1, 2)
    k0, k1 = slow0[theirs], slow1[theirs]
    worse[mine] += shares.worse(k0, k1, n0, n1, rules.tolerate)
    sums[mine] += np.stack([k1 * n0, k0 * n1], -1) / (n0 + n1)
    bound = state.bound
    if bound is None and n0 + n1 >= _ENOUGH:
        bound = _at(check.quantile, shared[theirs], (k0 + k1) / (n0 + n1))
    duel = state.duel
    if bound in places:
        at = places[bound]
        now = d.Round(n0, n1, int(slow0[at]), int(slow1[at]), seconds)
        duel = d.meet(duel, now, claims(rules), settled=settled)
    return Latency(state.bounds, d.pack(worse), d.pack(sums), bound, duel), cold


def against(state: Latency) -> float:
    """Log evidence that the canary is slower than tolerated."""
    if not state.bounds:
        return 0.0
    return float(shares.log_mean(_by_bound(state)))


def culprit(state: Latency) -> tuple[float, float] | None:
    """The bound with the most evidence, and how many times as many of the canary's requests are slower than it."""
    if not state.bounds:
        return None
    at = int(_by_bound(state).argmax())
    canary, stable = d.unpack(state.sums).reshape(-1, 2)[at]
    return state.bounds[at], float(canary / stable) if stable > 0 else float("inf")


def _by_bound(state: Latency) -> Array:
    return shares.log_mean(d.unpack(state.worse).reshape(-1, len(shares.WORSE)))


def _common(pods: list[Histogram]) -> Array:
    kinds = {pod.bounds for pod in pods}
    shared = set.intersection(*(set(bounds) for bounds in kinds)) if kinds else set[float]()
    return np.array(sorted(shared))


def _slower(pods: list[Histogram], bounds: Array) -> tuple[int, Array]:
    """Requests of `pods`, and how many took longer than each of `bounds` (all of which each pod has)."""
    kinds: dict[tuple[float, ...], list[tuple[int, ...]]] = {}
    for pod in pods:
        kinds.setdefault(pod.bounds, []).append(pod.counts)
    total, slower = 0, np.zeros(len(bounds))
    for own, counts in kinds.items():
        summed = np.array(counts, float).sum(0)
        whole = summed.sum()
        total += int(whole)
        if len(bounds):
            slower += whole - np.cumsum(summed)[np.searchsorted(own, bounds)]
    return total, slower


def _cold(pod: Histogram, bounds: Array, slow0: Array, n0: int, warm_up: float) -> bool:
    if not young(pod.age, warm_up):
        return False
    n, slow = _slower([pod], bounds)
    return any(plainly_more(int(k), n, int(k0), n0) for k, k0 in zip(slow, slow0, strict=True))


def _follow(state: Latency, bounds: Array, slower: Array, total: int) -> Latency:
    """Follow the bounds that divide the requests, and the next above; evenly chosen if they are too many."""
    last = int((slower > 0).sum()) + _ABOVE
    useful = [float(bound) for bound, k in zip(bounds[:last], slower, strict=False) if k < total]
    kept = useful or [float(bound) for bound in bounds]
    if len(kept) > MOST:
        kept = [kept[round(i)] for i in np.linspace(0, len(kept) - 1, MOST)]
    zeros = d.pack(np.zeros((len(kept), len(shares.WORSE))))
    return msgspec.structs.replace(state, bounds=tuple(kept), worse=zeros, sums=d.pack(np.zeros((len(kept), 2))))


def _at(quantile: float, bounds: Array, slower: Array) -> float:
    """The largest bound that at least the share 1 - quantile of the requests exceeds; the smallest if none is."""
    reached = [float(bound) for bound, part in zip(bounds, slower, strict=True) if part >= 1 - quantile]
    return max(reached, default=float(bounds[0]))


def _list(bounds: Array | tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds) or "none"

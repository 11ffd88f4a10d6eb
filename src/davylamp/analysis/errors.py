"""Requests that fail: one duel, and what warm pods have shown of it."""

from __future__ import annotations

import msgspec

from davylamp.analysis import duel as d
from davylamp.analysis import shares
from davylamp.analysis.counts import Events, Pod
from davylamp.analysis.rules import Rules
from davylamp.analysis.warmup import Warm, bet, counts, warm, young


class Errors(msgspec.Struct, frozen=True, tag="errors"):
    duel: d.Duel
    """Of all pods."""
    warm: Warm = Warm()


def begin() -> Errors:
    return Errors(d.begin())


def claims(rules: Rules) -> d.Claims:
    return d.Claims(rules.tolerate, rules.good_enough, rules.harmless)


def look(state: Errors, found: Events, rules: Rules, *, fast: bool) -> tuple[Errors, tuple[str, ...]]:
    """The state after the counts `found`, and the pods that are not known to be warm. `fast`: the canary's young pods
    have been seen to be no slower than stable's."""
    fresh = [pod for pod in found.canary if young(pod.age, rules.warm_up)]
    cold = [pod for pod in fresh if not warm(state.warm, pod.age, rules.warm_up, fast=fast)]
    k0, n0 = _sum(found.stable)
    k1, n1 = _sum(found.canary)
    k, n = _sum([pod for pod in found.canary if pod not in cold])
    length = found.end - found.start
    if found.alone:
        now = d.Round(0, n1, 0, k1, length, alone=True)
        factors = d.speaks_alone(state.duel, k, n, claims(rules)) if n else None
    else:
        now = d.Round(n0, n1, k0, k1, length)
        factors = shares.worse(k0, k, n0, n, rules.tolerate) if n else None
    account = bet(state.warm, shares.unpack(state.duel.worse), factors, *_sum(fresh))
    after = Errors(d.meet(state.duel, now, claims(rules), settled=not fresh), account)
    return after, tuple(pod.pod for pod in cold)


def against(state: Errors) -> float:
    """Log evidence that the canary fails more than tolerated, as far as it counts."""
    return counts(state.warm, d.against(state.duel))


def _sum(pods: tuple[Pod, ...] | list[Pod]) -> tuple[int, int]:
    """Failures and requests."""
    return sum(pod.failures for pod in pods), sum(pod.requests for pod in pods)

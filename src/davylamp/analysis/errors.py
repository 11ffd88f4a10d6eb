"""Requests that fail: one duel, and what warm pods have shown of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from davylamp.analysis import duel as d
from davylamp.analysis import once
from davylamp.analysis.counts import Events, Pod
from davylamp.analysis.rules import Rules
from davylamp.analysis.warmup import Warm, bet, warm, young


class Errors(msgspec.Struct, frozen=True, tag="errors"):
    duel: d.Duel
    """Of all pods."""
    warm: Warm = Warm()


def begin() -> Errors:
    return Errors(d.begin())


def claims(rules: Rules) -> d.Claims:
    return d.Claims(rules.tolerate, rules.good_enough, rules.harmless)


def look(state: Errors, found: Events, rules: Rules, *, fast: Callable[[], bool]) -> tuple[Errors, tuple[str, ...]]:
    """The state after the counts `found`, and the pods that are not known to be warm. `fast` says whether the canary's
    young pods have been seen to be no slower than stable's; asked where there are some."""
    fresh = [pod for pod in found.canary if young(pod.age, rules.warm_up)]
    no_slower = bool(fresh) and fast()
    cold = [pod for pod in fresh if not warm(state.warm, pod.age, rules.warm_up, fast=no_slower)]
    k0, n0 = _sum(found.stable)
    k1, n1 = _sum(found.canary)
    k, n = _sum([pod for pod in found.canary if pod not in cold]) if cold else (k1, n1)
    length = found.end - found.start
    if found.alone:
        now = d.Round(0, n1, 0, k1, length, alone=True)
        factors = d.speaks_alone(state.duel, k, n, claims(rules)) if n else None
    else:
        now = d.Round(n0, n1, k0, k1, length)
        factors = once.worse(k0, k, n0, n, rules.tolerate) if n else None
    learned, spread = 0.0, state.warm.spread
    if factors is not None and any(factors):
        learned = once.capital(once.added(state.duel.worse, factors)) - once.capital(state.duel.worse)
        spread = once.added(spread, factors)
    account = bet(state.warm, learned, spread, *_sum(fresh))
    every = factors if not cold else None
    after = Errors(d.meet(state.duel, now, claims(rules), settled=not fresh, against=every), account)
    return after, tuple(pod.pod for pod in cold)


def _sum(pods: tuple[Pod, ...] | list[Pod]) -> tuple[int, int]:
    """Failures and requests."""
    failures = requests = 0
    for pod in pods:
        failures += pod.failures
        requests += pod.requests
    return failures, requests

"""Requests that fail: one duel, and what warm pods have shown of it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from davylamp.analysis import duel as d
from davylamp.analysis import rare, shares
from davylamp.analysis.counts import Events, Pod
from davylamp.analysis.rules import Rules
from davylamp.analysis.warmup import Warm, bet, warm, young


class Errors(msgspec.Struct, frozen=True, tag="errors", dict=True):
    duel: d.Duel
    """Of all pods."""
    warm: Warm = Warm()

    @functools.cached_property
    def spread(self) -> float:
        """Log of what the warm pods' account has made of the part of its stake that is spread."""
        return rare.log_mean(shares.unpack(self.warm.spread).tolist())


def begin() -> Errors:
    return Errors(d.begin())


def look(state: Errors, found: Events, rules: Rules, *, fast: Callable[[], bool]) -> tuple[Errors, tuple[str, ...]]:
    """The state after the counts `found`, and the pods that are not known to be warm. `fast` says whether the canary's
    young pods have been seen to be no slower than stable's; asked where there are some."""
    duel, account, stakes, alone = state.duel, state.warm, rules.claims, found.alone
    fresh = [pod for pod in found.canary if young(pod.age, rules.warm_up)]
    no_slower = bool(fresh) and fast()
    cold = [pod for pod in fresh if not warm(account, pod.age, rules.warm_up, fast=no_slower)]
    k0, n0 = (0, 0) if alone else _sum(found.stable)
    k1, n1 = _sum(found.canary)
    k, n = _sum([pod for pod in found.canary if pod not in cold]) if cold else (k1, n1)
    now = d.Round(n0, n1, k0, k1, found.end - found.start, alone=alone)
    sums = own = None
    if n1 and (n0 or alone):
        limit = d.limit(duel.tally, stakes) if alone else 0.0
        made = rare.Interval(k0, k1, n0, n1, k, n, not fresh, alone, limit)
        sums, own = rare.after(duel.worse, duel.better, duel.harmless, account.spread, made, stakes)
    learned, spread = (own.worse - duel.logs[0], own.spread) if own else (0.0, account.spread)
    account = bet(account, learned, spread, *_sum(fresh))
    after = Errors(d.meet(duel, now, stakes, settled=not fresh, sums=sums), account)
    if own is not None:
        after.__dict__["spread"] = own.log  # need not be computed again
    return after, tuple([pod.pod for pod in cold])


def _sum(pods: tuple[Pod, ...] | list[Pod]) -> tuple[int, int]:
    """Failures and requests."""
    failures = requests = 0
    for pod in pods:
        failures += pod.failures
        requests += pod.requests
    return failures, requests

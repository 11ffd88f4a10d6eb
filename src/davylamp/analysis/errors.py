"""Requests that fail: one duel."""

from __future__ import annotations

import msgspec

from davylamp.analysis import duel as d
from davylamp.analysis.counts import Events
from davylamp.analysis.rules import Rules
from davylamp.analysis.warmup import failing_while_cold, young


class Errors(msgspec.Struct, frozen=True, tag="errors"):
    duel: d.Duel


def begin() -> Errors:
    return Errors(d.begin())


def claims(rules: Rules) -> d.Claims:
    return d.Claims(rules.tolerate, rules.good_enough, rules.harmless)


def look(state: Errors, counts: Events, rules: Rules) -> tuple[Errors, tuple[str, ...]]:
    """The state after `counts`, and the pods that were left out as cold."""
    n0 = sum(pod.requests for pod in counts.stable)
    k0 = sum(pod.failures for pod in counts.stable)
    cold = tuple(pod.pod for pod in counts.canary if failing_while_cold(pod, k0, n0, rules.warm_up))
    warm = [pod for pod in counts.canary if pod.pod not in cold]
    now = d.Round(
        n0, sum(pod.requests for pod in warm), k0, sum(pod.failures for pod in warm), counts.end - counts.start
    )
    settled = not any(young(pod.age, rules.warm_up) for pod in counts.canary)
    return Errors(d.meet(state.duel, now, claims(rules), settled=settled)), cold

"""Requests that fail: one duel."""

from __future__ import annotations

import msgspec

from davylamp.analysis import duel as d
from davylamp.analysis.counts import Events
from davylamp.analysis.rules import Rules
from davylamp.analysis.warmup import cold, young


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
    if counts.alone:
        k0, n0 = state.duel.tally.failures[0], state.duel.tally.requests[0]
    fresh = [pod for pod in counts.canary if young(pod.age, rules.warm_up)]
    out = cold(sum(pod.failures for pod in fresh), sum(pod.requests for pod in fresh), k0, n0)
    used = [pod for pod in counts.canary if not (out and pod in fresh)]
    n1, k1 = sum(pod.requests for pod in used), sum(pod.failures for pod in used)
    length = counts.end - counts.start
    now = d.Round(0, n1, 0, k1, length, alone=True) if counts.alone else d.Round(n0, n1, k0, k1, length)
    left_out = tuple(pod.pod for pod in fresh) if out else ()
    return Errors(d.meet(state.duel, now, claims(rules), settled=not fresh)), left_out

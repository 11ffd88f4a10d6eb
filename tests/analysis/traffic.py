"""Counts as a release would have them: four stable and two canary pods, an interval every 10 s."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from davylamp.analysis import counts as c
from davylamp.analysis.look import State, look
from davylamp.analysis.rules import Rules

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def events(at: float, k0: int = 1, k1: int = 0, *, n0: int = 900, n1: int = 100, age: float | None = None) -> c.Events:
    """k0 of n0 requests failed on four stable pods, k1 of n1 on two canary pods (as evenly as it goes)."""
    return c.Events(at, at + 10, _pods("s", 4, n0, k0, None), _pods("c", 2, n1, k1, age))


def _pods(name: str, count: int, requests: int, failures: int, age: float | None) -> tuple[c.Pod, ...]:
    return tuple(
        c.Pod(f"{name}{i}", (requests + i) // count, min((failures + i) // count, (requests + i) // count), age)
        for i in range(count)
        if (requests + i) // count or requests == 0
    )


def latencies(
    at: float,
    draw: np.random.Generator,
    times: float = 1.0,
    *,
    bounds: tuple[float, ...] = BOUNDS,
    asked: tuple[int, int] = (225, 50),
    age: float | None = None,
) -> c.Latencies:
    """Log-normal durations, median 30 ms, those of the canary `times` longer."""

    def histogram(pod: str, requests: int, scale: float, old: float | None) -> c.Histogram:
        took = np.exp(draw.normal(np.log(0.03 * scale), 0.8, requests))
        made = np.histogram(took, [0, *bounds, np.inf])[0]
        return c.Histogram(pod, bounds, tuple(int(k) for k in made), old)

    return c.Latencies(
        at,
        at + 10,
        tuple(histogram(f"s{i}", asked[0], 1.0, None) for i in range(4)),
        tuple(histogram(f"c{i}", asked[1], times, age) for i in range(2)),
    )


def looks(state: State, rules: Rules, name: str, made: Sequence[c.Counts]) -> State:
    for counts in made:
        state = look(state, rules, name, counts)
    return state

"""Ways to be wrong, each beside ours on the same traffic of a canary that is no worse (tau 1, alpha 5 %).

Seeded simulations of 120 releases; the true numbers (docs/analysis.md) are far from the bounds asserted here.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from bench import analysis as bench
from bench import methods as m
from davylamp.analysis import counts as c
from davylamp.analysis import duel, errors, latency
from davylamp.analysis import look as lk
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.shares import Array
from tests.analysis.traffic import events

RUNS, LOOKS = 120, 360
HOUR = np.arange(LOOKS) / LOOKS
LATE = np.maximum(np.arange(LOOKS) - 90, 0)
Z = NormalDist().inv_cdf(0.95)


def traffic(p: Array | float, split: Array | float = 0.1, size: int = 1) -> m.Counts:
    draw = np.random.default_rng(9)
    n0, n1 = (draw.poisson(np.broadcast_to(1000 * part, (RUNS, LOOKS))) for part in (1 - np.asarray(split), split))
    k0, k1 = (np.minimum(size * draw.poisson(n * p / size), n) for n in (n0, n1))
    return m.Counts(n0, n1, k0, k1)


def false_alarms(times: Array) -> float:
    return float(np.isfinite(times).mean())


Wrong = Callable[[m.Counts], Array]


@pytest.mark.parametrize(
    ("made", "wrong", "at_least"),
    [
        (
            traffic(0.005 * 5**HOUR, split=0.05 * 10**HOUR),
            lambda c: np.where(m.z_scores(c)[:, -1] > Z, 1.0, np.inf),
            0.9,
        ),
        (
            traffic(0.005 * 5**HOUR),
            lambda c: m.crossing(m.plain(m.Counts(c.n0[:, LATE], c.n1, c.k0[:, LATE], c.k1), 1.0), 0.05),
            0.8,
        ),
        (traffic(0.01, split=0.13), lambda c: m.crossing(m.plain(c, 1.0, np.full(c.n0.shape, 0.1)), 0.05), 0.8),
        (traffic(0.001, size=5), lambda c: m.crossing(m.plain(c, 1.0), 0.05), 0.15),
        (traffic(0.001), lambda c: m.naive(c, Z), 0.2),
    ],
    ids=["pooled z under a ramp", "stable of 15 minutes ago", "configured split", "retry storms", "peeking"],
)
def test_the_wrong_way_is_wrong_and_ours_is_not(made: m.Counts, wrong: Wrong, at_least: float) -> None:
    assert false_alarms(wrong(made)) > at_least
    assert false_alarms(m.crossing(m.ours(made, 1.0), 0.05)) < 0.12


@pytest.mark.parametrize(("warm_up", "least", "most"), [(0.0, 0.8, 1.0), (60.0, 0.0, 0.1)])
def test_a_cold_start_is_taken_for_a_bad_version_unless_it_is_kept_aside(
    warm_up: float, least: float, most: float
) -> None:
    rules = Rules((Check("errors", "errors"),), tolerate=1.0, false_alarms=0.05, warm_up=warm_up)
    draw = np.random.default_rng(10)
    wrong = 0
    for _ in range(40):
        state = lk.begin(rules, 0.0)
        for at in range(0, 120, 10):
            failed = int(draw.poisson(5.0 if at < 60 else 0.1))
            state = lk.look(state, rules, "errors", events(at, int(draw.poisson(0.9)), failed, age=float(at)))
        wrong += state.crossed is not None
    assert least <= wrong / 40 <= most


def test_short_looks_do_not_take_a_cold_start_for_a_bad_version() -> None:
    at = np.arange(300) * 2.0
    made = bench.traffic(np.random.default_rng(14), RUNS, np.full(300, 0.001), np.where(at < 60, 0.05, 0.001), rate=20)
    assert false_alarms(m.crossing(m.left_out(made, 1.25, at), 0.01)) > 0.9, "leaving out what is plainly worse"
    assert false_alarms(m.crossing(m.kept_aside(made, 1.25, at, fast=True), 0.01)) < 0.03


@pytest.mark.parametrize(("p1", "least"), [(0.01, 0.95), (0.005, 0.9)])
def test_a_bad_version_is_found(p1: float, least: float) -> None:
    draw = np.random.default_rng(11)
    n0, n1 = np.full((RUNS, 120), 900), np.full((RUNS, 120), 100)
    made = m.Counts(n0, n1, draw.binomial(n0, 0.001), draw.binomial(n1, p1))
    assert false_alarms(m.crossing(m.ours(made, 1.0), 0.05)) > least


def test_the_simulations_compute_what_a_release_does() -> None:
    draw = np.random.default_rng(12)
    made = bench.traffic(draw, 1, 0.01, 0.02)
    errors = Rules((Check("errors", "errors"),))
    state = lk.begin(errors, 0.0)
    for t in range(30):
        n0, n1, k0, k1 = (int(x[0, t]) for x in (made.n0, made.n1, made.k0, made.k1))
        pods = (c.Pod("s", n0, k0),), (c.Pod("c", n1, k1),)
        state = lk.look(state, errors, "errors", c.Events(10.0 * t, 10.0 * t + 10, *pods))
    assert state.checks["errors"].evidence == pytest.approx(m.ours(made, 1.25)[0, 29])


@pytest.mark.parametrize("fast", [False, True])
def test_the_simulations_of_cold_starts_compute_what_a_release_does(fast: bool) -> None:
    at = np.arange(30) * 10.0
    for seed, failing in ((1, 0.05), (2, 0.008)):
        made = bench.traffic(np.random.default_rng(seed), 1, np.full(30, 0.002), np.where(at < 60, failing, 0.01))
        state = errors.begin()
        for t in range(30):
            n0, n1, k0, k1 = (int(x[0, t]) for x in (made.n0, made.n1, made.k0, made.k1))
            pods = (c.Pod("s", n0, k0),), (c.Pod("c", n1, k1, at[t]),)
            state, _ = errors.look(state, c.Events(at[t], at[t] + 10, *pods), Rules(()), fast=lambda: fast)
            simulated = m.kept_aside(made, 1.25, at, fast=fast)[0, t]
            assert lk.Seen(state).evidence == pytest.approx(simulated)


def test_the_simulations_of_latency_compute_what_a_release_does() -> None:
    stable, canary = bench.durations(np.random.default_rng(13), 1, 1.3)
    stable[..., 7] += 1  # so that the same bounds are followed from the first interval on
    rules = Rules((Check("latency", "latency"),))
    state = lk.begin(rules, 0.0)
    for t in range(20):
        sides = []
        for made in (stable, canary):
            alone = made is canary and t < bench.BEFORE
            rows = [] if alone else made[0, t].tolist()
            sides.append(tuple(c.Histogram(f"p{i}", bench.BOUNDS, tuple(row)) for i, row in enumerate(rows)))
        state = lk.look(state, rules, "latency", c.Latencies(10.0 * t, 10.0 * t + 10, sides[0], sides[1]))
    simulated = bench.by_bounds(stable, canary, 1.25)[0, 19 - bench.BEFORE]
    assert state.checks["latency"].evidence == pytest.approx(simulated)


def test_the_simulations_of_good_latency_compute_what_a_release_does() -> None:
    above = np.geomspace(0.9, 0.001, len(bench.BOUNDS))
    stable, canary = next(bench.timed(2.4, above, 1.0, 3))
    simulated = bench.by_quantile(stable, canary)
    rules = Rules((Check("latency", "latency"),))
    for run in range(3):
        state = latency.begin()
        for t in range(300):
            sides = [
                tuple(c.Histogram(f"p{i}", bench.BOUNDS, tuple(row)) for i, row in enumerate(made[run, t].tolist()))
                for made in (stable, canary)
            ]
            found = c.Latencies(10.0 * t, 10.0 * t + 10, sides[0], sides[1])
            state, _ = latency.look(state, found, rules.checks[0], rules)
            assert duel.in_favour(state.duel, rules.ratios) == pytest.approx(simulated[run, t], abs=1e-6)
        assert state.bound is not None

"""Counters that go on, back, come and go: what is counted, and what is left out and why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.analysis.counts import Histogram, Pod, validate
from davylamp.signals.conventions import Counts
from davylamp.signals.counters import DISTRUST, Seen, advance, interval

INF = math.inf
BACK = "its histogram went back, or its buckets are not cumulative"


def seen(
    at: float,
    requests: dict[str, float] | None = None,
    failures: dict[str, float] | None = None,
    buckets: dict[str, dict[float, float]] | None = None,
    *,
    started: float | None = None,
    restarts: int = 0,
    ready_at: float | None = None,
) -> Seen:
    return Seen(at, Counts(requests or {}, failures or {}, buckets or {}), started, restarts, ready_at)


def last(*looks: Seen) -> tuple[Pod | None, Histogram | None, str]:
    """What the last of these looks at one pod, one after another, comes to."""
    kept: dict[str, Seen] = {}
    for look in looks:
        kept, found = advance(kept, {"web-1": look})
    one = found["web-1"]
    return one.pod, one.histogram, one.problem


def test_a_pod_counts_from_its_second_look_on() -> None:
    kept, first = advance({}, {"web-1": seen(0, {"a": 100})})
    assert first == {}
    _, second = advance(kept, {"web-1": seen(10, {"a": 130}, {"a": 2})})
    assert second["web-1"].pod == Pod("web-1", 30, 2)


def test_a_pod_that_was_away_starts_anew() -> None:
    kept, _ = advance({}, {"web-1": seen(0, {"a": 100}), "web-2": seen(0, {"a": 5})})
    kept, found = advance(kept, {"web-2": seen(10, {"a": 6})})
    assert list(found) == ["web-2"]
    kept, found = advance(kept, {"web-1": seen(20, {"a": 160}), "web-2": seen(20, {"a": 9})})
    assert {pod: one.pod and one.pod.requests for pod, one in found.items()} == {"web-2": 3}


@pytest.mark.parametrize(
    ("before", "after", "requests", "problem"),
    [
        (seen(0, {"a": 100}), seen(10, {"a": 7}, restarts=1), 7, ""),
        (seen(0, {"a": 100}, started=-500), seen(10, {"a": 7}, started=4), 7, ""),
        (seen(0, {"a": 3}, started=-500), seen(10, {"a": 70}, started=4), 70, ""),
        (seen(0, {"a": 100}), seen(10, {"a": 7}), None, "the counter a went from 100 back to 7 without a restart"),
        (seen(0, {"a": 9, "b": 1}), seen(10, {"a": 99, "b": 0}), None, "the counter b went from 1 back to 0"),
        (seen(0, {"a": 9, "b": 1}), seen(10, {"a": 99}), None, "the counter b is gone without a restart"),
        (seen(0, {"a": 100}, started=-500), seen(10, {"a": 190}, started=-400), None, "another process than before"),
        (seen(0, {"a": 100}, started=-400), seen(10, {"a": 190}, started=-500), None, "another process than before"),
        (seen(0, {"a": 10}), seen(10, {"a": 11}, {"f": 5}), None, "5 failures of 1 requests"),
    ],
)
def test_only_a_restart_makes_a_counter_begin_at_zero(
    before: Seen, after: Seen, requests: int | None, problem: str
) -> None:
    pod, _, said = last(before, after)
    assert (pod and pod.requests) == requests
    assert problem in said
    assert bool(problem) == bool(said)


def test_a_series_that_appears_counts_from_zero() -> None:
    pod, _, _ = last(seen(0, {"200": 100}), seen(10, {"200": 120, "500": 3}, {"500": 3}))
    assert pod == Pod("web-1", 23, 3)


def test_a_pod_whose_counters_jump_back_and_forth_is_left_out_for_good() -> None:
    flips = [seen(10 * n, {"a": 500 + n if n % 2 else 100 + n}) for n in range(2 * DISTRUST + 1)]
    _, _, problem = last(*flips, seen(900, {"a": 9000}))
    assert "3 times without a restart" in problem
    assert "several processes" in problem


@pytest.mark.parametrize(
    ("looks", "age"),
    [
        ([seen(0, {"a": 1}), seen(10, {"a": 2})], None),
        ([seen(100, {"a": 1}, ready_at=40), seen(110, {"a": 2}, ready_at=40)], 60),
        ([seen(100, {"a": 0}, ready_at=40), seen(110, {"a": 2}, ready_at=40)], 0),
        ([seen(100, {"a": 0}, ready_at=40), seen(110, {"a": 2}), seen(120, {"a": 3})], 0),
        ([seen(100, {"a": 0}, ready_at=40), seen(110, {"a": 2}), seen(120, {"a": 3}), seen(130, {"a": 4})], 10),
        ([seen(0, {"a": 9}), seen(10, {"a": 2}, restarts=1)], 0),
        ([seen(0, {"a": 9}), seen(10, {"a": 2}, restarts=1), seen(30, {"a": 3}, restarts=1)], 0),
    ],
)
def test_age_is_the_time_since_the_first_request_that_was_seen(looks: list[Seen], age: float | None) -> None:
    pod, _, _ = last(*looks)
    assert pod is not None
    assert pod.age == age


def test_histograms_are_compared_at_the_bounds_that_they_have_in_common() -> None:
    before = seen(0, {"a": 10}, buckets={"200": {0.1: 5, 0.5: 8, INF: 10}})
    after = seen(10, {"a": 20}, buckets={"200": {0.1: 9, 1.0: 14, INF: 18}, "500": {0.1: 0, 1.0: 1, INF: 2}})
    _, histogram, problem = last(before, after)
    assert problem == ""
    assert histogram == Histogram("web-1", (0.1,), (4, 6))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (
            {"": {0.1: 5, INF: 10}},
            {"": {0.1: 4, INF: 12}},
            BACK,
        ),
        (
            {"": {0.1: 5, INF: 10}},
            {"": {0.1: 9, INF: 12}},
            BACK,
        ),
        ({"": {0.1: 5}}, {"": {0.1: 9}}, 'no bucket le="+Inf"'),
        ({"a": {INF: 5}, "b": {INF: 5}}, {"a": {INF: 50}}, "a series of its histogram is gone"),
    ],
)
def test_a_histogram_that_makes_no_sense_is_left_out_alone(
    before: dict[str, dict[float, float]], after: dict[str, dict[float, float]], problem: str
) -> None:
    pod, histogram, said = last(seen(0, {"a": 10}, buckets=before), seen(10, {"a": 20}, buckets=after))
    assert pod == Pod("web-1", 10)
    assert histogram is None
    assert problem in said


def test_pods_come_to_their_sides_and_problems_to_their_pods() -> None:
    kept, _ = advance({}, {name: seen(0, {"a": 100}) for name in ("s1", "s2", "c1")})
    _, found = advance(kept, {"s1": seen(10, {"a": 110}), "s2": seen(10, {"a": 1}), "c1": seen(10, {"a": 101})})
    events, latencies, problems = interval(0, 10, found, {"c1"})
    assert (events.stable, events.canary) == ((Pod("s1", 10),), (Pod("c1", 1),))
    assert (latencies.stable, latencies.canary) == ((), ())
    assert problems == ("pod s2: the counter a went from 100 back to 1 without a restart",)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), min_size=1, max_size=20))
def test_all_that_a_process_counts_between_its_first_and_last_look_is_counted_once(
    steps: list[tuple[int, int, bool]],
) -> None:
    good = bad = restarts = total = failed = 0
    kept, _ = advance({}, {"p": seen(0, {"200": 0, "500": 0}, {"500": 0})})
    for number, (more, worse, restart) in enumerate(steps, 1):
        if restart:
            good = bad = 0
            restarts += 1
        good, bad = good + more, bad + worse
        look = seen(10 * number, {"200": good, "500": bad}, {"500": bad}, restarts=restarts)
        kept, found = advance(kept, {"p": look})
        events, _, problems = interval(10 * number - 10, 10 * number, found, set())
        validate(events)
        assert problems == ()
        total += events.stable[0].requests
        failed += events.stable[0].failures
    assert (total, failed) == (sum(m + w for m, w, _ in steps), sum(w for _, w, _ in steps))

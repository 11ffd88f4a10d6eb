"""Scenarios in files, imagined counts, quantiles: what a simulation is made of."""

from __future__ import annotations

import numpy as np
import pytest

from davylamp.analysis.counts import Events, Latencies, validate
from davylamp.api.types import Phase
from davylamp.embedded.simulate import traffic
from davylamp.embedded.simulate.run import Outcome
from davylamp.embedded.simulate.scenario import Latency, Moment, Scenario, read
from davylamp.embedded.simulate.summary import distribution, share, spread
from davylamp.embedded.simulate.traffic import Flow, Served

USUAL = Moment(0, 100, 0.001, 0.002)


@pytest.mark.parametrize(
    "text",
    [
        "time,rps,canary_errors\n0,10,1%\n90,20,0.02\n",
        "time, rps, canary_errors\n2026-03-01T12:00:00Z, 10, 1%\n2026-03-01T12:01:30Z, 20, 2%\n",
        "- {time: 0, rps: 10, canary_errors: 1%}\n- {time: 1m30s, rps: 20, canary_errors: 0.02}\n",
        "- {time: 2026-03-01T12:00:00Z, rps: 10, canary_errors: 1%}\n"
        "- {time: 2026-03-01T12:01:30Z, rps: 20, canary_errors: 2%}\n",
    ],
    ids=["csv", "csv with times of day", "yaml", "yaml with times of day"],
)
def test_a_series_is_read_from_its_first_moment_on(text: str) -> None:
    assert read(text, USUAL) == (Moment(0, 10, 0.001, 0.01), Moment(90, 20, 0.001, 0.02))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is needed"),
        ("time,rps\n", "it has no rows"),
        ("time,rsp\n0,1\n", "line 2: unknown column 'rsp'; there are time, rps, stable_errors, canary_errors"),
        ("time,rps\n0,1\n0,2\n", "line 3: time 0 is not after the one before; times must rise"),
        ("time,rps\n0\n", "line 2: not as many values as the header has columns"),
        ("time,rps\nnoon,1\n", "line 2: time 'noon' is no time"),
        ("time,rps\n0,-1\n", "line 2: rps '-1' is no number of requests per second"),
        ("- {time: 0, stable_errors: 2}\n", "entry 1: stable_errors '2' is no share: write for example 0.5% or 0.005"),
        ("- {rps: 2}\n", "entry 1: no time"),
        ("time: 0\n", "a list of mappings"),
        ("- [\n", "neither CSV with a header nor YAML"),
    ],
)
def test_what_is_wrong_with_a_series_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ValueError) as wrong:
        read(text, USUAL)
    assert message in str(wrong.value)


def test_requests_follow_the_share_and_the_series() -> None:
    scenario = Scenario((Moment(0, 100, 0.0, 0.5), Moment(100, 0, 0.0, 0.0), Moment(200, 10, 1.0, 0.0)))
    flow = Flow(scenario, np.random.default_rng(1), now=50.0)
    flow.advance(150.0)
    assert (flow.total.canary, flow.total.stable_failed) == (0, 0)
    assert flow.total.stable == pytest.approx(10_000, rel=0.05)
    flow.share = 1.0
    flow.advance(350.0)
    assert flow.total.canary == pytest.approx(1000, rel=0.15)
    assert flow.total.canary_failed == 0
    flow.advance(350.0)
    assert flow.total.canary < 1200


def test_counts_of_pods_are_in_order_and_lose_no_request() -> None:
    draw = np.random.default_rng(1)
    stable = traffic.events(draw, 900, 9, ["s1", "s2", "s3"], [None] * 3)
    canary = traffic.events(draw, 100, 5, ["c1"], [12.0])
    assert (sum(pod.requests for pod in stable), sum(pod.failures for pod in stable)) == (900, 9)
    validate(Events(0, 10, stable, canary))
    bounds = traffic.chances(Latency())
    slow = traffic.histograms(draw, stable, bounds)
    validate(Latencies(0, 10, slow, traffic.histograms(draw, canary, bounds)))
    assert sum(sum(pod.counts) for pod in slow) == 900
    assert bounds.sum() == pytest.approx(1)


def test_half_of_the_requests_take_less_than_the_median() -> None:
    assert traffic.chances(Latency(median=0.1))[:5].sum() == pytest.approx(0.5)


def outcome(number: int, phase: Phase | None, seconds: float, canary: int = 0) -> Outcome:
    return Outcome(number, phase, "Worse" if phase is Phase.ROLLED_BACK else "", "", seconds, 1.0, Served(9, canary))


def test_a_distribution_tells_the_taken_back_from_the_completed() -> None:
    back = [outcome(i, Phase.ROLLED_BACK, 10 * i, i) for i in range(1, 5)]
    found = distribution([*back, outcome(5, Phase.COMPLETED, 3600), outcome(6, None, 7200)])
    assert (found.runs, found.taken_back.count, found.completed.count, found.not_ended) == (6, 4, 1, 1)
    assert found.until_back is not None
    assert (found.until_back.least, found.until_back.median, found.until_back.p95) == (10, 20, 40)
    assert found.until_completed == spread([3600])
    assert found.reasons == {"Worse": 4}


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634)]
)
def test_shares_have_wilson_intervals(count: int, of: int, low: float, high: float) -> None:
    found = share(count, of)
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def test_a_good_version_has_everything_from_the_old_one() -> None:
    bad = Scenario((Moment(0, 1, 0.1, 0.2), Moment(5, 1, 0.2, 0.4)), canary=Latency(1.0), crash=3)
    assert bad.worse
    assert not bad.as_good().worse
    assert [m.canary_errors for m in bad.as_good().moments] == [0.1, 0.2]

"""The one running computation."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davylamp.analysis import counts as c
from davylamp.analysis import duel
from davylamp.analysis import look as lk
from davylamp.analysis.errors import Errors
from davylamp.analysis.latency import Latency
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.verdict import Answer, verdict
from tests.analysis.traffic import events, latencies, looks

ERRORS = Rules((Check("errors", "errors"),))
LATENCY = Rules((Check("latency", "latency"),))
BOTH = Rules((Check("errors", "errors"), Check("latency", "latency")))
ALL = Rules(
    (
        Check("errors", "errors"),
        Check("latency", "latency"),
        Check("logs", "logs"),
        Check("feedback", "feedback"),
        Check("orders", "metric", bad="down"),
        Check("queue", "threshold", most=100.0),
    )
)


def evidence(state: lk.State, name: str = "errors") -> float:
    return state.checks[name].evidence


def everything(at: float, draw: np.random.Generator) -> list[tuple[str, c.Counts]]:
    """One interval of each check of ALL."""
    templates = tuple(
        c.Template(f"{i:016x}", i % 2 == 0, int(draw.integers(3)), int(draw.integers(2))) for i in range(40)
    )
    votes = tuple(c.Vote(f"user-{at}-{i}", bool(i % 2), at) for i in range(20))
    values = draw.normal(50, 5, 6)
    samples = [c.Sample(float(value), f"p{i}") for i, value in enumerate(values)]
    return [
        ("errors", events(at, int(draw.poisson(5)), int(draw.poisson(1)))),
        ("latency", latencies(at, draw)),
        ("logs", c.Logs(at, at + 10, 4, 2, templates, 900, 100)),
        ("feedback", c.Feedback(at, at + 10, 900, 100, votes)),
        ("orders", c.Samples(at, at + 10, tuple(samples[:4]), tuple(samples[4:]))),
        ("queue", c.Value(at, at + 10, float(draw.normal(50, 5)))),
    ]


def recorded(count: int) -> list[tuple[str, c.Counts]]:
    draw = np.random.default_rng(1)
    return [pair for t in range(count) for pair in everything(10.0 * t, draw)]


def test_a_state_that_was_written_and_read_back_at_every_look_ends_in_the_same_state_and_verdict() -> None:
    made = recorded(12)
    state = lk.begin(ALL, 0.0)
    for name, counts in made:
        state = lk.look(msgspec.json.decode(msgspec.json.encode(state), type=lk.State), ALL, name, counts)
    replayed = lk.replay(ALL, 0.0, made)
    assert state == replayed
    assert msgspec.json.encode(verdict(state, ALL, 120.0)) == msgspec.json.encode(verdict(replayed, ALL, 120.0))


def test_without_limits_the_evidence_is_the_same_and_no_limit_is_named() -> None:
    full = lk.begin(ALL, 0.0)
    brief = lk.without_limits(full)
    for name, counts in recorded(40):
        full, brief = lk.look(full, ALL, name, counts), lk.look(brief, ALL, name, counts)
        assert [evidence(brief, each) for each in brief.checks] == [evidence(full, each) for each in full.checks]
    ours, theirs = (verdict(state, ALL, 400.0) for state in (brief, full))
    assert (ours.answer, ours.check, ours.evidence) == (theirs.answer, theirs.check, theirs.evidence)
    assert [found.good for found in ours.findings] == [found.good for found in theirs.findings]
    assert any(found.interval != (None, None) for found in theirs.findings)
    assert all(found.interval == (None, None) for found in ours.findings)


def test_counts_that_were_recorded_as_json_replay_to_the_same_state() -> None:
    made = recorded(5)
    again = msgspec.json.decode(msgspec.json.encode(made), type=list[tuple[str, c.Counts]])
    assert lk.replay(ALL, 0.0, again) == lk.replay(ALL, 0.0, made)


def test_the_state_of_six_checks_stays_below_16_kib_whatever_is_thrown_at_it() -> None:
    sizes = [len(msgspec.json.encode(lk.replay(ALL, 0.0, recorded(count)))) for count in (5, 25)]
    assert sizes[1] < 16 * 1024
    assert sizes[1] < sizes[0] + 1024


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8), st.integers(0, 1000))
def test_the_order_of_intervals_does_not_change_the_evidence(made: list[tuple[int, int]], shuffle: int) -> None:
    other = [made[i] for i in np.random.default_rng(shuffle).permutation(len(made))]
    first, second = (
        looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [events(10.0 * t, *k) for t, k in enumerate(order)])
        for order in (made, other)
    )
    assert evidence(first) == pytest.approx(evidence(second))


def test_looking_at_an_interval_twice_counts_it_once() -> None:
    once = lk.look(lk.begin(ERRORS, 0.0), ERRORS, "errors", events(0, 0, 3))
    twice = lk.look(once, ERRORS, "errors", events(0, 0, 3))
    assert twice.checks["errors"].state == once.checks["errors"].state
    assert "was counted already" in twice.checks["errors"].note


@pytest.mark.parametrize(("at", "why"), [(5.0, "overlaps one that was counted"), (-5.0, "before the canary")])
def test_intervals_that_overlap_or_precede_the_canary_are_left_out_with_the_reason(at: float, why: str) -> None:
    state = lk.begin(ERRORS, 0.0)
    if at > 0:
        state = lk.look(state, ERRORS, "errors", events(0, 1, 0))
    after = lk.look(state, ERRORS, "errors", events(at, 0, 9))
    assert why in after.checks["errors"].note
    assert evidence(after) == evidence(state)


def test_the_note_goes_when_data_comes_back_and_gaps_are_no_evidence() -> None:
    state = lk.look(lk.begin(ERRORS, 0.0), ERRORS, "errors", events(0, 1, 1))
    state = lk.look(state, ERRORS, "errors", events(5, 1, 1))
    near, far = (lk.look(state, ERRORS, "errors", events(at, 2, 1)) for at in (10.0, 5000.0))
    assert not near.checks["errors"].note
    assert evidence(near) == evidence(far)


@pytest.mark.parametrize(
    "nothing",
    [
        c.Events(0, 10, (), ()),
        events(0, 5, 0, n1=0),
        events(0, 0, 5, n0=0),
        events(0, 0, 0),
    ],
)
def test_no_data_is_no_evidence_in_either_direction(nothing: c.Events) -> None:
    before = lk.begin(ERRORS, 0.0)
    after = lk.look(before, ERRORS, "errors", nothing)
    assert evidence(after) == pytest.approx(0)
    found = verdict(after, ERRORS, 10.0)
    assert found.answer == Answer.NOT_ENOUGH_DATA
    assert not found.findings[0].good


def test_counts_of_the_wrong_kind_or_check_are_refused() -> None:
    state = lk.begin(ERRORS, 0.0)
    with pytest.raises(ValueError, match="check 'errors': Value are not counts for a check of errors"):
        lk.look(state, ERRORS, "errors", c.Value(0, 10, 1.0))
    with pytest.raises(ValueError, match="check 'other': there is none; there are errors"):
        lk.look(state, ERRORS, "other", events(0))
    with pytest.raises(ValueError, match=r"stable\[0\] \(s0\).requests: -1 is negative"):
        lk.look(state, ERRORS, "errors", c.Events(0, 10, (c.Pod("s0", -1),), ()))


def test_evidence_goes_on_across_weights_and_is_never_undone() -> None:
    state = lk.begin(ERRORS, 0.0)
    steps = [events(0, 0, 2, n0=950, n1=50), events(10, 1, 2, n0=900, n1=100), events(20, 1, 4, n0=500, n1=500)]
    seen = [evidence(state := lk.look(state, ERRORS, "errors", made)) for made in steps]
    assert seen[0] < seen[1] < seen[2]
    worse = looks(state, ERRORS, "errors", [events(30 + 10.0 * t, 0, 9) for t in range(3)])
    assert worse.crossed
    later = looks(worse, ERRORS, "errors", [events(100 + 10.0 * t, 40, 0) for t in range(20)])
    assert evidence(later) < math.log(100)
    assert verdict(later, ERRORS, 300.0).answer == Answer.WORSE


def test_checks_are_combined_by_their_weighted_mean_and_the_culprit_is_named() -> None:
    rules = Rules((Check("a", "errors", weight=3), Check("b", "errors", weight=1)))
    state = looks(lk.begin(rules, 0.0), rules, "b", [events(10.0 * t, 0, 2) for t in range(2)])
    alone = math.exp(evidence(state, "b"))
    together, culprit = lk.combined(state.checks, rules)
    assert math.exp(together) == pytest.approx(0.75 + 0.25 * alone)
    assert culprit == "b"


def test_only_bounds_in_common_are_compared_and_none_is_said_so() -> None:
    draw = np.random.default_rng(2)
    state = lk.begin(LATENCY, 0.0)
    some = latencies(0, draw, bounds=(0.01, 0.05, 0.1))
    other = latencies(0, draw, bounds=(0.02, 0.05, 0.2))
    state = lk.look(state, LATENCY, "latency", c.Latencies(0, 10, some.stable, other.canary))
    found = state.checks["latency"].state
    assert isinstance(found, Latency)
    assert found.bounds == (0.05,)
    none = latencies(10, draw, bounds=(0.01, 0.1)).stable
    after = lk.look(state, LATENCY, "latency", c.Latencies(10, 20, none, other.canary))
    assert after.checks["latency"].note == "stable and canary have no bucket bound in common"
    changed = lk.look(state, LATENCY, "latency", latencies(10, draw, bounds=(0.01, 0.1)))
    assert "the buckets changed: none of the bounds 0.05 is left, found 0.01, 0.1" in changed.checks["latency"].note
    assert evidence(changed, "latency") == evidence(state, "latency")


def test_stable_alone_teaches_what_to_expect_and_is_no_evidence() -> None:
    draw = np.random.default_rng(3)
    taught = looks(
        lk.begin(LATENCY, 0.0), LATENCY, "latency", [latencies(10.0 * t, draw, asked=(225, 0)) for t in range(3)]
    )
    assert evidence(taught, "latency") == 0
    slow = latencies(30, draw, 1.6)
    assert evidence(lk.look(taught, LATENCY, "latency", slow), "latency") > evidence(
        lk.look(lk.begin(LATENCY, 0.0), LATENCY, "latency", slow), "latency"
    )


def test_a_canary_with_other_buckets_than_stable_alone_had_shown_is_compared_where_it_can_be() -> None:
    draw = np.random.default_rng(4)
    state = lk.look(lk.begin(LATENCY, 0.0), LATENCY, "latency", latencies(0, draw, bounds=(0.02, 0.08), asked=(225, 0)))
    state = lk.look(state, LATENCY, "latency", latencies(10, draw, 2.0, bounds=(0.03, 0.1)))
    assert not state.checks["latency"].note
    assert evidence(state, "latency") > 0
    assert verdict(state, LATENCY, 20.0).message


def test_what_young_pods_show_is_kept_aside_until_they_confirm_it_when_warm() -> None:
    state = looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [events(10.0 * t, 1, 2, age=10.0 * t) for t in range(6)])
    assert evidence(state) == pytest.approx(0)
    assert state.checks["errors"].aside > math.log(1000)
    assert state.checks["errors"].cold.pods == ("c0", "c1")
    assert not state.crossed
    once = lk.look(state, ERRORS, "errors", events(60, 1, 1, age=60.0))
    assert not once.crossed
    twice = lk.look(once, ERRORS, "errors", events(70, 1, 3, age=70.0))
    assert twice.crossed
    assert evidence(twice) > math.log(1000)


def test_what_young_pods_show_is_refuted_when_they_are_warm_and_the_later_fault_is_found_all_the_same() -> None:
    cold = [events(10.0 * t, 1, 10, age=10.0 * t) for t in range(6)]
    fine = [events(60 + 10.0 * t, 9, 1, age=60 + 10.0 * t) for t in range(30)]
    state = looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [*cold, *fine])
    assert not state.crossed
    assert evidence(state) < 0
    bad = [events(360 + 10.0 * t, 9, 5, age=360 + 10.0 * t) for t in range(60)]
    assert looks(state, ERRORS, "errors", bad).crossed


def test_where_young_pods_fail_much_warm_ones_have_to_suffice_by_themselves() -> None:
    state = looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [events(10.0 * t, 1, 6, age=10.0 * t) for t in range(6)])
    once = lk.look(state, ERRORS, "errors", events(60, 0, 2, age=60.0))
    assert math.log(10) > evidence(once) > math.log(5)
    assert not lk.look(once, ERRORS, "errors", events(70, 0, 1, age=70.0)).crossed
    assert looks(once, ERRORS, "errors", [events(70 + 10.0 * t, 0, 6, age=70.0) for t in range(2)]).crossed


def test_pods_that_are_as_fast_as_stables_and_fail_rarely_are_seen_to_be_warm() -> None:
    def after(times: float) -> lk.State:
        draw = np.random.default_rng(8)
        state = lk.begin(BOTH, 0.0)
        for t in range(6):
            state = lk.look(state, BOTH, "errors", events(10.0 * t, 1, t % 2, age=10.0 * t))
            state = lk.look(state, BOTH, "latency", latencies(10.0 * t, draw, times, age=10.0 * t))
        return state

    assert after(1.0).checks["errors"].cold.intervals == 2, "for a third of the warm-up"
    assert after(3.0).checks["errors"].cold.intervals == 6
    assert evidence(after(1.0)) > evidence(after(3.0))


def test_slowness_of_young_pods_is_kept_aside_too() -> None:
    draw = np.random.default_rng(9)
    made = [latencies(10.0 * t, draw, 3.0, age=10.0 * t) for t in range(6)]
    state = looks(lk.begin(LATENCY, 0.0), LATENCY, "latency", made)
    assert evidence(state, "latency") == pytest.approx(0)
    assert not state.crossed
    well = [latencies(60 + 10.0 * t, draw, 1.0, age=60 + 10.0 * t) for t in range(20)]
    assert not looks(state, LATENCY, "latency", well).crossed
    still = [latencies(60 + 10.0 * t, draw, 3.0, age=60 + 10.0 * t) for t in range(2)]
    assert looks(state, LATENCY, "latency", still).crossed


def test_pods_that_were_always_warm_count_in_full() -> None:
    state = looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [events(10.0 * t, 3, 1) for t in range(9)])
    found = state.checks["errors"].state
    assert isinstance(found, Errors)
    assert evidence(state) == pytest.approx(duel.against(found.duel))


def test_a_version_that_fails_outright_is_not_taken_for_cold() -> None:
    state = looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [events(10.0 * t, 1, 80, age=10.0 * t) for t in range(4)])
    assert state.crossed


def test_nothing_speaks_for_a_canary_while_its_pods_may_be_warming_up() -> None:
    young, grown = (
        looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", [events(10.0 * t, 90, 8, age=age) for t in range(6)])
        for age in (5.0, 65.0)
    )
    (a, b) = (verdict(state, ERRORS, 60.0).findings[0] for state in (young, grown))
    assert a.evidence == b.evidence
    assert a.interval[1] is None
    assert b.interval[1] is not None


def test_evidence_of_slowness_is_tempered_where_stables_pods_differ_by_more_than_chance() -> None:
    def made(at: float, stuck: tuple[int, ...], times: float) -> c.Latencies:
        plain = latencies(at, np.random.default_rng(int(at)), times)
        stable = (
            msgspec.structs.replace(pod, counts=(*pod.counts[:-1], pod.counts[-1] + more))
            for pod, more in zip(plain.stable, stuck, strict=True)
        )
        return c.Latencies(plain.start, plain.end, tuple(stable), plain.canary)

    alike, apart = (
        looks(lk.begin(LATENCY, 0.0), LATENCY, "latency", [made(10.0 * t, stuck, 2.0) for t in range(5)])
        for stuck in ((10, 10, 10, 10), (40, 0, 0, 0))
    )
    assert 0 < evidence(apart, "latency") < evidence(alike, "latency") - 1


def test_no_latency_speaks_for_a_canary_while_its_pods_may_be_warming_up() -> None:
    def limits(age: float) -> tuple[float | None, float | None]:
        draw = np.random.default_rng(5)
        made = [latencies(10.0 * t, draw, age=age) for t in range(20)]
        state = looks(lk.begin(LATENCY, 0.0), LATENCY, "latency", made)
        return verdict(state, LATENCY, 200.0).findings[0].interval

    assert limits(5.0)[1] is None
    assert limits(65.0)[1] is not None

"""Whether a split has changed: the old one is hardly ever taken for the new one, and the new one is seen soon."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davylamp.analysis.effect import ERROR, Claim, Interval, State, answer, claim, evidence, moved, take

WINDOW = 2.5
CHANGES = ((0.0, 0.1), (0.1, 0.5), (0.5, 1.0), (0.5, 0.0), (0.02, 0.0), (0.0, 0.01), (0.3, 0.1), (0.1, 0.12))


def seen_after(
    told: Claim, share: Callable[[int], float], *, requests: int, looks: int, seed: int, canary: float = 1.0
) -> int | None:
    """The look at which the change is seen; `share` tells which part of the requests reaches the canary in each."""
    draw, state = np.random.default_rng(seed), State()
    for number in range(1, looks + 1):
        hits = int(draw.binomial(requests, share(number)))
        state = take(state, told, Interval(0.5, requests - hits, hits, of_canary=canary))
        if answer(state, WINDOW) == "seen":
            return number
    return None


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_each_factor_is_an_e_value_for_every_share_up_to_the_boundary(before: float, after: float) -> None:
    told = Claim(before, after)
    one, other = (
        take(State(), told, Interval(1, 1 - hit, hit)).log + math.log(2) for hit in (1, 0)
    )  # the first look's weight is 1/2
    for part in np.linspace(0, 1, 21):
        # On the side of the boundary from which the change comes.
        share = told.boundary * part if after > before else 1 - (1 - told.boundary) * part
        assert share * math.exp(one) + (1 - share) * math.exp(other) <= 1 + 1e-9


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_the_mixture_over_the_moment_of_the_change_is_an_e_value_after_every_look(before: float, after: float) -> None:
    told, requests = Claim(before, after), 3
    chances = [
        math.comb(requests, k) * told.boundary**k * (1 - told.boundary) ** (requests - k) for k in range(requests + 1)
    ]
    for looks in (1, 2, 3, 4):
        mean = 0.0
        for hits in itertools.product(range(requests + 1), repeat=looks):
            state = State()
            for k in hits:
                state = take(state, told, Interval(1, requests - k, k))
            mean += math.exp(evidence(state)) * math.prod(chances[k] for k in hits)
        assert mean == pytest.approx(1), f"after {looks} looks"


def wrongly(share: float, told: Claim, runs: int) -> float:
    found = (seen_after(told, lambda _: share, requests=50, looks=60, seed=seed) for seed in range(runs))
    return sum(look is not None for look in found) / runs


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.1), (0.1, 0.5), (0.5, 1.0), (0.5, 0.0)])
def test_a_split_at_the_boundary_is_rarely_taken_for_the_new_one_however_often_one_looks(
    before: float, after: float
) -> None:
    told = Claim(before, after)
    runs = 600
    most = runs * ERROR + 3 * math.sqrt(runs * ERROR)
    assert wrongly(told.boundary, told, runs) * runs <= most


@pytest.mark.parametrize(("before", "after"), CHANGES[:-1])
def test_the_old_split_itself_is_practically_never_taken_for_the_new_one(before: float, after: float) -> None:
    assert wrongly(before, Claim(before, after), 200) == 0


@pytest.mark.parametrize(
    ("before", "after", "most"),
    [(0.0, 0.1, 350), (0.1, 0.5, 150), (0.5, 1.0, 50), (0.5, 0.0, 50), (0.1, 0.0, 200), (0.0, 0.01, 4000)],
)
def test_a_change_is_seen_within_so_many_requests(before: float, after: float, most: int) -> None:
    told, requests = Claim(before, after), 10
    looks = [seen_after(told, lambda _: after, requests=requests, looks=1000, seed=seed) for seed in range(60)]
    assert None not in looks
    assert statistics.median(look for look in looks if look is not None) * requests <= most


def test_a_change_that_comes_late_is_seen_nearly_as_soon_and_not_before() -> None:
    told = Claim(0.1, 0.5)
    for seed in range(50):
        look = seen_after(told, lambda number: 0.5 if number > 20 else 0.1, requests=50, looks=60, seed=seed)
        assert look is not None
        assert 20 < look <= 26


def test_a_split_that_one_of_three_proxies_has_made_is_not_the_new_one() -> None:
    assert wrongly(0.1 / 3, Claim(0.0, 0.1), 300) <= ERROR


def test_of_many_pods_those_that_are_asked_tell_the_share_of_all() -> None:
    told = Claim(0.0, 0.5)
    # One of ten canary pods is asked, and all of stable's: 10 % of all are 0.0526 / 1.0526 of what is counted.
    low, high = 0.1 * 0.1 / (0.1 * 0.1 + 0.9), 0.5 * 0.1 / (0.5 * 0.1 + 0.5)
    assert all(
        seen_after(told, lambda _: low, requests=100, looks=60, seed=seed, canary=0.1) is None for seed in range(20)
    )
    assert all(seen_after(told, lambda _: high, requests=100, looks=60, seed=seed, canary=0.1) for seed in range(20))


def test_nobody_may_have_reached_the_canary_lately_for_it_to_get_nothing() -> None:
    told, state = Claim(0.5, 0.0), State()
    for _ in range(20):
        state = take(state, told, Interval(0.5, 100, 0))
    assert answer(state, WINDOW) == "seen"
    late = take(state, told, Interval(0.5, 100, 1))
    assert answer(late, WINDOW) == "unclear"
    assert answer(take(late, told, Interval(0.5, 100, 0)), WINDOW) == "seen"


def test_without_requests_nothing_is_known() -> None:
    state = State()
    for _ in range(100):
        state = take(state, Claim(0, 0.1), Interval(0.5, 0, 0))
        assert answer(state, WINDOW) == "unclear"


def test_the_old_split_lately_speaks_against_the_change_until_it_comes() -> None:
    told, state = Claim(0.0, 0.1), State()
    for _ in range(10):
        state = take(state, told, Interval(0.5, 50, 0))
    assert answer(state, WINDOW) == "against"
    assert not moved(state, told, WINDOW)
    for _ in range(5):
        state = take(state, told, Interval(0.5, 47, 3))
    assert answer(state, WINDOW) == "unclear", "6 % may be on the way to 10 %"
    assert moved(state, told, WINDOW)


def test_what_may_be_probes_speaks_neither_for_the_canary_nor_against_it() -> None:
    told, state = Claim(0.0, 0.1), State()
    for _ in range(10):
        state = take(state, told, Interval(0.5, 50, 0, at_most=6))
    assert answer(state, WINDOW) == "unclear"


def of(share: float, requests: int = 2000) -> tuple[int, int]:
    return requests - round(requests * share), round(requests * share)


def test_with_testers_the_share_is_compared_with_the_one_before() -> None:
    # 30 % are chosen, of the rest 10 % reach the canary: 37 %. At 20 % it will be 44 %.
    assert claim(0.1, 0.2, None, sure=False) is None
    told = claim(0.1, 0.2, of(0.37, 20_000), sure=False)
    assert told is not None
    assert told.before == pytest.approx(0.378, abs=1e-3)
    assert told.after == pytest.approx(0.44, abs=1e-3)
    assert wrongly(0.37, told, 100) == 0
    assert seen_after(told, lambda _: 0.44, requests=200, looks=200, seed=1)


def test_where_the_share_before_is_not_known_it_is_seen_that_the_canary_still_gets_requests_and_no_more() -> None:
    told = claim(0.5, 0.0, None, sure=False, all_of_it=True)
    assert told == Claim(0.1, 0.0, sure=False)
    state = take(State(), told, Interval(0.5, 40, 3))
    assert answer(state, WINDOW) == "against"
    for _ in range(4):
        state = take(state, told, Interval(0.5, 40, 0))
    assert answer(state, WINDOW) != "against"


def test_where_half_of_the_requests_come_past_the_routes_half_of_the_share_is_waited_for() -> None:
    told = claim(0.1, 0.5, of(0.05))
    assert told is not None
    assert told.after == pytest.approx(0.25)
    assert seen_after(told, lambda _: 0.25, requests=100, looks=100, seed=1)
    everything = claim(0.1, 1.0, of(0.05), all_of_it=True)
    assert everything is not None
    assert everything.after == 1.0


def test_more_requests_of_the_canary_than_there_can_be_are_those_of_something_else() -> None:
    assert claim(0.1, 0.5, of(0.4)) == Claim(0.1, 0.5)


def test_too_few_requests_before_the_change_are_not_believed() -> None:
    assert claim(0.1, 0.5, of(0.0, 100)) == Claim(0.1, 0.5)


def test_a_difference_that_the_share_before_is_not_known_well_enough_for_is_not_tested() -> None:
    assert claim(0.1, 0.12, of(0.1, 300)) is None


SHARES = st.floats(0, 1)


@settings(max_examples=300)
@given(SHARES, SHARES, st.none() | st.tuples(st.integers(0, 5000), st.integers(0, 5000)), st.booleans(), st.booleans())
def test_what_is_tested_lies_between_before_and_after_and_any_counts_can_be_taken(
    before: float, after: float, measured: tuple[int, int] | None, sure: bool, everything: bool
) -> None:
    told = claim(before, after, measured, sure=sure, all_of_it=everything)
    if told is None:
        return
    low, high = sorted((told.before, told.after))
    assert low <= told.boundary <= high
    state = State()
    for counts in intervals():
        state = take(state, told, counts)
        assert not math.isnan(evidence(state))


def intervals() -> Iterator[Interval]:
    for stable, canary in ((0, 0), (100, 0), (0, 100), (3, 5)):
        yield Interval(0.5, stable, canary)
        yield Interval(0.5, stable, canary, canary + 2, 0.1, 0.5)

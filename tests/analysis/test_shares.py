"""The factors have expectation at most 1 where the canary is no worse, exactly, by enumeration."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from davylamp.analysis import shares
from davylamp.analysis.shares import Array

RATIOS = st.sampled_from([1.0, 1.1, 1.25, 2.0, 5.0])


def binomial(n: int, p: float) -> Array:
    return np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


def grid(n0: int, n1: int) -> tuple[Array, Array]:
    k0, k1 = np.meshgrid(np.arange(n0 + 1.0), np.arange(n1 + 1.0), indexing="ij")
    return k0, k1


@settings(max_examples=60)
@example(5.0, 13, 1, 1.0, 1.0)  # a single request of the canary, which always fails
@example(5.0, 30, 1, 1.0, 1.0)
@example(2.0, 1, 40, 1.0, 1.0)
@given(RATIOS, st.integers(1, 40), st.integers(1, 40), st.floats(0.0001, 1.0), st.floats(0.0, 1.0))
def test_a_canary_no_worse_than_tolerated_gives_no_evidence_on_average(
    tau: float, n0: int, n1: int, most: float, part: float
) -> None:
    chance = binomial(n0, most / tau)[:, None] * binomial(n1, most * part)[None, :]
    factors = np.exp(shares.worse(*grid(n0, n1), n0, n1, tau))
    assert ((factors * chance[..., None]).sum((0, 1)) <= 1 + 1e-9).all()


@pytest.mark.parametrize("tau", [1.1, 1.25, 2.0, 5.0, 20.0])
def test_the_common_failures_that_favour_the_gambler_most_are_still_no_profit(tau: float) -> None:
    """The property above draws rates and sizes; this goes where the expectation comes closest to 1."""
    for n0 in (1, 2, 3, 5, 8, 13, 20, 40, 120):
        for n1 in (1, 2, 3, 5, 12):
            k0, k1 = grid(n0, n1)
            factors = np.exp(shares.worse(k0, k1, n0, n1, tau))
            for most in (0.5, 0.9, 0.99, 1.0):
                chance = binomial(n0, most / tau)[:, None] * binomial(n1, most)[None, :]
                assert ((factors * chance[..., None]).sum((0, 1)) <= 1 + 1e-9).all(), (n0, n1, most)


@settings(max_examples=60)
@given(RATIOS, st.integers(1, 40), st.integers(1, 40), st.floats(0.0001, 1.0), st.floats(0.0, 1.0))
def test_a_canary_as_bad_as_refused_gives_no_evidence_in_its_favour(
    tau: float, n0: int, n1: int, most: float, part: float
) -> None:
    chance = binomial(n0, most / tau * part)[:, None] * binomial(n1, most)[None, :]
    factors = np.exp(shares.better(*grid(n0, n1), n0, n1, tau))
    assert ((factors * chance[..., None]).sum((0, 1)) <= 1 + 1e-9).all()


@settings(max_examples=40)
@given(st.floats(0.01, 0.99), st.integers(1, 30), RATIOS)
def test_given_the_failures_every_bet_is_fair_for_every_split(split: float, failures: int, tau: float) -> None:
    """Rare failures: given K, the canary's number is binomial with theta, whatever the base rate is."""
    n0, n1 = 1e9 * (1 - split), 1e9 * split
    k1 = np.arange(failures + 1)
    theta = float(shares.share(n0, n1, tau))
    factors = np.exp(shares.worse(failures - k1, k1, n0, n1, tau))
    assert binomial(failures, theta) @ factors == pytest.approx(np.ones(8), abs=1e-6)


@settings(max_examples=40)
@given(st.integers(1, 20), st.floats(0.05, 0.95))
def test_failures_that_come_all_together_are_still_a_fair_bet(size: int, theta: float) -> None:
    """The worst correlation: all failures of an interval belong to one version."""
    n0, n1 = 1e9 * (1 - theta), 1e9 * theta
    factors = np.exp(shares.worse(np.array([size, 0]), np.array([0, size]), n0, n1, 1.0))
    assert np.array([1 - theta, theta]) @ factors == pytest.approx(np.ones(8), abs=1e-6)


@settings(max_examples=40)
@given(st.floats(0.001, 0.3), st.integers(1, 60), st.floats(1.0, 3.0))
def test_a_share_of_failures_above_the_harmless_gives_no_evidence_for_it(limit: float, n: int, times: float) -> None:
    p = min(limit * times, 1.0)
    for cluster in (1.0, 5.0):
        factors = np.exp(shares.below(np.arange(n + 1), n, limit, cluster))
        assert (binomial(n, p) @ factors <= 1 + 1e-9).all()


@pytest.mark.parametrize(("k0", "k1", "n0", "n1"), [(0, 0, 90, 10), (3, 0, 90, 0), (0, 3, 0, 10), (0, 0, 0, 0)])
def test_without_failures_or_with_one_version_only_there_is_no_evidence(k0: int, k1: int, n0: int, n1: int) -> None:
    assert not shares.worse(k0, k1, n0, n1, 1.25).any()
    assert not shares.better(k0, k1, n0, n1, 2.0).any()


def test_one_failure_by_hand() -> None:
    """90 and 10 requests, tau 1: theta = 0.1. Against rho = 9 the canary's share would be 0.5, so Kelly stakes
    (0.5 - 0.1) / 0.9 = 4/9: a failure of the canary gives 1 + 4/9 * 9 = 5, one of stable's 1 - 4/9 = 5/9."""
    nine = np.array([9.0])
    assert np.exp(shares.worse(0, 1, 90, 10, 1.0, nine)) == pytest.approx([5])
    assert np.exp(shares.worse(1, 0, 90, 10, 1.0, nine)) == pytest.approx([5 / 9])


def test_two_failures_are_staked_on_as_two_bets() -> None:
    nine = np.array([9.0])
    assert np.exp(shares.worse(2, 0, 90, 10, 1.0, nine)) == pytest.approx([(5 / 9) ** 2])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_order_of_intervals_is_of_no_account(counts: list[tuple[int, int]]) -> None:
    k0, k1 = np.array(counts).T
    logs = shares.worse(k0, k1, 900, 100, 1.25)
    assert logs.sum(0) == pytest.approx(logs[::-1].sum(0))


def test_the_mean_of_logs_neither_overflows_nor_forgets_weights() -> None:
    assert shares.log_mean(np.array([1000.0, 1000.0])) == pytest.approx(1000)
    assert shares.log_mean(np.array([-1000.0, -2000.0])) == pytest.approx(-1000 + math.log(0.5))
    assert shares.log_mean(np.log([4.0, 8.0]), np.array([0.75, 0.25])) == pytest.approx(math.log(5))

"""The factors for common events, exactly, by enumeration."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davylamp.analysis import blocks
from tests.analysis.test_shares import RATIOS, binomial, grid

RATES = st.one_of(st.just(math.nan), st.floats(0.001, 0.99))
SIZES = st.integers(1, 30)


@settings(max_examples=80)
@given(RATIOS, SIZES, SIZES, RATES, st.floats(0.001, 1.0), st.floats(0.0, 1.0), st.floats(1.0, 10.0))
def test_a_canary_no_slower_than_tolerated_gives_no_evidence_whatever_was_expected(
    tau: float, n0: int, n1: int, rate: float, most: float, part: float, power: float
) -> None:
    chance = binomial(n0, most / tau)[:, None] * binomial(n1, most * part)[None, :]
    factors = np.exp(blocks.logs(*grid(n0, n1), n0, n1, tau, rate, power, blocks.WORSE))
    assert ((factors * chance[..., None]).sum((0, 1)) <= 1 + 1e-9).all()


@settings(max_examples=80)
@given(RATIOS, SIZES, SIZES, RATES, st.floats(0.001, 1.0), st.floats(0.0, 1.0), st.floats(1.0, 10.0))
def test_a_canary_as_slow_as_refused_gives_no_evidence_in_its_favour(
    tau: float, n0: int, n1: int, rate: float, most: float, part: float, power: float
) -> None:
    chance = binomial(n0, most / tau * part)[:, None] * binomial(n1, most)[None, :]
    factors = np.exp(blocks.logs(*grid(n0, n1), n0, n1, tau, rate, power, blocks.BETTER))
    assert ((factors * chance[..., None]).sum((0, 1)) <= 1 + 1e-9).all()


def test_one_block_by_hand() -> None:
    """Stable 1/4, odds 3 times as large make the canary's 1/2; with 1 request each the nearest equal rates are 3/8.
    The canary slow and stable not: (1/2 / 3/8) * (3/4 / 5/8) = 1.6."""
    factor = np.exp(blocks.logs(0, 1, 1, 1, 1.0, 0.25, 1.0, np.array([3.0])))
    assert factor == pytest.approx([1.6])


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_blocks_of_the_same_split_may_be_merged(k0: int, k1: int, more0: int, more1: int) -> None:
    first, second = (blocks.logs(a, b, 90, 10, 1.25, 0.05, 4.0, blocks.WORSE) for a, b in ((k0, k1), (more0, more1)))
    both = blocks.logs(k0 + more0, k1 + more1, 180, 20, 1.25, 0.05, 4.0, blocks.WORSE)
    uncapped = (first < math.log(20)) & (second < math.log(20)) & (both < math.log(20))
    assert (first + second)[uncapped] == pytest.approx(both[uncapped])


def test_no_interval_counts_for_more_than_twenty() -> None:
    assert blocks.logs(0, 100, 900, 100, 1.0, 0.01, 1.0, blocks.WORSE).max() == pytest.approx(math.log(20))


@pytest.mark.parametrize(("n0", "n1"), [(0, 10), (90, 0), (0, 0)])
def test_one_version_alone_is_no_evidence(n0: int, n1: int) -> None:
    assert not blocks.logs(min(n0, 3), min(n1, 3), n0, n1, 1.25, 0.1, 1.0, blocks.WORSE).any()


def test_pods_that_differ_more_than_by_chance_temper_the_evidence() -> None:
    requests = np.array([100, 100, 100, 100])
    alike, apart = np.array([[10.0], [10], [10], [10]]), np.array([[40.0], [0], [0], [0]])
    assert blocks.tempering(*blocks.dispersion(alike, requests)) == pytest.approx([1.0])
    chi, freedom = blocks.dispersion(apart, requests)
    assert chi == pytest.approx([(30**2 + 3 * 10**2) / 9])
    assert freedom == pytest.approx([3])
    assert blocks.tempering(50 * chi, 50 * freedom) > 30


def test_one_stable_pod_shows_nothing_so_caution_is_taken() -> None:
    assert blocks.tempering(*blocks.dispersion(np.array([[10.0]]), np.array([100]))) == pytest.approx([2.0])


def test_there_is_no_bet_where_hardly_anything_can_be_worse() -> None:
    """There the logarithms of what is left of 1 are mostly rounding."""
    rates = np.array([0.5, 0.7999, 0.79993, 0.9])
    found = blocks.logs(1800, 1000, 2000, 1000, 1.25, rates, 1.0, blocks.WORSE)
    assert (found[:2] != 0).all()
    assert not found[2:].any()

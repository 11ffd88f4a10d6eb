"""One interval by plain numbers is what the formulas for arrays say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from davylamp.analysis import blocks, once, shares

FEW = st.integers(0, 50)
MANY = st.one_of(st.just(0), st.integers(0, 100_000))
TAUS = st.sampled_from([1.0, 1.25, 2.0, 10.0])


def near(logs: ArrayLike, close: float = 1e-9) -> Any:
    return pytest.approx(np.asarray(logs), rel=close, abs=close)


@given(k0=FEW, k1=FEW, n0=MANY, n1=MANY, tau=TAUS)
def test_bets_on_shares(k0: int, k1: int, n0: int, n1: int, tau: float) -> None:
    counts = (k0, k1, n0, n1, tau)
    assert once.worse(*counts) == near(shares.worse(*counts))
    assert once.better(*counts) == near(shares.better(*counts))


@given(n=MANY, part=st.floats(0, 1), limit=st.floats(1e-6, 0.4), cluster=st.sampled_from([1.0, 5.0]))
def test_bets_on_limits(n: int, part: float, limit: float, cluster: float) -> None:
    k = round(n * part)
    assert once.below(k, n, limit, cluster) == near(shares.below(k, n, limit, cluster))
    assert once.above(k, n, limit, cluster) == near(shares.above(k, n, limit, cluster))


@given(
    n0=MANY,
    n1=MANY,
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    tau=TAUS,
    rate=st.one_of(st.just(math.nan), st.floats(1e-4, 0.9999)),
    power=st.floats(1, 5),
)
def test_blocks(n0: int, n1: int, parts: tuple[float, float], tau: float, rate: float, power: float) -> None:
    counts = (round(n0 * parts[0]), round(n1 * parts[1]), n0, n1, tau, rate, power)
    worse, better = (blocks.logs(*counts, against) for against in (blocks.WORSE, blocks.BETTER))
    assert once.block(*counts, once.BLOCKS_WORSE) == near(worse, 1e-6)
    assert once.block(*counts, once.BLOCKS_BETTER) == near(better, 1e-6)


@given(
    n0=st.integers(1, 100_000),
    n1=st.integers(1, 100_000),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    tau=TAUS,
    digits=st.floats(0, 17),
)
def test_blocks_where_stables_rate_is_next_to_what_is_impossible(
    n0: int, n1: int, parts: tuple[float, float], tau: float, digits: float
) -> None:
    """The canary's rate can't be `tau` times as large there, and small differences become large ones."""
    rate = min(max((1 - 10**-digits) / tau, 1e-4), 1 - 1e-7)
    counts = (round(n0 * parts[0]), round(n1 * parts[1]), n0, n1, tau)
    wanted = near(blocks.logs(*counts, rate, 1.0, blocks.WORSE), 1e-6)
    assert once.block(*counts, rate, 1.0, once.BLOCKS_WORSE) == wanted
    k0, k1 = (np.array([float(count)]) for count in counts[:2])
    found = once.blocks_at(k0, k1, n0, n1, tau, np.array([rate]), np.ones(1))
    assert found[0] == wanted


AT_A_BOUND = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1e-4, 0.9999), st.floats(1, 5))


@given(n0=MANY, n1=MANY, tau=TAUS, bounds=st.lists(AT_A_BOUND, min_size=1, max_size=12), unknown=st.booleans())
def test_blocks_at_several_bounds(n0: int, n1: int, tau: float, bounds: list[tuple[float, ...]], unknown: bool) -> None:
    part0, part1, rate, power = np.array(bounds).T
    k0, k1 = np.round(n0 * part0), np.round(n1 * part1)
    if unknown:
        rate[0] = math.nan
    found = once.blocks_at(k0, k1, n0, n1, tau, rate, power)
    assert found == near(blocks.logs(k0, k1, n0, n1, tau, rate, power, blocks.WORSE), 1e-6)


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=100), st.floats(-3, 3))
def test_sums_of_logs(logs: list[float], more: float) -> None:
    raw = shares.pack(np.array(logs))
    assert once.capital(raw) == pytest.approx(float(shares.log_mean(np.array(logs))))
    assert once.log_mean(np.array(logs)) == pytest.approx(float(shares.log_mean(np.array(logs))))
    assert once.added(raw, [more] * len(logs)) == shares.pack(np.array(logs) + more)
    assert once.either(logs[0], more) == pytest.approx(np.logaddexp(logs[0], more))


@given(
    pods=st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
)
def test_the_dispersion_between_pods(pods: list[tuple[int, float, float]]) -> None:
    asked, *parts = np.array(pods).T
    slow = np.round(asked * np.array(parts)).T
    wanted, together = blocks.dispersion(slow, asked), np.append(slow.sum(0), asked.sum())
    assert once.dispersion(slow, asked, together) == (near(wanted[0], 1e-6), near(wanted[1]))

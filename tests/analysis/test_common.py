"""One interval by plain numbers is what the formulas for arrays say: common events, at several bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, fields
from numpy.typing import ArrayLike

from davylamp.analysis import blocks, common, shares
from davylamp.analysis.common import ASKED, BESIDE, CHI, FREEDOM, KEPT, LESS, MORE, SLOW, YOUNG
from davylamp.analysis.shares import Array

MANY = st.one_of(st.just(0), st.integers(0, 100_000))
TAUS = st.sampled_from([1.0, 1.25, 2.0, 10.0])
TOLERATE, GOOD_ENOUGH = 1.25, 2.0


def near(logs: ArrayLike, close: float = 1e-6) -> Any:
    return pytest.approx(np.asarray(logs), rel=close, abs=close, nan_ok=True)


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
    assert common.block(*counts, common.WORSE) == near(blocks.logs(*counts, blocks.WORSE))
    assert common.block(*counts, common.BETTER) == near(blocks.logs(*counts, blocks.BETTER))


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
    counts = (round(n0 * parts[0]), round(n1 * parts[1]), n0, n1, tau, rate, 1.0)
    assert common.block(*counts, common.WORSE) == near(blocks.logs(*counts, blocks.WORSE))


@given(st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_dispersion_between_pods(pods: list[tuple[int, float]]) -> None:
    asked, part = np.array(pods).T
    slow = np.round(asked * part)
    wanted = blocks.dispersion(slow[:, None], asked)
    rate = float(slow.sum() / asked.sum())
    chi, freedom = common.dispersion(np.column_stack([slow, asked]).tolist(), len(pods), 0, rate)
    assert (chi, freedom) == (near(wanted[0][0]), near(wanted[1][0]))
    assert common.tempering(chi, freedom) == near(blocks.tempering(*wanted)[0])


def situation(
    seed: int, stable: int, canary: float, young: bool, intervals: int
) -> tuple[common.Sums, common.Interval]:
    """What several intervals left behind, and one more: at bounds of which a few have no column."""
    draw = np.random.default_rng(seed)
    part = np.append(-np.sort(-draw.beta(0.3, 1.0, draw.integers(1, 12))), 1)
    bounds = len(part) - 1
    warm = np.array([*[True] * (stable + 1), not young])

    def interval() -> common.Interval:
        asked = draw.integers(1, 300, stable)
        both = [*asked, *(draw.binomial(int(canary * asked.sum()), share) for share in (0.3, 0.6))]
        columns = np.arange(bounds)
        if gone := draw.integers(0, bounds) if draw.random() < 0.3 else 0:
            columns[:gone], columns[gone:] = -1, np.arange(bounds - gone)
        slower = np.array([draw.binomial(each, part[gone:]) for each in both], float)
        return common.Interval(slower, stable, warm, columns, bounds - 1)

    sums = common.Sums(np.zeros((bounds, common.WIDTH)), draw.normal(size=(bounds, CHI)), draw.normal(size=(2, CHI)))
    for _ in range(intervals):
        sums, _ = common.plain(sums, interval(), TOLERATE, GOOD_ENOUGH)
    return sums, interval()


def by_arrays(before: common.Sums, made: common.Interval) -> tuple[common.Sums, common.Found]:
    """The same by the formulas of `blocks`."""
    table, spread, duel = (each.copy() for each in astuple(before))
    mine = np.flatnonzero(made.columns >= 0)
    old, new = made.slower[: made.stable], made.slower[made.stable :]
    sides = (old.sum(0), new.sum(0), new[made.warm[made.stable :]].sum(0))
    (k0, k1, k), (n0, n1, n) = ([side[:-1] for side in sides], [float(side[-1]) for side in sides])
    chi, freedom = blocks.dispersion(old[:, :-1], old[:, -1])
    column = table.T
    column[CHI, mine] += chi
    column[FREEDOM, mine] += freedom
    power = blocks.tempering(column[CHI, mine], column[FREEDOM, mine])
    asked = column[ASKED, mine]
    rate = np.where(asked > 0, (column[SLOW, mine] + 0.5) / (asked + 1), np.nan)

    def bets(slow: Array, of: float, tau: float, against: Array) -> Array:
        return blocks.logs(k0, slow, n0, of, tau, rate, power, against)

    every, sure = bets(k1, n1, TOLERATE, blocks.WORSE), bets(k, n, TOLERATE, blocks.WORSE)
    own = table[:, :CHI].copy()
    own[mine] += sure
    table[mine, :CHI] += every
    spread[mine] += sure
    duel[0] += every[-1]
    duel[1] += bets(k1, n1, GOOD_ENOUGH, blocks.BETTER)[-1] * (n == n1)
    column[MORE, mine] += k1 * n0 / (n0 + n1)
    column[LESS, mine] += k0 * n1 / (n0 + n1)
    column[SLOW, mine] = KEPT * column[SLOW, mine] + k0
    column[ASKED, mine] = KEPT * asked + n0
    if n < n1:
        column[YOUNG, mine] += k1 - k
        column[BESIDE, mine] += k0
    logs = [float(shares.log_mean(each.ravel())) for each in (table[:, :CHI], own, spread, duel[0], duel[1])]
    found = common.Found(*[*logs, n0, n1, n, *(float(each[-1]) for each in (k0, k1, rate, power))])
    return common.Sums(table, spread, duel), found


@given(
    seed=st.integers(0, 2**32 - 1),
    stable=st.integers(1, 6),
    canary=st.sampled_from([0, 0.001, 0.1, 1]),
    young=st.booleans(),
    intervals=st.integers(0, 4),
)
def test_an_interval_is_added(seed: int, stable: int, canary: float, young: bool, intervals: int) -> None:
    before, made = situation(seed, stable, canary, young, intervals)
    kept = [each.copy() for each in astuple(before)]
    found, wanted = common.after(before, made, TOLERATE, GOOD_ENOUGH), by_arrays(before, made)
    for one, other in zip(found, wanted, strict=True):
        for field in fields(one):
            assert getattr(one, field.name) == near(getattr(other, field.name)), field.name
    for one, other in zip(astuple(before), kept, strict=True):
        assert np.array_equal(one, other), "what was before stays"

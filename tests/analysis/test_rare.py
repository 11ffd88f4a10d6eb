"""One interval by plain numbers is what the formulas for arrays say: rare events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from davylamp.analysis import rare, shares

FEW = st.integers(0, 50)
MANY = st.one_of(st.just(0), st.integers(0, 100_000))
TAUS = st.sampled_from([1.0, 1.25, 2.0, 10.0])
LIMITS = st.floats(1e-6, 0.4)
CLAIMS = rare.Claims(1.25, 2.0, 0.001)


def near(logs: ArrayLike, close: float = 1e-9) -> Any:
    return pytest.approx(np.asarray(logs), rel=close, abs=close)


@given(k0=FEW, k1=FEW, n0=MANY, n1=MANY, tau=TAUS)
def test_bets_on_shares(k0: int, k1: int, n0: int, n1: int, tau: float) -> None:
    counts = (k0, k1, n0, n1, tau)
    assert rare.worse(*counts) == near(shares.worse(*counts))
    assert rare.better(*counts) == near(shares.better(*counts))


@given(n=MANY, part=st.floats(0, 1), limit=LIMITS)
def test_bets_on_limits(n: int, part: float, limit: float) -> None:
    k = round(n * part)
    assert rare.below(k, n, limit) == near(shares.below(k, n, limit, rare.CLUSTER))
    assert rare.above(k, n, limit) == near(shares.above(k, n, limit, rare.CLUSTER))


def test_without_a_limit_nothing_is_bet_on_it() -> None:
    assert set(rare.below(1, 10, 0.0) + rare.above(1, 10, 0.0)) == {0.0}


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=100), st.floats(-3, 3))
def test_sums_of_logs(logs: list[float], more: float) -> None:
    assert rare.log_mean(logs) == pytest.approx(float(shares.log_mean(np.array(logs))))
    assert rare.either(logs[0], more) == pytest.approx(np.logaddexp(logs[0], more))


@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.tuples(FEW, FEW, st.integers(1, 10_000), st.integers(1, 10_000)),
    warm=st.floats(0, 1),
    settled=st.booleans(),
    limit=st.one_of(st.none(), st.just(0.0), LIMITS),
)
def test_an_interval_is_added(
    seed: int, counts: tuple[int, int, int, int], warm: float, settled: bool, limit: float | None
) -> None:
    k0, k1, n0, n1 = counts
    k, n = round(k1 * warm), round(n1 * warm)
    before = [np.random.default_rng(seed).normal(size=size) for size in (8, 8, 4, 8)]
    alone = limit is not None
    if limit is None:
        every, own = (shares.worse(k0, failed, n0, asked, CLAIMS.tolerate) for failed, asked in ((k1, n1), (k, n)))
    elif limit:
        every, own = (shares.above(failed, asked, limit, rare.CLUSTER) for failed, asked in ((k1, n1), (k, n)))
    else:
        every = own = np.zeros(8)
    speaks_for = settled and not alone
    fine = shares.better(k0, k1, n0, n1, CLAIMS.good_enough) * speaks_for
    few = shares.below(k1, n1, CLAIMS.harmless, rare.CLUSTER) * speaks_for
    wanted = [one + more for one, more in zip(before, (every, fine, few, own), strict=True)]

    made = rare.Interval(k0, k1, n0, n1, k, n, settled, alone, limit or 0.0)
    worse, better, harmless, spread = (shares.pack(one) for one in before)
    sums, own_account = rare.after(worse, better, harmless, spread, made, CLAIMS)
    found = (sums.worse, sums.better, sums.harmless, own_account.spread)
    for raw, logs, mean in zip(found, wanted, (*sums.logs, own_account.log), strict=True):
        assert shares.unpack(raw) == near(logs)
        assert mean == near(shares.log_mean(logs))
    assert own_account.worse == near(shares.log_mean(before[0] + own))

"""The sums of an interval by loops, compiled or not, are those by arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.analysis import latency, loops, sums
from davylamp.analysis.shares import Array

SEEDS = st.integers(0, 2**32 - 1)


def situation(seed: int, pods: int, canary: float, young: bool, intervals: int) -> tuple[Array, Array, sums.Interval]:
    """What several intervals left behind, and one more."""
    draw = np.random.default_rng(seed)
    part = np.append(-np.sort(-draw.beta(0.3, 1.0, draw.integers(1, 12))), 1)
    table, spread = np.zeros((len(part) - 1, sums.WIDTH)), draw.normal(size=(len(part) - 1, sums.CHI))

    def interval() -> sums.Interval:
        asked = draw.integers(1, 300, pods)
        old = np.array([draw.binomial(each, part) for each in asked], float)
        new, warm = (draw.binomial(int(canary * asked.sum()), part).astype(float) for _ in range(2))
        return sums.Interval(old, new, np.minimum(warm, new) if young else new)

    for _ in range(intervals):
        table = sums.after(table, spread, interval(), -1, 1.25, 2.0).table
    return table, spread, interval()


@given(SEEDS, st.integers(1, 6), st.sampled_from([0, 0.001, 0.1, 1]), st.booleans(), st.integers(0, 4))
def test_loops_say_what_arrays_say(seed: int, pods: int, canary: float, young: bool, intervals: int) -> None:
    table, spread, made = situation(seed, pods, canary, young, intervals)
    before = table.copy(), spread.copy()
    wanted = sums.after(table, spread, made, len(table) - 1, 1.25, 2.0)
    found = loops.calling(loops.loops)(table, spread, made, len(table) - 1, 1.25, 2.0)
    for name, one, other in zip(sums.Sums._fields, found, wanted, strict=True):
        assert np.asarray(one) == pytest.approx(np.asarray(other), rel=1e-6, abs=1e-6, nan_ok=True), name
    assert np.array_equal(table, before[0]), "what was before stays"
    assert np.array_equal(spread, before[1])


@pytest.mark.parametrize(
    ("name", "other"),
    [("_MOST", 1.0), ("_MOST_EXPECTED", 0.5), ("_PRIOR", 5.0), ("_UNSEEN", 3.0), ("_LEAST", 0.001), ("KEPT", 0.5)],
)
def test_what_was_compiled_with_other_constants_is_known(
    name: str, other: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loops._right(loops.calling(loops.loops))
    with monkeypatch.context() as before:
        before.setattr(loops, name, other)
        wrong = loops.calling(loops.loops)(*loops._sample())
    assert not loops._right(lambda *_: wrong)


def test_compiled_they_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(latency, "_arithmetic", [sums.after])
    loops.use.cache_clear()
    assert loops.use()
    (compiled,) = latency._arithmetic
    for seed in range(50):
        table, spread, made = situation(seed, 1 + seed % 4, 0.1, seed % 3 == 0, seed % 5)
        found = compiled(table, spread, made, 0, 1.25, 2.0)
        wanted = loops.calling(loops.loops)(table, spread, made, 0, 1.25, 2.0)
        for name, one, other in zip(sums.Sums._fields, found, wanted, strict=True):
            assert np.asarray(one) == pytest.approx(np.asarray(other), rel=1e-9, abs=1e-9, nan_ok=True), name

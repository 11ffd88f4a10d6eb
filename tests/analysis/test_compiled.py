"""What numba makes of an interval's sums is what Python says, and what it kept from before is not taken for it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from msgspec.structs import astuple

from davylamp.analysis import common, compiled, rare, shares
from tests.analysis.test_common import GOOD_ENOUGH, TOLERATE, situation


@pytest.fixture(name="kernels")
def _kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[rare.Kernel, common.Kernel]]:
    pytest.importorskip("numba")
    monkeypatch.setattr(rare, "_kernel", [rare.plain])
    monkeypatch.setattr(common, "_kernel", [common.plain])
    compiled.use.cache_clear()
    assert compiled.use()
    yield rare._kernel[0], common._kernel[0]
    compiled.use.cache_clear()


def test_all_stays_as_it_is_with_a_numba_that_can_not_compile_it(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")

    def refused(*_: object, **__: object) -> None:
        raise numba.core.errors.TypingError("no such function")

    monkeypatch.setattr(numba, "njit", refused)
    before = rare._kernel[0], common._kernel[0]
    compiled.use.cache_clear()
    assert not compiled.use()
    compiled.use.cache_clear()
    assert (rare._kernel[0], common._kernel[0]) == before


def test_compiled_they_say_the_same(kernels: tuple[rare.Kernel, common.Kernel]) -> None:
    few, many = kernels
    assert few is not rare.plain
    assert many is not common.plain
    for seed in range(50):
        before, made = situation(seed, 1 + seed % 4, 0.1, seed % 3 == 0, seed % 5)
        found, wanted = (kernel(before, made, TOLERATE, GOOD_ENOUGH) for kernel in (many, common.plain))
        for one, other in zip(found, wanted, strict=True):
            for number, right in zip(astuple(one), astuple(other), strict=True):
                assert number == pytest.approx(right, rel=1e-9, abs=1e-9, nan_ok=True)
        draw = np.random.default_rng(seed)
        n0, n1, n = np.sort(draw.integers(1, 1000, 3))[::-1].tolist()
        k0, k1, k = (int(draw.integers(0, each // 2 + 1)) for each in (n0, n1, n))
        interval = rare.Interval(k0, max(k, k1), n0, n1, k, n, seed % 2 == 0, seed % 5 == 0, 0.01)
        sums = shares.pack(draw.normal(size=rare.ALL))
        raw, logs = few(sums, interval, rare.Claims(TOLERATE, GOOD_ENOUGH, 0.001))
        again, same = rare.plain(sums, interval, rare.Claims(TOLERATE, GOOD_ENOUGH, 0.001))
        assert shares.unpack(raw) == pytest.approx(shares.unpack(again), rel=1e-9, abs=1e-9)
        assert logs == pytest.approx(same, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        (rare, "WORSE", (2.0,) * 8),
        (rare, "BETTER", (2.0,) * 8),
        (rare, "CLUSTER", 1.0),
        (rare, "_MOST", 0.5),
        (rare, "_SMALLER", ((0.5, -0.7),) * 4),
        (common, "WORSE", (2.0,) * 8),
        (common, "BETTER", (0.5,) * 8),
        (common, "KEPT", 0.5),
        (common, "_MOST", 1.0),
        (common, "_MOST_EXPECTED", 0.5),
        (common, "_LEAST", 0.001),
        (common, "_PRIOR", 5.0),
        (common, "_UNSEEN", 3.0),
    ],
)
def test_what_was_compiled_with_other_constants_is_known(
    module: ModuleType, name: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled.right(rare.plain, common.plain)
    right = compiled.said(rare.plain, common.plain)
    monkeypatch.setattr(module, name, other)
    assert not np.allclose(compiled.said(rare.plain, common.plain), right, rtol=1e-9, equal_nan=True)

"""Has numba compile what an interval adds to the sums (`rare`, `common`): a fifth of the time of plain Python or less.

For simulations, which make hundreds of thousands of looks; a controller spends its time elsewhere, and starts without a
compiler.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import msgspec
import numpy as np

from davylamp.analysis import common, rare, shares
from davylamp.analysis.shares import Array

_RARE = f"void(float64[::1], float64[::1], {'float64, ' * 6}boolean, boolean, {', '.join(['float64'] * 4)})"
_COMMON = (
    "void(float64[:,::1], float64[:,::1], float64[:,::1], float64[::1],"
    " float64[:,::1], int64, boolean[::1], int64[::1], int64, float64, float64)"
)
_INNER = (
    *(rare.worse, rare.better, rare.bets, rare.below, rare.above, rare.log_mean),
    *(common.block, common.totals, common.dispersion, common.tempering, common.expected, common.log_mean_of),
)


@functools.cache
def use() -> bool:
    """Have both compiled from now on, in this process and those that are forked from it; False, and all as before,
    where there is no numba, or one that can't."""
    try:
        import numba
    except ImportError:
        return False
    for inner in _INNER:
        numba.extending.register_jitable(inner)
    njit: Any = numba.njit
    for kept in (True, False):
        # RuntimeError: there is nowhere to keep what was compiled. NumbaError: this numba can't compile it.
        with contextlib.suppress(RuntimeError, numba.core.errors.NumbaError):
            few = rare.calling(njit(_RARE, cache=kept)(rare.interval))
            many = common.calling(njit(_COMMON, cache=kept)(common.interval))
            if right(few, many):
                rare.set_kernel(few)
                common.set_kernel(many)
                return True
    return False


def right(few: rare.Kernel, many: common.Kernel) -> bool:
    """Whether they say what plain Python says: what was kept may be of another version, with other constants."""
    return np.allclose(said(few, many), said(rare.plain, common.plain), rtol=1e-9, equal_nan=True)


def said(few: rare.Kernel, many: common.Kernel) -> Array:
    """What they say of sums and intervals on which each of the constants has a say."""
    numbers: list[Array] = []
    claims = rare.Claims(1.25, 2.0, 0.001)
    for made in (
        rare.Interval(2, 40, 900, 100, 30, 80, settled=False),
        rare.Interval(2, 1, 900, 100, 1, 100, settled=True),
        rare.Interval(0, 2, 0, 100, 2, 100, settled=False, alone=True, limit=0.01),
    ):
        raw, logs = few(shares.pack(np.zeros(rare.ALL)), made, claims)
        numbers += [shares.unpack(raw), np.array(logs)]
    table = np.zeros((6, common.WIDTH))
    table[:, common.ASKED], table[:, common.SLOW] = (0, 1000, 1000, 1000, 1e9, 0), (0, 999, 500, 20, 0, 0)
    table[:, common.FREEDOM], table[:, common.CHI] = (0, 0, 30, 30, 30, 0), (0, 0, 60, 60, 60, 0)
    slower = np.array([[200, 199, 120, 9, 1, 200], [200, 198, 90, 2, 0, 200], [300, 300, 290, 40, 9, 300.0]])
    before = common.Sums(table, np.zeros((6, common.CHI)), np.zeros((2, common.CHI)))
    columns = np.array([0, 1, 2, 3, 4, -1], np.int64)
    for warm in (True, False):
        counted = common.Interval(slower, 2, np.array([True, True, warm]), columns, 3)
        sums, found = many(before, counted, claims.tolerate, claims.good_enough)
        numbers += [each.ravel() for each in msgspec.structs.astuple(sums)]
        numbers.append(np.array(msgspec.structs.astuple(found)))
    return np.concatenate(numbers)

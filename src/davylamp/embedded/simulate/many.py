"""Many releases of the same policy, on all cores; each depends on nothing but the seed and its own number."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
from collections.abc import Iterator

from davylamp.analysis.compiled import use as have_compiled
from davylamp.embedded.simulate.run import Outcome, run
from davylamp.embedded.simulate.scenario import Scenario
from davylamp.embedded.simulate.stage import Stage

FEW = 4
"""So many runs are quicker done than processes are started."""
CHUNK = 2
"""Runs that a process takes at once."""
MANY = 20
"""Runs from which it pays that there is a compiler to begin with."""
GARBAGE = (100_000, 20, 50)
"""Objects more than before until a process looks for cycles; see `gc.set_threshold`."""


def outcomes(
    stage: Stage,
    scenario: Scenario,
    seed: int,
    runs: int,
    processes: int | None = None,
    *,
    compiled: bool = True,
) -> Iterator[Outcome]:
    """`runs` releases, numbered from 0, in the order in which they are done and without what only one run is told of.

    `processes` is how many run at once; by default as many as there are cores for this process. For many runs the
    statistics are compiled (`analysis.compiled`) where numba is installed, unless not `compiled`.
    """
    count = min(processes or len(os.sched_getaffinity(0)), runs)
    if count <= 1 or runs <= FEW:
        yield from (run(stage, scenario, seed, number, brief=True) for number in range(runs))
        return
    compiled = compiled and runs >= MANY and stage.policy.spec.analysis is not None and have_compiled()
    with multiprocessing.Pool(count, _begin, (stage, scenario, seed, compiled)) as pool:
        yield from pool.imap_unordered(_one, range(runs), chunksize=min(CHUNK, -(-runs // count)))


_given: list[tuple[Stage, Scenario, int]] = []


def _begin(stage: Stage, scenario: Scenario, seed: int, compiled: bool) -> None:
    _given[:] = [(stage, scenario, seed)]
    if compiled:
        have_compiled()  # for processes that are not forked
    logging.getLogger("davylamp").setLevel(logging.CRITICAL)
    gc.freeze()  # what is here by now stays, and a run leaves little garbage: it need not be looked for so often
    gc.set_threshold(*GARBAGE)


def _one(number: int) -> Outcome:
    stage, scenario, seed = _given[0]
    return run(stage, scenario, seed, number, brief=True)

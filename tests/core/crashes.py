"""Releases whose controller dies at each of their writes in turn, and is started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from davylamp.core.actions import Action
from tests.core.model import Cluster, Crash

C = TypeVar("C", bound=Cluster)
Move = Callable[[C], object]


def went(cluster: C, *moves: Move[C], crash_at: int | None = None, before_write: bool = False) -> C:
    """Let the controller come to rest, and again after each of `moves`; it dies at most once."""
    cluster.writes.clear()
    cluster.crash_at, cluster.before_write = crash_at, before_write

    def rest() -> None:
        try:
            cluster.run()
        except Crash:
            cluster.restart()
            cluster.run()

    rest()
    for move in moves:
        try:
            move(cluster)
        except Crash:
            cluster.restart()
        rest()
    return cluster


def check_crashes(
    make: Callable[[], C],
    *moves: Move[C],
    end: Callable[[C], object],
    at: Callable[[Action], bool] = lambda write: True,
    least: int = 1,
) -> C:
    """Whatever becomes of `make()` by `moves`, the same becomes of it with a crash before or after any write that
    `at` chooses, of which there are at least `least`; and no rule is violated. Returns how it ended without a crash."""
    calm = went(make(), *moves)
    assert calm.violations == []
    numbers = [number for number, write in enumerate(calm.writes, 1) if at(write)]
    assert len(numbers) >= least
    for number in numbers:
        for before_write in (True, False):
            found = went(make(), *moves, crash_at=number, before_write=before_write)
            told = f"crash {'before' if before_write else 'after'} write {number}: {calm.writes[number - 1]}"
            assert end(found) == end(calm), told
            assert found.violations == [], told
    return calm

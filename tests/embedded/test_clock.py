from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from davylamp.embedded.clock import START, LoopClock, Standstill, run


def test_time_jumps_to_what_is_due_next_and_things_happen_in_order() -> None:
    async def main(clock: LoopClock) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def after(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, clock.time()))

        async with asyncio.TaskGroup() as group:
            group.create_task(after("day", 86400))
            group.create_task(after("second", 1))
            clock.call_later(30, lambda: seen.append(("timer", clock.time())))
        assert clock.now() == START + timedelta(days=1)
        return seen

    assert run(main) == [("second", 1.0), ("timer", 30.0), ("day", 86400.0)]


def test_a_cancelled_timer_does_not_fire_nor_hold_up_the_end() -> None:
    async def main(clock: LoopClock) -> float:
        clock.call_later(3600, lambda: pytest.fail("it was cancelled")).cancel()
        await asyncio.sleep(2 * 3600)
        return clock.time()

    assert run(main) == 7200


def test_waiting_for_nothing_is_an_error_and_not_a_hang() -> None:
    async def main(clock: LoopClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Standstill, match="every task waits"):
        run(main)


def test_a_timeout_counts_virtual_seconds() -> None:
    async def main(clock: LoopClock) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(900):
                await asyncio.Event().wait()
        return clock.time()

    assert run(main) == 900


def test_what_is_due_at_the_same_moment_comes_in_the_order_in_which_it_was_asked_for() -> None:
    async def main(clock: LoopClock) -> list[int]:
        seen: list[int] = []
        for number in range(20):
            clock.call_later(5, lambda number=number: seen.append(number))  # type: ignore[misc]
        clock.call_later(5, lambda: clock.call_later(0, lambda: seen.append(-1)))
        await asyncio.sleep(5)
        await asyncio.sleep(0)
        return seen

    assert run(main) == [*range(20), -1]

"""A time limit on what may end at once, or wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from davylamp.controller.within import within
from davylamp.embedded import clock as virtual
from davylamp.embedded.clock import LoopClock


def test_what_never_waits_is_done_without_a_timer() -> None:
    async def at_once() -> str:
        return "done"

    async def main(clock: LoopClock) -> str:
        loop = asyncio.get_running_loop()
        loop.call_at = None  # type: ignore[method-assign,assignment]
        return await within(1, at_once())

    assert virtual.run(main) == "done"


def test_what_waits_again_and_again_comes_to_its_end_within_the_time() -> None:
    async def slowly() -> float:
        for _ in range(9):
            await asyncio.sleep(1)
        return 9.0

    async def main(clock: LoopClock) -> tuple[float, float]:
        return await within(10, slowly()), clock.time()

    assert virtual.run(main) == (9.0, 9.0)


def test_what_takes_too_long_is_ended_where_it_waits_and_may_still_clean_up() -> None:
    ended: list[float] = []

    async def main(clock: LoopClock) -> float:
        async def for_ever() -> None:
            try:
                await asyncio.sleep(3)
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(2)
                ended.append(clock.time())

        with pytest.raises(TimeoutError):
            await within(10, for_ever())
        current = asyncio.current_task()
        assert current is not None
        assert not current.cancelling(), "nobody has cancelled the one who waited"
        return clock.time()

    assert (virtual.run(main), ended) == (12.0, [12.0])


@pytest.mark.parametrize("waits", [0.0, 1.0], ids=["at once", "after it has waited"])
def test_an_error_comes_through(waits: float) -> None:
    async def fails() -> None:
        if waits:
            await asyncio.sleep(waits)
        raise ValueError("no")

    async def main(clock: LoopClock) -> None:
        await within(10, fails())

    with pytest.raises(ValueError, match="no"):
        virtual.run(main)


def test_an_error_of_what_it_waits_for_is_its_own_to_handle() -> None:
    async def handles(failing: Awaitable[None]) -> str:
        try:
            await failing
        except OSError as error:
            await asyncio.sleep(1)
            return str(error)
        return ""

    async def main(clock: LoopClock) -> str:
        failing = asyncio.get_running_loop().create_future()
        clock.call_later(1, lambda: failing.set_exception(OSError("refused")))
        return await within(10, handles(failing))

    assert virtual.run(main) == "refused"


def test_a_cancellation_from_outside_is_one_and_no_timeout() -> None:
    async def main(clock: LoopClock) -> float:
        task = asyncio.create_task(_waiting())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.time()

    async def _waiting() -> None:
        await within(10, asyncio.sleep(1000))

    assert virtual.run(main) == 1.0

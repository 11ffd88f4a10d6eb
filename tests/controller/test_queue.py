from __future__ import annotations

import asyncio

import pytest

from davylamp.controller.queue import Queue
from tests.kube.fake import FakeClock, idle


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> Queue[str]:
    return Queue(clock)


async def taken(queue: Queue[str]) -> list[str]:
    """What a worker gets that doesn't wait."""
    keys = []
    while len(queue):
        keys.append(await queue.get())
        queue.done(keys[-1])
    return keys


async def test_a_key_that_waits_is_there_once(queue: Queue[str]) -> None:
    for key in ("a", "b", "a"):
        queue.add(key)
    assert await taken(queue) == ["a", "b"]


async def test_a_key_is_never_worked_on_twice_at_once(queue: Queue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert await taken(queue) == ["a"]


async def test_what_was_added_before_a_worker_looks_is_not_looked_at_again(queue: Queue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.seen(key)
    queue.done(key)
    assert await taken(queue) == []


async def test_what_is_added_after_a_worker_looked_is_looked_at_again(queue: Queue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.seen(key)
    queue.add("a")
    queue.done(key)
    assert await taken(queue) == ["a"]


async def test_a_key_that_nobody_works_on_waits_whoever_has_seen_it(queue: Queue[str]) -> None:
    queue.add("a")
    queue.seen("a")
    queue.add("a")
    assert await taken(queue) == ["a"]


async def test_workers_wait_for_keys(queue: Queue[str]) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await idle()
    queue.add("a")
    queue.add("b")
    await idle()
    assert sorted(worker.result() for worker in workers if worker.done()) == ["a", "b"]
    workers[2].cancel()


async def test_a_worker_that_goes_leaves_its_key_to_another(queue: Queue[str]) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await idle()
    queue.add("a")
    first.cancel()
    await idle()
    assert second.done()
    assert second.result() == "a"


async def test_of_several_times_the_earliest_counts(queue: Queue[str], clock: FakeClock) -> None:
    queue.add_after("a", 30)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    await clock.advance(9)
    assert len(queue) == 0
    await clock.advance(1)
    assert await taken(queue) == ["a"]
    await clock.advance(60)
    assert len(queue) == 0


async def test_looking_now_takes_the_place_of_looking_later(queue: Queue[str], clock: FakeClock) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert await taken(queue) == ["a"]
    await clock.advance(60)
    assert len(queue) == 0


async def test_a_time_asked_for_during_the_work_holds_after_it(queue: Queue[str], clock: FakeClock) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add_after(key, 5)
    queue.done(key)
    await clock.advance(5)
    assert await taken(queue) == ["a"]


async def test_failures_wait_longer_each_time_up_to_a_minute_until_one_succeeds(queue: Queue[str]) -> None:
    pauses = [queue.fail("a") for _ in range(20)]
    assert pauses[:4] == [0.005, 0.01, 0.02, 0.04]
    assert pauses[-1] == 60
    queue.succeed("a")
    assert queue.fail("a") == 0.005


async def test_many_keys_come_in_the_order_in_which_they_are_due(queue: Queue[str], clock: FakeClock) -> None:
    for number in (3, 1, 2):
        queue.add_after(str(number), number)
    await clock.advance(10)
    assert await taken(queue) == ["1", "2", "3"]


async def test_how_long_work_takes_is_seen(queue: Queue[str], clock: FakeClock) -> None:
    queue.add("a")
    await queue.get()
    await clock.advance(7)
    assert queue.oldest_work == 7
    queue.done("a")
    assert queue.oldest_work == 0

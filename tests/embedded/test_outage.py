"""Metrics that stay away while a step comes to its end, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from davylamp.embedded.clock import LoopClock, run
from tests.controller.made import Made
from tests.embedded.test_release import begin
from tests.embedded.virtual import World, world
from tests.kube.controllers import ROUTED

HOLD = timedelta(minutes=5)
STEPS = [{"weight": 50, "hold": "5m"}, {"weight": 100}]


async def at(clock: LoopClock, moment: datetime) -> None:
    await asyncio.sleep((moment - clock.now()).total_seconds())


async def shortly_before_the_end(here: World, clock: LoopClock, made: Made, leave_when: str) -> datetime:
    """In step 1, measured and good enough, 25 s before its `hold` is over; when that will be."""
    made.rates = (4500, 0, 4500, 0)
    analysis = {"checks": [{"errors": {}}], "leaveWhen": leave_when}
    await begin(here, **ROUTED, steps=STEPS, analysis=analysis)
    here.set_image("hellok8s:v2")
    await here.until(lambda: here.list("Release") and here.release.get("status", {}).get("step") == 1, 120)
    since = datetime.fromisoformat(here.release["status"]["stepSince"])
    await at(clock, since + HOLD - timedelta(seconds=25))
    assert here.release["status"]["analysis"]["answer"] == "good enough"
    return since + HOLD


def left(here: World) -> bool:
    return bool(here.release["status"].get("cleared") or here.phase != "Progressing")


@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "hanging"])
@pytest.mark.parametrize("leave_when", ["held", "notWorse"])
def test_an_outage_of_seconds_at_the_end_of_a_step_holds_it_says_so_and_data_ends_it(
    leave_when: str, hangs: bool
) -> None:
    async def main(clock: LoopClock) -> None:
        made = Made()
        async with world(clock, lookers=made) as here:
            over = await shortly_before_the_end(here, clock, made, leave_when)
            made.rates, made.hangs = None, hangs
            await at(clock, over + timedelta(seconds=1))
            assert not left(here), "the newest look has no data"

            def status() -> Any:
                return here.release["status"]["analysis"]

            await here.until(lambda: status()["blind"], 30)
            assert status()["message"].startswith("errors: no data for ")
            why = "(the look has taken 30 s so far)" if hangs else "(pod web-1: connection refused)"
            assert why in status()["message"]
            await at(clock, over + timedelta(minutes=5))
            assert not left(here)
            made.rates, made.hangs = (4500, 0, 4500, 0), False
            await here.until(lambda: here.phase == "Completed", 180)

    run(main)


@pytest.mark.parametrize("leave_when", ["held", "notWorse"])
def test_one_look_that_fails_delays_the_end_of_a_step_and_changes_no_verdict(leave_when: str) -> None:
    async def main(clock: LoopClock) -> None:
        made = Made()
        async with world(clock, lookers=made) as here:
            over = await shortly_before_the_end(here, clock, made, leave_when)
            await at(clock, over - timedelta(seconds=10))
            made.failing = 1
            revision = here.store.version
            await here.until(lambda: left(here), 120)
            assert clock.now() - over <= timedelta(seconds=25), (
                "two looks: the counters' new beginning, and an interval"
            )
            told = [
                change.new for change in here.store.since(revision) if change.new and change.new["kind"] == "Release"
            ]
            assert all(not one["status"]["analysis"]["blind"] for one in told)

    run(main)

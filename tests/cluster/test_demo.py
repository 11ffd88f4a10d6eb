"""The demo on the embedded cluster and on a real control plane: the same scenes, the same course, the same end."""

from __future__ import annotations

import time

import davylab.stage
import pytest

from davylamp.cli.demo import Open, eyes
from davylamp.embedded.demo import embedded
from davylamp.embedded.demo.frame import Frame
from davylamp.embedded.demo.script import Pace
from davylamp.embedded.demo.show import Result, play

QUICK = Pace(settle=2, holds=(2, 2, 1), linger=0.5)

pytestmark = pytest.mark.cluster


class Nobody:
    def say(self, text: str) -> None: ...

    def see(self, frame: Frame) -> None: ...

    def scene_over(self, frame: Frame) -> None: ...


async def played(stage: Open) -> Result:
    async with stage(lambda _: None) as running:
        return await play(running, eyes, Nobody(), QUICK, time.monotonic())


def course(result: Result) -> list[tuple[str, int, float]]:
    """What was in effect, without the moments before it, which are too short to be seen each time."""
    return [moment for moment in result.course if moment[1] > 0]


async def test_the_demo_goes_the_same_way_on_the_embedded_cluster_and_on_a_real_one() -> None:
    ours, real = await played(embedded.stage), await played(davylab.stage.stage)
    assert (ours.good, real.good) == (True, True), (ours, real)
    assert ours.ends == real.ends
    assert course(ours) == course(real)
    assert ours.total.by_version.keys() == real.total.by_version.keys() == {"v1", "v2"}

"""Stories that once went wrong, shrunk by `test_chaos`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from davylamp.embedded.clock import LoopClock, run
from tests.chaos.shop import CRASHING, V1, Shop, shop

BY_PODS = [{"weight": 50, "hold": "30s"}, {"weight": 100}]


def told(story: Callable[[Shop], Awaitable[None]]) -> None:
    async def main(clock: LoopClock) -> None:
        async with shop(clock) as here:
            await here.open(steps=BY_PODS)
            here.start_controller()
            await here.rest()
            await story(here)

    run(main)


def test_back_to_the_old_version_in_the_middle_of_a_rollout_by_hand() -> None:
    """Two versions ran, so no release could begin, and the Deployment stayed paused for ever."""

    async def story(here: Shop) -> None:
        here.set_image(CRASHING)
        here.change("Deployment", "web", {"spec": {"paused": False}})
        await here.rest()
        assert here.images() == {V1, CRASHING}
        here.set_image(V1)
        await here.rest()
        assert here.images() == {V1}
        assert here.get("Deployment")["status"]["availableReplicas"] == 4
        assert not here.get("Deployment")["spec"].get("paused")

    told(story)

"""Stories that once went wrong, shrunk by `test_chaos`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from davylamp.embedded.clock import LoopClock, run
from tests.chaos.shop import CRASHING, UNREADY, V1, V3, Shop, shop
from tests.kube.controllers import NAMESPACE

BY_PODS = [{"weight": 50, "hold": "30s"}, {"weight": 100}]


def told(story: Callable[[Shop], Awaitable[None]], **spec: Any) -> None:
    async def main(clock: LoopClock) -> None:
        async with shop(clock) as here:
            await here.open(steps=BY_PODS, **spec)
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


def test_a_policy_that_goes_in_the_middle_of_a_broken_rollout_leaves_the_newer_template_paused_and_says_so() -> None:
    """What is paused stays as Kubernetes left it, three of four pods available; who knows it is told how to go on."""

    async def story(here: Shop) -> None:
        here.set_image(CRASHING)
        here.change("Deployment", "web", {"spec": {"paused": False}})
        await here.rest()
        here.store.delete("ReleasePolicy", NAMESPACE, "web")
        here.set_image(V3)  # before the controller has taken its mark off
        await here.rest()
        assert here.images() == {V1, CRASHING}
        assert here.get("Deployment")["status"]["availableReplicas"] == 3
        assert "kubectl rollout resume deployment/web -n shop" in await here.told()
        assert "there is no policy for this Deployment any more" in here.list("Event")[-1]["message"]
        here.change("Deployment", "web", {"spec": {"paused": False}})
        await here.rest()
        assert here.images() == {V3}
        assert here.get("Deployment")["status"]["availableReplicas"] == 4

    told(story)


def test_a_release_that_is_taken_back_when_its_deadline_is_over_has_come_to_rest_after_that() -> None:
    """A minute without a change was taken for the end, in the moment in which the deadline of a minute was over."""

    async def story(here: Shop) -> None:
        here.set_image(UNREADY)
        await here.rest()
        assert here.images() == {V1}
        assert [release["status"]["phase"] for release in here.list("Release")] == ["RolledBack"]

    told(story, progressDeadline="60s")

"""Whole releases by the real controller on the embedded cluster, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from davylamp.embedded.clock import LoopClock, run
from davylamp.embedded.kubelet.imagined import Course
from davylamp.embedded.store import Object
from tests.embedded.virtual import World, world
from tests.kube.controllers import ROUTED, deployment, ingress, policy, service

STEPS = [{"weight": 10, "hold": "20m"}, {"weight": 50, "hold": "20m"}, {"weight": 100, "hold": "20m"}]


def behave(pod: Object) -> Course:
    """Version 3 crashes, and says why."""
    image = pod["spec"]["containers"][0]["image"]
    return Course(crash=2, ready=None, log="FATAL no database") if image == "hellok8s:v3" else Course()


async def begin(here: World, **spec: Any) -> None:
    """The shop with version 1 and a policy, at rest."""
    here.put(deployment(), service(), ingress(), policy(**spec))
    await here.until(lambda: here.get("Deployment").get("status", {}).get("availableReplicas") == 4)


def images(here: World) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in here.list("Pod")}


def _runs(obj: Object, image: str) -> bool:
    return obj["kind"] == "Pod" and bool(obj["spec"]["containers"][0]["image"] == image)


@pytest.mark.parametrize("routed", [False, True], ids=["by pod ratio", "by nginx weight"])
def test_a_good_version_is_promoted_and_its_pods_stay(routed: bool) -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            spec: dict[str, Any] = {"steps": STEPS if routed else [{"weight": 50, "hold": "1h"}, {"weight": 100}]}
            await begin(here, **spec, **(ROUTED if routed else {}))
            here.set_image("hellok8s:v2")
            await here.until(lambda: here.phase == "Completed", 7200)
            await here.until(lambda: images(here) == {"hellok8s:v2"}, 120)
            ever = {
                change.new["metadata"]["name"] for change in here.store.since(0) if _runs(change.new, "hellok8s:v2")
            }
            web = here.get("Deployment")
            assert not web["spec"].get("paused")
            assert clock.time() >= 3600
            assert ever == {pod["metadata"]["name"] for pod in here.list("Pod")}
            assert here.get("Service")["spec"]["selector"] == {"app": "web"}
            assert [i["metadata"]["name"] for i in here.list("Ingress")] == ["web"]

    run(main)


@pytest.mark.parametrize("routed", [False, True], ids=["by pod ratio", "by nginx weight"])
def test_a_version_that_crashes_is_taken_back(routed: bool) -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here, **(ROUTED if routed else {}))
            here.set_image("hellok8s:v3")
            await here.until(lambda: here.phase == "RolledBack", 3600)
            await here.until(lambda: images(here) == {"hellok8s:v1"}, 120)
            web = here.get("Deployment")
            assert web["spec"]["paused"]
            assert web["status"]["availableReplicas"] == 4
            assert [i["metadata"]["name"] for i in here.list("Ingress")] == ["web"]

    run(main)

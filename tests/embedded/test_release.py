"""Whole releases by the real controller on the embedded cluster, in virtual time."""

from __future__ import annotations

import time
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

    began = time.process_time()
    run(main)
    assert time.process_time() - began < 2, "a release of an hour, in seconds of one core"


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


BLUE_GREEN: dict[str, Any] = {
    "steps": [{"weight": 0, "replicas": "100%", "hold": "10m"}, {"weight": 100}],
    "traffic": {"service": "web", "preview": {"service": "preview"}},
}


def served_by(here: World, service: str) -> set[str]:
    """The images of the pods that a Service offers to traffic."""
    named = {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in here.list("Pod")}
    slices = [
        one for one in here.list("EndpointSlice") if one["metadata"]["labels"]["kubernetes.io/service-name"] == service
    ]
    ready = [e for one in slices for e in one.get("endpoints") or () if e["conditions"].get("ready") is not False]
    return {named[e["targetRef"]["name"]] for e in ready if e["targetRef"]["name"] in named}


def aborted(here: World) -> None:
    here.change("Release", here.release["metadata"]["name"], {"spec": {"abort": {"by": "ann"}}})


def test_blue_green_switches_at_once_and_returns_from_the_bake_in_a_second() -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here, **BLUE_GREEN, bake="1h")
            before = {pod["metadata"]["name"] for pod in here.list("Pod")}
            here.set_image("hellok8s:v2")
            await here.until(lambda: here.phase == "Progressing", 600)
            assert served_by(here, "web") == {"hellok8s:v1"}
            assert served_by(here, "preview") == {"hellok8s:v2"}
            assert len(here.list("Pod")) == 8
            await here.until(lambda: served_by(here, "web") == {"hellok8s:v2"}, 900)
            await here.until(lambda: here.release["status"]["step"] == 2, 60)
            aborted(here)
            asked = clock.time()
            await here.until(lambda: served_by(here, "web") == {"hellok8s:v1"}, 60)
            assert clock.time() - asked < 1
            await here.until(lambda: here.phase == "RolledBack", 120)
            await here.until(lambda: {pod["metadata"]["name"] for pod in here.list("Pod")} == before, 120)
            assert [found["metadata"]["name"] for found in here.list("Service")] == ["web"]
            assert here.get("Service")["spec"]["selector"] == {"app": "web"}

    run(main)


@pytest.mark.parametrize("returns", [False, True])
def test_old_pods_are_kept_after_the_release_and_go_or_are_returned_to(returns: bool) -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here, **BLUE_GREEN, keepOld="2h")
            here.set_image("hellok8s:v2")
            await here.until(lambda: here.phase == "Completed", 1200)
            completed = clock.time()
            assert images(here) == {"hellok8s:v1", "hellok8s:v2"}
            if returns:
                aborted(here)
            await here.until(lambda: len(images(here)) == 1, 9000)
            assert (clock.time() - completed >= 7200) != returns
            await here.until(lambda: "keptUntil" not in here.release["status"], 60)
            assert images(here) == ({"hellok8s:v1"} if returns else {"hellok8s:v2"})
            assert here.phase == ("RolledBack" if returns else "Completed")
            assert bool(here.get("Deployment")["spec"].get("paused")) == returns
            assert here.get("Service")["spec"]["selector"] == {"app": "web"}

    run(main)


def test_two_ingresses_and_two_services_are_released_together_and_come_back() -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            admin = service("admin")
            admin["spec"]["selector"] = {"app": "web"}
            here.put(admin, ingress("admin", "admin"))
            routes = [{"ingress": {"name": "web"}}, {"ingress": {"name": "admin"}}]
            await begin(here, steps=STEPS, traffic={"services": ["web", "admin"], "routes": routes})
            here.set_image("hellok8s:v2")
            await here.until(lambda: here.phase == "Progressing", 600)
            weights = {
                found["metadata"]["name"]: found["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"]
                for found in here.list("Ingress")
                if found["metadata"]["name"].endswith("-davylamp")
            }
            assert weights == {"web-davylamp": "10", "admin-davylamp": "10"}
            assert served_by(here, "admin") == {"hellok8s:v1"}
            assert served_by(here, "admin-canary") == {"hellok8s:v2"}
            await here.until(lambda: here.phase == "Completed", 7200)
            assert [found["metadata"]["name"] for found in here.list("Ingress")] == ["admin", "web"]
            assert [found["metadata"]["name"] for found in here.list("Service")] == ["admin", "web"]
            selectors = [found["spec"]["selector"] for found in here.list("Service")]
            assert selectors == [{"app": "web"}, {"app": "web"}]

    run(main)

"""Two Deployments that take turns, by the real controller on the embedded cluster, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from davylamp.embedded.clock import LoopClock, run
from davylamp.embedded.store import Object
from tests.embedded.test_release import behave
from tests.embedded.virtual import World, world
from tests.kube.controllers import deployment, ingress, policy, service

STEPS: list[Object] = [{"weight": 25, "hold": "20m"}, {"weight": 50, "hold": "20m"}, {"weight": 100, "hold": "20m"}]
PAIR = {"stable": "web-v1", "canary": "web-v2"}
V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"


def member(version: str, replicas: int) -> Object:
    made = deployment(name=f"web-{version}", replicas=replicas)
    labels = {"app": "web", "version": version}
    made["spec"]["selector"]["matchLabels"] = labels
    made["spec"]["template"]["metadata"]["labels"] = labels
    return made


def behind(name: str, **selector: str) -> Object:
    made = service(name)
    made["spec"] |= {"selector": {"app": "web"} | selector}
    del made["spec"]["clusterIP"]
    return made


async def begin(here: World, *, routed: bool = True, by_hand: int | None = None, **spec: Any) -> None:
    """The shop with version 1 and a policy, at rest."""
    traffic: dict[str, Any] = {"service": "web"}
    here.put(member("v1", 4), member("v2", 0), ingress())
    if routed:
        route = {"name": "web"} | ({"canary": "web-canary"} if by_hand is not None else {})
        traffic |= {"routes": [{"ingress": route}], "settle": "2s"}
        here.put(behind("web", version="v1"), behind("web-canary", version="v2"))
    else:
        here.put(behind("web"))
    if by_hand is not None:
        made = ingress("web-canary", "web-canary")
        made["spec"]["rules"][0]["host"] = "web.example"
        prefix = "nginx.ingress.kubernetes.io/canary"
        made["metadata"]["annotations"] = {prefix: "true", f"{prefix}-weight": str(by_hand)}
        here.put(made)
    here.put(policy(**{"target": {"pair": PAIR}, "traffic": traffic, "steps": STEPS} | spec))
    await here.until(lambda: here.get("Deployment", "web-v1").get("status", {}).get("availableReplicas") == 4)
    await here.until(lambda: here.get("ReleasePolicy").get("status", {}).get("found"))


def sizes(here: World) -> tuple[int, int]:
    first, second = (here.get("Deployment", name)["spec"]["replicas"] for name in PAIR.values())
    return first, second


def served(here: World) -> set[str]:
    """Images of the pods that Service web offers to traffic."""
    slices = [s for s in here.list("EndpointSlice") if s["metadata"]["labels"]["kubernetes.io/service-name"] == "web"]
    names = {e["targetRef"]["name"] for s in slices for e in s["endpoints"] if e["conditions"].get("ready")}
    pods = [pod for pod in here.list("Pod") if pod["metadata"]["name"] in names]
    return {pod["spec"]["containers"][0]["image"] for pod in pods}


@pytest.mark.parametrize("by_hand", [None, 0], ids=["our canary Ingress", "one made by hand"])
def test_a_pair_behind_two_services_swaps_its_places_twice(by_hand: int | None) -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here, by_hand=by_hand)
            here.set_image(V2, "web-v2")
            assert here.get("Deployment", "web-v2")["spec"]["paused"], "the gate holds for the idle one as well"
            await here.until(lambda: here.phase == "Completed", 7200)
            assert clock.time() >= 3600
            assert (served(here), sizes(here)) == ({V2}, (0, 4))
            await here.until(lambda: here.get("ReleasePolicy")["status"]["found"][0]["deployment"] == "web-v2", 60)
            here.set_image("hellok8s:v4", "web-v1")
            await here.until(lambda: len(here.list("Release")) == 2, 60)
            await here.until(lambda: here.phase == "Completed", 7200)
            assert (served(here), sizes(here)) == ({"hellok8s:v4"}, (4, 0))
            kept = {"web"} if by_hand is None else {"web", "web-canary"}
            assert {i["metadata"]["name"] for i in here.list("Ingress")} == kept
            assert {s["metadata"]["name"] for s in here.list("Service")} == {"web", "web-canary"}

    run(main)


def test_a_pair_under_one_service_keeps_its_total() -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here, routed=False)
            here.set_image(V2, "web-v2")
            for step, expected in ((1, (3, 1)), (2, (2, 2)), (3, (0, 4))):

                def reached(wanted: int = step) -> bool:
                    return bool(here.list("Release")) and here.release.get("status", {}).get("step", 0) >= wanted

                await here.until(reached, 3600)
                assert sizes(here) == expected
            await here.until(lambda: here.phase == "Completed", 3600)
            assert (served(here), sizes(here)) == ({V2}, (0, 4))

    run(main)


@pytest.mark.parametrize("routed", [True, False], ids=["two Services", "one Service"])
def test_a_version_that_crashes_is_taken_back_and_scaled_back(routed: bool) -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here, routed=routed)
            here.set_image(V3, "web-v2")
            await here.until(lambda: here.phase == "RolledBack", 3600)
            assert "FATAL no database" in here.release["status"]["message"]
            assert (served(here), sizes(here)) == ({V1}, (4, 0))

    run(main)


def test_a_new_template_of_the_one_that_serves_gets_no_pods() -> None:
    async def main(clock: LoopClock) -> None:
        async with world(clock, behave) as here:
            await begin(here)
            here.set_image(V2, "web-v1")
            assert here.get("Deployment", "web-v1")["spec"]["paused"]
            here.set_image("hellok8s:v4", "web-v2")
            await here.until(lambda: here.phase == "Completed", 7200)
            assert len(here.list("Release")) == 1
            assert served(here) == {"hellok8s:v4"}
            ever = {c.new["spec"]["containers"][0]["image"] for c in here.store.since(0) if c.new["kind"] == "Pod"}
            assert ever == {V1, "hellok8s:v4"}

    run(main)

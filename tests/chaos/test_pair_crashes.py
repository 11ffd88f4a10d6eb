"""As `test_crashes`, for two Deployments that take turns: whatever happens to one write, the end is the same."""

from __future__ import annotations

from typing import Any

import pytest

from davylamp.core.actions import Ref
from davylamp.embedded.clock import LoopClock, run
from davylamp.embedded.cluster import CONTROLLER
from davylamp.kube.takeback import take_back
from tests.chaos.faulty import Crash, Fault, Lost
from tests.chaos.shop import V1, V2, V3, Deed, Shop, image_of, shop
from tests.chaos.test_crashes import settled
from tests.embedded.test_pairs import begin, served, sizes
from tests.kube.controllers import NAMESPACE

STEPS: list[dict[str, Any]] = [{"weight": 25, "hold": "1m"}, {"weight": 50, "approve": True}, {"weight": 100}]
WAYS: dict[str, tuple[dict[str, Any], tuple[Deed, ...]]] = {
    "promotion": ({}, (lambda here: here.command(approved={"step": 2}),)),
    "promotion under one Service": ({"routed": False}, (lambda here: here.command(approved={"step": 2}),)),
    "a canary made by hand, aborted": ({"by_hand": 0}, (lambda here: here.command(abort={}),)),
    "abort under one Service": ({"routed": False}, (lambda here: here.command(abort={}),)),
    "a newer version": (
        {},
        (lambda here: here.set_image(V3, "web-v2"), lambda here: here.command(promote={})),
    ),
}
FAULTS: dict[str, Fault] = {"dies after": Crash("after"), "never hears": Lost()}


async def carried_out(here: Shop, way: str, number: int = 0, fault: Fault | None = None) -> list[tuple[str, Ref]]:
    """The whole way, with the fault at the write of this number; the writes that were tried."""
    spec, deeds = WAYS[way]
    process = here.start_controller()
    await begin(here, **({"steps": STEPS} | spec))
    tried: list[tuple[str, Ref]] = []

    def happens(count: int, verb: str, ref: Ref) -> Fault | None:
        tried.append((verb, ref))
        return fault if len(tried) == number else None

    process.api.fault = happens
    here.set_image(V2, "web-v2")
    await settled(here, happens)
    for deed in deeds:
        deed(here)
        await settled(here, happens)
    return tried


def ended(way: str, number: int = 0, fault: Fault | None = None) -> tuple[dict[str, Any], list[tuple[str, Ref]]]:
    async def main(clock: LoopClock) -> tuple[dict[str, Any], list[tuple[str, Ref]]]:
        async with shop(clock) as here:
            tried = await carried_out(here, way, number, fault)
            return state(here), tried

    return run(main)


def state(here: Shop) -> dict[str, Any]:
    """What an end is compared by."""
    releases = [(r["spec"]["canary"].get("image"), r.get("status", {}).get("phase")) for r in here.list("Release")]
    rules = [
        (i["metadata"]["name"], sorted((i["metadata"].get("annotations") or {}).items())) for i in here.list("Ingress")
    ]
    return {
        "releases": sorted(releases),
        "sizes": sizes(here),
        "served": served(here),
        "pods": sorted(image_of(pod) for pod in here.list("Pod")),
        "selectors": sorted(
            (s["metadata"]["name"], s["spec"]["selector"]["app"], s["spec"]["selector"].get("version"))
            for s in here.list("Service")
        ),
        "ingresses": sorted(rules),
        "paused": [bool(here.get("Deployment", name)["spec"].get("paused")) for name in ("web-v1", "web-v2")],
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_whatever_happens_to_one_write_of_a_pair_the_end_is_the_same(way: str, fault: str) -> None:
    expected, writes = ended(way)
    assert len(expected["served"]) == 1
    assert expected["served"] <= {V1, V2, V3}
    assert len(writes) >= 8
    for number in range(1, len(writes) + 1):
        found, _ = ended(way, number, FAULTS[fault])
        assert found == expected, f"write {number}: {writes[number - 1]}"


def test_a_look_under_the_other_name_of_a_pair_changes_nothing() -> None:
    async def main(clock: LoopClock) -> None:
        async with shop(clock) as here:
            process = here.start_controller()
            await begin(here, steps=STEPS)
            here.set_image(V2, "web-v2")
            await here.rest()
            here.set_image(V3, "web-v2")
            for _ in range(40):
                process.controller.queue.add(Ref("Deployment", NAMESPACE, "web-v2"))
                await here.pass_time(0.2)
                phases = [r.get("status", {}).get("phase", "Pending") for r in here.list("Release")]
                assert len([phase for phase in phases if phase != "Superseded"]) <= 1, phases
            here.command(promote={})
            await here.rest()
            assert (served(here), sizes(here)) == ({V3}, (0, 4))

    run(main)


@pytest.mark.parametrize("spec", [{}, {"routed": False}], ids=["two Services", "one Service"])
def test_an_uninstall_without_a_controller_takes_a_pair_back(spec: dict[str, Any]) -> None:
    async def main(clock: LoopClock) -> None:
        async with shop(clock) as here:
            here.start_controller()
            await begin(here, **({"steps": STEPS} | spec))
            here.set_image(V2, "web-v2")
            await here.rest()
            await here.kill_controllers()
            here.command(abort={})
            api = here.cluster.api(CONTROLLER)
            release = await api.read(Ref("Release", NAMESPACE, here.release["metadata"]["name"]))
            assert release is not None
            await take_back(api, clock, release, clock.time() + 600)
            assert (served(here), sizes(here)) == ({V1}, (4, 0))
            assert here.phase == "RolledBack"

    run(main)

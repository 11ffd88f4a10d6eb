"""For every write that a release makes: the controller dies before it, after it, or never hears of it; another one
goes on; the end is the same, and nothing is orphaned. The list of writes comes from running the release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from davylamp.core.actions import Ref
from davylamp.embedded.clock import LoopClock, run
from davylamp.embedded.simulate.eyes import Imagination
from davylamp.embedded.simulate.scenario import Moment, Scenario
from davylamp.embedded.simulate.traffic import Flow
from tests.chaos.faulty import CONFLICT, Crash, Fault, Lost
from tests.chaos.shop import CRASHING, V1, V2, V3, Deed, Shop, shop
from tests.kube.controllers import ROUTED

STEPS: list[dict[str, Any]] = [{"weight": 10, "hold": "1m"}, {"weight": 50, "approve": True}, {"weight": 100}]
POD_RATIO: dict[str, Any] = {"steps": [{"weight": 50, "approve": True}, {"weight": 100}]}
BLUE_GREEN: dict[str, Any] = {
    "steps": [{"weight": 0, "replicas": "100%", "approve": True}, {"weight": 100}],
    "traffic": {"service": "web", "preview": {"service": "preview"}},
    "bake": "10s",
}
ROUTES: dict[str, Any] = {"steps": STEPS, **ROUTED}
JUDGED: dict[str, Any] = {
    "steps": [{"weight": 50, "hold": "5m"}, {"weight": 100}],
    "analysis": {"interval": "5s"},
    **ROUTED,
}
FAILING = Scenario((Moment(0, 100, 0.001, 0.5),))
"""What the analysis sees, whatever the weight."""


def _by(kind: str) -> dict[str, Any]:
    routes: list[dict[str, Any]] = [{kind: {"name": "web"}}]
    steps: list[dict[str, Any]] = [{"weight": 50, "approve": True}, {"weight": 100}]
    return {"steps": steps, "traffic": {"service": "web", "routes": routes, "settle": "2s"}}


def _abort(here: Shop) -> None:
    here.command(abort={"by": "a test"})


def _approve(here: Shop) -> None:
    here.command(approved={"step": 2})


def _approve_first(here: Shop) -> None:
    here.command(approved={"step": 1})


def _retry(here: Shop) -> None:
    here.command(retry={"by": "a test"})


def _resume(here: Shop) -> None:
    here.change("Deployment", "web", {"spec": {"paused": False}})


def _delete(here: Shop) -> None:
    newest = here.release["metadata"]["name"]
    here.store.delete("Release", "shop", newest)


def _newer(here: Shop) -> None:
    here.set_image(V3)


def _old(here: Shop) -> None:
    here.set_image(V1)


WAYS: dict[str, tuple[dict[str, Any], str, tuple[Deed, ...]]] = {
    # how it is released, to which version, and what is done one after the other, each at rest
    "promotion by weight": (ROUTES, V2, (_approve,)),
    "promotion by pod ratio": (POD_RATIO, V2, (lambda here: here.command(approved={"step": 1}),)),
    "promotion with one pod more": (POD_RATIO | {"maxExtraPods": 1}, V2, (lambda here: here.command(promote={}),)),
    "blue/green": (BLUE_GREEN | {"keepOld": "20s"}, V2, (_approve,)),
    "blue/green, and back to the old pods": (BLUE_GREEN | {"keepOld": "10m"}, V2, (_approve, _abort)),
    "abort": (ROUTES, V2, (_abort,)),
    "abort and revert": (ROUTES | {"onFailure": "revert"}, V2, (_abort,)),
    "a crashing version": (ROUTES, CRASHING, ()),
    "a newer version": (ROUTES, V2, (_newer, _approve)),
    "the old version again": (ROUTES, V2, (_old,)),
    "resumed by hand": (ROUTES, V2, (_resume,)),
    "the Release deleted": (ROUTES, V2, (_delete, _approve)),
    "promotion by an HTTPRoute": (_by("httpRoute"), V2, (_approve_first,)),
    "abort by an HTTPRoute": (_by("httpRoute"), V2, (_abort,)),
    "promotion by a VirtualService": (_by("virtualService"), V2, (_approve_first,)),
    "abort by a VirtualService": (_by("virtualService"), V2, (_abort,)),
    "a version that a verdict finds worse": (JUDGED, V2, ()),
    "the rejected version once more": (ROUTES, CRASHING, (_retry,)),
    "the policy deleted": (ROUTES, V2, (lambda here: here.store.delete("ReleasePolicy", "shop", "web"),)),
}
Happens = Callable[[int, str, Ref], Fault | None]
FAULTS: dict[str, Fault] = {
    "dies before": Crash("before"),
    "dies after": Crash("after"),
    "never hears": Lost(),
    "conflict": CONFLICT,
}


async def carried_out(here: Shop, way: str, number: int = 0, fault: Fault | None = None) -> list[tuple[str, Ref]]:
    """The whole way, with the fault at the write of this number; the writes that were tried."""
    spec, image, deeds = WAYS[way]
    if "analysis" in spec:
        here.lookers = _seeing(here)
    await here.open(**spec)
    process = here.start_controller()
    tried: list[tuple[str, Ref]] = []

    def happens(count: int, verb: str, ref: Ref) -> Fault | None:
        tried.append((verb, ref))
        return fault if len(tried) == number else None

    process.api.fault = happens
    here.set_image(image)
    await settled(here, happens)
    for deed in deeds:
        deed(here)
        await settled(here, happens)
    return tried


def _seeing(here: Shop) -> Imagination:
    """Eyes that see what FAILING says, half of it at the canary."""
    flow = Flow(FAILING, np.random.default_rng(1), here.clock.time())
    flow.share = 0.5
    return Imagination(FAILING, flow, lambda: flow.advance(here.clock.time()))


async def settled(here: Shop, happens: Happens) -> None:
    """At rest; a controller that died meanwhile is replaced."""
    await here.rest()
    dead = [one for one in here.processes if one.api.dead]
    for one in dead:
        await one.kill()
        here.processes.remove(one)
    if dead:
        here.start_controller().api.fault = happens
        await here.rest()


def ended(way: str, number: int = 0, fault: Fault | None = None) -> tuple[dict[str, Any], list[tuple[str, Ref]]]:
    async def main(clock: LoopClock) -> tuple[dict[str, Any], list[tuple[str, Ref]]]:
        async with shop(clock) as here:
            tried = await carried_out(here, way, number, fault)
            return here.state(), tried

    return run(main)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_whatever_happens_to_one_write_the_end_is_the_same(way: str, fault: str) -> None:
    expected, writes = ended(way)
    assert expected["leftovers"] == []
    assert len(writes) >= 8
    for number in range(1, len(writes) + 1):
        found, _ = ended(way, number, FAULTS[fault])
        assert found == expected, f"write {number}: {writes[number - 1]}"

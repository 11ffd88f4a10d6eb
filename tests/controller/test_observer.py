"""Releases whose steps count when they are seen in effect: the controller, with proxies and counters that a test
makes up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from davylamp.analysis.effect import Interval
from davylamp.api.objects import HASH_LABEL
from davylamp.api.types import Release
from davylamp.core.actions import Ref
from davylamp.signals.requests import Pods
from tests.controller.rig import Rig
from tests.kube.controllers import NAMESPACE, deployment, ingress, policy, service

WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
ROUTED: dict[str, Any] = {"traffic": {"service": "web", "routes": [{"ingress": {"name": "web"}}]}}
OURS = Ref("Ingress", NAMESPACE, "web-davylamp")


class Proxies:
    """Implements `Counters` and `Counter`: proxies that split as the objects said `delay` seconds ago, and pods that
    count. `rps` is how many requests there are in a second, `past` the part of them that don't come by the route."""

    def __init__(self, rig: Rig, *, delay: float = 0.7, rps: float = 200, past: float = 0) -> None:
        self.rig = rig
        self.delay = delay
        self.rps = rps
        self.past = past
        self.looks = 0
        self.blind = False
        self.known = True
        self._shares: list[tuple[float, float]] = [(0, 0.0)]
        self._until: float | None = None
        rig.api.before = self._note

    def open(self, release: Release) -> Proxies:
        return self

    async def close(self) -> None: ...

    def _note(self, *_: object) -> None:
        share = self._share()
        if share != self._shares[-1][1]:
            self._shares.append((self.rig.clock.passed, share))

    def _share(self) -> float:
        service_ = self.rig.api.objects.get(Ref("Service", NAMESPACE, "web"))
        pinned = service_["spec"]["selector"].get(HASH_LABEL, "") if service_ else ""
        if pinned and not pinned.startswith("native"):
            return 1.0
        ours = self.rig.api.objects.get(OURS)
        return (1 - self.past) * int(ours["metadata"]["annotations"][WEIGHT]) / 100 if ours else 0.0

    def _served(self, moment: float) -> float:
        """The share that the proxies split by at this moment."""
        return [share for since, share in self._shares if since + self.delay <= moment or since == 0][-1]

    async def look(self, now: float, pods: Pods) -> Interval | None:
        self.looks += 1
        self._note()
        passed = self.rig.clock.passed
        until, self._until = self._until, passed
        if until is None or self.blind:
            return None
        tenths = max(round((passed - until) * 10), 0)
        total = self.rps * (passed - until)
        canary = sum(self._served(until + part / 10) for part in range(tenths)) * total / max(tenths, 1)
        return Interval(passed - until, round(total - canary), round(canary))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.stop()


async def started(rig: Rig, proxies: Proxies, *weights: int, hold: str = "10s", **spec: Any) -> None:
    steps = [{"weight": weight, "hold": hold} for weight in weights or (10, 50, 100)]
    await rig.start(deployment(), service(), ingress(), policy(**{**ROUTED, "steps": steps, **spec}), counters=proxies)
    rig.set_image("hellok8s:v2")


def entered(rig: Rig) -> list[float]:
    """How many seconds after the change of its weight each step counted; of those that did."""
    weights = [since for since, _ in proxies_of(rig)._shares[1:]]
    times = [
        (datetime.fromisoformat(one["time"]) - rig.clock.start).total_seconds()
        for one in rig.release["status"]["history"]
        if one["reason"] == "StepInEffect"
    ]
    return [round(time - since, 1) for time, since in zip(times, weights, strict=False)]


def proxies_of(rig: Rig) -> Proxies:
    assert rig.controller.observer is not None
    found = rig.controller.observer._counters
    assert isinstance(found, Proxies)
    return found


@pytest.mark.parametrize(("delay", "most"), [(0.2, 2.5), (2.0, 4.0), (3.0, 5.0)])
async def test_steps_count_soon_after_the_proxies_split_by_them_and_not_before(
    rig: Rig, delay: float, most: float
) -> None:
    await started(rig, Proxies(rig, delay=delay))
    await rig.clock.advance(120)
    assert rig.phase == "Completed"
    found = entered(rig)
    assert len(found) == 3
    assert all(delay < seconds <= most for seconds in found), found


async def test_what_is_seen_is_in_the_status_and_in_the_metrics(rig: Rig) -> None:
    await started(rig, Proxies(rig))
    await rig.clock.advance(6)
    weight = rig.release["status"]["weight"]
    assert weight["how"].startswith("seen in effect after ")
    assert "10.0 % of " in weight["how"]
    assert rig.metric("davylamp_effect_seconds_count", kind="Ingress", known="seen") == 1


async def test_proxies_that_lag_are_waited_for_beyond_the_settling_time(rig: Rig) -> None:
    await started(rig, Proxies(rig, delay=20))
    await rig.clock.advance(19)
    assert rig.release.get("status", {}).get("step", 0) == 0
    await rig.clock.advance(8)
    assert rig.release["status"]["step"] == 1


async def test_a_change_that_never_comes_is_told_and_the_release_can_be_taken_back(rig: Rig) -> None:
    await started(rig, Proxies(rig, delay=1e9))
    await rig.clock.advance(600)
    assert len(rig.events("NotInEffect")) == 1
    assert "lately reached the canary" in rig.release["status"]["message"]
    name = rig.release["metadata"]["name"]
    rig.api.change(Ref("Release", NAMESPACE, name), {"spec": {"abort": {"by": "me"}}})
    await rig.clock.advance(60)
    assert rig.phase == "RolledBack"


async def test_half_of_the_requests_may_come_past_the_route(rig: Rig) -> None:
    await started(rig, Proxies(rig, past=0.5), hold="20s")
    await rig.clock.advance(240)
    assert rig.phase == "Completed"
    assert entered(rig)[1] < 5, "the first step has told what there is"


@pytest.mark.parametrize("rps", [0, 2])
async def test_with_too_few_requests_the_settling_time_decides(rig: Rig, rps: float) -> None:
    await started(rig, Proxies(rig, rps=rps))
    await rig.clock.advance(12)
    assert rig.release["status"]["weight"]["how"].startswith("settled for 5 s, not measured")
    await rig.clock.advance(120)
    assert rig.phase == "Completed"
    assert rig.metric("davylamp_effect_seconds_count", kind="Ingress", known="assumed") == 2


async def test_pods_are_asked_only_while_something_is_waited_for(rig: Rig) -> None:
    proxies = Proxies(rig)
    await started(rig, proxies, hold="1h")
    await rig.clock.advance(10)
    assert rig.release["status"]["step"] == 1
    looks = proxies.looks
    assert 0 < looks <= 12
    rig.api.requests.clear()
    await rig.clock.advance(1800)
    assert (proxies.looks, rig.api.requests) == (looks, [])


async def test_pods_that_have_no_metrics_are_not_asked_again(rig: Rig) -> None:
    proxies = Proxies(rig)
    proxies.blind = True
    await started(rig, proxies)
    await rig.clock.advance(120)
    assert rig.phase == "Completed"
    assert proxies.looks <= 1


async def test_a_restart_waits_anew_and_sees_it_all_the_same(rig: Rig) -> None:
    await started(rig, Proxies(rig, delay=3))
    await rig.clock.advance(2.2)
    await rig.stop(*rig.controller_tasks)
    await rig.restart(counters=Proxies(rig, delay=0))
    await rig.clock.advance(120)
    assert rig.phase == "Completed"


async def test_the_settling_time_is_learned_from_what_was_seen(rig: Rig) -> None:
    await started(rig, Proxies(rig, delay=0.5, rps=400), 10, 30, 50, 70, 90, 100, hold="3s")
    await rig.clock.advance(120)
    assert rig.phase == "Completed"
    assert rig.controller.observer is not None
    (learned,) = [one for kind, one in rig.controller.observer.learned().items() if kind == "Ingress"]
    assert learned.changes == 5
    assert 2 <= learned.seconds <= 3.2


async def test_a_rollback_deletes_the_pods_once_they_get_nothing(rig: Rig) -> None:
    await started(rig, Proxies(rig, delay=1.5), hold="1h")
    await rig.clock.advance(10)
    begun = rig.clock.passed
    name = rig.release["metadata"]["name"]
    rig.api.change(Ref("Release", NAMESPACE, name), {"spec": {"abort": {"by": "me"}}})
    await rig.clock.advance(1.4)
    assert rig.api.objects[Ref("ReplicaSet", NAMESPACE, name)]
    while rig.phase != "RolledBack" and rig.clock.passed < begun + 10:
        await rig.clock.advance(0.1)
    assert 1.5 < rig.clock.passed - begun < 4.5


async def test_a_rollback_after_a_restart_waits_while_clients_that_a_cookie_keeps_reach_the_canary(rig: Rig) -> None:
    kept = ingress()
    kept["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/affinity": "cookie"}
    spec = policy(**{**ROUTED, "steps": [{"weight": 50, "hold": "1h"}]})
    await rig.start(deployment(), service(), kept, spec, counters=Proxies(rig))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(30)
    assert rig.release["status"]["step"] == 1
    await rig.stop(*rig.controller_tasks)
    proxies = Proxies(rig, delay=12)
    proxies._shares = [(0, 0.5)]
    await rig.restart(counters=proxies)
    name = rig.release["metadata"]["name"]
    rig.api.change(Ref("Release", NAMESPACE, name), {"spec": {"abort": {"by": "me"}}})
    await rig.clock.advance(11)
    assert rig.api.objects[Ref("ReplicaSet", NAMESPACE, name)], "longer than the settling time, since requests say so"
    assert rig.phase == "RollingBack"
    await rig.clock.advance(6)
    assert rig.phase == "RolledBack"


async def test_a_weight_that_others_change_is_put_right_and_counted(rig: Rig) -> None:
    await started(rig, Proxies(rig), hold="1h")
    await rig.clock.advance(10)
    rig.api.change(OURS, {"metadata": {"annotations": {WEIGHT: "90"}}})
    await rig.clock.advance(1)
    assert rig.api.objects[OURS]["metadata"]["annotations"][WEIGHT] == "10"
    assert rig.events("Drift") == ["Ingress web-davylamp was changed by other hands; it is put right"]
    assert rig.metric("davylamp_drifts_total") == 1


async def test_a_fight_ends(rig: Rig) -> None:
    await started(rig, Proxies(rig), hold="1h")
    await rig.clock.advance(10)
    for _ in range(12):
        rig.api.change(OURS, {"metadata": {"annotations": {WEIGHT: "90"}}})
        await rig.clock.advance(2)
    assert len(rig.events("Fight")) == 1
    assert rig.metric("davylamp_drifts_total") == 5


async def test_many_releases_at_once_are_looked_at_less_often(rig: Rig) -> None:
    proxies = Proxies(rig, rps=0)
    names = [f"web{number}" for number in range(40)]
    manifests: list[Any] = []
    for name in names:
        traffic = {"service": name, "routes": [{"ingress": {"name": name}}], "settle": "60s"}
        spec = {"traffic": traffic, "steps": [{"weight": 10, "hold": "1h"}]}
        manifests += [deployment(name=name), service(name), ingress(name, name), policy(name, **spec)]
    await rig.start(*manifests, counters=proxies)
    for name in names:
        rig.set_image("hellok8s:v2", name)
    await rig.clock.advance(10)
    before = proxies.looks
    await rig.clock.advance(20)
    assert 300 <= proxies.looks - before <= 20 * 20 + 40

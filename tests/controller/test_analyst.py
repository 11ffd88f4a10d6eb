"""Releases whose steps a verdict decides: the controller, with measurements that a test makes up."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from davylamp.controller.underway import pause
from davylamp.core.actions import Ref
from tests.controller.made import Made
from tests.controller.rig import Rig
from tests.kube.controllers import NAMESPACE, ROUTED, deployment, ingress, policy, service

STEPS = {"steps": [{"weight": 50, "hold": "30s"}, {"weight": 100}]}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.stop()


async def started(rig: Rig, made: Made, **analysis: Any) -> None:
    spec = {**ROUTED, **STEPS, "analysis": {"checks": [{"errors": {}}], **analysis}}
    await rig.start(deployment(), service(), ingress(), policy(**spec), lookers=made)
    rig.set_image("hellok8s:v2")


def status(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = rig.release["status"]["analysis"]
    return found


async def test_a_good_version_completes_once_it_is_known_to_be_good(rig: Rig) -> None:
    made = Made()
    await started(rig, made)
    await rig.clock.advance(39)
    assert rig.phase == "Progressing", "it holds for 30 s"
    await rig.clock.advance(300)
    assert rig.phase == "Completed"
    reasons = [transition["reason"] for transition in rig.release["status"]["history"]]
    assert reasons.index("GoodEnough") == reasons.index("StepInEffect") + 1
    assert status(rig)["answer"] == "good enough"
    assert "state" not in status(rig), "nobody goes on from a release that is over"


async def test_a_worse_version_is_taken_back_with_the_reason(rig: Rig) -> None:
    made = Made()
    made.rates = (450, 0.4, 450, 4.5)
    await started(rig, made)
    await rig.clock.advance(240)
    assert rig.phase == "RolledBack"
    message = rig.release["status"]["message"]
    assert message.startswith("errors ")
    assert " times stable's (" in message
    assert "canary requests" in message
    assert rig.events("ReleaseRollingBack")[0].endswith(message)
    assert status(rig)["answer"] == "worse"


async def test_with_confident_a_step_ends_as_soon_as_the_canary_is_good_enough(rig: Rig) -> None:
    made = Made()
    made.rates = (45_000, 0, 45_000, 0)
    spec = {"steps": [{"weight": 50, "hold": "1h"}, {"weight": 100}]}
    analysis = {"checks": [{"errors": {}}], "leaveWhen": "confident"}
    await rig.start(
        deployment(), service(), ingress(), policy(**{**ROUTED, **spec, "analysis": analysis}), lookers=made
    )
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(120)
    assert rig.phase == "Completed"


async def test_an_outage_of_the_metrics_holds_the_release_and_it_goes_on_when_they_come_back(rig: Rig) -> None:
    made = Made()
    await started(rig, made, leaveWhen="notWorse", atMost="2m", whenUnclear="goOn")
    made.rates = None
    await rig.clock.advance(3600)
    assert rig.phase == "Progressing"
    assert status(rig)["blind"]
    assert "connection refused" in status(rig)["message"]
    made.rates = (450, 0, 450, 0)
    await rig.clock.advance(60)
    assert rig.phase == "Completed"


async def test_a_restart_goes_on_with_the_evidence_so_far(rig: Rig) -> None:
    made = Made()
    made.rates = (900, 0.9, 100, 0.18)
    await started(rig, made)
    await rig.clock.advance(125)
    before = status(rig)
    assert before["answer"] == "not enough data"
    await rig.stop(*rig.controller_tasks)
    await rig.restart(lookers=made)
    await rig.clock.advance(80)
    after = status(rig)
    assert made.opened == 2
    assert after["canary"]["requests"] > before["canary"]["requests"]
    assert after["checks"][0]["requests"][1] >= before["checks"][0]["requests"][1] + 5000
    assert after["history"].startswith(before["history"][:-1][:20])


async def test_without_a_verdict_in_time_a_person_is_asked_once_and_may_go_on(rig: Rig) -> None:
    made = Made()
    made.rates = (10, 0, 1, 0)
    await started(rig, made, atMost="2m")
    await rig.clock.advance(300)
    assert rig.phase == "Progressing"
    assert len(rig.events("ApprovalNeeded")) == 1
    assert "no verdict after 2 min" in rig.events("ApprovalNeeded")[0].replace("120 s", "2 min")
    name = rig.release["metadata"]["name"]
    rig.api.change(Ref("Release", NAMESPACE, name), {"spec": {"approved": {"step": 1, "by": "me"}}})
    await rig.clock.advance(30)
    assert rig.phase == "Completed"


async def test_nothing_is_looked_at_without_a_release(rig: Rig) -> None:
    made = Made()
    await started(rig, made, leaveWhen="notWorse")
    await rig.clock.advance(120)
    assert rig.phase == "Completed"
    looks = len(made.looks)
    rig.api.requests.clear()
    await rig.clock.advance(3600)
    assert (len(made.looks), rig.api.requests) == (looks, [])


async def test_what_is_found_is_written_at_most_once_a_minute(rig: Rig) -> None:
    made = Made()
    made.rates = (10, 0, 1, 0)
    await started(rig, made)
    await rig.clock.advance(60)
    before = len(rig.writes)
    await rig.clock.advance(600)
    assert rig.writes[before:] == [("patch", "Release")] * 10
    assert len(made.looks) >= 60


async def test_the_first_look_is_before_the_canary_gets_requests_and_the_next_soon_after(rig: Rig) -> None:
    made = Made()
    made.rates = (10, 0, 1, 0)
    await started(rig, made)
    await rig.clock.advance(2)
    assert rig.release.get("status", {}).get("step", 0) == 0
    assert made.looks
    assert "analysis" not in rig.release.get("status", {}), "nothing is told before there is something to tell"
    await rig.clock.advance(60)
    gaps = [round(b - a) for a, b in itertools.pairwise(made.looks)]
    assert gaps[:2] == [2, 2], "until the canary's first request has been seen"
    assert set(gaps[2:]) == {5}, "in the first minute of its requests"
    await rig.clock.advance(60)
    gaps = [round(b - a) for a, b in itertools.pairwise(made.looks)]
    assert set(gaps[-3:]) == {10}


async def test_where_the_next_look_may_decide_it_comes_sooner(rig: Rig) -> None:
    made = Made()
    made.rates = (900, 0.9, 100, 0.1)
    await started(rig, made, leaveWhen="held")
    await rig.clock.advance(120)
    made.rates = (900, 0.9, 100, 0.5)
    await rig.clock.advance(300)
    assert rig.phase == "RolledBack"
    gaps = [round(b - a) for a, b in itertools.pairwise(made.looks)]
    assert gaps[-1] == 5
    assert gaps.count(10) > 3


def test_where_many_releases_are_under_way_none_is_looked_at_so_often_that_all_would_wait() -> None:
    assert [pause(10, 2, releases) for releases in (1, 100, 250, 1000)] == [2, 2, 5, 10]
    assert [pause(interval, interval / 2, 1) for interval in (1, 3, 60)] == [1, 2, 30]
    assert pause(10, 10, 1) == 10

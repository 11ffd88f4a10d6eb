"""What a verdict does to a release, on the model of the cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from davylamp.core import names
from davylamp.core.actions import Patch
from davylamp.core.world import Judgement, World
from tests.core.model import Cluster, policy_spec

GOOD = Judgement(good_enough=True, message="errors: none in 9,000 canary requests")
WORSE = Judgement(worse=True, message="errors 13 times stable's (at least 2.2), from 600 canary requests")
UNCLEAR = Judgement(message="not enough data yet: errors needs about 1,400 more canary requests, 2 min at this rate")
PENDING = Judgement(pending=True, message="smoke: Job web-7f6b13-1-smoke-1 is running")
MISSED = Judgement(good_enough=True, missed=True, message="errors: none in 9,000 canary requests")
BLIND = Judgement(blind=True, message="errors: no data for 75 s; the evidence so far is kept")


class Judged(Cluster):
    """The model, with a judgement that the test says."""

    judgement: Judgement | None = None

    def world(self) -> World:
        return msgspec.structs.replace(super().world(), judgement=self.judgement)


def in_step_one(judgement: Judgement | None, *weights: int, bake: str = "", **analysis: Any) -> Judged:
    cluster = Judged()
    cluster.judgement = judgement
    spec = policy_spec(*(weights or (10, 50, 100)), analysis=analysis) | ({"bake": bake} if bake else {})
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image("hellok8s:v2")
    cluster.run(lambda: bool(cluster.all("Release")) and cluster.release.get("status", {}).get("step", 0) == 1)
    return cluster


def step(cluster: Cluster) -> int:
    return int(cluster.release["status"]["step"])


@pytest.mark.parametrize("leave_when", ["held", "confident", "notWorse"])
def test_a_canary_that_is_worse_is_taken_back_in_the_verdicts_words(leave_when: str) -> None:
    cluster = in_step_one(WORSE, leaveWhen=leave_when)
    cluster.run()
    assert cluster.phase() == "RolledBack"
    assert cluster.release["status"]["end"] == {"phase": "RolledBack", "reason": "Worse", "message": WORSE.message}
    assert cluster.share("hellok8s:v2") == 0


@pytest.mark.parametrize(
    ("leave_when", "judgement", "seconds", "left"),
    [
        ("held", GOOD, 59, False),
        ("held", GOOD, 61, True),
        ("held", UNCLEAR, 600, False),
        ("confident", GOOD, 1, True),
        ("confident", UNCLEAR, 600, False),
        ("notWorse", UNCLEAR, 59, False),
        ("notWorse", UNCLEAR, 61, True),
        ("notWorse", BLIND, 600, False),
        ("notWorse", PENDING, 600, False),
        ("notWorse", MISSED, 600, False),
        ("held", MISSED, 600, False),
        ("confident", MISSED, 600, False),
        ("held", PENDING, 600, False),
        ("notWorse", None, 600, False),
        ("held", None, 600, False),
    ],
)
def test_when_a_step_of_a_minute_is_left(
    leave_when: str, judgement: Judgement | None, seconds: float, left: bool
) -> None:
    cluster = in_step_one(judgement, leaveWhen=leave_when)
    cluster.now += timedelta(seconds=seconds)
    for _ in range(30):
        cluster.look()
    assert (cluster.release["status"].get("cleared", 0) == 1) is left
    assert cluster.violations == []


def test_a_verdict_that_is_unsettled_while_the_next_step_comes_turns_nothing_back() -> None:
    cluster = in_step_one(GOOD)
    cluster.run(lambda: cluster.release["status"].get("cleared") == 1)
    cluster.judgement = BLIND
    cluster.run(lambda: step(cluster) == 2)
    assert min(cluster.weights[cluster.weights.index(10) :]) == 10
    cluster.run()
    assert step(cluster) == 2, "the second step waits for data"


@pytest.mark.parametrize("unclear", ["goOn", "takeBack"])
@pytest.mark.parametrize(("judgement", "reason"), [(BLIND, "NoData"), (MISSED, "AwaitingVerdict")])
def test_an_outage_is_no_verdict_whatever_is_to_be_done_without_one(
    judgement: Judgement, reason: str, unclear: str
) -> None:
    cluster = in_step_one(judgement, atMost="5m", whenUnclear=unclear)
    cluster.now += timedelta(hours=2)
    assert cluster.run().reason == reason
    assert step(cluster) == 1
    cluster.judgement = GOOD
    cluster.run()
    assert cluster.phase() == "Completed"


@pytest.mark.parametrize(("unclear", "phase"), [("goOn", "Completed"), ("takeBack", "RolledBack")])
def test_after_the_longest_time_without_a_verdict_the_policy_says_what_happens(unclear: str, phase: str) -> None:
    cluster = in_step_one(UNCLEAR, atMost="5m", whenUnclear=unclear)
    began = cluster.now
    cluster.run()
    assert cluster.phase() == phase
    assert cluster.now - began >= timedelta(minutes=5)
    assert any("no verdict after 5 min" in t["message"] for t in cluster.release["status"]["history"])


def test_or_a_person_is_asked_once_and_goes_on_by_approving() -> None:
    cluster = in_step_one(UNCLEAR, 10, 100, atMost="5m")
    decided = cluster.run()
    assert decided.reason == "AwaitingApproval"
    assert "`davy approve web`" in decided.message
    assert [e.reason for e in cluster.events].count("ApprovalNeeded") == 1
    cluster.command(approved={"step": 1, "by": "me"})
    cluster.run()
    assert cluster.phase() == "Completed"


def test_a_person_may_go_on_while_there_is_no_data() -> None:
    cluster = in_step_one(BLIND, 10, 100)
    cluster.run()
    cluster.command(approved={"step": 1, "by": "me"})
    cluster.run()
    assert cluster.phase() == "Completed"


def test_steps_in_which_nothing_can_be_compared_are_not_held_for_a_verdict() -> None:
    cluster = in_step_one(None, 0, 100, match=[{"header": {"name": "X-Canary", "exact": "true"}}])
    cluster.run()
    assert cluster.phase() == "Completed"


def test_what_the_analysis_has_written_is_kept_by_the_other_writes() -> None:
    cluster = in_step_one(GOOD)
    cluster.edit("Release", cluster.release["metadata"]["name"], lambda o: o["status"].update(analysis={"state": "{}"}))
    cluster.run(lambda: step(cluster) == 2)
    assert cluster.release["status"]["analysis"] == {"state": "{}"}
    cluster.run()
    assert cluster.release["status"]["analysis"] == {}, "nobody goes on from a release that is over"


def test_a_bad_verdict_while_it_bakes_returns_the_traffic_at_once() -> None:
    cluster = in_step_one(GOOD, 10, bake="10m")
    cluster.run(lambda: step(cluster) == 2)
    assert cluster.share("hellok8s:v2") == 100
    cluster.judgement = WORSE
    before = len(cluster.writes)
    cluster.run(lambda: cluster.share("hellok8s:v1") == 100)
    written = [action.ref.kind for action in cluster.writes[before:] if isinstance(action, Patch)]
    assert written == ["Release", "Service"], "decided, and the Service moved"
    cluster.run()
    assert cluster.phase() == "RolledBack"


@pytest.mark.parametrize(
    ("compare", "judgement", "left"), [(True, UNCLEAR, False), (True, GOOD, True), (None, UNCLEAR, True)]
)
def test_a_step_of_testers_waits_for_the_verdict_only_where_it_says_so(
    compare: bool | None, judgement: Judgement, left: bool
) -> None:
    cluster = Judged()
    cluster.judgement = judgement
    first = {"weight": 0, "hold": "1m", "match": [{"cookie": {"name": "group", "exact": "b"}}]}
    steps = [first | ({} if compare is None else {"compare": compare}), {"weight": 100}]
    spec = policy_spec(steps=steps, analysis={})
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.set_image("hellok8s:v2")
    cluster.run(lambda: bool(cluster.all("Release")) and cluster.release.get("status", {}).get("step", 0) == 1)
    cluster.now += timedelta(minutes=10)
    cluster.run()
    assert cluster.phase() == ("Completed" if left else "Progressing")

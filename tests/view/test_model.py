"""The model behind what is shown: the numbers that scripts read."""

from __future__ import annotations

import msgspec
import pytest

from davylamp.view.model import WorkloadView
from tests.view import situations
from tests.view.situations import Situation, in_step, seen, started

STATES: list[tuple[Situation, str, str]] = [
    (situations.done, "Stable", "good"),
    (started, "Starting", "busy"),
    (situations.waiting_for_pods, "Pending", "busy"),
    (situations.entering_50, "Progressing", "busy"),
    (situations.awaiting, "AwaitingApproval", "waiting"),
    (situations.paused, "Paused", "waiting"),
    (situations.adopted, "Promoting", "busy"),
    (situations.keeping, "Completed", "good"),
    (situations.crashing, "RollingBack", "bad"),
    (situations.superseded, "RollingBack", "busy"),
    (situations.held, "Held", "bad"),
    (situations.applied_again, "Held", "bad"),
    (situations.retried, "Starting", "busy"),
    (situations.reverted, "Stable", "bad"),
    (situations.withdrawn, "Stable", "good"),
    (situations.resumed_by_hand, "Stable", "good"),
    (situations.invalid, "InvalidPolicy", "bad"),
    (situations.without_policy, "NoPolicy", "waiting"),
    (situations.policy_lost, "NoPolicy", "bad"),
    (situations.gone, "Gone", "bad"),
    (situations.two_versions, "TwoVersions", "bad"),
]


@pytest.mark.parametrize(("situation", "state", "tone"), STATES, ids=[s.__name__ for s, *_ in STATES])
def test_a_state_and_how_bad_it_is(situation: Situation, state: str, tone: str) -> None:
    view = seen(situation())
    assert (view.state, view.tone) == (state, tone)


@pytest.mark.parametrize("situation", [s for s, *_ in STATES], ids=[s.__name__ for s, *_ in STATES])
def test_a_view_survives_json(situation: Situation) -> None:
    view = seen(situation())
    assert msgspec.json.decode(msgspec.json.encode(view), type=WorkloadView) == view


def test_json_has_every_field_so_that_scripts_need_no_defaults() -> None:
    content = msgspec.to_builtins(seen(situations.without_policy()))
    assert set(content) == {field.encode_name for field in msgspec.structs.fields(WorkloadView)}
    assert content["release"] is None


def test_steps_are_done_now_coming_ahead_or_where_it_failed() -> None:
    def states(situation: Situation) -> list[str]:
        return [step.state for step in seen(situation()).steps]

    assert states(situations.waiting_for_pods) == ["coming", "ahead", "ahead"]
    assert states(lambda: in_step(1)) == ["now", "ahead", "ahead"]
    assert states(situations.entering_50) == ["done", "coming", "ahead"]
    assert states(situations.awaiting) == ["done", "now", "ahead"]
    assert states(situations.held) == ["failed", "ahead", "ahead"]
    assert states(situations.superseded) == ["stopped", "ahead", "ahead"]
    assert states(situations.done) == ["done", "done"]


def test_the_weight_asked_for_and_the_one_in_effect_are_two_numbers() -> None:
    weight = seen(situations.entering_50()).weight
    assert weight is not None
    assert (weight.asked, weight.in_effect) == (50, 10)


def test_the_shares_of_both_sides_are_the_whole() -> None:
    view = seen(in_step(1))
    assert view.stable is not None
    assert view.canary is not None
    assert (view.stable.share, view.canary.share) == (90, 10)
    assert (view.stable.ready, view.stable.wanted, view.canary.ready, view.canary.wanted) == (4, 4, 4, 4)
    assert [len(side.pods or ()) for side in (view.stable, view.canary)] == [4, 4]


def test_a_hold_is_waited_for_until_it_is_over_and_then_comes_the_next_step() -> None:
    waits = seen(in_step(1)).waits
    assert waits is not None
    assert waits.until is not None
    assert (f"{waits.until:%H:%M:%S}", waits.then) == ("12:10:05", "step 2, 50 %")


@pytest.mark.parametrize(
    ("steps", "then"),
    [
        ([{"weight": 10, "hold": "1m", "approve": True}, {"weight": 100}], "approval"),
        ([{"weight": 10, "hold": "1m"}], "completion"),
    ],
)
def test_what_comes_after_a_hold(steps: list[dict[str, object]], then: str) -> None:
    waits = seen(in_step(1, steps=steps)).waits
    assert waits is not None
    assert waits.then == then


def test_pods_that_are_late_have_a_deadline_and_nothing_that_ends_by_itself() -> None:
    waits = seen(situations.waiting_for_pods()).waits
    assert waits is not None
    assert waits.until is None
    assert waits.deadline is not None


def test_a_template_that_gets_no_pods_is_pending() -> None:
    assert seen(situations.held()).pending_image == "hellok8s:v2"
    assert seen(situations.invalid_and_changed()).pending_image == "hellok8s:v2"
    assert seen(situations.done()).pending_image == ""


def test_the_release_that_rejected_a_template_explains_why_it_is_held_also_after_others() -> None:
    cluster = situations.held()
    cluster.set_image("hellok8s:v3")
    cluster.run()
    cluster.command(approved={"step": 2})
    cluster.run()
    cluster.set_image("hellok8s:v2")
    cluster.run()
    view = seen(cluster)
    assert view.state == "Held"
    assert view.release is not None
    assert view.release.name == cluster.all("Release")[0]["metadata"]["name"]


def test_a_release_that_is_over_explains_nothing_while_the_next_one_begins() -> None:
    cluster = situations.done()
    cluster.set_image("hellok8s:v3")
    view = seen(cluster)
    assert (view.state, view.release) == ("Starting", None)


def test_the_view_tells_when_the_controller_has_something_to_do() -> None:
    assert seen(started()).acting
    assert not seen(in_step(1)).acting

"""The course of the demo, with the cluster and the load played by hand."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import cast

import msgspec
import pytest
import yaml

from davylamp.api.types import Phase, ReleasePolicy
from davylamp.embedded.demo import script, show
from davylamp.embedded.demo.frame import Frame
from davylamp.embedded.demo.script import SCENES, Pace
from davylamp.embedded.demo.show import Result, Show
from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.load.counts import NO_VERSION, Counts, Summary
from davylamp.embedded.load.process import Load
from davylamp.view.model import WorkloadView
from tests.view import situations
from tests.view.situations import seen

_, GOOD, BROKEN = SCENES
QUICK = Pace(linger=0)
ENDS = (("v2", Phase.COMPLETED), ("v3-crash", Phase.ROLLED_BACK))


def total(lost: int = 0, failed: int = 0, unknown: int = 0, answered: int = 10) -> Summary:
    by_version = Counter({"v1": answered - unknown, NO_VERSION: unknown})
    return Summary(
        sent=answered + lost, by_version=by_version, statuses=Counter({"200": answered}), lost=lost, failed=failed
    )


@pytest.mark.parametrize(
    ("ends", "counted", "good"),
    [
        (ENDS, total(), True),
        (ENDS, total(lost=1), False),
        (ENDS, total(failed=1), False),
        (ENDS, total(unknown=1), False),
        (ENDS, total(answered=0), False),
        ((("v2", Phase.ROLLED_BACK), ENDS[1]), total(), False),
        ((ENDS[0], ("v3-crash", Phase.COMPLETED)), total(), False),
        (ENDS[:1], total(), False),
    ],
)
def test_it_went_well_only_if_both_ended_as_they_should_and_every_request_was_answered(
    ends: tuple[tuple[str, Phase], ...], counted: Summary, good: bool
) -> None:
    assert Result(ends, (), counted, 50.0).good is good


class Steady:
    """A load whose every request is answered by v1."""

    def __init__(self) -> None:
        self.t = 0.0

    def snapshot(self) -> Counts:
        self.t += 1.0
        sent = int(self.t * 100)
        return Counts(t=self.t, sent=sent, by_version=Counter({"v1": sent}), statuses=Counter({"200": sent}))


class Recorder:
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.over = 0

    def say(self, text: str) -> None: ...

    def see(self, frame: Frame) -> None:
        self.frames.append(frame)

    def scene_over(self, frame: Frame) -> None:
        self.over += 1


def playing(*views: WorkloadView) -> tuple[Show, Recorder]:
    """A show that sees these one after another, and then the last of them for ever."""
    left = list(views)

    def look() -> WorkloadView:
        return left.pop(0) if len(left) > 1 else left[0]

    recorder = Recorder()
    return Show(look, cast("Load", Steady()), recorder, QUICK, 0.0), recorder


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "TICK", 0)


async def nothing() -> None:
    await asyncio.sleep(0)


async def test_a_scene_lasts_until_its_own_release_has_ended() -> None:
    stable, step, done = seen(situations.with_policy(10, 100)), seen(situations.in_step(1)), seen(situations.done())
    playing_, recorder = playing(stable, stable, step, step, done)
    assert await playing_.scene(GOOD, nothing) is Phase.COMPLETED
    assert [frame.view.state for frame in recorder.frames] == ["Stable", "Progressing", "Progressing", "Stable"]
    assert recorder.over == 1
    assert playing_.course == [("v2", 0, 0.0), ("v2", 1, 10), ("v2", 2, 100.0)]


async def test_the_end_of_an_earlier_release_is_not_taken_for_that_of_this_one() -> None:
    done, held = seen(situations.done()), seen(situations.held())
    assert held.release is not None
    held = msgspec.structs.replace(held, release=msgspec.structs.replace(held.release, name="web-another-1"))
    playing_, recorder = playing(done, done, done, held)
    assert await playing_.scene(BROKEN, nothing) is Phase.ROLLED_BACK
    assert len(recorder.frames) == 3


async def test_the_split_is_counted_over_the_last_two_seconds() -> None:
    stable, done = seen(situations.with_policy(10, 100)), seen(situations.done())
    playing_, recorder = playing(*[stable] * 6, done)
    await playing_.scene(GOOD, nothing)
    assert [frame.recent.t for frame in recorder.frames[2:]] == [2.0] * (len(recorder.frames) - 2)
    assert recorder.frames[-1].recent.answered == 200


async def test_a_release_that_does_not_end_is_given_up_and_says_where_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show, "LIMIT", -1)
    playing_, _ = playing(seen(situations.in_step(1)))
    with pytest.raises(EmbeddedError, match=r"a good version: not over after -1 s \(Progressing, step 1 of 3\)"):
        await playing_.scene(GOOD, nothing)


def test_the_policy_of_the_demo_is_one_that_the_program_reads() -> None:
    parsed = msgspec.convert(yaml.safe_load(script.policy(Pace())), ReleasePolicy)
    assert [step.weight for step in parsed.spec.steps] == [10, 50, 100]


def test_the_default_demo_is_shorter_than_a_minute_by_its_policy() -> None:
    pace = Pace()
    assert sum(pace.holds) + 3 * pace.settle + len(SCENES) * pace.linger < 30


async def test_a_shop_that_does_not_answer_is_told_with_what_came_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "LIMIT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(EmbeddedError, match=r"shop.example has not answered at .* after 0.1 s: Cannot connect"):
        await show._answers(f"http://127.0.0.1:{port}/")

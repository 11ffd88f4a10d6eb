"""What the demo shows of one moment."""

from __future__ import annotations

from collections import Counter
from datetime import UTC

import pytest

from davylamp.embedded.demo.frame import Frame, line, lines
from davylamp.embedded.demo.script import SCENES, Scene
from davylamp.embedded.load.counts import NO_VERSION, Counts
from davylamp.view.lines import Look, plain
from tests.view import situations
from tests.view.situations import Situation, in_step, seen

SHOP, GOOD, BROKEN = SCENES
TO_100 = [{"weight": 100, "hold": "10m"}]
WIDE = Look(zone=UTC, width=100)


def counts(t: float = 2.0, lost: int = 0, failed: int = 0, **by_version: int) -> Counts:
    answered = sum(by_version.values())
    return Counts(
        t=t,
        sent=answered + lost,
        by_version=Counter(by_version),
        statuses=Counter({"200": answered - failed, "500": failed}),
        lost=lost,
        failed=failed,
    )


def frame(
    situation: Situation,
    scene: Scene = GOOD,
    recent: Counts | None = None,
    total: Counts | None = None,
    elapsed: float = 12.34,
) -> Frame:
    cluster = situation()
    recent = recent or counts(v1=216, v2=24)
    return Frame(scene, seen(cluster), cluster.now, recent, total or recent, elapsed)


def shown(of: Frame, look: Look = WIDE) -> list[str]:
    return [plain(drawn) for drawn in lines(of, look)]


def test_a_step_is_shown_with_its_command_what_is_asked_and_what_clients_saw() -> None:
    drawn = shown(frame(lambda: in_step(1), total=counts(t=9, v1=1200, v2=58)))
    assert drawn[:3] == [
        "2/3  a good version  12 s",
        "$ kubectl set image deployment/web hellok8s=hellok8s:v2 -n shop",
        "10 % of the requests for v2. `davy abort web` would take it back at once.",
    ]
    assert any(text.startswith("  steps   ▶ 10 %") for text in drawn), "what davy watch shows is there"
    assert drawn[-4:] == [
        "  asked   ████                                       10 %",
        "  seen    ████                                       10 %",
        "          by v2, of 240 requests in the last 2 s",
        "  answers v1 1,200  v2 58  failed 0  lost 0",
    ]


@pytest.mark.parametrize(
    ("situation", "scene", "said"),
    [
        (lambda: situations.with_policy(10, 100), SHOP, "4 pods of an ordinary Deployment"),
        (situations.waiting_for_pods, GOOD, "Nobody reaches them before they are ready"),
        (situations.entering_50, GOOD, "50 % of the requests for v2"),
        (
            lambda: in_step(1, steps=[{"weight": 100, "hold": "10m"}]),
            GOOD,
            "All requests for v2; the pods of v1 still run",
        ),
        (situations.adopted, GOOD, "none is restarted"),
        (situations.done, GOOD, "Everybody has v2"),
        (situations.crashing, BROKEN, "v3-crash is broken: it is taken back"),
        (situations.held, BROKEN, "v3-crash was taken back and stays away"),
    ],
)
def test_each_moment_is_told_in_a_sentence(situation: Situation, scene: Scene, said: str) -> None:
    assert said in shown(frame(situation, scene))[2]


def test_the_share_asked_for_is_that_of_the_objects_also_where_no_release_splits() -> None:
    assert frame(situations.done, GOOD).asked == 100
    assert frame(situations.held, BROKEN).asked == 0
    assert frame(lambda: in_step(1)).asked == 10


def test_the_split_is_that_of_the_recent_answers_and_not_of_all() -> None:
    moment = frame(lambda: in_step(1), recent=counts(v1=30, v2=10), total=counts(v1=1000, v2=10))
    assert moment.seen == 25
    assert any(text.endswith("25 %") for text in shown(moment))


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "situation", [situations.crashing, situations.held, situations.entering_50, situations.adopted]
)
def test_nothing_is_wider_than_the_terminal(situation: Situation, width: int) -> None:
    drawn = lines(frame(situation, total=counts(v1=1_234_567, v2=1_234_567)), Look(zone=UTC, width=width))
    assert max(len(plain(text)) for text in drawn) <= width


def test_without_unicode_there_is_only_ascii() -> None:
    assert all(text.isascii() for text in shown(frame(lambda: in_step(1)), Look(utf8=False, zone=UTC)))


@pytest.mark.parametrize(("lost", "style"), [(0, "good"), (3, "bad")])
def test_a_lost_request_catches_the_eye(lost: int, style: str) -> None:
    drawn = lines(frame(lambda: in_step(1), total=counts(v1=5, lost=lost)), WIDE)
    assert [span.style for span in drawn[-1] if span.text == str(lost)][-1] == style


def test_answers_of_the_proxy_itself_are_named_as_such() -> None:
    total = Counts(by_version=Counter({NO_VERSION: 2, "v1": 5}))
    assert "no version 2  v1 5" in shown(frame(lambda: in_step(1), total=total))[-1]


def test_a_line_of_a_log_has_the_same_figures() -> None:
    assert line(frame(lambda: in_step(1), recent=counts(v1=217, v2=23, lost=1))) == (
        " 12.3 s  Progressing  step 1 of 3  v2: asked  10 %, seen  9.6 % of 240  lost 1"
        "  (settled for 5 s, not measured)"
    )

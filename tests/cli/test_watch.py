"""`davy watch`: in a pipe a line for each change, on a terminal the whole of it in place."""

from __future__ import annotations

import re

import pytest

from davylamp.cli import exits
from davylamp.cli.follow import NEGLECTED, Neglect
from davylamp.kube.errors import ApiError
from tests.cli.conftest import Davy, Serve, Terminal
from tests.view import situations
from tests.view.situations import in_step, seen, started


def test_in_a_pipe_each_change_is_a_line(davy: Davy, serve: Serve) -> None:
    serve(started(20, 100)).drives = True
    result = davy("watch", "web", "--timeout", "10s")
    assert result.code == exits.OK
    assert result.lines[0] == (
        "12:00:00  shop/web  Starting  a release of hellok8s:v2 begins; hellok8s:v1 stays stable"
    )
    assert result.lines[-1].endswith("shop/web  web-bc87ce785f-1  Stable  Completed just now: all pods run hellok8s:v2")
    assert len(result.lines) == len(set(result.lines))
    assert all(re.match(r"\d\d:\d\d:\d\d  shop/web  ", line) for line in result.lines)
    assert "\x1b" not in result.out


def test_the_reason_of_a_rollback_is_told_once_and_then_its_progress(davy: Davy, serve: Serve) -> None:
    serve(situations.crashing(passes=3)).drives = True
    result = davy("watch", "web", "--timeout", "10s")
    assert result.code == exits.ROLLED_BACK
    turning = [line for line in result.lines if "RollingBack" in line]
    assert len(turning) > 1
    assert [("crashed with exit code" in line) for line in turning] == [True] + [False] * (len(turning) - 1)
    assert "Held  RolledBack just now: container hellok8s" in result.lines[-1]


def test_a_watch_that_begins_before_the_release_waits_for_it(davy: Davy, serve: Serve) -> None:
    cluster = situations.with_policy(20, 100)
    server = serve(cluster)
    server.drives = True
    began = server._drive

    async def later() -> None:
        cluster.set_image("hellok8s:v2")
        await began()

    server._drive = later  # type: ignore[method-assign]
    result = davy("watch", "web", "--timeout", "10s")
    assert result.code == exits.OK
    assert result.err == "davy: waiting for a release to begin; Ctrl-C ends this\n"


def test_forever_goes_on_after_the_end(davy: Davy, serve: Serve) -> None:
    serve(in_step(2, steps=[{"weight": 10}, {"weight": 100}])).drives = True
    result = davy("watch", "web", "--forever", "--timeout", "300ms")
    assert result.code == exits.TIMED_OUT
    assert "Completed" in result.lines[-1]


def test_on_a_terminal_all_of_it_is_redrawn_in_place_and_the_end_stays(
    davy: Davy, serve: Serve, terminal: Terminal
) -> None:
    serve(started(20, 100)).drives = True
    assert davy("watch", "web", "--timeout", "10s").code == exits.OK
    drawn = terminal.getvalue()
    assert "\x1b[?25l" in drawn, "the cursor is hidden"
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l"), "and comes back"
    last = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", drawn[drawn.rindex("shop/web") :])
    assert last.splitlines()[0] == "shop/web  release web-bc87ce785f-1  Completed just now: all pods run hellok8s:v2"
    assert len([line for line in last.splitlines() if "ready" in line]) == 5, "the pods, and their sum"


def test_colours_are_left_out_where_no_color_is_set(
    davy: Davy, serve: Serve, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(situations.held())
    davy("status", "web")
    assert "\x1b[1;31m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    davy("status", "web")
    assert not re.search(r"\x1b\[[\d;]*3\dm", terminal.getvalue())


def test_a_lost_connection_is_told_once_and_lived_through(davy: Davy, serve: Serve) -> None:
    server = serve(situations.paused())
    mirrored = server.before
    failing = iter([False] * 9 + [True] * 9)

    def failing_sometimes(verb: str, ref: object) -> None:
        if verb == "watch" and next(failing, False):
            raise ApiError(0, "Unreachable", "connection refused", verb=verb)
        assert mirrored is not None

    server.before = failing_sometimes
    watch = server.watch

    def cut_short(*args: object, **kwargs: object) -> object:
        server.cut()
        return watch(*args, **kwargs)  # type: ignore[arg-type]

    server.watch = cut_short  # type: ignore[method-assign,assignment]
    result = davy("watch", "web", "--timeout", "900ms")
    assert result.code == exits.TIMED_OUT
    assert result.err.count("the cluster can't be watched, trying again") == 1
    assert len(result.err.splitlines()) == 2


def test_a_controller_that_does_nothing_is_noticed() -> None:
    cluster = started()
    neglect = Neglect()
    begin = cluster.now.timestamp()

    def hint(seconds: float) -> str:
        return neglect.hint(seen(cluster), cluster.now.fromtimestamp(begin + seconds, cluster.now.tzinfo))

    assert hint(0) == ""
    assert hint(NEGLECTED - 1) == ""
    assert "does the controller run?" in hint(NEGLECTED)
    cluster.look()
    assert hint(NEGLECTED + 1) == "", "it did something"

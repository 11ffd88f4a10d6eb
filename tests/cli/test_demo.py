"""`davy demo` on a screen and in a pipe; what is played is played by hand."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from davylamp.api.types import Phase
from davylamp.cli import demo as command
from davylamp.cli import exits
from davylamp.cli.demo import Pipe, audience, summary
from davylamp.cli.screen import Screen
from davylamp.embedded.demo.script import SCENES
from davylamp.embedded.demo.show import Result
from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.load.counts import Summary
from davylamp.view.lines import plain
from tests.cli.conftest import Davy, Terminal
from tests.embedded.test_demo_frame import frame
from tests.view import situations
from tests.view.situations import in_step

_, GOOD, BROKEN = SCENES
COUNTED = Summary(sent=40, by_version=Counter({"v1": 30, "v2": 10}), statuses=Counter({"200": 40}))
WELL = Result((("v2", Phase.COMPLETED), ("v3-crash", Phase.ROLLED_BACK)), (), COUNTED, 44.6)
LOST = Result(WELL.ends, (), Summary(sent=41, by_version=COUNTED.by_version, statuses=COUNTED.statuses, lost=1), 44.6)


class Empty:
    """A stage on which nothing is played, and which knows whether it was closed."""

    kubeconfig = Path("/tmp/lab/kubeconfig")
    traefik_url = "http://127.0.0.1:8000/"

    def __init__(self) -> None:
        self.closed = False


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Empty:
    empty = Empty()

    @contextlib.asynccontextmanager
    async def opened(say: Callable[[str], None]) -> AsyncIterator[Empty]:
        try:
            yield empty
        finally:
            await asyncio.sleep(0)
            empty.closed = True

    monkeypatch.setattr(command, "_stage", lambda cluster: opened)
    return empty


def plays(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Result]) -> None:
    async def play(*_: Any) -> Result:
        await asyncio.sleep(0)
        return what()

    monkeypatch.setattr(command, "play", play)


@pytest.mark.parametrize(("result", "code"), [(WELL, exits.OK), (LOST, exits.FAILED)])
def test_the_exit_code_tells_whether_it_went_well(
    davy: Davy, stage: Empty, monkeypatch: pytest.MonkeyPatch, result: Result, code: int
) -> None:
    plays(monkeypatch, lambda: result)
    assert davy("demo").code == code
    assert stage.closed


def test_the_summary_counts_every_request() -> None:
    assert [plain(line) for line in summary(LOST)] == [
        "41 requests: v1 30, v2 10; 0 failed, 1 lost",
        "v2 Completed, v3-crash RolledBack, in 45 s",
    ]
    assert summary(LOST)[0][-1].style == "bad"
    assert summary(WELL)[0][-1].style == "good"


def test_what_goes_wrong_is_one_line_and_the_stage_is_closed(
    davy: Davy, stage: Empty, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Result:
        raise EmbeddedError("`kubectl apply` failed: no room")

    plays(monkeypatch, fails)
    result = davy("demo")
    assert (result.code, result.err) == (exits.FAILED, "davy: `kubectl apply` failed: no room\n")
    assert stage.closed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_closes_the_stage_first(
    davy: Davy, stage: Empty, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    async def play(*_: Any) -> Result:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(command, "play", play)
    assert davy("demo").code == exits.INTERRUPTED
    assert stage.closed


def test_keep_tells_how_to_play_on_and_stays_until_it_is_ended(
    davy: Davy, stage: Empty, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(monkeypatch, lambda: WELL)

    def ended(self: asyncio.Event) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return wait(self)

    wait = asyncio.Event.wait
    monkeypatch.setattr(asyncio.Event, "wait", ended)
    result = davy("demo", "--keep")
    assert result.code == exits.OK, "Ctrl-C is how one leaves"
    assert "  export KUBECONFIG=/tmp/lab/kubeconfig" in result.lines
    assert stage.closed


@pytest.mark.parametrize("cluster", ["embedded", "real"])
def test_a_missing_package_is_named_with_the_way_to_install_it(
    davy: Davy, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    # In the command only: what others import under this roof for the first time would stay missing.
    monkeypatch.setattr(command, "importlib", SimpleNamespace(import_module=missing))
    result = davy("demo", "--cluster", cluster)
    assert result.code == exits.FAILED
    assert re.fullmatch(rf"davy: davy demo --cluster {cluster} needs the package \S+: pip install .*\n", result.err)


def test_in_a_pipe_there_is_a_line_for_each_change_and_one_now_and_then() -> None:
    stream = io.StringIO()
    pipe = Pipe(Screen(stream, terminal=False, utf8=True, width=None))
    for elapsed in (1.0, 1.2, 5.9, 6.0, 6.2):
        pipe.see(frame(lambda: in_step(1), elapsed=elapsed))
    pipe.see(frame(situations.entering_50, elapsed=6.4))
    pipe.scene_over(frame(situations.done))
    written = stream.getvalue().splitlines()
    assert written[:2] == ["", "$ kubectl set image deployment/web hellok8s=hellok8s:v2 -n shop"]
    assert [text[:8] for text in written[2:5]] == ["  1.0 s ", "  6.0 s ", "  6.4 s "]
    assert written[5:] == ["         Completed just now: all pods run hellok8s:v2"]
    assert "\x1b" not in stream.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_on_a_terminal_each_scene_is_redrawn_in_place_and_its_end_stays(terminal: Terminal) -> None:
    with audience(Screen(terminal, terminal=True, utf8=True, width=100)) as watching:
        watching.see(frame(lambda: in_step(1)))
        watching.see(frame(situations.entering_50))
        watching.scene_over(frame(situations.done))
        watching.see(frame(situations.held, BROKEN))
        watching.scene_over(frame(situations.held, BROKEN))
    drawn = terminal.getvalue()
    first, second = drawn.index("2/3  a good version"), drawn.index("3/3  a broken version")
    assert "\x1b[1A" in drawn[first:second], "the cursor goes up, to draw over what was there"
    assert "\x1b[?25h" in drawn[first:second], "a scene's last picture is left alone"
    assert "lost \x1b[32m0" in drawn


def test_an_error_leaves_the_terminal_with_its_cursor(terminal: Terminal) -> None:
    def fails() -> None:
        with audience(Screen(terminal, terminal=True, utf8=True, width=100)) as watching:
            watching.see(frame(lambda: in_step(1)))
            raise EmbeddedError("no room")

    with pytest.raises(EmbeddedError):
        fails()
    drawn = terminal.getvalue()
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_without_colours_nothing_is_coloured(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with audience(Screen(terminal, terminal=True, utf8=True, width=100)) as watching:
        watching.see(frame(lambda: in_step(1)))
    assert not re.search(r"\x1b\[[\d;]*3\dm", terminal.getvalue())

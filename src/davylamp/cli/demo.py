"""`davy demo`: the demo on a screen. What is played is `davylamp.embedded.demo`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from davylamp.cli.exits import FAILED, INTERRUPTED, OK, Failure
from davylamp.cli.picture import Picture
from davylamp.cli.screen import Screen, screen, styled
from davylamp.cli.session import Where
from davylamp.embedded.demo import frame as frames
from davylamp.embedded.demo.frame import Frame
from davylamp.embedded.demo.script import NAME, NAMESPACE, Pace
from davylamp.embedded.demo.show import Audience, Look, Result, play
from davylamp.embedded.demo.stage import Stage
from davylamp.embedded.errors import EmbeddedError
from davylamp.kube.client import connect
from davylamp.view.lines import Line, Span

if TYPE_CHECKING:
    from rich.live import Live

WHERE = Where(namespace=NAMESPACE)
AROUND_PODS = 22
"""Lines that may be needed beside those of pods."""
AGAIN = 5.0
"""Seconds after which a line is written although nothing has changed."""

Open = Callable[[Callable[[str], None]], AbstractAsyncContextManager[Stage]]
"""Opens a stage; it is given how to tell what takes long."""


async def demo(cluster: str, *, keep: bool) -> int:
    """Plays it on a cluster of its own. 0 if both releases ended as they should and every request was answered.

    Ctrl-C and the signals that end a process stop everything first. Raises Failure.
    """
    open_stage = _stage(cluster)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await _demo(open_stage, screen(), keep=keep)
    except asyncio.CancelledError:
        return INTERRUPTED
    except EmbeddedError as error:
        raise Failure(str(error)) from error


async def _demo(open_stage: Open, on: Screen, *, keep: bool) -> int:
    began = time.monotonic()
    async with open_stage(on.say) as stage:
        with audience(on) as watching:
            result = await play(stage, eyes, watching, Pace(), began)
        on.print(summary(result))
        if keep:
            on.say("\n" + "\n".join(frames.playing_on(stage.kubeconfig, stage.traefik_url)))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    return OK if result.good else FAILED


def _stage(cluster: str) -> Open:
    """How a cluster of this kind is opened. Raises Failure where what it needs is not installed."""
    module, wanted = _STAGES[cluster]
    try:
        opens: Open = importlib.import_module(module).stage
    except ModuleNotFoundError as error:
        raise Failure(f"davy demo --cluster {cluster} needs the package {error.name}: {wanted}") from error
    return opens


_STAGES = {
    "embedded": ("davylamp.embedded.demo.embedded", "pip install 'davylamp[embedded]'"),
    "real": ("davylab.stage", "pip install ./lab, in a clone of Davylamp"),
}


@contextlib.asynccontextmanager
async def eyes(kubeconfig: Path) -> AsyncIterator[Look]:
    """The picture that `davy watch` has of the shop's workload."""
    async with connect(str(kubeconfig)) as api:
        picture = Picture(api, NAMESPACE)
        await picture.read()
        ready = asyncio.Event()
        following = asyncio.create_task(_follow(picture, ready))
        try:
            await ready.wait()
            yield lambda: picture.view(NAMESPACE, NAME)
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


async def _follow(picture: Picture, ready: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        await picture.follow(NAMESPACE, NAME, group)
        ready.set()


@contextlib.contextmanager
def audience(on: Screen) -> Iterator[Audience]:
    """Whoever reads what `on` shows. A terminal is left as it was, also after an error."""
    if not on.terminal:
        yield Pipe(on)
        return
    terminal = Terminal(on)
    try:
        yield terminal
    finally:
        terminal.close()


class Terminal:
    """The whole of it in place; the last picture of each scene stays."""

    def __init__(self, on: Screen) -> None:
        self._screen = on
        self._live: Live | None = None

    def say(self, text: str) -> None:
        self._screen.say(text)

    def see(self, frame: Frame) -> None:
        from rich.console import Group
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self._screen.console(), auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        room = max(shutil.get_terminal_size().lines - AROUND_PODS, 1)
        look = msgspec.structs.replace(WHERE.look(self._screen.resized()), pods=room)
        self._live.update(Group(*map(styled, frames.lines(frame, look))), refresh=True)

    def scene_over(self, frame: Frame) -> None:
        self.see(frame)
        self.close()
        self.say("")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class Pipe:
    """Lines: one for each change, and one now and then."""

    def __init__(self, on: Screen) -> None:
        self._screen = on
        self._told: tuple[object, ...] = ()
        self._at = 0.0

    def say(self, text: str) -> None:
        self._screen.say(text)

    def see(self, frame: Frame) -> None:
        told = (frame.scene, frame.view.state, frame.step, frame.asked)
        if self._told[:1] != told[:1]:
            self._screen.say(f"\n$ {frame.scene.command}")
        if told != self._told or frame.elapsed - self._at >= AGAIN:
            self._told, self._at = told, frame.elapsed
            self._screen.say(frames.line(frame))

    def scene_over(self, frame: Frame) -> None:
        self._screen.say(f"         {WHERE.look(self._screen).text(frame.view.headline)}")


def summary(result: Result) -> list[Line]:
    """What happened to every request, and how the releases ended."""
    total = result.total
    by_version = ", ".join(f"{version} {count:,}" for version, count in frames.versions(total.by_version))
    ends = ", ".join(f"{version} {phase}" for version, phase in result.ends)
    lost: Span = Span(f"{total.failed:,} failed, {total.lost:,} lost", "bad" if total.failed or total.lost else "good")
    return [
        (Span(f"{total.sent:,} requests: {by_version}; "), lost),
        (Span(ends, "good" if result.good else "bad"), Span(f", in {result.seconds:.0f} s")),
    ]

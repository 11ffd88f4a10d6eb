"""The demo itself: sets the stage up, plays the scenes, and counts what happened to every request.

What is said of the release comes from the objects, by the same view as `davy watch`; the split that clients saw is
counted from the answers that they got.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from davylamp.api.types import Phase
from davylamp.embedded.demo.frame import Frame
from davylamp.embedded.demo.script import HOST, NAME, NAMESPACE, REPLICAS, SCENES, SHOP, Pace, Scene, policy
from davylamp.embedded.demo.stage import Stage
from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.load.counts import NO_VERSION, Counts, Summary
from davylamp.embedded.load.process import Load
from davylamp.embedded.wheels import program
from davylamp.view.model import WorkloadView

DAVY = (sys.executable, "-m", "davylamp.cli.main")
LIMIT = 90.0
"""Seconds after which a scene that has not ended is given up."""
TICK = 0.2
WINDOW = 2.0
"""Seconds over which the split is counted."""

Look = Callable[[], WorkloadView]
Eyes = Callable[[Path], AbstractAsyncContextManager[Look]]
"""Opens, for a kubeconfig, something that tells at any time what is to be seen of the shop's workload."""


class Audience(Protocol):
    """Who is shown the demo."""

    def say(self, text: str) -> None:
        """Something that stays."""

    def see(self, frame: Frame) -> None:
        """The present moment."""

    def scene_over(self, frame: Frame) -> None:
        """Its last moment."""


class Result(msgspec.Struct, frozen=True):
    """How it went."""

    ends: tuple[tuple[str, Phase], ...]
    """For each scene with a release the version and how its release ended."""
    course: tuple[tuple[str, int, float], ...]
    """Version, step in effect and weight asked for, each time that one of them changed."""
    total: Summary
    seconds: float

    @property
    def good(self) -> bool:
        """Every release ended as it should, and every request was answered."""
        wanted = tuple((scene.version, scene.end) for scene in SCENES if scene.end is not None)
        total = self.total
        unanswered = total.lost or total.failed or total.by_version[NO_VERSION]
        return self.ends == wanted and total.answered > 0 and not unanswered


class Show:
    """A demo under way, once the stage is set."""

    def __init__(self, look: Look, load: Load, audience: Audience, pace: Pace, began: float) -> None:
        self.look = look
        self.load = load
        self.audience = audience
        self.pace = pace
        self.began = began
        self.snapshots: deque[Counts] = deque([Counts()])
        self.course: list[tuple[str, int, float]] = []

    async def scene(self, scene: Scene, begin: Callable[[], Awaitable[object]]) -> Phase | None:
        """Shows it from its beginning to a moment after its end. Raises EmbeddedError where there is none."""
        earlier = self._release()
        await begin()
        over: float | None = None
        limit = time.monotonic() + LIMIT
        while over is None or time.monotonic() < over + self.pace.linger:
            frame = self._frame(scene)
            self.audience.see(frame)
            moment = (scene.version, frame.step, frame.asked)
            if self.course[-1:] != [moment]:
                self.course.append(moment)
            if over is None and self._over(frame, earlier):
                over = time.monotonic()
            if over is None and time.monotonic() > limit:
                raise EmbeddedError(f"{scene.title}: not over after {LIMIT:g} s ({frame.view.headline})")
            await asyncio.sleep(TICK)
        self.audience.scene_over(self._frame(scene))
        release = self.look().release
        return release.phase if release is not None and scene.end is not None else None

    def _frame(self, scene: Scene) -> Frame:
        total = self.load.snapshot()
        self.snapshots.append(total)
        while len(self.snapshots) > 2 and total.t - self.snapshots[1].t >= WINDOW:
            self.snapshots.popleft()
        recent = total.minus(self.snapshots[0])
        return Frame(scene, self.look(), datetime.now(UTC), recent, total, time.monotonic() - self.began)

    def _over(self, frame: Frame, earlier: str) -> bool:
        if frame.scene.end is None:
            return frame.recent.t >= WINDOW and frame.recent.by_version[frame.scene.version] > 0
        release = frame.view.release
        return release is not None and release.name != earlier and release.phase.final

    def _release(self) -> str:
        release = self.look().release
        return release.name if release is not None else ""


async def play(stage: Stage, eyes: Eyes, audience: Audience, pace: Pace, began: float) -> Result:
    """The whole demo. ``began`` is when it began for the person who watches, by time.monotonic().

    Raises EmbeddedError where a scene does not end, or a command of the demo fails.
    """
    await set_up(stage, audience, pace)
    async with eyes(stage.kubeconfig) as look:
        load = Load(stage, host=HOST, rps=pace.rps)
        show = Show(look, load, audience, pace, began)
        ends: list[tuple[str, Phase]] = []
        try:
            for scene in SCENES:
                end = await show.scene(scene, partial(_begin, stage, scene))
                if end is not None:
                    ends.append((scene.version, end))
        finally:
            total = await asyncio.to_thread(load.stop)
    return Result(tuple(ends), tuple(show.course), total, time.monotonic() - began)


async def _begin(stage: Stage, scene: Scene) -> None:
    if scene.end is not None:
        await run(stage, *scene.command.split())


async def set_up(stage: Stage, audience: Audience, pace: Pace) -> None:
    """Davylamp, its controller, the shop with its pods ready, the policy; Traefik answers for the shop."""
    audience.say("$ davy install")
    await asyncio.gather(run(stage, "davy", "install"), run(stage, "kubectl", "apply", "-f", "-", input=SHOP))
    with (stage.state / "controller.log").open("wb") as log:
        stage.spawn(
            # Pods of the embedded cluster are on this machine's loopback, and their requests are counted.
            [*DAVY, "controller", "--listen", "127.0.0.1:0", "--allow-address", "127.0.0.0/8"],
            kubeconfig=stage.controller_kubeconfig,
            stdout=log,
            stderr=log,
        )
    await run(stage, "kubectl", "apply", "-f", "-", input=policy(pace))
    ready = ("kubectl", "wait", "-n", NAMESPACE, "--timeout=60s")
    await asyncio.gather(
        run(stage, *ready, f"deployment/{NAME}", f"--for=jsonpath={{.status.availableReplicas}}={REPLICAS}"),
        run(stage, *ready, f"releasepolicy/{NAME}", "--for=condition=Ready"),
        _answers(stage.traefik_url),
    )


async def run(stage: Stage, *command: str, input: str = "") -> str:
    """stdout of `kubectl` or `davy` as admin. Raises EmbeddedError with its stderr."""
    program_, *args = command
    real = DAVY if program_ == "davy" else (str(program("kubectl")),)
    process = await asyncio.create_subprocess_exec(
        *real,
        *args,
        env={**os.environ, "KUBECONFIG": str(stage.kubeconfig)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await process.communicate(input.encode())
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise EmbeddedError(f"`{' '.join(command)}` failed: {errors.decode().strip()}")
    return out.decode()


async def _answers(url: str) -> None:
    """Waits until the shop answers: that Traefik needs a moment to hear of its Ingress is no part of the demo."""
    last: object = "nothing yet"
    async with aiohttp.ClientSession() as session:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            try:
                async with session.get(url, headers={"Host": HOST}) as answer:
                    if "X-Version" in answer.headers:
                        return
                    last = answer.status
            except aiohttp.ClientError as error:
                last = error
            await asyncio.sleep(TICK)
    raise EmbeddedError(f"{HOST} has not answered at {url} after {LIMIT:g} s: {last}")

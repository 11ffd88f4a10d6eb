"""`python -m bench effect`: how many requests it takes to see that a split has changed; and on the embedded cluster
with Traefik, how long after a weight was written clients were split by it, and how long after that it was seen.

When clients were split by it is read from their answers: the moment by which the old share before and the new share
after it are most likely. It is known to about the time of three requests of the rarer kind.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import statistics
import time
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from bench.lab import table
from davylamp.analysis import effect as test
from davylamp.embedded.demo.embedded import Embedded, stage
from davylamp.embedded.demo.script import HOST, NAME, NAMESPACE, Pace
from davylamp.embedded.demo.show import run as command
from davylamp.embedded.demo.show import set_up
from davylamp.embedded.load.process import Load

CHANGES = ((0, 0.01), (0, 0.1), (0.1, 0.5), (0.5, 1), (0.1, 0), (0.5, 0))
PACE = Pace(settle=5, holds=(4, 4, 4), rps=200)
WEIGHTS = (0.0, 0.1, 0.5, 1.0)
RELEASES = ("hellok8s:v2", "hellok8s:v4", "hellok8s:v5")
THROTTLE = 2.0
"""Seconds between two configurations of Traefik: its own default."""
TICK = 0.05


class Quiet:
    """An audience that isn't told."""

    def say(self, text: str) -> None: ...

    def see(self, frame: Any) -> None: ...

    def scene_over(self, frame: Any) -> None: ...


class Sample(msgspec.Struct, frozen=True):
    at: float
    """Seconds since the epoch."""
    old: int
    new: int


class Step(msgspec.Struct, frozen=True):
    """One change of the weight."""

    after: float
    asked: float
    known: float
    how: str


def run() -> None:
    needed()
    asyncio.run(measured())


def needed(runs: int = 500) -> None:
    """Requests from the change until it is seen, ten in a look."""
    rows = [("from", "to", "requests, median", "95 %")]
    for before, after in CHANGES:
        found = sorted(_needed(test.Claim(before, after), seed) for seed in range(runs))
        rows.append((f"{before:.0%}", f"{after:.0%}", f"{statistics.median(found):.0f}", f"{found[int(0.95 * runs)]}"))
    table(f"Requests until a change is seen ({runs} runs each)", rows)


def _needed(claim: test.Claim, seed: int) -> int:
    draw, state, total = np.random.default_rng(seed), test.State(), 0
    while test.answer(state, 2.5) != "seen":
        hits = int(draw.binomial(10, claim.after))
        state, total = test.take(state, claim, test.Interval(0.5, 10 - hits, hits)), total + 10
    return total


async def measured() -> None:
    rows = [("change", "split after", "seen after", "later by", "how")]
    late = []
    async with stage(lambda text: None, throttle=THROTTLE) as here:
        await set_up(here, Quiet(), PACE)
        with Load(here, host=HOST, rps=PACE.rps, report=TICK) as load:
            for number, image in enumerate(RELEASES):
                steps, samples = await _release(here, load, image)
                for step, before in zip(steps, WEIGHTS, strict=False):
                    real = _changed(samples, before, step)
                    late.append(step.known - real)
                    change = f"{before:.0%} to {step.after:.0%}"
                    times = (f"{real - step.asked:.2f} s", f"{step.known - step.asked:.2f} s", f"{late[-1]:.2f} s")
                    rows.append((f"{number + 1}: {change}", *times, step.how))
    table(f"Traefik with a throttle of {THROTTLE:g} s, {PACE.rps:g} requests a second", rows)
    print(
        f"seen before it was so: {sum(one < 0 for one in late)} of {len(late)}; median {statistics.median(late):.2f} s"
    )


async def _release(here: Embedded, load: Load, image: str) -> tuple[list[Step], list[Sample]]:
    """What the Release's status said of each step, and what clients saw meanwhile."""
    await command(here, "kubectl", "set", "image", f"deployment/{NAME}", f"hellok8s={image}", "-n", NAMESPACE)
    version, samples = image.partition(":")[2], list[Sample]()
    watching = asyncio.create_task(_steps(here, image))
    while not watching.done():
        counts = load.snapshot().by_version
        new = counts[version]
        samples.append(Sample(time.time(), counts.total() - new, new))
        await asyncio.sleep(TICK)
    return await watching, samples


async def _steps(here: Embedded, image: str) -> list[Step]:
    found: dict[int, Step] = {}
    while True:
        listed = json.loads(await command(here, "kubectl", "get", "releases", "-n", NAMESPACE, "-o", "json"))["items"]
        release: dict[str, Any] = next((one for one in listed if one["spec"]["canary"]["image"] == image), {})
        status = release.get("status") or {}
        weight, step = status.get("weight") or {}, status.get("step", 0)
        if step and step not in found and weight.get("askedAt"):
            asked, known = (datetime.fromisoformat(at).timestamp() for at in (weight["askedAt"], status["stepSince"]))
            found[step] = Step(weight["asked"] / 100, asked, known, weight["how"].partition(" (")[0])
        if status.get("phase") == "Completed":
            return [found[number] for number in sorted(found)]
        await asyncio.sleep(0.3)


def _changed(samples: list[Sample], before: float, step: Step) -> float:
    """When clients were split by the new weight."""
    near = [one for one in samples if step.asked - 1 <= one.at <= step.known + 2]
    gains = [_gain(a, b, before, step.after) for a, b in itertools.pairwise(near)]
    from_here = np.cumsum(gains[::-1])[::-1]
    return near[int(np.argmax(from_here))].at


def _gain(one: Sample, two: Sample, before: float, after: float) -> float:
    low, high = (min(max(share, 0.001), 0.999) for share in (before, after))
    new, old = two.new - one.new, two.old - one.old
    return new * math.log(high / low) + old * math.log((1 - high) / (1 - low))

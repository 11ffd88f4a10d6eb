"""One moment of the demo: what the objects say, beside what clients saw; as lines for a terminal, or as one line."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import msgspec

from davylamp.embedded.demo.script import HOST, NAME, NAMESPACE, SCENES, Scene, narration
from davylamp.embedded.load.counts import NO_VERSION, Counts
from davylamp.view.lines import Line, Look, Span, bar, fold
from davylamp.view.model import WorkloadView
from davylamp.view.text import render
from davylamp.view.words import percent

LABEL = 10
"""Columns before what is said, as `davylamp.view.text` has them."""
CELLS = 40


class Frame(msgspec.Struct, frozen=True):
    """What there is to see. ``recent`` are the requests of the last moments, ``total`` all since the load began."""

    scene: Scene
    view: WorkloadView
    now: datetime
    recent: Counts
    total: Counts
    elapsed: float
    """Seconds since the demo began."""

    @property
    def asked(self) -> float:
        """The scene's version's share of the traffic as the objects have it, in percent."""
        if self.view.weight is not None:
            return self.view.weight.asked
        stable = self.view.stable
        return 100.0 if stable is not None and stable.image == self.scene.image else 0.0

    @property
    def seen(self) -> float:
        """The same as clients saw it in the last moments."""
        return 100 * self.recent.share(self.scene.version)

    @property
    def step(self) -> int:
        return self.view.release.step if self.view.release is not None else 0


def lines(frame: Frame, look: Look) -> list[Line]:
    """All of it, folded to the width of `look`."""
    scene = frame.scene
    drawn: list[Line] = [
        (
            Span(f"{SCENES.index(scene) + 1}/{len(SCENES)}  {scene.title}", "strong"),
            Span(f"  {frame.elapsed:.0f} s", "dim"),
        ),
        (Span("$ ", "dim"), Span(scene.command, "busy")),
        (Span(look.text(narration(scene, frame.view))),),
        (Span(""),),
    ]
    folded = [piece for line in drawn for piece in fold(line, look.width, 2)]
    folded += [*render(frame.view, look, frame.now), (Span(""),)]
    folded += [piece for line in _clients(frame, look) for piece in fold(line, look.width, LABEL)]
    return folded


def _clients(frame: Frame, look: Look) -> list[Line]:
    """The split, as asked for and as counted; and every request."""
    version, recent = frame.scene.version, frame.recent
    cells = CELLS if look.width is None else max(min(look.width - LABEL - 8, CELLS), 10)
    of = f"of {recent.answered} requests in the last {recent.t:.0f} s" if recent.answered else "no requests yet"
    return [
        (
            _label("asked"),
            Span(bar(frame.asked, 0, cells, look.glyphs), "busy"),
            Span(f"{percent(round(frame.asked, 1)):>7}"),
        ),
        (
            _label("seen"),
            Span(bar(frame.seen, 0, cells, look.glyphs), "canary"),
            Span(f"{percent(round(frame.seen, 1)):>7}"),
        ),
        (_label(""), Span(f"by {version}, {of}", "dim")),
        (_label("answers"), *_answers(frame.total)),
    ]


def _label(text: str) -> Span:
    return Span(f"  {text:<{LABEL - 2}}", "dim")


def _answers(total: Counts) -> list[Span]:
    spans = [Span(f"{version} {count:,}  ") for version, count in versions(total.by_version)]
    for name, count in (("failed", total.failed), ("lost", total.lost)):
        spans += [Span(f"{name} "), Span(f"{count:,}", "bad" if count else "good"), Span("  ")]
    return spans[:-1]


def versions(counts: Counter[str]) -> list[tuple[str, int]]:
    """Versions in their order, with the requests that each answered; the proxy's own answers as such."""
    return [("no version" if name == NO_VERSION else name, count) for name, count in sorted(counts.items())]


def line(frame: Frame) -> str:
    """One line of a log."""
    release = frame.view.release
    steps = f"step {frame.step} of {len(frame.view.steps)}" if release is not None and frame.view.steps else ""
    return (
        f"{frame.elapsed:5.1f} s  {frame.view.state:<12} {steps:<11}"
        f"  {frame.scene.version}: asked {percent(round(frame.asked, 1)):>5},"
        f" seen {percent(round(frame.seen, 1)):>6} of {frame.recent.answered:>3}"
        f"  lost {frame.total.lost}{_how(frame)}"
    )


def _how(frame: Frame) -> str:
    """How it is known that the weight is in effect, once it is."""
    weight = frame.view.weight
    known = weight is not None and weight.asked == weight.in_effect and weight.asked_at is not None
    return f"  ({weight.how})" if weight is not None and known else ""


def playing_on(kubeconfig: Path, url: str) -> list[str]:
    """What to type in another shell while everything is left running."""
    return [
        "Still running. In another shell:",
        f"  export KUBECONFIG={kubeconfig}",
        f"  davy watch {NAME} -n {NAMESPACE}",
        f"  kubectl set image deployment/{NAME} hellok8s=hellok8s:v4 -n {NAMESPACE}",
        f"  curl -H 'Host: {HOST}' {url}",
        "Ctrl-C ends it.",
    ]

"""One workload as text: the first line says what is, and where something is wrong the second what to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from davylamp.view.lines import Line, Look, Span, Style, bar, columns, cut, fold, width_of
from davylamp.view.model import SideView, StepView, VerdictView, WeightView, WorkloadView
from davylamp.view.pods import PodView
from davylamp.view.words import SAME_IMAGE, ago, left, milliseconds, pair, percent, short

Pods = Literal["all", "unready"]

INDENT = 10
CELLS = 20
"""Length of a bar, where there is room for it."""


def render(view: WorkloadView, look: Look, now: datetime, *, pods: Pods = "unready") -> list[Line]:
    """All that there is to say of one workload, folded to the width of `look`."""
    lines: list[Line] = [_head(view, look, now)]
    lines += _problems(view, look, warnings=False)
    if view.tone == "bad" or view.facts:
        lines += _advice(view, look)
    lines += _sides(view, look, now, pods)
    lines += _steps(view, look)
    lines += _weight(view, look, now)
    lines += _verdict(view, look)
    lines += _now(view, look, now)
    if view.next and view.tone != "bad" and not view.facts:
        lines += _labelled("next", Span(_sentence(view.next, look)))
    lines += _problems(view, look, warnings=True)
    return [piece for line in lines for piece in fold(line, look.width, INDENT)]


def _head(view: WorkloadView, look: Look, now: datetime) -> Line:
    said = look.text(view.headline)
    if view.state == "InvalidPolicy" or (view.errors and view.state == "Gone"):
        return (Span(said, "bad"),)
    line: Line = (Span(f"{view.namespace}/{view.title}", "strong"), Span("  "))
    if view.release is not None:
        line += (Span(f"release {view.release.name}", "dim"), Span("  "))
    line += (Span(said, view.tone),)
    if not view.under_way or view.since is None:
        return line
    began = f"began {look.at(view.since, now)}"
    gap = 2 if look.width is None else look.width - width_of(line) - len(began)
    return (*line, Span(" " * gap), Span(began, "dim")) if gap >= 2 else line


def _problems(view: WorkloadView, look: Look, *, warnings: bool) -> Iterator[Line]:
    found = [problem for problem in view.problems if problem.warning == warnings]
    if found and not warnings and view.state not in ("InvalidPolicy", "Gone"):
        # A release goes on with the policy as it was at its start, so this is about the next one.
        yield (Span(f"  policy {view.policy} has changed and can't be used for the next release:", "bad"),)
    for problem in found:
        if warnings:
            yield (Span("  warning ", "waiting"), Span(look.text(str(problem))))
        else:
            yield (Span(f"  {look.text(problem.path)}", "strong"), Span(f": {look.text(problem.message)}"))


def _advice(view: WorkloadView, look: Look) -> Iterator[Line]:
    parts = [look.text("; ".join(view.facts))] if view.facts else []
    if view.next:
        parts.append(f"Next: {_sentence(view.next, look)}")
    if parts:
        yield (Span(" " * INDENT), Span(". ".join(parts)))


def _sentence(next_: tuple[str, ...], look: Look) -> str:
    return look.text("; ".join(next_))


def _labelled(label: str, *spans: Span) -> Iterator[Line]:
    yield (Span(f"  {label:<{INDENT - 2}}", "dim"), *spans)


# --- the two versions ---


def _sides(view: WorkloadView, look: Look, now: datetime, pods: Pods) -> list[Line]:
    sides = [side for side in (view.stable, view.canary) if side is not None]
    if view.canary is None:
        # Nothing is split, so there is one line about the pods, and none where the second line has told already.
        sides = sides if view.tone != "bad" else []
    shown = _images(view)
    said = [_side(side, shown[side.role]) for side in sides]
    served = [_served(side) for side in sides]
    cells = _room(columns([[*row, *counts, Span("")] for row, counts in zip(said, served, strict=True)]), look)
    rows = [
        [*row, *_share(side, view, look, cells), *counts] for side, row, counts in zip(sides, said, served, strict=True)
    ]
    lines: list[Line] = []
    for side, line in zip(sides, columns(rows), strict=True):
        lines.append(line)
        lines += _pods(side, look, now, pods)
    return lines


def _images(view: WorkloadView) -> dict[str, str]:
    if view.stable is None or view.canary is None:
        return {side.role: short(side.image) for side in (view.stable, view.canary) if side is not None}
    stable, canary = pair(view.stable.image, view.canary.image)
    same = SAME_IMAGE if stable == canary else ""
    return {"stable": stable, "canary": canary + same}


def _side(side: SideView, image: str) -> list[Span]:
    ready: Style = "good" if side.ready >= side.wanted else "waiting"
    pods = f"{side.ready}/{side.wanted} ready" if side.wanted or side.ready else "no pods"
    image = f"{side.deployment} ({image})" if side.deployment else image
    return [Span(f"  {side.role}", "dim"), Span(image, side.role), Span(pods, ready if side.wanted else "dim")]


def _served(side: SideView) -> list[Span]:
    """`1,204 requests`, `0.10 % errors`, `p99 31 ms`; nothing where nothing is measured."""
    served = side.served
    if served is None:
        return []
    requests = "1 request" if served.requests == 1 else f"{served.requests:,} requests"
    share = f"{100 * served.failures / served.requests:.2f} % errors" if served.requests else ""
    slow = f"p{100 * served.quantile:g} {milliseconds(served.slow)}" if served.slow is not None else ""
    return [Span(requests), Span(share), Span(slow)]


def _room(lines: list[Line], look: Look) -> int:
    """Cells of a bar beside these, with the percentage behind it."""
    if look.width is None or not lines:
        return CELLS
    return min(max(look.width - max(map(width_of, lines)) - 8, 5), CELLS)


def _share(side: SideView, view: WorkloadView, look: Look, cells: int) -> list[Span]:
    if side.share is None or view.weight is None:
        return [Span("")]
    asked = view.weight.asked if side.role == "canary" else 100 - view.weight.asked
    filled = bar(side.share, asked, cells, look.glyphs)
    return [Span(filled, side.role), Span(f"{percent(side.share):>6}")]


def _pods(side: SideView, look: Look, now: datetime, which: Pods) -> list[Line]:
    found = [pod for pod in side.pods or () if which == "all" or not pod.ready]
    if not found:
        return []
    if len(found) > look.pods:
        found.sort(key=lambda pod: pod.ready)
    listed, rest = found[: look.pods], len(found) - look.pods
    glyphs = look.glyphs
    rows = []
    for number, pod in enumerate(listed, 1):
        tree = glyphs.last if number == len(listed) and rest <= 0 else glyphs.branch
        rows.append([Span(f"{' ' * INDENT}{tree} {pod.name}"), *_pod(pod, look, now)])
    lines = [cut(line, look.width, glyphs.more) for line in columns(rows)]
    if rest > 0:
        lines.append((Span(f"{' ' * INDENT}{glyphs.last} and {rest} more", "dim"),))
    return lines


def _pod(pod: PodView, look: Look, now: datetime) -> list[Span]:
    state: Style = "good" if pod.ready else "dim" if pod.state == "Terminating" else "waiting"
    if not pod.ready and pod.state not in _HARMLESS:
        state = "bad"
    text = "ready" if pod.ready else "not ready" if pod.state == "Running" else look.text(pod.state)
    times = "1 restart" if pod.restarts == 1 else f"{pod.restarts} restarts" if pod.restarts else ""
    age = ago((now - pod.since).total_seconds()) if pod.since is not None else ""
    why = look.text(pod.message) if not pod.ready else ""
    return [Span(text, state), Span(times, "waiting"), Span(age, "dim"), Span(why, "dim")]


_HARMLESS = ("Running", "Pending", "ContainerCreating", "PodInitializing", "Terminating", "Completed")


# --- steps, weight, and what happens ---


def _steps(view: WorkloadView, look: Look) -> Iterator[Line]:
    over_well = view.canary is None and view.tone != "bad"
    if not view.steps or over_well or view.state not in _WITH_STEPS:
        return
    spans = [span for step in view.steps for span in (_step(step, look), Span("  "))]
    yield from _labelled("steps", *spans[:-1])


_WITH_STEPS = ("Pending", "Progressing", "Paused", "AwaitingApproval", "Promoting", "RollingBack", "Held", "Stable")


def _step(step: StepView, look: Look) -> Span:
    mark, style = {
        "done": (look.glyphs.done, "good"),
        "now": (look.glyphs.now, "canary"),
        "coming": (look.glyphs.now, "busy"),
        "ahead": (look.glyphs.ahead, "dim"),
        "failed": (look.glyphs.failed, "bad"),
        "stopped": (look.glyphs.stopped, "dim"),
    }[step.state]
    leave = ", ".join(filter(None, (step.hold or "", "approval" if step.approve else "")))
    pods = f", {step.replicas} pods" if isinstance(step.replicas, int) else ""
    reach = "testers" if step.match and not step.weight else f"{step.weight} %"
    mirrored = f", {step.mirror} % mirrored" if step.mirror else ""
    return Span(f"{mark} {reach}{mirrored}{pods}{f' ({leave})' if leave else ''}", style)  # type: ignore[arg-type]


def _weight(view: WorkloadView, look: Look, now: datetime) -> Iterator[Line]:
    weight = view.weight
    if weight is None or view.release is None:
        return
    yield from _labelled("effect", Span(_effect(weight, look, now)))
    chosen = next((step.match for step in view.steps if step.state in ("now", "coming")), "")
    if chosen:
        yield from _labelled("testers", Span(look.text(chosen)))


def _effect(weight: WeightView, look: Look, now: datetime) -> str:
    """What was asked for, what is in effect, and how that is known."""
    how = look.text(weight.how)
    since = f" since {look.at(weight.since, now)}" if weight.since is not None else ""
    told = f" ({how})" if how else ""
    if weight.asked_at is None:
        return f"{percent(weight.asked)} asked for, {percent(weight.in_effect)} in effect{since}{told}"
    asked = f"{percent(weight.asked)} asked at {look.at(weight.asked_at, now)}"
    if how.startswith("seen"):
        return f"{asked}, {how}"
    same = "" if weight.asked == weight.in_effect else f"{percent(weight.in_effect)} "
    return f"{asked}, {same}in effect{since}{told}"


def _compared(view: WorkloadView) -> VerdictView | None:
    """The verdict, where it is shown."""
    return view.verdict if view.under_way and view.state != "RollingBack" else None


def _verdict(view: WorkloadView, look: Look) -> Iterator[Line]:
    """What the comparison says, what was not seen, and what it does not cover."""
    verdict = _compared(view)
    if verdict is None:
        return
    style: Style = "waiting" if verdict.blind else _VERDICTS[verdict.answer]
    prefix = "" if verdict.answer == "not enough data" else f"{verdict.answer}: "
    yield from _labelled("verdict", Span(f"{prefix}{look.text(verdict.message)}", style))
    for problem in verdict.problems:
        yield (Span(" " * INDENT), Span(look.text(problem), "waiting"))
    for limit in verdict.limits:
        yield (Span(" " * INDENT), Span(look.text(limit), "dim"))


_VERDICTS: dict[str, Style] = {"worse": "bad", "good enough": "good", "not enough data": ""}


def _now(view: WorkloadView, look: Look, now: datetime) -> Iterator[Line]:
    if not view.under_way or view.waits is None or view.state in ("Paused", "AwaitingApproval"):
        return
    said = waiting(view, look, now)
    verdict = _compared(view)
    if verdict is not None and verdict.message:
        said = said.replace(f": {look.text(verdict.message)}", "", 1)  # which the line above has told
    yield from _labelled("now", Span(said))


def waiting(view: WorkloadView, look: Look, now: datetime, *, countdown: bool = True) -> str:
    """What a release does or waits for, and until when; without a `countdown` it changes only when that does."""
    waits = view.waits
    if waits is None:
        return look.text(view.message)
    text = look.text(waits.what)
    if waits.until is not None:
        at, remaining = look.at(waits.until, now), left((waits.until - now).total_seconds())
        if waits.then:
            text += f" until {at} ({remaining})" if countdown else f" until {at}"
        else:
            text += f" (until {at}, {remaining} left)" if countdown else f" (until {at})"
    if waits.then:
        text += f", then {waits.then}"
    if waits.deadline is not None:
        text += f"; taken back at {look.at(waits.deadline, now)} if that stays so"
    return text

"""Many workloads as a table, one workload as a line, and its releases as a list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from davylamp.api.types import Phase, Release
from davylamp.view.lines import Line, Look, Span, Style, columns, cut
from davylamp.view.model import WorkloadView
from davylamp.view.text import waiting
from davylamp.view.words import ago, change, percent, short


def table(views: Sequence[WorkloadView], look: Look, now: datetime, *, namespaces: bool, wide: bool) -> list[Line]:
    """One line a workload; the message is cut at the width of `look`."""
    heading = ["NAME", "IMAGE", "PHASE", "STEP", "WEIGHT"]
    heading = (["NAMESPACE"] if namespaces else []) + heading + (["PODS", "RELEASE", "POLICY", "SINCE"] if wide else [])
    rows = [[Span(title, "dim") for title in (*heading, "MESSAGE")]]
    rows += [_row(view, look, now, namespaces=namespaces, wide=wide) for view in views]
    return [cut(line, look.width, look.glyphs.more) for line in columns(rows)]


def _row(view: WorkloadView, look: Look, now: datetime, *, namespaces: bool, wide: bool) -> list[Span]:
    row = [Span(view.namespace)] if namespaces else []
    row += [
        Span(view.title, "strong"),
        Span(_images(view, look, full=wide)),
        Span(view.state, view.tone),
        Span(_step(view)),
        Span(_weight(view, look)),
    ]
    if wide:
        since = ago((now - view.since).total_seconds()) if view.since is not None else ""
        name = view.release.name if view.release is not None else ""
        row += [Span(_pods(view) or "-"), Span(name or "-"), Span(view.policy or "-"), Span(since or "-")]
    return [*row, Span(_message(view, look, now))]


def _images(view: WorkloadView, look: Look, *, full: bool) -> str:
    stable = view.stable.image if view.stable is not None else ""
    canary = view.canary.image if view.canary is not None else view.pending_image
    if not (stable and canary):
        return (stable or canary if full else short(stable or canary)) or "-"
    if full and stable != canary:
        return f"{stable} {look.glyphs.arrow} {canary}"
    return change(stable, canary, look.glyphs.arrow)


def _step(view: WorkloadView) -> str:
    if not view.under_way or not view.steps:
        return "-"
    here = [step.number for step in view.steps if step.state in ("now", "coming", "failed", "stopped")]
    return f"{here[0] if here else len(view.steps)}/{len(view.steps)}"


def _weight(view: WorkloadView, look: Look) -> str:
    if view.weight is None:
        return "-"
    if view.weight.asked == view.weight.in_effect or abs(view.weight.asked - view.weight.in_effect) < 0.5:
        return percent(view.weight.in_effect)
    return f"{round(view.weight.in_effect, 1):g} {look.glyphs.arrow} {percent(view.weight.asked)}"


def _pods(view: WorkloadView) -> str:
    sides = [side for side in (view.stable, view.canary) if side is not None]
    return " + ".join(f"{side.ready}/{side.wanted}" for side in sides)


def _message(view: WorkloadView, look: Look, now: datetime) -> str:
    if view.errors and not view.under_way:
        more = f" (and {len(view.errors) - 1} more)" if len(view.errors) > 1 else ""
        return f"policy {view.policy}: {look.text(str(view.errors[0]))}{more}"
    if view.under_way and view.tone != "bad" and view.state != "Paused":
        return waiting(view, look, now, countdown=False)
    return _without_state(view, look)


def _without_state(view: WorkloadView, look: Look) -> str:
    """The headline, where the state stands beside it already."""
    return look.text(view.headline).removeprefix(f"{view.state}: ")


def one_line(view: WorkloadView, look: Look, now: datetime, *, why: bool = True) -> str:
    """A workload in a line that changes only when something does: for a log of what happened. `why` is it taken
    back: to be said once, since it may be long."""
    parts = [f"{view.namespace}/{view.title}"]
    if view.release is not None and view.under_way:
        parts += [
            view.release.name,
            view.state,
            f"step {_step(view)}",
            f"weight {_weight(view, look)}",
            f"pods {_pods(view)}",
        ]
        text = waiting(view, look, now, countdown=False)
        text = f"{_without_state(view, look)}; {text}" if why and view.state == "RollingBack" else text
        return "  ".join([*parts, text])
    if view.release is not None and view.state in ("Held", "Stable"):
        parts.append(view.release.name)
    headline = look.text(view.headline)
    said = [str(problem) for problem in view.errors]
    return "  ".join([*parts, view.state, " ".join([headline, "; ".join(map(look.text, said))]).strip()])


def history(releases: Sequence[Release], look: Look, now: datetime, *, namespaces: bool, names: bool) -> list[Line]:
    """Releases, the newest first. `names` tells the Deployment's, where they are of several."""
    heading = (["NAMESPACE"] if namespaces else []) + (["DEPLOYMENT"] if names else [])
    titles = [*heading, "RELEASE", "ATTEMPT", "IMAGE", "PHASE", "STARTED", "TOOK", "REASON"]
    rows = [[Span(title, "dim") for title in titles]]
    for release in releases:
        row = [Span(release.metadata.namespace)] if namespaces else []
        row += [Span(release.spec.deployment, "strong")] if names else []
        rows.append(row + _release(release, look, now))
    return [cut(line, look.width, look.glyphs.more) for line in columns(rows)]


def _release(release: Release, look: Look, now: datetime) -> list[Span]:
    spec, status = release.spec, release.status
    began = status.started_at or release.metadata.creation_timestamp
    ended = status.finished_at or now
    took = ago((ended - began).total_seconds()) if began is not None else "-"
    return [
        Span(release.metadata.name, "strong"),
        Span(str(spec.attempt)),
        Span(change(spec.stable.image, spec.canary.image, look.glyphs.arrow)),
        Span(status.phase, _TONES.get(status.phase, "busy")),
        Span(look.at(began, now) if began is not None else "-"),
        Span(took if status.phase.final else f"{took} so far"),
        Span(look.text(status.end.message if status.end is not None else status.message) or "-"),
    ]


_TONES: dict[Phase, Style] = {
    Phase.COMPLETED: "good",
    Phase.ROLLED_BACK: "bad",
    Phase.ROLLING_BACK: "bad",
    Phase.SUPERSEDED: "dim",
    Phase.WITHDRAWN: "dim",
    Phase.OVERRIDDEN: "dim",
}

"""A simulation in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from davylamp.api.types import Phase
from davylamp.api.units import readable
from davylamp.embedded.simulate.report import Report
from davylamp.embedded.simulate.run import Entry, Outcome
from davylamp.embedded.simulate.scenario import Scenario
from davylamp.embedded.simulate.summary import Distribution, Share, Spread
from davylamp.view.lines import Line, Look, Span, Style, columns, fold
from davylamp.view.words import milliseconds

INDENT = 10
_STYLES: dict[str, Style] = {"Completed": "good", "RolledBack": "bad", "Worse": "bad", "Approved": "busy"}


def lines(report: Report, look: Look) -> list[Line]:
    """The timeline of one release; of many the distribution."""
    made: list[Line] = [*_head(report)]
    if report.given is None:
        made += _timeline(report.release)
        made += _end(report.release)
    else:
        kind = "the version above" if report.scenario.worse else "a version as good as the old one"
        made += _distribution(report.given, kind, good=not report.scenario.worse)
        if report.good is not None:
            made += _distribution(report.good, "a version as good as the old one", good=True)
    return [piece for line in made for piece in fold(_safe(line, look), look.width, INDENT)]


def _safe(line: Line, look: Look) -> Line:
    return tuple(Span(look.text(span.text), span.style) for span in line)


def _head(report: Report) -> Iterator[Line]:
    pods = "1 pod" if report.replicas == 1 else f"{report.replicas} pods"
    yield (Span(f"policy {report.policy}", "strong"), Span(f": Deployment {report.deployment}, {pods}"))
    for label, text in _given(report.scenario):
        yield (Span(f"  {label:<{INDENT - 2}}", "dim"), Span(text))
    yield (Span(f"  {'seed':<{INDENT - 2}}", "dim"), Span(str(report.seed)))
    for note in report.notes:
        yield (Span(f"  {'note':<{INDENT - 2}}", "dim"), Span(note, "waiting"))


def _given(scenario: Scenario) -> Iterator[tuple[str, str]]:
    first, rest = scenario.moments[0], scenario.moments[1:]
    series = f" at first, then as in the scenario ({len(rest) + 1} moments)" if rest else ""
    yield "traffic", f"{first.rps:g} requests/s{series}"
    yield "stable", f"{percent(first.stable_errors)} fail, half of them take less than {_half(scenario.stable.median)}"
    crash = f"; its containers end after {readable(scenario.crash)}" if scenario.crash is not None else ""
    slow = _half(scenario.canary.median)
    yield "new", f"{percent(first.canary_errors)} fail, half of them take less than {slow}{crash}"
    yield "people", f"approve after {readable(scenario.approve_after)} where a step waits for them"


def _half(median: float) -> str:
    return milliseconds(median)


def percent(part: float) -> str:
    """`0.1 %`, `99.8 %`."""
    return f"{float(f'{100 * part:.3g}'):g} %"


# --- one ---


def _timeline(release: Outcome) -> list[Line]:
    entries = [*release.timeline]
    entries += (
        Entry(point.at, "Traffic", f"{point.weight:g} % of the requests reach the new version")
        for point, before in zip(release.weights[1:], release.weights, strict=False)
        if point.weight != before.weight
    )
    rows: list[list[Span]] = []
    told: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry.at):
        again = entry.message in told
        told.add(entry.message)
        style = _STYLES.get(entry.what, "")
        rows.append(
            [Span(f"  {elapsed(entry.at)}", "dim"), Span(entry.what, style), Span("" if again else entry.message)]
        )
    return columns(rows)


def elapsed(seconds: float) -> str:
    """`0:02:09`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _end(release: Outcome) -> Iterator[Line]:
    style: Style = "good" if release.phase is Phase.COMPLETED else "bad" if release.phase is not None else "waiting"
    word = release.phase.value if release.phase is not None else "not ended"
    served = release.served
    yield (Span(f"{word} after {readable(round(release.seconds))}", style), Span(f": {_served(release)}"))
    if served.canary and served.stable:
        would = served.canary * served.stable_failed / served.stable
        yield (Span(f"at stable's rate about {would:,.0f} of them would have failed", "dim"),)


def _served(release: Outcome) -> str:
    served = release.served
    if not served.canary:
        return f"no request reached the new version; stable served {served.stable:,}"
    return f"the new version served {served.canary:,} requests, {served.canary_failed:,} of them failed"


# --- many ---


def _distribution(found: Distribution, kind: str, *, good: bool) -> Iterator[Line]:
    yield ()
    yield (Span(f"{found.runs:,} releases of {kind}", "strong"),)
    style: Style = ("bad" if good else "good") if found.taken_back.count else ""
    why = ", ".join(f"{reason} {count:,}" for reason, count in found.reasons.items())
    rows = [
        [Span("  taken back", "dim"), Span(_share(found.taken_back), style), Span(why, "dim")],
        [Span("  completed", "dim"), Span(_share(found.completed)), Span("")],
    ]
    if found.not_ended:
        rows.append([Span("  not ended", "dim"), Span(f"{found.not_ended:,}", "waiting"), Span("")])
    yield from columns(rows)
    if found.until_back is not None:
        yield from _spreads(
            "of those taken back",
            ("time until then", _times(found.until_back)),
            ("time with requests to the new version", _times(found.exposed)),
            ("requests to the new version", _numbers(found.requests)),
            ("of them failed", _numbers(found.failed)),
        )
    if found.until_completed is not None:
        yield from _spreads("of those completed", ("time until then", _times(found.until_completed)))


def _spreads(title: str, *rows: tuple[str, list[str]]) -> list[Line]:
    head = [Span(f"  {title}", "dim"), *(Span(word, "dim") for word in ("least", "median", "95 %", "most"))]
    return columns([head, *([Span(f"    {label}"), *(Span(cell) for cell in cells)] for label, cells in rows)])


def _share(share: Share) -> str:
    return f"{share.count:,} ({percent(share.share)}; 95 % interval {percent(share.low)} to {percent(share.high)})"


def _times(found: Spread | None) -> list[str]:
    return [readable(round(value)) for value in _values(found)]


def _numbers(found: Spread | None) -> list[str]:
    return [f"{value:,.0f}" for value in _values(found)]


def _values(found: Spread | None) -> tuple[float, ...]:
    return (found.least, found.median, found.p95, found.most) if found is not None else ()

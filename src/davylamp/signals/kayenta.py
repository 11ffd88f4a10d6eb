"""The data for the Kayenta-compatible judge (`davylamp.analysis.kayenta`), and what its scores mean for a release."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from davylamp.analysis.kayenta import Classification, Direction, Label, Settings, classify, summary_score
from davylamp.api.analysis import Kayenta, KayentaMetric
from davylamp.api.units import seconds
from davylamp.signals.checks import Outcome
from davylamp.signals.fetch import Unavailable
from davylamp.signals.prometheus import Access, QueryError, over
from davylamp.signals.queries import filled


async def judge(
    session: aiohttp.ClientSession,
    to: Access,
    kayenta: Kayenta,
    check: str,
    namespace: str,
    stable: Sequence[str],
    canary: Sequence[str],
    start: float,
    end: float,
) -> Outcome:
    """Whether the canary passes, by what was measured from `start` to `end` (seconds since the epoch); no verdict
    between the two scores. Each query is asked twice, $pods being stable's and the canary's.

    Raises as `prometheus.over`, QueryError where a query gives several series or infinite values, and Unavailable
    where half of the metrics or more have no data: Kayenta fails the canary then, but an outage is no verdict here.
    """
    found: list[tuple[KayentaMetric, Classification]] = []
    step = seconds(kayenta.step)
    for metric in kayenta.metrics:
        sides = []
        for pods in (stable, canary):
            query = filled(metric.query, namespace=namespace, stable=pods, canary=(), window=step)
            try:
                series = await over(session, to, query, f"{check}, {metric.name}", start=start, end=end, step=step)
            except QueryError as error:
                raise QueryError(str(error).replace(query, metric.query)) from None
            if len(series) > 1:
                raise QueryError(f"{check}, {metric.name}: {len(series)} series where one is expected: {metric.query}")
            sides.append([value for one in series for _, value in one.values])
        try:
            found.append((metric, classify(sides[0], sides[1], _settings(metric))))
        except ValueError as error:
            raise QueryError(f"{check}, {metric.name}: {error}") from None
    missing = [metric.name for metric, one in found if one.label is Label.NO_DATA and not metric.must_have_data]
    if 2 * len(missing) >= len(found):
        raise Unavailable(f"{check}: {len(missing)} of {len(found)} metrics have no data: {', '.join(missing)}")
    return outcome(kayenta, check, found)


def _settings(metric: KayentaMetric) -> Settings:
    own = Settings()
    return Settings(
        Direction(metric.direction),
        allowed_decrease=own.allowed_decrease if metric.allowed_decrease is None else metric.allowed_decrease,
        allowed_increase=own.allowed_increase if metric.allowed_increase is None else metric.allowed_increase,
    )


def outcome(kayenta: Kayenta, check: str, found: Sequence[tuple[KayentaMetric, Classification]]) -> Outcome:
    """The verdict on classified metrics. A critical one that fails is a score of 0; one that must have data and has
    none fails."""
    groups: dict[str, list[Label]] = {}
    failed: list[str] = []
    critical = False
    for metric, judged in found:
        label = Label.HIGH if judged.label is Label.NO_DATA and metric.must_have_data else judged.label
        groups.setdefault(metric.group, []).append(label)
        if label in (Label.HIGH, Label.LOW):
            failed.append(_told(metric.name, judged))
            critical = critical or metric.critical
    weights = {name: float(weight) for name, weight in kayenta.weights.items()}
    score = 0.0 if critical else summary_score(groups, weights)
    passed = True if score >= kayenta.pass_score else False if score < kayenta.marginal else None
    why = f"; {', '.join(failed)}" if failed else ""
    return Outcome(passed, f"{check}: score {score:g} of 100, {kayenta.pass_score} passes{why}")


def _told(name: str, judged: Classification) -> str:
    if judged.label is Label.NO_DATA:
        return f"{name} has no data"
    ratio = f" ({judged.ratio:.3g} times the baseline's)" if judged.ratio is not None else ""
    return f"{name} is {judged.label}{ratio}"

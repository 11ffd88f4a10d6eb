"""A judge that decides as Kayenta's NetflixACAJudge does, for people who bring canary configs of Spinnaker's.

Two series of samples per metric are compared by the Mann-Whitney (Wilcoxon rank-sum) test, normal approximation with
corrections for ties and continuity: its confidence interval for the shift and the Hodges-Lehmann estimate, as in R's
`wilcox.test`. After Kayenta's MannWhitney, MannWhitneyClassifier, NetflixACAJudge and WeightedSumScorer. Where Kayenta
searches the interval's ends with a tolerance, they are exact here: they are always differences of two samples. Where
all samples of a version are the same, Kayenta adds a little noise; here the shift is simply the difference.

It looks once, at the end: looking often and stopping at the first failure is not what its confidence is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from statistics import NormalDist

import msgspec
import numpy as np

from davylamp.analysis.shares import Array


class Label(StrEnum):
    PASS = "Pass"
    HIGH = "High"
    LOW = "Low"
    NO_DATA = "Nodata"


class Direction(StrEnum):
    """Which change is bad."""

    INCREASE = "increase"
    DECREASE = "decrease"
    EITHER = "either"


class Settings(msgspec.Struct, frozen=True):
    """Of one metric. Defaults are the judge's own."""

    direction: Direction = Direction.EITHER
    tolerance: float = 0.25
    """The shift must be beyond this part of its estimate."""
    confidence: float = 0.98
    allowed_decrease: float = 1.0
    allowed_increase: float = 1.0
    """Low needs a ratio of means of at most, High of at least this."""


class Shift(msgspec.Struct, frozen=True):
    """Experiment minus control."""

    low: float
    high: float
    estimate: float


class Classification(msgspec.Struct, frozen=True):
    label: Label
    ratio: float | None
    """Mean of the experiment over mean of the control; None if either is 0 or there is no data."""


def classify(control: Iterable[float], experiment: Iterable[float], settings: Settings) -> Classification:
    """Judge one metric. NaN samples (gaps) are dropped; ValueError for infinite ones."""
    before, after = (_clean(name, side) for name, side in (("control", control), ("experiment", experiment)))
    if not (len(before) and len(after)):
        return Classification(Label.NO_DATA, None)
    if np.array_equal(np.sort(before), np.sort(after)) or len(np.unique(np.concatenate([before, after]))) == 1:
        return Classification(Label.PASS, 1.0)
    ratio = float(after.mean() / before.mean()) if before.mean() and after.mean() else None
    shift = mann_whitney(after, before, settings.confidence)
    needed = settings.tolerance * abs(shift.estimate)
    up, down = settings.direction != Direction.DECREASE, settings.direction != Direction.INCREASE
    if up and shift.low > needed and (ratio is None or ratio >= settings.allowed_increase):
        return Classification(Label.HIGH, ratio)
    if down and shift.high < -needed and (ratio is None or ratio <= settings.allowed_decrease):
        return Classification(Label.LOW, ratio)
    return Classification(Label.PASS, ratio)


def mann_whitney(x: Array, y: Array, confidence: float) -> Shift:
    """How far `x` lies above `y`: the confidence interval and the Hodges-Lehmann estimate.

    The test's statistic, as a function of the shift taken off x, falls in steps at the differences of two samples; the
    interval's ends and the estimate are where it crosses the quantiles and 0.
    """
    steps = np.unique(np.subtract.outer(x, y))
    if len(steps) == 1:
        return Shift(*3 * (float(steps[0]),))
    quantile = -NormalDist().inv_cdf((1 - confidence) / 2)
    low, high, estimate = (_crosses(x, y, steps, z) for z in (quantile, -quantile, 0.0))
    return Shift(low, high, estimate)


def group_score(labels: Iterable[Label]) -> float | None:
    """100 times the part of a group's metrics that pass, of those with data; None without any."""
    judged = [label for label in labels if label != Label.NO_DATA]
    return 100 * judged.count(Label.PASS) / len(judged) if judged else None


def summary_score(groups: dict[str, list[Label]], weights: dict[str, float]) -> float:
    """The weighted sum of the groups' scores, in 0 to 100. Groups without a weight share what is left to 100.

    0 if half of the metrics or more have no data; a group without any counts as 100.
    """
    labels = [label for group in groups.values() for label in group]
    if not labels or labels.count(Label.NO_DATA) >= 0.5 * len(labels):
        return 0.0
    rest = [name for name in groups if name not in weights]
    share = (100 - sum(weights.values())) / len(rest) if rest else 0.0
    total = 0.0
    for name, group in groups.items():
        score = group_score(group)
        total += (100.0 if score is None else score) * weights.get(name, share) / 100
    return round(total, 2)


def _clean(name: str, samples: Iterable[float]) -> Array:
    values: Array = np.array(list(samples), float)
    if np.isinf(values).any():
        raise ValueError(f"{name}: an infinite sample; finite numbers or NaN (a gap) are needed")
    present: Array = values[~np.isnan(values)]
    return present


def _crosses(x: Array, y: Array, steps: Array, z: float) -> float:
    """Where the standardised statistic of x - shift against y falls through `z`."""
    first, last = float(steps[0]), float(steps[-1])
    if _statistic(x, y, first) <= z:
        return first
    if _statistic(x, y, last) >= z:
        return last
    between = (steps[1:] + steps[:-1]) / 2
    low, high = 0, len(between)  # the first place between two steps where the statistic is not above z
    while low < high:
        middle = (low + high) // 2
        if _statistic(x, y, float(between[middle])) > z:
            low = middle + 1
        else:
            high = middle
    if low < len(between) and _statistic(x, y, float(between[low])) == z:
        return float(between[low])
    return float(steps[low])


def _statistic(x: Array, y: Array, shift: float) -> float:
    """The rank-sum of x - shift, standardised, with corrections for ties and continuity; ties get mean ranks."""
    m, n = len(x), len(y)
    values = np.concatenate([x - shift, y])
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    ties = np.unique(values, return_counts=True)[1].astype(float)
    above = float(ranks[:m].sum()) - m * (m + 1) / 2 - m * n / 2
    variance = m * n / 12 * (m + n + 1 - float((ties**3 - ties).sum()) / ((m + n) * (m + n - 1)))
    if variance <= 0:
        return 0.0
    return (above - math.copysign(0.5, above) * (above != 0)) / math.sqrt(variance)

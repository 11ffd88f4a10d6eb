"""How strict the statistics are: the checks of a policy and the errors that are allowed."""

from __future__ import annotations

import functools
import math
from typing import Literal

import msgspec

from davylamp.analysis.rare import Claims

Kind = Literal["errors", "latency", "logs", "feedback", "metric", "threshold", "outcome"]

_WEIGHTS: dict[Kind, float] = {"errors": 0.5, "latency": 0.2, "logs": 0.2, "feedback": 0.1, "metric": 0.2}
"""The kinds that share the budget of false alarms; thresholds and outcomes are decided by what the user said. Errors
have the most, since they need it: what is slow shows within less than a minute, and a smaller part costs it seconds."""


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    """Unique in the policy."""
    kind: Kind
    weight: float | None = None
    """Its part of the budget of false alarms, relative to the other checks'; None: 5 for errors, 2 for latency, logs
    and metrics, 1 for feedback."""
    quantile: float = 0.99
    """Latency: the canary is good enough if hardly more of its requests than of stable's are slower than the bucket
    bound at this quantile of stable's. Whether it is worse is judged by the whole distribution."""
    bad: Literal["up", "down"] = "up"
    """Metric: which direction is worse."""
    least: float | None = None
    most: float | None = None
    """Threshold: the value must lie within [least, most]."""
    times: int = 3
    """Threshold: how many intervals in a row must lie outside for a verdict."""


class Rules(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    checks: tuple[Check, ...]
    tolerate: float = 1.25
    """A rate ratio (canary's to stable's) that is still fine: a canary that is no worse than this is rejected with
    probability `false_alarms` at most."""
    false_alarms: float = 0.01
    """Per release, all checks together, however often looked at."""
    good_enough: float = 2.0
    """A canary whose ratio is this or more is called good enough with probability `false_promotions` at most."""
    false_promotions: float = 0.05
    """Per check that must be good."""
    harmless: float = 0.001
    """A share of failures that is good enough whatever stable's is."""
    stale: float = 60.0
    """Seconds without data of a check after which nothing is called good enough."""
    misses: int = 3
    """Looks in a row that bring no measurement of a check, after which nothing is either. One that fails costs two:
    the next finds the counters' new beginning."""
    warm_up: float = 60.0
    """Seconds from a pod's first request in which an interval is left out if the pod is plainly worse than stable."""

    @functools.cached_property
    def by_name(self) -> dict[str, Check]:
        return {check.name: check for check in self.checks}

    @functools.cached_property
    def measured(self) -> tuple[str, ...]:
        """Names of the checks that are blind where nothing is measured. Of users nobody knows whether they would
        complain."""
        return tuple(check.name for check in self.checks if check.kind != "feedback")

    @functools.cached_property
    def decided(self) -> tuple[Check, ...]:
        """Those that need no evidence: thresholds and outcomes."""
        return tuple(check for check in self.checks if not statistical(check))

    @functools.cached_property
    def parts(self) -> dict[str, float]:
        """Logs of `weights`."""
        return {name: math.log(weight) for name, weight in weights(self).items()}

    @functools.cached_property
    def claims(self) -> Claims:
        """What is bet against where some share of failures is harmless, and"""
        return Claims(self.tolerate, self.good_enough, self.harmless)

    @functools.cached_property
    def ratios(self) -> Claims:
        """where none is."""
        return Claims(self.tolerate, self.good_enough, 0.0)

    @functools.cached_property
    def sure(self) -> float:
        """Log of the evidence from which a check is content."""
        return -math.log(self.false_promotions)


def statistical(check: Check) -> bool:
    """Whether the check uses some of the budget of false alarms."""
    return check.kind in _WEIGHTS


def weights(rules: Rules) -> dict[str, float]:
    """The part of the budget of each statistical check; they sum to 1."""
    given = {
        check.name: _WEIGHTS[check.kind] if check.weight is None else check.weight
        for check in rules.checks
        if statistical(check)
    }
    total = sum(given.values())
    return {name: weight / total for name, weight in given.items()}


def validate(rules: Rules) -> None:
    """ValueError with the field, what was found and what would be right."""
    names = [check.name for check in rules.checks]
    if not names:
        raise ValueError("checks: none; at least one is needed for a verdict")
    for name in names:
        if not name or names.count(name) > 1:
            raise ValueError(f"checks: the name {name!r} must occur once and not be empty")
    for field, low, high in (
        ("tolerate", 1.0, 100.0),
        ("false_alarms", 1e-6, 0.5),
        ("false_promotions", 1e-6, 0.5),
        ("harmless", 1e-9, 0.5),
        ("stale", 1.0, 86400.0),
        ("warm_up", 0.0, 86400.0),
    ):
        value = getattr(rules, field)
        if not low <= value <= high:
            raise ValueError(f"{field}: {value} must be between {low:g} and {high:g}")
    if not rules.tolerate < rules.good_enough <= 100:
        raise ValueError(f"good_enough: {rules.good_enough} must be above tolerate {rules.tolerate}, and at most 100")
    for check in rules.checks:
        _check(check)


def _check(check: Check) -> None:
    where = f"checks[{check.name}]"
    if check.weight is not None and not 0 < check.weight < 1e6:
        raise ValueError(f"{where}.weight: {check.weight} must be positive")
    if not 0 < check.quantile < 1:
        raise ValueError(f"{where}.quantile: {check.quantile} must be between 0 and 1, for example 0.99")
    if check.times < 1:
        raise ValueError(f"{where}.times: {check.times} must be at least 1")
    if check.kind == "threshold" and check.least is None and check.most is None:
        raise ValueError(f"{where}: a threshold needs least, most or both")
    if check.least is not None and check.most is not None and check.least > check.most:
        raise ValueError(f"{where}.least: {check.least} is above most {check.most}")

"""What was seen, in words: a sentence for each kind of check."""

from __future__ import annotations

import math

from davylamp.analysis.forecast import Needed
from davylamp.analysis.logs import Culprit
from davylamp.analysis.rules import Check
from davylamp.api.units import readable

Limits = tuple[float | None, float | None]
Pair = tuple[int, int]
"""Of stable and of the canary."""


def errors(ratio: float | None, limits: Limits, requests: Pair, failures: Pair, alone: Pair = (0, 0)) -> str:
    """`alone`: failures and requests of the canary since it has all of the traffic."""
    if alone[0]:
        before = f"{_percent(failures[0], requests[0])} of stable's {requests[0]:,}" if requests[0] else "nothing known"
        return f"errors {_percent(*alone)} of {alone[1]:,} requests since the canary gets all, against {before} before"
    if not all(requests):
        return f"errors: nothing to compare, {requests[0]:,} stable and {requests[1]:,} canary requests"
    shares = f"{_percent(failures[1], requests[1])} against {_percent(failures[0], requests[0])}"
    if not any(failures):
        return f"errors: none in {requests[1]:,} canary requests"
    if ratio is None:
        return f"errors only of the canary, {failures[1]:,}, from {requests[1]:,} canary requests"
    return f"errors {number(ratio)} times stable's{_between(limits)}, {shares}, from {requests[1]:,} canary requests"


def latency(worst: tuple[float, float] | None, limits: Limits, requests: Pair) -> str:
    if worst is None:
        return "latency: nothing to compare yet"
    bound, ratio = worst
    times = f"{number(ratio)} times as many" if math.isfinite(ratio) else "only canary"
    slower = f"{times} requests slower than {_duration(bound)}{_between(limits)}"
    return f"latency: {slower}, from {requests[1]:,} canary requests"


def logs(found: Culprit | None, stable: int, canary: int) -> str:
    if not (stable and canary):
        return "logs: nothing to compare yet"
    if found is None:
        return f"logs: no errors of the canary in {canary:,} looks at a pod"
    sort = "known from stable" if found.known else "new with this version"
    return (
        f"logs: template {found.id}, {sort}, in {found.canary:,} of {canary:,} looks at a canary pod, "
        f"in {found.stable:,} of {stable:,} at a stable one"
    )


def feedback(votes: Pair, requests: Pair) -> str:
    return (
        f"feedback: complaints by {votes[1]:,} users of the canary ({requests[1]:,} requests), "
        f"{votes[0]:,} of stable ({requests[0]:,} requests)"
    )


def metric(name: str, stable: float, canary: float, intervals: int, ahead: float) -> str:
    if not intervals:
        return f"{name}: nothing to compare yet"
    return (
        f"{name}: {canary / intervals:.4g} against {stable / intervals:.4g} on average, "
        f"worse than tolerated in {100 * ahead / intervals:.0f} % of {intervals:,} comparisons"
    )


def threshold(check: Check, value: float | None, outside: int) -> str:
    limits = " and ".join(
        f"{word} {limit:g}" for word, limit in (("at least", check.least), ("at most", check.most)) if limit is not None
    )
    if value is None:
        return f"{check.name}: no value yet; {limits} is asked for"
    times = f", {outside} times in a row outside" if outside else ""
    return f"{check.name}: {value:g}; {limits} is asked for{times}"


def outcome(name: str, passed: bool | None, message: str) -> str:
    said = message.removeprefix(f"{name}: ")
    if passed is None:
        return f"{name}: {said or 'no answer yet'}"
    return f"{name}: {'passed' if passed else 'failed'}{': ' + said if said else ''}"


def missing(check: str, seen: str, to_good: Needed | None, to_worse: Needed | None) -> str:
    """What is missing for a verdict. `to_good` holds if the canary is as good as stable."""
    if to_worse and (to_good is None or to_worse.seconds < to_good.seconds):
        return f"{seen}; if that goes on, it is worse after {_more(to_worse)}"
    if to_good:
        return f"not enough data yet: {check} needs {_more(to_good)}"
    return f"{seen}; at this rate it can't be said when that is enough"


def number(value: float) -> str:
    """Two digits: 4.1, 0.93, 12, 1,400."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, 1 - math.floor(math.log10(abs(value)))):,.{min(digits, 2)}f}"


def _more(needed: Needed) -> str:
    return f"about {number(needed.requests)} more canary requests, {readable(needed.seconds)} at this rate"


def _between(limits: Limits) -> str:
    match limits:
        case (None, None):
            return ""
        case (low, None):
            return f" (at least {number(low or 0)})"
        case (None, high):
            return f" (at most {number(high or 0)})"
        case (low, high):
            return f" ({number(low or 0)} to {number(high or 0)})"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:g} ms" if seconds < 1 else f"{seconds:g} s"

"""The three-way verdict with its evidence, in numbers for programs and in words for people.

WORSE, once the evidence has ever sufficed; GOOD ENOUGH, while each check that must be has been bounded and none is
without data; NOT ENOUGH DATA otherwise, with how much more is needed.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import assert_never

import msgspec

from davylamp.analysis import duel, errors, forecast, latency, logs, others, wording
from davylamp.analysis.forecast import Needed
from davylamp.analysis.look import CheckState, Seen, State, combined
from davylamp.analysis.rare import Claims
from davylamp.analysis.rules import Check, Rules

_COUNTED = (errors.Errors, latency.Latency, others.Complaints)
_WORTH = math.log(3)
"""Evidence that is worth a word, and a closer look."""


class Answer(StrEnum):
    WORSE = "worse"
    GOOD_ENOUGH = "good enough"
    NOT_ENOUGH_DATA = "not enough data"


class Finding(msgspec.Struct, frozen=True):
    """What one check has seen."""

    check: str
    evidence: float
    """That the canary is worse, to 1: what bets against "it is no worse" have made of a stake of 1. At most 1e300."""
    needed: float
    """How much would suffice if only this check spoke."""
    good: bool
    """Whether this check is content."""
    message: str
    """What was seen, in words."""
    ratio: float | None = None
    """How many times as often as stable the canary fails, or is slow; None if unknown or infinite."""
    interval: tuple[float | None, float | None] = (None, None)
    """95 % confidence limits of the ratio, at all times at once; None for no limit."""
    requests: tuple[int, int] = (0, 0)
    """Of stable and canary."""
    failures: tuple[int, int] = (0, 0)
    """Failed or slow ones of them."""
    aside: tuple[int, int] = (0, 0)
    """Requests and failures of the canary's pods while they were not known to be warm."""
    to_good: Needed | None = None
    """What is missing for GOOD ENOUGH, if the canary is as good as stable; and"""
    to_worse: Needed | None = None
    """for WORSE, if it goes on as it has been. None of both where the check is content."""


class Verdict(msgspec.Struct, frozen=True):
    answer: Answer
    message: str
    """In words, with the numbers."""
    check: str
    """The culprit, or what is waited for; empty if all is good enough."""
    evidence: float
    """Of all checks together."""
    needed: float
    findings: tuple[Finding, ...]
    limits: tuple[str, ...] = ()
    """What the verdict does not cover, in words."""


def verdict(state: State, rule: Rules, now: float) -> Verdict:
    """What can be said at `now` (seconds since the epoch; decides only which checks are without data)."""
    findings = tuple(_finding(check, state.checks[check.name], rule, now) for check in rule.checks)
    together, _ = combined(state.checks, rule)
    given = answer(state, rule, now)
    found = {finding.check: finding for finding in findings}
    culprit = ""
    match given:
        case Answer.WORSE:
            assert state.crossed is not None
            culprit = state.crossed.check
            message = found[culprit].message
        case Answer.GOOD_ENOUGH:
            message = "; ".join(f.message for f in findings)
        case Answer.NOT_ENOUGH_DATA:
            culprit = _awaited(state, rule, findings, now)
            message = _waiting(found[culprit], state.checks[culprit], rule, now)
    return Verdict(given, message, culprit, _exp(together), 1 / rule.false_alarms, findings, _limits(state))


def answer(state: State, rule: Rules, now: float) -> Answer:
    """The verdict's answer alone: what is decided by. Words, ratios and forecasts are most of the work of `verdict`."""
    if state.crossed:
        return Answer.WORSE
    good = all(_good(check, state.checks[check.name], rule, now) for check in rule.checks)
    return Answer.GOOD_ENOUGH if good else Answer.NOT_ENOUGH_DATA


def tense(state: State) -> bool:
    """Whether the next interval may decide, so that it should be a short one."""
    if state.crossed:
        return False
    return any(max(seen.evidence, _pending(seen)) >= _WORTH for seen in state.checks.values())


def _pending(seen: Seen) -> float:
    """Evidence kept aside that warm pods have not refuted so far."""
    return seen.aside if seen.evidence > -_WORTH else 0.0


def pending(state: State, rule: Rules, now: float) -> bool:
    """Whether a check has yet to say what it finds: a Job that runs, or what has failed, but not often enough yet."""
    found = [state.checks[check.name] for check in rule.decided]
    return any(_undecided(seen.state) and not without_data(seen, rule, now) for seen in found)


def _undecided(state: CheckState) -> bool:
    match state:
        case others.Judged(passed=passed):
            return passed is None
        case others.Threshold(outside=outside):
            return outside > 0
    return False


def missed(state: State, rule: Rules) -> bool:
    """Whether the newest look at a check has brought no measurement."""
    return any(state.checks[name].missed for name in rule.measured)


def blind(state: State, rule: Rules, now: float) -> bool:
    """Whether a check that needs data has none."""
    return any(without_data(state.checks[name], rule, now) for name in rule.measured)


def without_data(seen: Seen, rule: Rules, now: float) -> bool:
    """Whether a check has had no data for too long, or never: of one version alone there is nothing to compare."""
    return _dark(seen, rule, now) or _uncompared(seen.state)


def _dark(seen: Seen, rule: Rules, now: float) -> bool:
    return seen.data is None or seen.missed >= rule.misses or now - seen.data > _patience(seen, rule)


def _patience(seen: Seen, rule: Rules) -> float:
    """Where measurements are rare, longer than usual: one may be late, but the second is awaited."""
    return max(rule.stale, 2.5 * seen.every)


def _uncompared(state: CheckState) -> bool:
    match state:
        case errors.Errors():
            return not min(state.duel.tally.requests)
        case latency.Latency():
            return not latency.compared(state)
    return False


def _awaited(state: State, rule: Rules, findings: tuple[Finding, ...], now: float) -> str:
    """The check that will take longest to be content."""
    dark = {name for name in rule.measured if without_data(state.checks[name], rule, now)}
    waiting = [finding for finding in findings if not finding.good]
    return max(waiting, key=lambda f: (f.check in dark, _left(f, state.checks[f.check].state))).check


def _left(found: Finding, state: CheckState) -> float:
    """Seconds until this check may be content. Nothing can be said of latency before its bound is chosen, which is
    soon: what else is waited for is worth more words."""
    if found.to_good is not None:
        return found.to_good.seconds
    return 0.0 if isinstance(state, latency.Latency) and state.bound is None else math.inf


def _finding(check: Check, seen: Seen, rule: Rules, now: float) -> Finding:
    part = rule.parts.get(check.name)
    needed = math.inf if part is None else math.exp(-part) / rule.false_alarms
    requests, failures = counted(seen)
    found = Finding(
        check.name,
        evidence(seen),
        min(needed, 1e300),
        _good(check, seen, rule, now),
        "",
        requests=requests,
        failures=failures,
        aside=(seen.cold.requests, seen.cold.failures),
    )
    return _worded(found, check, seen.state, rule)


def evidence(seen: Seen) -> float:
    """As `Finding` has it."""
    return _exp(seen.evidence)


def counted(seen: Seen) -> tuple[tuple[int, int], tuple[int, int]]:
    """Requests and failures, each of stable and canary; 0 where a check counts none."""
    if not isinstance(seen.state, _COUNTED):
        return (0, 0), (0, 0)
    return seen.state.duel.tally.requests, seen.state.duel.tally.failures


def _good(check: Check, seen: Seen, rule: Rules, now: float) -> bool:
    return not seen.note and not _dark(seen, rule, now) and _content(check, seen.state, rule)


def _content(check: Check, state: CheckState, rule: Rules) -> bool:
    """Whether what was seen is good enough, if it is recent."""
    match state:
        case errors.Errors():
            return _bounded(state.duel, rule.claims, rule)
        case latency.Latency():
            return state.bound is not None and _bounded(state.duel, rule.ratios, rule)
        case logs.LogState():
            return state.stable > 0 and state.canary > 0
        case others.Complaints():
            return min(state.duel.tally.requests) > 0
        case others.Metric():
            return others.in_favour(state) >= rule.sure
        case others.Threshold():
            return state.inside >= check.times
        case others.Judged():
            return state.passed is True
    assert_never(state)


def _worded(found: Finding, check: Check, state: CheckState, rule: Rules) -> Finding:
    """With what people want to know."""
    match state:
        case errors.Errors():
            found = _with_duel(found, state.duel, rule.claims, rule)
            message = wording.errors(
                found.ratio, found.interval, found.requests, found.failures, state.duel.tally.alone
            )
            if found.good and not _below(found.interval, rule.good_enough):
                message += f", known to be {_bound(state.duel, rule)}"
        case latency.Latency():
            found = _with_duel(found, state.duel, rule.ratios, rule, latency.how(state))
            worst = latency.culprit(state)
            if found.good and found.ratio is not None and state.bound is not None:
                worst = (state.bound, found.ratio)  # what is bounded
            same = worst is not None and worst[0] == state.bound
            message = wording.latency(worst, found.interval if same else (None, None), found.requests)
        case logs.LogState():
            message = wording.logs(logs.culprit(state), state.stable, state.canary)
        case others.Complaints():
            found = _with_duel(found, state.duel, rule.ratios, rule)
            message = wording.feedback(found.failures, found.requests)
        case others.Metric():
            message = wording.metric(check.name, state.stable, state.canary, state.intervals, state.ahead)
        case others.Threshold():
            message = wording.threshold(check, state.value, state.outside)
        case others.Judged():
            message = wording.outcome(check.name, state.passed, state.message)
    return msgspec.structs.replace(found, message=message)


def _below(limits: tuple[float | None, float | None], ratio: float) -> bool:
    return limits[1] is not None and limits[1] < ratio


def _bound(state: duel.Duel, rule: Rules) -> str:
    """What the canary's failures are known to be, where they are good enough and the interval does not say it."""
    few, fewer = f"below {100 * rule.harmless:g} %", f"less than {rule.good_enough:g} times stable's"
    if state.logs[1] >= rule.sure:
        return fewer
    return few if state.logs[2] >= rule.sure else f"{few} or {fewer}"


def _with_duel(
    found: Finding, state: duel.Duel, claims: Claims, rule: Rules, common: duel.Common | None = None
) -> Finding:
    ratio = duel.ratio(state.tally)
    low, high = duel.interval(state, 0.05)
    found = msgspec.structs.replace(
        found,
        ratio=ratio if ratio is not None and math.isfinite(ratio) else None,
        interval=(low if low > 0 else None, high if math.isfinite(high) else None),
    )
    if found.good:
        return found
    to_good = forecast.until_good(state, claims, rule.false_promotions, common)
    to_worse = forecast.until_worse(state, claims, 1 / found.needed, common)
    return msgspec.structs.replace(found, to_good=to_good, to_worse=to_worse)


def _bounded(state: duel.Duel, claims: Claims, rule: Rules) -> bool:
    return duel.in_favour(state, claims) >= rule.sure


def _waiting(found: Finding, seen: Seen, rule: Rules, now: float) -> str:
    """Why there is no verdict yet, and what is missing for one."""
    if seen.note:
        return f"{found.check}: the last interval could not be used: {seen.note}"
    if seen.until is None:
        return f"{found.check}: no data yet"
    if seen.data is not None and _dark(seen, rule, now):
        return f"{found.check}: no data for {now - seen.data:.0f} s; the evidence so far is kept"
    if isinstance(seen.state, others.Judged):
        return found.message
    if seen.aside > _WORTH:
        return f"{found.message}; its pods were warming up, so that it counts once they, warm, confirm it"
    return wording.missing(found.check, found.message, found.to_good, found.to_worse)


def _limits(state: State) -> tuple[str, ...]:
    found = []
    if any(seen.pods == 1 for seen in state.checks.values()):
        found.append("one canary pod: a bad pod (or node) can't be told from a bad version; two or more can")
    for name, seen in state.checks.items():
        if (kept := seen.aside) > _WORTH:
            pods = ", ".join(seen.cold.pods)
            found.append(
                f"{name}: evidence of {wording.number(_exp(kept))} is kept aside, since {pods} were warming up "
                f"in {seen.cold.intervals} intervals; it counts once they, warm, confirm it"
            )
    return tuple(found)


def _exp(log: float) -> float:
    return math.exp(min(log, 690.0))

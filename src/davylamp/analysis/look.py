"""The one running computation: `begin`, then `look` at each check's counts as they come, interval by interval.

The state is everything there is: of bounded size, written to JSON and back without loss. Whoever has the recorded
counts gets the same state by `replay`. It is never reset during a release: the e-processes go on across steps and
weights, and may be looked at as often as one likes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import assert_never

import msgspec

from davylamp.analysis import counts as c
from davylamp.analysis import duel, errors, latency, logs, others, rules, shares
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.warmup import counts as counting

CheckState = (
    errors.Errors
    | latency.Latency
    | logs.LogState
    | others.Complaints
    | others.Metric
    | others.Threshold
    | others.Judged
)
_NOTES = 5
_NOTE = 300


class Cold(msgspec.Struct, frozen=True, array_like=True):
    """What is kept aside (`warmup`) because pods were warming up."""

    intervals: int = 0
    pods: tuple[str, ...] = ()
    """The last few."""
    requests: int = 0
    failures: int = 0
    """Theirs, while they were not known to be warm; failures of the check of errors only."""


class Seen(msgspec.Struct, frozen=True, dict=True):
    """One check so far."""

    state: CheckState
    until: float | None = None
    """End of the last interval that was counted."""
    pods: int | None = None
    """Pods of the canary in it."""
    cold: Cold = Cold()
    note: str = ""
    """Why the last interval was not counted; empty if it was."""
    data: float | None = None
    """End of the last interval in which there was something to compare: both versions served, wrote or had values."""
    every: float = 0.0
    """Seconds of the last interval."""
    missed: int = 0
    """Looks since then, one after the other, that brought no measurement of both versions. That nobody asked anything
    of a version is a measurement."""

    @functools.cached_property
    def everything(self) -> float:
        """Log evidence that the canary is worse, by this check alone and all pods, also those that are warming up. 0 is
        none; thresholds and outcomes have none."""
        return _everything(self.state)

    @functools.cached_property
    def evidence(self) -> float:
        """As much of that as counts."""
        return _counting(self.state, self.everything)

    @property
    def aside(self) -> float:
        """Log evidence of all pods, where some of it does not count yet since they were warming up; 0 elsewhere."""
        return self.everything if self.everything > self.evidence + 1e-9 else 0.0


class Crossed(msgspec.Struct, frozen=True):
    """When the evidence first sufficed to reject the canary; nothing that comes later undoes that."""

    at: float
    check: str
    evidence: float
    """Log of the combined evidence."""


class State(msgspec.Struct, frozen=True):
    began: float
    """When the canary started."""
    checks: dict[str, Seen]
    crossed: Crossed | None = None


def begin(rule: Rules, began: float) -> State:
    """Nothing is known yet. Raises ValueError for rules that can't be used."""
    rules.validate(rule)
    return State(began, {check.name: Seen(_fresh(check)) for check in rule.checks})


def without_limits(state: State) -> State:
    """The same without confidence limits, which only words need."""
    checks = {
        name: msgspec.structs.replace(
            seen, state=msgspec.structs.replace(seen.state, duel=duel.without_limits(seen.state.duel))
        )
        if isinstance(seen.state, errors.Errors | latency.Latency | others.Complaints)
        else seen
        for name, seen in state.checks.items()
    }
    return msgspec.structs.replace(state, checks=checks)


def look(state: State, rule: Rules, name: str, counts: c.Counts) -> State:
    """The state after one more interval of the check `name`.

    Raises ValueError for counts that make no sense or belong to another kind of check. Counts that are in order but
    can't be used leave the evidence as it is and say why in the check's note: an interval that was counted already,
    one that overlaps the last, one whose buckets have changed altogether.
    """
    check = rule.by_name.get(name)
    if check is None or name not in state.checks:
        raise ValueError(f"check {name!r}: there is none; there are {', '.join(state.checks)}")
    seen, start, end = state.checks[name], counts.start, counts.end
    c.validate(counts)
    try:
        if seen.until is not None and start < seen.until - 1e-6:
            again = "was counted already" if end <= seen.until + 1e-6 else "overlaps one that was counted"
            raise latency.Unusable(f"the interval from {start:.3f} to {end:.3f} {again}")
        if start < state.began - 1e-6:
            raise latency.Unusable(f"the interval began at {start:.3f}, before the canary at {state.began:.3f}")
        after, cold = _step(seen.state, counts, check, rule, state)
    except latency.Unusable as problem:
        note = msgspec.structs.replace(seen, note=str(problem)[:_NOTE], missed=seen.missed + 1)
        return msgspec.structs.replace(state, checks=state.checks | {name: note})
    pods = _pods(counts)
    measured, compared = c.sides(counts)
    now = Seen(
        after,
        end,
        seen.pods if pods is None else pods,
        _left_out(seen.cold, cold, counts) if cold else seen.cold,
        data=end if compared else seen.data,
        every=end - start,
        missed=0 if measured else seen.missed + 1,
    )
    everything = _everything(after)
    now.__dict__.update(everything=everything, evidence=_counting(after, everything))  # as they would be computed
    checks = state.checks | {name: now}
    crossed = state.crossed
    if crossed is None and (now.evidence > seen.evidence or not rules.statistical(check)):  # by less it can't cross
        crossed = _crossing(checks, rule, end)
    return State(state.began, checks, crossed)


def miss(state: State, names: Iterable[str]) -> State:
    """The state after a look that brought nothing of these checks. That is no evidence, but it is remembered."""
    before = {name: state.checks[name] for name in names}
    if not before:
        return state
    missed = {name: msgspec.structs.replace(seen, missed=seen.missed + 1) for name, seen in before.items()}
    return msgspec.structs.replace(state, checks=state.checks | missed)


def replay(rule: Rules, began: float, recorded: Iterable[tuple[str, c.Counts]]) -> State:
    """The state that the `recorded` counts lead to."""
    state = begin(rule, began)
    for name, counts in recorded:
        state = look(state, rule, name, counts)
    return state


def _everything(state: CheckState) -> float:
    match state:
        case errors.Errors() | others.Complaints():
            return duel.against(state.duel)
        case latency.Latency():
            return latency.against(state)
        case logs.LogState():
            return logs.against(state)
        case others.Metric():
            return float(shares.log_mean(shares.unpack(state.worse)))
        case others.Threshold() | others.Judged():
            return 0.0
    assert_never(state)


def _counting(state: CheckState, everything: float) -> float:
    match state:
        case errors.Errors():
            return counting(state.warm, everything, state.spread)
        case latency.Latency():
            return counting(state.warm, everything, state.spread) if state.bounds else 0.0
    return everything


def combined(checks: dict[str, Seen], rule: Rules) -> tuple[float, str]:
    """Log of the combined evidence, the weighted mean over the checks, and the check with the largest part of it.

    The mean is the only admissible way to merge e-values that may depend on each other in any way (Vovk & Wang 2021).
    """
    if not rule.parts:
        return 0.0, ""
    parts = [part + checks[name].evidence for name, part in rule.parts.items()]
    top = max(parts)
    return top + math.log(sum([math.exp(part - top) for part in parts])), list(rule.parts)[parts.index(top)]


def _fresh(check: Check) -> CheckState:
    match check.kind:
        case "errors":
            return errors.begin()
        case "latency":
            return latency.begin()
        case "logs":
            return logs.begin()
        case "feedback":
            return others.Complaints(duel.begin())
        case "metric":
            return others.begin_metric()
        case "threshold":
            return others.Threshold()
        case "outcome":
            return others.Judged()
    assert_never(check.kind)


def _step(
    state: CheckState, counts: c.Counts, check: Check, rule: Rules, release: State
) -> tuple[CheckState, tuple[str, ...]]:
    match state, counts:
        case errors.Errors(), c.Events():
            return errors.look(state, counts, rule, fast=lambda: _fast(release, rule))
        case latency.Latency(), c.Latencies():
            return latency.look(state, counts, check, rule)
        case logs.LogState(), c.Logs():
            return logs.look(state, counts, rule), ()
        case others.Complaints(), c.Feedback():
            return others.complain(state, counts, rule, release.began), ()
        case others.Metric(), c.Samples():
            return others.measure(state, counts, check, rule), ()
        case others.Threshold(), c.Value():
            return others.compare(state, counts, check), ()
        case others.Judged(), c.Outcome():
            return others.hear(counts), ()
    raise ValueError(f"check {check.name!r}: {type(counts).__name__} are not counts for a check of {check.kind}")


def _fast(release: State, rule: Rules) -> bool:
    """Whether a check of latency has seen the canary's young pods to be no slower than stable's."""
    found = [seen.state for seen in release.checks.values() if isinstance(seen.state, latency.Latency)]
    return bool(found) and all(latency.fast(state, rule) for state in found)


def _pods(counts: c.Counts) -> int | None:
    match counts:
        case c.Events() | c.Latencies():
            return len(counts.canary)
        case c.Logs():
            return counts.canary_pods
    return None


def _left_out(cold: Cold, pods: tuple[str, ...], counts: c.Counts) -> Cold:
    requests, failures = cold.requests, cold.failures
    if isinstance(counts, c.Events):
        mine = [pod for pod in counts.canary if pod.pod in pods]
        requests += sum(pod.requests for pod in mine)
        failures += sum(pod.failures for pod in mine)
    elif isinstance(counts, c.Latencies):
        requests += sum(sum(pod.counts) for pod in counts.canary if pod.pod in pods)
    return Cold(cold.intervals + 1, tuple(dict.fromkeys([*cold.pods, *pods]))[-_NOTES:], requests, failures)


def _crossing(checks: dict[str, Seen], rule: Rules, at: float) -> Crossed | None:
    together, culprit = combined(checks, rule)
    if together >= -math.log(rule.false_alarms):
        return Crossed(at, culprit, together)
    for check in rule.decided:
        match checks[check.name].state:
            case others.Threshold(outside=outside) if outside >= check.times:
                return Crossed(at, check.name, together)
            case others.Judged(passed=False):
                return Crossed(at, check.name, together)
    return None

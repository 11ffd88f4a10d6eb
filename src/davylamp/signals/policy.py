"""A policy's `analysis` as the statistics and the sources take it."""

from __future__ import annotations

from davylamp.analysis import rules
from davylamp.api.analysis import Analysis, Check, Feedback
from davylamp.api.units import seconds, share
from davylamp.signals.conventions import MILLISECONDS, SECONDS, Names
from davylamp.signals.feedback import Rules as FeedbackRules
from davylamp.signals.prometheus import Secrets

_UNITS = {None: None, "seconds": SECONDS, "milliseconds": MILLISECONDS}
_ABOVE = 1.6
"""Good enough is a ratio that is bounded by so many times the tolerated one, and by 2 at least."""


def rules_of(analysis: Analysis) -> rules.Rules:
    """How strict the statistics are to be, for an analysis without problems."""
    return rules.Rules(
        tuple(_rule(check) for check in analysis.checks),
        tolerate=analysis.tolerate,
        false_alarms=share(analysis.false_alarms),
        good_enough=max(2.0, _ABOVE * analysis.tolerate),
        warm_up=seconds(analysis.warm_up),
    )


def _rule(check: Check) -> rules.Check:
    name = check.title
    if check.errors is not None:
        return rules.Check(name, "errors")
    if check.latency is not None:
        return rules.Check(name, "latency", quantile=check.latency.quantile)
    if check.logs is not None:
        return rules.Check(name, "logs")
    if check.feedback is not None:
        return rules.Check(name, "feedback")
    if check.metric is not None:
        return rules.Check(name, "metric", bad=check.metric.bad)
    if check.threshold is not None:
        limits = check.threshold
        return rules.Check(name, "threshold", least=limits.min, most=limits.max, times=limits.times)
    return rules.Check(name, "outcome")


def names_of(check: Check) -> Names:
    """The names of series that a check of errors or latency gives."""
    if check.errors is not None:
        return Names(check.errors.requests, check.errors.failures, check.errors.failed)
    if check.latency is not None:
        return Names(latency=check.latency.histogram, unit=_UNITS[check.latency.unit])
    return Names()


def feedback_rules(feedback: Feedback, secrets: Secrets) -> FeedbackRules:
    """What a request must fulfil. Raises ValueError where the token's Secret is missing: nobody may, then."""
    token = ""
    if feedback.token is not None:
        found = secrets.get(feedback.token, b"").decode(errors="replace").strip()
        if not found:
            key = feedback.token
            raise ValueError(f'feedback.token: there is no key {key.key} in Secret "{key.secret}"')
        token = found
    return FeedbackRules(token, feedback.origins, feedback.version_header, feedback.version_cookie)

"""The canary has all of the traffic: it is compared with what stable did before, in one direction only."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from davylamp.analysis import counts as c
from davylamp.analysis import look as lk
from davylamp.analysis import shares
from davylamp.analysis.duel import Tally
from davylamp.analysis.rare import CLUSTER
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.verdict import Answer, Verdict, verdict
from tests.analysis.traffic import events

ERRORS = Rules((Check("errors", "errors"),))
BEFORE = 12
"""Intervals of stable alone, two minutes."""


def alone(at: float, failures: int, requests: int = 1000, **more: int) -> c.Events:
    return msgspec.structs.replace(events(at, 0, failures, n0=more.get("n0", 0), n1=requests), alone=True)


def after(*failures: int, before: int = 1, rules: Rules = ERRORS, health_checks: int = 0) -> Verdict:
    """Two minutes of stable with `before` failures of 1,000 requests in each interval, then the canary's."""
    state = lk.begin(rules, 0.0)
    made = [events(10.0 * t, before, 0, n0=1000, n1=0) for t in range(BEFORE)]
    made += [alone(10.0 * (BEFORE + t), k, n0=health_checks) for t, k in enumerate(failures)]
    for counts in made:
        state = lk.look(state, rules, "errors", counts)
    return verdict(state, rules, made[-1].end)


def test_a_version_that_fails_after_the_switch_is_worse_and_the_words_say_than_what() -> None:
    found = after(500, 500)
    assert found.answer is Answer.WORSE
    assert found.message == (
        "errors 50.00 % of 2,000 requests since the canary gets all, against 0.10 % of stable's 12,000 before"
    )


@pytest.mark.parametrize(("share", "answer"), [(1, Answer.NOT_ENOUGH_DATA), (2, Answer.NOT_ENOUGH_DATA)])
def test_what_may_be_chance_or_the_time_of_day_is_not_worse(share: int, answer: Answer) -> None:
    assert after(*[share] * 360).answer is answer


def test_ten_times_as_many_errors_are_found_within_ten_minutes() -> None:
    assert after(*[10] * 60).answer is Answer.WORSE


def test_nothing_speaks_for_a_version_that_is_alone() -> None:
    found = after(*[0] * 360)
    assert found.answer is Answer.NOT_ENOUGH_DATA
    assert not found.findings[0].good


def test_requests_of_health_checks_to_stable_hide_nothing() -> None:
    assert after(500, 500, health_checks=4).message == after(500, 500).message


def test_without_anything_known_of_stable_nothing_is_said() -> None:
    state = lk.begin(ERRORS, 0.0)
    for look in range(60):
        state = lk.look(state, ERRORS, "errors", alone(10.0 * look, 900))
    assert verdict(state, ERRORS, 600.0).answer is Answer.NOT_ENOUGH_DATA


@pytest.mark.parametrize("limit", [0.0001, 0.01, 0.2])
@pytest.mark.parametrize("requests", [1, 10, 1000])
def test_a_bet_against_a_version_at_the_limit_is_fair_at_most(limit: float, requests: int) -> None:
    """By enumeration: of single failures, and of failures that come five at a time."""
    for together in (1, int(CLUSTER)):
        trials = max(requests // together, 1)
        failures = np.arange(trials + 1)
        logs = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in failures]
        chances = np.array(logs) + failures * math.log(limit) + (trials - failures) * math.log1p(-limit)
        factors = shares.above(failures * together, np.full(trials + 1, trials * together), limit, CLUSTER)
        expected = shares.log_mean((chances[:, None] + factors).T) + math.log(trials + 1)
        assert (expected <= 1e-9).all()


def test_the_upper_limit_of_stables_share_holds() -> None:
    draw = np.random.default_rng(3)
    for share in (0.0001, 0.001, 0.05):
        seen = draw.binomial(12_000, share, 2000)
        missed = np.mean([shares.upper(int(k), 12_000, 1.0) < share for k in seen])
        assert missed <= 0.01


def test_good_versions_are_not_returned_by_chance() -> None:
    draw = np.random.default_rng(5)
    answers = [after(*map(int, draw.binomial(1000, 0.001, 60))).answer for _ in range(40)]
    assert Answer.WORSE not in answers


def test_what_was_written_before_goes_on() -> None:
    old = msgspec.json.encode([[12, 3], [1, 0], [0.0, 0.0], [1.0, 2.0, 0.0], 10.0])
    assert msgspec.json.decode(old, type=Tally).alone == (0, 0)

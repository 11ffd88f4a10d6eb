"""What people read."""

import math
import re
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from davylamp.analysis import counts as c
from davylamp.analysis import look as lk
from davylamp.analysis.rules import Check, Rules
from davylamp.analysis.verdict import Answer, Finding, Verdict, answer, pending, verdict
from davylamp.analysis.wording import number
from tests.analysis.traffic import events, latencies, looks

ERRORS = Rules((Check("errors", "errors"),))


def after(rules: Rules, name: str, made: list[c.Counts]) -> Verdict:
    state = looks(lk.begin(rules, 0.0), rules, name, made)
    return verdict(state, rules, made[-1].end)


def only(rules: Rules, name: str, made: list[c.Counts]) -> tuple[Answer, Finding]:
    found = after(rules, name, made)
    return found.answer, found.findings[0]


def test_worse_names_the_check_the_factor_its_interval_and_the_requests() -> None:
    made = [events(10.0 * t, 1, 1 + t % 2) for t in range(8)]
    found = after(ERRORS, "errors", list(made))
    assert found.answer == Answer.WORSE
    assert found.check == "errors"
    low, high = found.findings[0].interval
    assert found.findings[0].ratio == pytest.approx(13.5)
    assert low is not None
    assert 1.25 < low < 13.5
    assert high is None or high > 13.5
    assert found.message.startswith("errors 14 times stable's (")
    assert found.message.endswith("1.50 % against 0.11 %, from 800 canary requests")


def test_good_enough_says_what_it_is_bounded_by() -> None:
    made = [events(10.0 * t, 45, 5) for t in range(40)]
    found = after(ERRORS, "errors", list(made))
    assert found.answer == Answer.GOOD_ENOUGH
    high = found.findings[0].interval[1]
    assert high is not None
    assert 1 < high < 2
    assert f"(at most {number(high)})" in found.message or f"to {number(high)})" in found.message


def test_a_canary_without_failures_is_good_enough_since_its_share_is_harmless() -> None:
    made = [events(10.0 * t, 0, 0, n1=1000, n0=1000) for t in range(30)]
    found = after(ERRORS, "errors", list(made))
    assert found.answer == Answer.GOOD_ENOUGH
    assert found.message == "errors: none in 30,000 canary requests, known to be below 0.1 %"


def test_what_is_bounded_is_said_also_where_the_interval_is_wider() -> None:
    state, said = lk.begin(ERRORS, 0.0), []
    for t in range(30):
        state = lk.look(state, ERRORS, "errors", events(10.0 * t, 1, 0, n0=9000, n1=1000))
        found = verdict(state, ERRORS, 10.0 * t + 10)
        if found.answer == Answer.GOOD_ENOUGH:
            said.append(found.message.partition("canary requests")[2])
    bounds = ", known to be below 0.1 %", ", known to be less than 2 times stable's", ""
    assert tuple(dict.fromkeys(said)) == bounds


def test_not_enough_data_says_how_much_more_is_needed() -> None:
    made = [events(10.0 * t, 45, 5) for t in range(6)]
    found = after(ERRORS, "errors", list(made))
    assert found.answer == Answer.NOT_ENOUGH_DATA
    needed = found.findings[0].to_good
    assert needed is not None
    assert needed.requests == pytest.approx(10 * needed.seconds)
    assert found.message.startswith("not enough data yet: errors needs about ")
    assert found.message.endswith(" at this rate")


def test_the_forecast_comes_true_if_things_go_on_like_that() -> None:
    draw = np.random.default_rng(5)
    state, said = lk.begin(ERRORS, 0.0), math.nan
    for t in range(300):
        state = lk.look(state, ERRORS, "errors", events(10.0 * t, int(draw.poisson(9)), int(draw.poisson(1))))
        found = verdict(state, ERRORS, 10.0 * t + 10)
        needed = found.findings[0].to_good
        if t == 5 and needed:
            said = needed.seconds
        if found.answer == Answer.GOOD_ENOUGH:
            break
    assert found.answer == Answer.GOOD_ENOUGH
    assert said / 3 < 10.0 * (t - 5) < said * 3


def test_without_traffic_no_time_is_promised() -> None:
    found = after(ERRORS, "errors", [events(10.0 * t, 1, 0, n1=0) for t in range(3)])
    assert found.message == (
        "errors: nothing to compare, 2,700 stable and 0 canary requests; "
        "at this rate it can't be said when that is enough"
    )


def test_an_outage_of_the_measurements_holds_and_says_so_and_is_over_when_data_comes_back() -> None:
    made = [events(10.0 * t, 45, 5) for t in range(40)]
    state = looks(lk.begin(ERRORS, 0.0), ERRORS, "errors", list(made))
    assert verdict(state, ERRORS, 400.0).answer == Answer.GOOD_ENOUGH
    out = verdict(state, ERRORS, 700.0)
    assert (out.answer, out.message) == (
        Answer.NOT_ENOUGH_DATA,
        "errors: no data for 300 s; the evidence so far is kept",
    )
    back = lk.look(state, ERRORS, "errors", events(700, 45, 5))
    assert verdict(back, ERRORS, 710.0).answer == Answer.GOOD_ENOUGH


def test_a_single_canary_pod_is_named_as_a_limit() -> None:
    one = c.Events(0, 10, (c.Pod("s", 90),), (c.Pod("c", 10),))
    assert after(ERRORS, "errors", [one]).limits == (
        "one canary pod: a bad pod (or node) can't be told from a bad version; two or more can",
    )
    assert after(ERRORS, "errors", [events(0)]).limits == ()


def test_what_is_kept_aside_since_pods_were_warming_up_is_said() -> None:
    found = after(ERRORS, "errors", [events(0, 1, 9, age=0.0), events(10, 1, 9, age=10.0)])
    assert found.answer == Answer.NOT_ENOUGH_DATA
    assert found.message.endswith("its pods were warming up, so that it counts once they, warm, confirm it")
    assert len(found.limits) == 1
    assert found.limits[0].startswith("errors: evidence of ")
    assert found.limits[0].endswith(
        "is kept aside, since c0, c1 were warming up in 2 intervals; it counts once they, warm, confirm it"
    )


def test_an_interval_that_could_not_be_used_is_explained() -> None:
    found = after(ERRORS, "errors", [events(0), events(5)])
    assert "could not be used: the interval from 5.000 to 15.000 overlaps" in found.message


def test_a_slower_canary_is_found_and_the_bound_named() -> None:
    rules = Rules((Check("latency", "latency"),))
    draw = np.random.default_rng(6)
    found = after(rules, "latency", [latencies(10.0 * t, draw, 1.6) for t in range(8)])
    assert found.answer == Answer.WORSE
    assert " times as many requests slower than " in found.message
    assert "canary requests" in found.message


def test_a_canary_that_is_as_fast_is_good_enough() -> None:
    rules = Rules((Check("latency", "latency"),))
    draw = np.random.default_rng(7)
    found = after(rules, "latency", [latencies(10.0 * t, draw) for t in range(60)])
    assert found.answer == Answer.GOOD_ENOUGH
    assert re.search(r"requests slower than \d+ ms \(0.\d+ to 1.\d+\), from", found.message), "what it is bounded by"


@pytest.mark.parametrize("seed", range(3))
def test_so_is_one_that_gets_less_than_a_request_in_two_seconds_in_time(seed: int) -> None:
    rules = Rules((Check("latency", "latency"),))
    draw, state, answers = np.random.default_rng(seed), lk.begin(rules, 0.0), set()
    for t in range(500):
        state = lk.look(state, rules, "latency", latencies(10.0 * t, draw, asked=(5, 2)))
        answers.add(answer(state, rules, 10.0 * t + 10))
    assert answers == {Answer.NOT_ENOUGH_DATA, Answer.GOOD_ENOUGH}


LOGS = Rules((Check("logs", "logs"),))


def lines(at: float, *templates: c.Template, requests: tuple[int, int] = (0, 0)) -> c.Logs:
    return c.Logs(at, at + 10, 4, 2, templates, *requests)


def test_a_new_exception_of_the_canary_is_found_and_named() -> None:
    made = [lines(10.0 * t, c.Template("known", True, 4, 2), c.Template("oops", False, 0, 2)) for t in range(12)]
    found = after(LOGS, "logs", list(made))
    assert found.answer == Answer.WORSE
    assert found.message == (
        "logs: template oops, new with this version, in 24 of 24 looks at a canary pod, in 0 of 48 at a stable one"
    )


def test_a_known_error_that_comes_more_often_is_found() -> None:
    made = [lines(10.0 * t, c.Template("timeout", True, int(t % 8 == 0), 2)) for t in range(20)]
    found = after(LOGS, "logs", list(made))
    assert found.answer == Answer.WORSE
    assert "template timeout, known from stable" in found.message


@pytest.mark.parametrize("requests", [(0, 0), (100, 400), (900, 30)])
def test_a_template_that_all_pods_write_is_no_evidence_however_the_traffic_is_split(requests: tuple[int, int]) -> None:
    made = [lines(10.0 * t, c.Template("noise", False, 4, 2), requests=requests) for t in range(50)]
    answer, found = only(LOGS, "logs", list(made))
    assert answer == Answer.GOOD_ENOUGH
    assert found.evidence <= 1.01


def test_forty_novel_templates_written_by_both_are_no_evidence() -> None:
    many = [c.Template(f"t{i}", False, 2, 1) for i in range(40)]
    assert only(LOGS, "logs", [lines(10.0 * t, *many) for t in range(30)])[1].evidence <= 1.01


FEEDBACK = Rules((Check("feedback", "feedback"),))


def votes(at: float, *users: str, began: float = 1.0, canary: bool = True) -> c.Feedback:
    return c.Feedback(at, at + 10, 900, 100, tuple(c.Vote(user, canary, began) for user in users))


def test_ten_angry_users_of_the_canary_are_found() -> None:
    answer, found = only(FEEDBACK, "feedback", [votes(10.0 * t, f"a{t}", f"b{t}") for t in range(5)])
    assert answer == Answer.WORSE
    assert (
        found.message == "feedback: complaints by 10 users of the canary (500 requests), 0 of stable (4,500 requests)"
    )


def test_one_angry_user_counts_once_however_often() -> None:
    answer, found = only(FEEDBACK, "feedback", [votes(10.0 * t, "same") for t in range(20)])
    assert answer != Answer.WORSE
    assert found.failures == (0, 1)


def test_sessions_from_before_the_canary_do_not_count() -> None:
    assert only(FEEDBACK, "feedback", [votes(0, "old", began=-1.0)])[1].failures == (0, 0)


def samples(at: float, stable: list[float], canary: list[float]) -> c.Samples:
    def side(values: list[float]) -> tuple[c.Sample, ...]:
        return tuple(c.Sample(value, f"p{i}") for i, value in enumerate(values))

    return c.Samples(at, at + 10, side(stable), side(canary))


Series = Callable[[np.random.Generator], tuple[list[float], list[float]]]


@pytest.mark.parametrize(
    ("bad", "make", "answer"),
    [
        ("down", lambda d: ([*d.normal(50, 5, 4)], [*d.normal(30, 5, 2)]), Answer.WORSE),
        ("up", lambda d: ([*d.normal(50, 5, 4)], [*d.normal(30, 5, 2)]), Answer.GOOD_ENOUGH),
        ("up", lambda d: ([*d.normal(50, 5, 4)], [*d.normal(80, 5, 2)]), Answer.WORSE),
        ("down", lambda d: ([*d.normal(50, 5, 4)], [*d.normal(50, 5, 2)]), Answer.GOOD_ENOUGH),
        ("up", lambda d: ([0.0] * 4, [0.0] * 2), Answer.NOT_ENOUGH_DATA),
    ],
)
def test_a_metric_is_judged_in_its_bad_direction(bad: str, make: Series, answer: Answer) -> None:
    check = msgspec.convert({"name": "orders", "kind": "metric", "bad": bad}, Check)
    rules, draw = Rules((check,)), np.random.default_rng(8)
    made: list[c.Counts] = [samples(10.0 * t, *make(draw)) for t in range(25)]
    assert after(rules, "orders", made).answer == answer


def test_a_threshold_must_be_missed_several_times_in_a_row() -> None:
    rules = Rules((Check("queue", "threshold", most=10.0),))
    fine, over = (
        [c.Value(10.0 * t, 10.0 * t + 10, v) for t, v in enumerate(vs)] for vs in ([9, 11, 11, 9, 9, 9], [11] * 3)
    )
    assert after(rules, "queue", list(fine)).answer == Answer.GOOD_ENOUGH
    found = after(rules, "queue", list(over))
    assert (found.answer, found.message) == (
        Answer.WORSE,
        "queue: 11; at most 10 is asked for, 3 times in a row outside",
    )


def test_a_threshold_that_is_missed_but_not_often_enough_yet_is_waited_for() -> None:
    rules = Rules((Check("queue", "threshold", most=10),))
    state = lk.begin(rules, 0.0)
    for t, (value, waits) in enumerate([(9, False), (11, True), (12, True), (9, False)]):
        state = lk.look(state, rules, "queue", c.Value(10.0 * t, 10.0 * t + 10, float(value)))
        assert pending(state, rules, 10.0 * t + 10) is waits


def test_what_somebody_else_decided_decides() -> None:
    rules = Rules((Check("smoke", "outcome"),))
    assert after(rules, "smoke", [c.Outcome(0, 10, True)]).answer == Answer.GOOD_ENOUGH
    failed = after(rules, "smoke", [c.Outcome(0, 10, False, "3 of 20 tests failed")])
    assert (failed.answer, failed.message) == (Answer.WORSE, "smoke: failed: 3 of 20 tests failed")


def test_every_check_must_have_spoken_before_anything_is_good_enough() -> None:
    rules = Rules((Check("smoke", "outcome"), Check("logs", "logs")))
    state = lk.look(lk.begin(rules, 0.0), rules, "smoke", c.Outcome(0, 10, True))
    found = verdict(state, rules, 10.0)
    assert (found.answer, found.message) == (Answer.NOT_ENOUGH_DATA, "logs: no data yet")


def test_a_verdict_is_json() -> None:
    found = after(ERRORS, "errors", [events(0, 0, 3)])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (Rules(()), "checks: none"),
        (Rules((Check("a", "errors"), Check("a", "logs"))), "the name 'a' must occur once"),
        (Rules((Check("a", "errors"),), tolerate=0.9), "tolerate: 0.9 must be between 1 and 100"),
        (Rules((Check("a", "errors"),), false_alarms=0.0), "false_alarms: 0.0 must be between"),
        (Rules((Check("a", "errors"),), tolerate=2.0), "good_enough: 2.0 must be above tolerate 2.0"),
        (Rules((Check("a", "errors", weight=-1),)), r"checks\[a\].weight: -1 must be positive"),
        (Rules((Check("a", "latency", quantile=99),)), r"checks\[a\].quantile: 99 must be between 0 and 1"),
        (Rules((Check("a", "threshold"),)), "a threshold needs least, most or both"),
        (Rules((Check("a", "threshold", least=2, most=1),)), r"checks\[a\].least: 2 is above most 1"),
        (Rules((Check("a", "threshold", most=1, times=0),)), r"checks\[a\].times: 0 must be at least 1"),
    ],
)
def test_rules_that_can_not_be_used_are_refused(rules: Rules, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lk.begin(rules, 0.0)


@pytest.mark.parametrize(
    ("value", "text"), [(4.12, "4.1"), (0.934, "0.93"), (12.3, "12"), (1432, "1,400"), (0, "0"), (0.001, "0.00")]
)
def test_numbers_have_two_digits(value: float, text: str) -> None:
    assert number(value) == text

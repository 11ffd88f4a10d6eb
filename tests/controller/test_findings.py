"""What the looks at a release have found, and how it survives a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from davylamp.analysis import counts as c
from davylamp.api.analysis import Analysis, Check, Errors, Feedback, Job, Latency
from davylamp.api.verdict import AnalysisStatus, points_of
from davylamp.controller.findings import HISTORY, Findings
from davylamp.signals.gather import Look

ERRORS = Analysis(checks=(Check(errors=Errors()),))
BOUNDS = (0.01, 0.1, 1.0)


def events(number: int, stable: tuple[int, int] = (900, 1), canary: tuple[int, int] = (100, 0)) -> Look:
    """The interval `number` (from 0) of ten seconds, requests and failures of both."""
    start = 1000.0 + 10 * number
    counted = c.Events(start, start + 10, (c.Pod("a", *stable),), (c.Pod("b", *canary), c.Pod("d", 0, 0)))
    return Look((("errors", counted),), ())


def durations(number: int, canary: tuple[int, ...]) -> Look:
    """The same with a histogram of ten times as many requests of stable's, half of them in the first bucket."""
    (_, counted), *_ = events(number).counts
    start, end = counted.start, counted.end
    slow = c.Latencies(start, end, (c.Histogram("a", BOUNDS, (500, 300, 200, 0)),), (c.Histogram("b", BOUNDS, canary),))
    return Look((("errors", counted), ("latency", slow)), ())


def gone_on(findings: Findings, analysis: Analysis, now: float) -> Findings:
    """As after a restart: from what the status says."""
    status = msgspec.json.decode(msgspec.json.encode(findings.patch()), type=AnalysisStatus)
    return Findings(analysis, status, now)


def test_a_restart_goes_on_bit_for_bit() -> None:
    whole, broken = Findings(ERRORS, None, 1000.0), Findings(ERRORS, None, 1000.0)
    for number in range(12):
        canary = (100, number % 3)
        whole.take(events(number, canary=canary), 1010 + 10 * number)
        broken.take(events(number, canary=canary), 1010 + 10 * number)
        broken = gone_on(broken, ERRORS, 1010 + 10 * number)
    assert broken.patch() == whole.patch()
    assert broken.judgement.missed, "it has not looked yet"
    assert msgspec.structs.replace(broken.judgement, missed=False) == whole.judgement


def test_other_checks_than_those_that_were_written_begin_anew() -> None:
    before = Findings(ERRORS, None, 1000)
    before.take(events(0, canary=(100, 60)), 1010)
    after = gone_on(before, Analysis(checks=(Check(name="http", errors=Errors()),)), 1020)
    assert set(after.state.checks) == {"http"}
    assert after.judgement.blind


@pytest.mark.parametrize("state", ["", "{", "[]", '{"began": 1}'])
def test_a_state_that_cannot_be_read_begins_anew(state: str) -> None:
    assert Findings(ERRORS, AnalysisStatus(state=state, history="oops"), 1000).state.began == 1000


def test_data_that_stays_away_makes_blind_and_is_no_evidence() -> None:
    findings = Findings(ERRORS, None, 1000)
    assert findings.judgement.blind, "nothing was seen yet"
    findings.take(events(0), 1010)
    assert not findings.judgement.blind
    evidence = findings.status.checks[0].evidence
    findings.take(Look((), ("pod a: no answer within 5 s",)), 1100)
    assert findings.judgement.blind
    assert "no answer within 5 s" in findings.judgement.message
    assert findings.status.checks[0].evidence == evidence
    findings.take(events(10), 1110)
    assert not findings.judgement.blind


def test_counts_that_a_check_breaks_on_are_no_data_of_that_check_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Analysis(checks=(Check(errors=Errors()), Check(latency=Latency())))
    findings = Findings(both, None, 1000)
    findings.take(durations(0, (50, 30, 20, 0)), 1010)
    monkeypatch.setattr("davylamp.analysis.latency.look", broken)
    findings.take(durations(1, (50, 30, 20, 0)), 1020)
    assert findings.judgement.missed
    assert findings.status.problems == ("latency: ZeroDivisionError: a mistake of ours",)
    assert [seen.until for seen in findings.state.checks.values()] == [1020, 1010]


def broken(*_: object) -> None:
    raise ZeroDivisionError("a mistake of ours")


def test_a_look_without_data_is_known_at_once_and_the_third_in_a_row_makes_blind() -> None:
    findings = Findings(ERRORS, None, 1000)
    for number in range(30):
        findings.take(events(number), 1010 + 10 * number)
    assert (findings.judgement.good_enough, findings.judgement.missed) == (True, False)
    refused = Look((), ("pod b: connection refused",))
    findings.take(refused, 1310)
    assert (findings.judgement.good_enough, findings.judgement.missed) == (True, True)
    findings.take(msgspec.structs.replace(refused, idle=frozenset({"errors"})), 1315)
    assert not findings.judgement.blind, "nobody was asked"
    findings.take(refused, 1320)
    assert findings.judgement.good_enough
    findings.take(refused, 1330)
    judgement = findings.judgement
    assert (judgement.good_enough, judgement.missed, judgement.blind) == (False, True, True)
    assert judgement.message == "errors: no data for 30 s; the evidence so far is kept (pod b: connection refused)"
    stable_only = msgspec.structs.replace(events(33).counts[0][1], canary=())
    findings.take(Look((("errors", stable_only),), ()), 1340)
    assert findings.judgement.blind, "nothing was measured of the canary"
    findings.take(events(34), 1350)
    assert (findings.judgement.good_enough, findings.judgement.missed) == (True, False)


def test_a_minute_without_requests_of_the_canary_is_one_without_data() -> None:
    findings = Findings(ERRORS, None, 1000)
    for number in range(30):
        findings.take(events(number), 1010 + 10 * number)
    for number in range(30, 36):
        findings.take(events(number, canary=(0, 0)), 1010 + 10 * number)
        assert (findings.judgement.good_enough, findings.judgement.missed) == (True, False)
    findings.take(events(36, canary=(0, 0)), 1370)
    assert findings.judgement.blind
    assert findings.judgement.message == "errors: no data for 70 s; the evidence so far is kept"
    findings.take(events(37), 1380)
    assert findings.judgement.good_enough


def test_measurements_that_come_every_two_minutes_are_data_all_the_time() -> None:
    findings, idle = Findings(ERRORS, None, 1000), Look((), (), frozenset({"errors"}))
    for number in range(5):
        rare = c.Events(1000.0 + 120 * number, 1120.0 + 120 * number, (c.Pod("a", 900),), (c.Pod("b", 100),))
        findings.take(Look((("errors", rare),), ()), rare.end)
        for later in range(10, 120, 10):
            findings.take(idle, rare.end + later)
            assert not findings.judgement.blind
    findings.take(idle, 1600 + 310)
    assert findings.judgement.blind


def test_the_reason_for_missing_data_is_the_checks_own() -> None:
    analysis = Analysis(checks=(Check(errors=Errors()), Check(name="smoke", job=Job({}))))
    findings = Findings(analysis, None, 1000)
    refused = "smoke: its Job can't be run: forbidden"
    findings.take(Look((), (refused,)), 1010)
    assert findings.judgement.message == "errors: no data yet"
    findings.take(Look((), (refused, "pod b: connection refused")), 1020)
    assert findings.judgement.message == "errors: no data yet (pod b: connection refused)"
    findings.take(events(2), 1030)
    findings.take(Look(events(3).counts, (refused,)), 1040)
    assert findings.judgement.message == "smoke: no data yet (its Job can't be run: forbidden)"


def test_where_only_one_version_is_measured_there_is_no_data() -> None:
    findings = Findings(ERRORS, None, 1000)
    for number in range(3):
        findings.take(events(number, canary=(0, 0)), 1010 + 10 * number)
        assert findings.judgement.blind
    assert findings.judgement.message.startswith("errors: nothing to compare, 2,700 stable and 0 canary requests")
    findings.take(events(3), 1040)
    assert not findings.judgement.blind
    findings.take(events(4, canary=(0, 0)), 1050)
    assert not findings.judgement.blind, "a while without requests is no outage"


def outcome(number: int, passed: bool | None, message: str) -> tuple[str, c.Outcome]:
    return "smoke", c.Outcome(1000.0 + 10 * number, 1010.0 + 10 * number, passed, message)


def test_a_job_that_runs_is_waited_for_and_the_other_checks_judge_meanwhile() -> None:
    smoke = Check(name="smoke", job=Job({"spec": {"containers": [{"name": "test"}]}}))
    analysis = Analysis(checks=(Check(errors=Errors()), smoke))
    findings = Findings(analysis, None, 1000)
    running = "smoke: Job web-1-smoke-1 is running"
    for number in range(12):
        look = events(number)
        findings.take(Look((*look.counts, outcome(number, None, running)), ()), 1010 + 10 * number)
        judgement = findings.judgement
        assert (judgement.blind, judgement.pending, judgement.message) == (False, True, running)
        assert (findings.status.answer, findings.status.pending) == ("not enough data", True)
    after = gone_on(findings, analysis, 1120).judgement
    assert after == msgspec.structs.replace(findings.judgement, missed=True)
    away = Findings(analysis, AnalysisStatus(**_fields(findings)), 1120)
    away.take(events(12), 1130)
    for number in range(13, 21):
        away.take(events(number), 1010 + 10 * number)
    assert (away.judgement.blind, away.judgement.pending) == (True, False), "nothing was heard of it for a minute"
    assert away.judgement.message == "smoke: no data for 90 s; the evidence so far is kept"
    over = Findings(analysis, AnalysisStatus(**_fields(findings)), 1120)
    over.take(Look((*events(12).counts, outcome(12, True, "smoke: Job web-1-smoke-1 has succeeded")), ()), 1130)
    assert not over.judgement.pending
    assert over.status.checks[1].message == "smoke: passed: Job web-1-smoke-1 has succeeded"
    for number in range(12, 20):
        bad = events(number, canary=(100, 30))
        findings.take(Look((*bad.counts, outcome(number, None, running)), ()), 1010 + 10 * number)
    assert findings.judgement.worse


def _fields(findings: Findings) -> dict[str, Any]:
    return msgspec.structs.asdict(msgspec.json.decode(msgspec.json.encode(findings.patch()), type=AnalysisStatus))


def test_users_who_need_not_complain_are_not_waited_for() -> None:
    findings = Findings(Analysis(checks=(Check(errors=Errors()), Check(feedback=Feedback()))), None, 1000)
    findings.take(events(0), 1010)
    assert not findings.judgement.blind


def test_counts_that_make_no_sense_are_a_problem_of_their_check_and_no_evidence() -> None:
    findings = Findings(ERRORS, None, 1000)
    findings.take(events(0, canary=(1, 2)), 1010)
    assert findings.status.problems[0].startswith("errors: canary[0] (b).failures: 2 are more than the 1 requests")
    assert findings.status.canary.requests == 0


def test_the_history_is_bounded_and_spans_the_whole_release() -> None:
    findings = Findings(ERRORS, None, 1000)
    for number in range(1000):
        findings.take(events(number), 1010 + 10 * number)
    points = points_of(findings.patch()["history"])
    assert len(points) <= HISTORY
    assert points[0].at < 1000 + 10_000 / 4
    assert points[-1].at == 11_000
    assert points[-1].requests == (900_000, 100_000)
    assert len(msgspec.json.encode(findings.patch())) < 16_000


def test_both_versions_requests_and_how_fast_they_were_are_told() -> None:
    findings = Findings(Analysis(checks=(Check(errors=Errors()), Check(latency=Latency(quantile=0.9)))), None, 1000)
    slow = c.Histogram("b", BOUNDS, (0, 80, 20, 0))
    latencies = c.Latencies(1000, 1010, (c.Histogram("a", BOUNDS, (900, 0, 0, 0)),), (slow,))
    findings.take(Look((*events(0).counts, ("latency", latencies)), ()), 1010)
    stable, canary = findings.status.stable, findings.status.canary
    assert (stable.requests, stable.failures, stable.slow) == (900, 1, 0.009)
    assert (canary.requests, canary.failures, canary.slow) == (100, 0, 0.55)


def test_every_field_is_written_so_that_none_is_left_over() -> None:
    made: dict[str, Any] = Findings(ERRORS, None, 1000).patch()
    assert set(made) == {field.encode_name for field in msgspec.structs.fields(AnalysisStatus)}
    assert made["canary"] == {"requests": 0, "failures": 0, "slow": None}


def test_looks_that_are_not_told_decide_the_same_and_a_change_is_put_into_words() -> None:
    told, brief = Findings(ERRORS, None, 1000), Findings(ERRORS, None, 1000)
    told.take(events(0), 1010)
    brief.take(events(0), 1010)
    for number in range(1, 6):
        told.take(events(number, canary=(100, 30)), 1010 + 10 * number)
        before = brief.judgement
        brief.take(events(number, canary=(100, 30)), 1010 + 10 * number, told=False)
        assert brief.judgement.worse == told.judgement.worse
        if not brief.judgement.worse:
            assert brief.judgement is before, "the words stay as they were"
    assert brief.judgement.worse
    assert "times stable's" in brief.judgement.message
    assert brief.patch()["state"] == told.patch()["state"]
    assert brief.status.answer == "worse"


def test_where_nobody_reads_what_is_kept_the_judgements_are_the_same() -> None:
    analysis = Analysis(checks=(Check(errors=Errors()), Check(latency=Latency())))
    kept, brief = Findings(analysis, None, 1000), Findings(analysis, None, 1000, kept=False)
    for number in range(20):
        seen = durations(number, canary=(max(0, 50 - 5 * number), 20, 30 + 5 * number, 0))
        for findings in (kept, brief):
            findings.take(seen, 1010 + 10 * number)
        assert kept.judgement.worse == brief.judgement.worse
        both = (kept.state.checks["latency"], brief.state.checks["latency"])
        assert both[0].everything == both[1].everything
    assert kept.judgement.worse
    assert points_of(kept.patch()["history"])
    assert points_of(brief.patch()["history"]) == []

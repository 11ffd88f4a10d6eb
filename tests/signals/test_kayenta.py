"""Scores of the Kayenta-compatible judge, and what they mean for a release."""

from __future__ import annotations

import pytest

from davylamp.analysis.kayenta import Classification, Label
from davylamp.api.analysis import Kayenta, KayentaMetric
from davylamp.signals.kayenta import outcome

PASS, HIGH, NONE = Label.PASS, Label.HIGH, Label.NO_DATA


@pytest.mark.parametrize(
    ("labels", "critical", "must", "passed", "message"),
    [
        ([PASS, PASS], False, False, True, "score 100 of 100, 90 passes"),
        ([PASS, PASS, PASS, PASS, HIGH], False, False, None, "score 80 of 100, 90 passes; m4 is High (1.5 times"),
        ([PASS, HIGH], False, False, False, "score 50 of 100"),
        ([PASS, PASS, PASS, PASS, HIGH], True, False, False, "score 0 of 100"),
        ([PASS, PASS, PASS, NONE], False, False, True, "score 100 of 100"),
        ([PASS, PASS, PASS, NONE], False, True, None, "score 75 of 100, 90 passes; m3 has no data"),
        ([NONE, NONE], False, False, False, "score 0 of 100"),
    ],
)
def test_scores_decide(labels: list[Label], critical: bool, must: bool, passed: bool | None, message: str) -> None:
    metrics = [KayentaMetric(f"m{n}", "up", critical=critical, must_have_data=must) for n in range(len(labels))]
    judged = [Classification(label, None if label is NONE else 1.5) for label in labels]
    found = outcome(Kayenta(tuple(metrics), pass_score=90), "judge", list(zip(metrics, judged, strict=True)))
    assert found.passed is passed
    assert found.message.startswith(f"judge: {message}")

"""The commands about verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from davylamp.analysis import counts as c
from davylamp.api.analysis import Analysis, Check, Errors, Latency
from davylamp.api.verdict import AnalysisStatus
from davylamp.cli import exits
from davylamp.controller.findings import Findings
from davylamp.signals.gather import Look
from tests.cli.conftest import Davy, Serve
from tests.core.model import Cluster
from tests.view import situations

HISTORY = json.dumps([[1000 + 10 * n, "errors", 2.0**n, [900 * n, 100 * n], [n, 2 * n]] for n in range(9)])
CHECK = {
    "name": "errors",
    "message": "errors 9.0 times stable's (at least 0.85)",
    "evidence": 256,
    "needed": 250,
    "requests": [7200, 800],
    "failures": [8, 16],
}


def worse() -> Cluster:
    return situations.analysed("worse", checks=[CHECK], history=HISTORY)


def test_the_evidence_of_each_check_is_drawn_over_time(davy: Davy, serve: Serve) -> None:
    serve(worse())
    lines = davy("verdict", "web").lines
    assert lines[0] == "shop/web  release web-bc87ce785f-1  worse"
    assert lines[1].split("  ") == ["", "errors", "▁▂▃▄▅▅▆▇█", "256 of 250", CHECK["message"]]
    assert lines[2].startswith("  one canary pod")


def test_programs_read_the_counts_that_went_in(davy: Davy, serve: Serve) -> None:
    serve(worse())
    said = json.loads(davy("verdict", "web", "-o", "json").out)
    assert said["verdict"]["answer"] == "worse"
    assert said["history"][8] == {
        "at": "1970-01-01T00:18:00Z",
        "check": "errors",
        "evidence": 256.0,
        "requests": [7200, 800],
        "failures": [8, 16],
        "aside": [0, 0],
        "slower": None,
    }
    assert (said["tolerate"], said["complete"]) == (1.25, False)


def test_anybody_can_recompute_the_evidence_by_the_program_in_the_documentation(davy: Davy, serve: Serve) -> None:
    analysis = Analysis(checks=(Check(errors=Errors()),))
    findings, draw = Findings(analysis, None, 1000.0), np.random.default_rng(4)
    for number in range(30):
        start, age = 1000.0 + 10 * number, 10.0 * number
        old = tuple(c.Pod(f"a{i}", 300, int(draw.binomial(300, 0.002))) for i in range(3))
        new = tuple(c.Pod(f"b{i}", 50, int(draw.binomial(50, 0.006)), max(0.0, age - 90 * i)) for i in range(2))
        looked = c.Events(start, start + 10, old, new if number else ())
        findings.take(Look((("errors", looked),), ()), start + 10)
    serve(situations.analysed(**findings.patch()))
    out = davy("verdict", "web", "-o", "json").out
    assert json.loads(out)["complete"]
    rows = recomputed(out, 1)
    assert len(rows) == 30
    for said, everything, warm in rows:
        assert any(abs(said / value - 1) < 1e-3 for value in (everything, min(everything, warm)))
    assert max(everything for _, everything, _ in rows) > 10, "there was something to compute"
    assert len({round(everything / warm, 3) for _, everything, warm in rows}) > 20, "and something to keep aside"


def recomputed(out: str, number: int) -> list[list[float]]:
    """What the program in the documentation makes of it, for each look: the evidence said, and both accounts."""
    text = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()
    program = text.partition("## Recompute it")[2].split("```python\n")[number].partition("```")[0]
    done = subprocess.run([sys.executable, "-c", program], input=out, capture_output=True, text=True, check=True)
    return [[float(number) for number in line.split()[1:]] for line in done.stdout.splitlines()]


LATENCY = Analysis(checks=(Check(latency=Latency()),))


def slow(number: int, draw: np.random.Generator, age: float) -> Look:
    """An interval in which the canary is slower, pods of stable differ by more than chance, and some are young."""
    bounds, start = (0.05, 0.1, 0.2, 0.5, 1.0), 1000.0 + 10 * number

    def pod(name: str, requests: int, scale: float, age: float | None = None) -> c.Histogram:
        shares = np.diff([0.0, *(1 - np.exp(-np.array(bounds) / scale)), 1.0])
        return c.Histogram(name, bounds, tuple(map(int, draw.multinomial(requests, shares))), age)

    old = tuple(pod(f"a{i}", 300, 0.1 * draw.uniform(0.8, 1.2)) for i in range(3))
    new = tuple(pod(f"b{i}", 50, 0.15, max(0.0, age - 90 * i)) for i in range(2)) if number else ()
    old = () if number == 7 else old
    return Look((("latency", c.Latencies(start, start + 10, old, new)),), ())


def test_anybody_can_recompute_the_evidence_of_latency_too(davy: Davy, serve: Serve) -> None:
    findings, draw = Findings(LATENCY, None, 1000.0), np.random.default_rng(4)
    for number in range(30):
        findings.take(slow(number, draw, 10.0 * number), 1010.0 + 10 * number)
        if number == 12:
            status = msgspec.json.decode(msgspec.json.encode(findings.patch()), type=AnalysisStatus)
            findings = Findings(LATENCY, status, 1010.0 + 10 * number)
    serve(situations.analysed(**findings.patch()))
    rows = recomputed(davy("verdict", "web", "-o", "json").out, 2)
    assert len(rows) == 29, "no bet where stable served nothing"
    for said, everything, warm in rows:
        counts = everything if warm >= 10 else min(everything, warm)
        assert abs(said / counts - 1) < 2e-3, (said, everything, warm)
    assert max(said for said, _, _ in rows) > 100, "there was something to compute"
    assert len({round(everything / warm, 3) for _, everything, warm in rows}) > 20, "and something to keep aside"


def test_what_the_evidence_of_latency_came_from_is_bounded_in_size(davy: Davy, serve: Serve) -> None:
    findings, draw = Findings(LATENCY, None, 1000.0), np.random.default_rng(4)
    sizes = []
    for number in range(240):
        findings.take(slow(number, draw, 10.0 * number), 1010.0 + 10 * number)
        sizes.append(len(findings.patch()["history"]))
    assert max(sizes) < 60_000
    serve(situations.analysed(**findings.patch()))
    history = json.loads(davy("verdict", "web", "-o", "json").out)["history"]
    assert {look["slower"] for look in history} == {None}, "a part of it would be of no use"


def test_a_picture_is_a_file(davy: Davy, serve: Serve, tmp_path: Path) -> None:
    serve(worse())
    assert davy("verdict", "web", "--plot", str(tmp_path / "out.svg")).code == exits.OK
    picture = ElementTree.parse(tmp_path / "out.svg")
    curves = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(curve.attrib["points"].split()) for curve in curves] == [9]


@pytest.mark.parametrize(
    ("cluster", "why"),
    [(situations.with_policy, "no release of shop/web yet"), (lambda: situations.in_step(1), "has no analysis")],
)
def test_without_an_analysis_the_reason_is_told(davy: Davy, serve: Serve, cluster: Serve, why: str) -> None:
    serve(cluster())  # type: ignore[call-arg, arg-type]
    result = davy("verdict", "web")
    assert result.code == exits.NOT_FOUND
    assert why in result.err


def test_a_vote_is_written_into_the_release(davy: Davy, serve: Serve) -> None:
    server = serve(situations.in_step(1, analysis={"checks": [{"errors": {}}, {"feedback": {}}]}))
    assert davy("feedback", "web", "--bad", "--note", "can't pay", "--user", "4711").code == exits.OK
    assert davy("feedback", "web", "--good", "--stable").code == exits.OK
    first, second = server.asked()["feedback"]
    assert (first["user"], first["bad"], first["note"], first["by"]) == ("4711", True, "can't pay", "ann (ann@laptop)")
    assert second["stable"]
    assert not second.get("bad")
    assert len(second["user"]) == 16


def test_a_release_that_counts_no_votes_refuses_them(davy: Davy, serve: Serve) -> None:
    server = serve(situations.in_step(1))
    result = davy("feedback", "web", "--bad")
    assert result.code == exits.REFUSED
    assert "feedback: {}" in result.err
    assert "feedback" not in server.asked()


METRICS = """# TYPE http_requests_total counter
http_requests_total{path="/",status="200"} 10
http_requests_total{path="/healthz",status="200"} 99
"""


def test_what_the_pods_show_is_listed_with_the_check_that_it_feeds(davy: Davy, serve: Serve) -> None:
    cluster = situations.with_policy()
    server = serve(cluster)
    for pod in cluster.all("Pod"):
        server.texts["shop", pod["metadata"]["name"], "8080/metrics", False] = METRICS
    result = davy("analysis", "detect", "web")
    assert result.code == exits.OK, result.err
    assert [line.split()[:3] for line in result.lines[1:3]] == [
        ["METRIC", "SERIES", "FEEDS"],
        ["http_requests_total", "2", "errors"],
    ]
    assert result.lines[-1].startswith("nothing feeds latency")


def test_pods_without_metrics_say_where_they_were_looked_for(davy: Davy, serve: Serve) -> None:
    serve(situations.with_policy())
    result = davy("analysis", "detect", "web")
    assert result.code == exits.FAILED
    assert "8080/metrics" in result.err

"""The commands about verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from davylamp.cli import exits
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
    }


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

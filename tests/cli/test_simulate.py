"""`davy simulate`: what is asked, what is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.dom import minidom

import pytest

from davylamp.cli import exits
from tests.cli.conftest import Davy, Serve
from tests.core.model import Cluster
from tests.core.test_gateway import routed
from tests.view import situations

POLICY = """\
apiVersion: davylamp.dev/v1alpha1
kind: ReleasePolicy
metadata: {name: web, namespace: shop}
spec:
  target: {name: web}
  traffic: {service: web, routes: [{ingress: {name: web}}]}
  steps:
    - {weight: 10, hold: 2m}
    - {weight: 100}
  analysis: {}
"""
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


def test_one_release_is_told_step_by_step(davy: Davy, file: str) -> None:
    result = davy("simulate", "-f", file, "--canary-errors", "5%", "--seed", "3")
    assert result.code == exits.OK
    lines = result.out.splitlines()
    assert lines[0] == "policy shop/web: Deployment web, 4 pods"
    told = [line.split() for line in lines if re.match(r"  \d:\d\d:\d\d", line)]
    assert [words[1] for words in told][:2] == ["Applied", "Traffic"]
    assert told[-1][1] == "RolledBack"
    assert [words[0] for words in told] == sorted(words[0] for words in told)
    assert re.search(r"^RolledBack after .* served [\d,]+ requests, \d+ of them failed$", result.out, re.MULTILINE)


def test_many_releases_are_told_as_a_distribution_beside_good_ones(davy: Davy, file: str) -> None:
    result = davy("simulate", "-f", file, "--canary-errors", "5%", "--runs", "3", "-o", "json")
    report = json.loads(result.out)
    assert report["given"]["takenBack"] == {
        "count": 3,
        "of": 3,
        "share": 1,
        "low": pytest.approx(0.4385, abs=1e-3),
        "high": 1,
    }
    assert report["given"]["reasons"] == {"Worse": 3}
    assert report["given"]["requests"]["median"] > 0
    assert report["good"]["completed"]["count"] == 3
    assert report["good"]["untilBack"] is None
    assert report["release"]["timeline"][0]["what"] == "Applied"
    told = davy("simulate", "-f", file, "--canary-errors", "5%", "--runs", "2").out
    assert "2 releases of the version above" in told
    assert "2 releases of a version as good as the old one" in told


def test_the_picture_is_well_formed_and_has_both_panels(davy: Davy, file: str, tmp_path: Path) -> None:
    plot = tmp_path / "out.svg"
    assert davy("simulate", "-f", file, "--canary-errors", "5%", "--plot", str(plot)).code == exits.OK
    picture = minidom.parseString(plot.read_text())
    assert len(picture.getElementsByTagName("polyline")) == 1
    assert len(picture.getElementsByTagName("path")) == 2
    assert "RolledBack" in picture.getElementsByTagName("text")[0].firstChild.data  # type: ignore[union-attr]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_simulated(davy: Davy, example: Path) -> None:
    result = davy("simulate", "-f", str(example), "--crash", "1s", "-o", "json")
    assert (result.code, result.err) == (exits.OK, "")
    assert json.loads(result.out)["release"]["phase"] == "RolledBack"


def test_the_worked_example_of_the_docs_is_what_the_command_says(davy: Davy, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "simulate -f examples/analysis.yaml --canary-errors 1%"
    shown = (ROOT / "docs" / "simulate.md").read_text().partition(f"    $ davy {command}\n")[2].partition("\n\n")[0]
    monkeypatch.chdir(ROOT)
    assert davy(*command.split()).out.split() == shown.split()


def test_a_recorded_series_is_followed(davy: Davy, file: str, tmp_path: Path) -> None:
    series = tmp_path / "day.csv"
    series.write_text("time,rps,canary_errors\n0,100,0.1%\n60,200,20%\n")
    report = json.loads(davy("simulate", "-f", file, "--scenario", str(series), "-o", "json").out)
    assert report["scenario"]["moments"][1] == {"at": 60, "rps": 200, "stableErrors": 0.001, "canaryErrors": 0.2}
    assert report["release"]["reason"] == "Worse"
    assert report["release"]["seconds"] > 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a workload of the cluster, or a file with a policy (-f)"),
        (("-f", "none.yaml"), "none.yaml can't be read: No such file or directory"),
        (("-f", "{file}", "--stable-errors", "0.1"), '--stable-errors: "0.1" is not a percentage'),
        (("-f", "{file}", "--testers", "101%"), "--testers: 101% is more than all of them, 100%"),
        (("-f", "{file}", "--canary-latency", "0s"), "--canary-latency: a request takes more than 0 s"),
        (("-f", "{file}", "--crash", "soon"), '"soon" is not a duration'),
        (("-f", "{file}", "-o", "name"), "-o name: a simulation has no name"),
        (("deployment/web", "-f", "{file}"), "with -f the name can only be that of a policy in the file"),
        (("blog", "-f", "{file}"), "no blog among policies web"),
    ],
)
def test_bad_input_is_told_with_what_would_be_right(
    davy: Davy, file: str, words: tuple[str, ...], message: str
) -> None:
    result = davy("simulate", *(word.format(file=file) for word in words))
    assert result.code == exits.BAD_INPUT
    assert message in result.err
    assert result.out == ""


def test_a_policy_with_problems_is_refused_with_all_of_them(davy: Davy, file: str) -> None:
    Path(file).write_text(
        POLICY.replace("weight: 10,", "weight: 100,").replace("{}", "{tolerate: 1.25, falseAlarms: 50%}")
    )
    result = davy("simulate", "-f", file)
    assert result.code == exits.BAD_INPUT
    assert "policy shop/web can't be used, 2 problems:" in result.err


@pytest.mark.parametrize(
    "cluster", [situations.done(), situations.in_step(1)], ids=["at rest", "while a release is under way"]
)
def test_policy_and_pods_are_taken_from_a_cluster(davy: Davy, serve: Serve, cluster: Cluster) -> None:
    server = serve(cluster)
    result = davy("simulate", "web", "--rps", "50", "--crash", "1s", "-o", "json")
    assert (result.code, result.err) == (exits.OK, "")
    report = json.loads(result.out)
    assert (report["policy"], report["deployment"], report["replicas"]) == ("shop/web", "web", 4)
    assert report["scenario"]["moments"][0]["rps"] == 50
    assert report["release"]["phase"] == "RolledBack"
    assert not any(note.startswith("made up") for note in report["notes"])
    assert not server.writes


def test_the_old_version_is_the_one_that_runs_whatever_the_deployment_asks_for(davy: Davy, serve: Serve) -> None:
    """While a release is under way, and after it was taken back, the template is another than stable's."""
    for cluster in (situations.in_step(1), situations.held()):
        serve(cluster)
        report = json.loads(davy("simulate", "web", "--rps", "50", "-o", "json").out)
        assert any("against hellok8s:v1" in entry["message"] for entry in report["release"]["timeline"])


@pytest.mark.parametrize("under_way", [False, True])
def test_routes_are_those_of_the_cluster_unless_a_release_has_changed_them(
    davy: Davy, serve: Serve, under_way: bool
) -> None:
    cluster = routed(10, 100)
    cluster.run(lambda: bool(under_way and cluster.weights and cluster.weights[-1] == 10))
    serve(cluster)
    report = json.loads(davy("simulate", "web", "--rps", "50", "-o", "json").out)
    assert report["release"]["phase"] == "Completed"
    made_up = [note for note in report["notes"] if note.startswith("made up")]
    assert made_up == (["made up to fit the policy: HTTPRoute web"] if under_way else [])


def test_a_workload_without_a_policy_is_not_simulated(davy: Davy, serve: Serve) -> None:
    serve(situations.without_policy())
    result = davy("simulate", "web")
    assert (result.code, result.err) == (
        exits.NOT_FOUND,
        "davy: shop/web has no policy: there is nothing to simulate\n",
    )


def test_requests_per_second_come_from_the_pods_counters(
    davy: Davy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(situations.done())
    served = {"now": 0.0}

    async def ask_pod(namespace: str, pod: str, port: int, path: str) -> bytes:
        served["now"] += 100
        return f'# TYPE http_requests_total counter\nhttp_requests_total{{code="200"}} {served["now"]}\n'.encode()

    monkeypatch.setattr(server, "ask_pod", ask_pod)
    monkeypatch.setattr("davylamp.cli.taken.SECONDS", 0.2)
    report = json.loads(davy("simulate", "web", "--crash", "1s", "-o", "json").out)
    assert report["scenario"]["moments"][0]["rps"] > 0
    assert any("are what the pods served" in note for note in report["notes"]), report["notes"]

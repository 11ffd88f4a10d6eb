"""Every YAML in examples/ releases a version: by the real controller, with imagined pods and requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from davylamp.api.types import Phase
from davylamp.embedded.simulate.run import run
from davylamp.embedded.simulate.scenario import Moment, Scenario
from davylamp.embedded.simulate.stage import read

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
GOOD = Scenario((Moment(0, 100, 0.001, 0.001),), testers=0.1)
BAD = Scenario((Moment(0, 100, 0.001, 0.05),), testers=0.1)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_releases_a_good_version_and_takes_a_crashing_one_back(file: Path) -> None:
    stage = read(file.read_text())
    good, crashing = run(stage, GOOD, seed=1), run(stage, Scenario(crash=1), seed=1)
    assert (good.phase, crashing.phase) == (Phase.COMPLETED, Phase.ROLLED_BACK)
    # A canary made by hand has its share of the requests before there is a release.
    assert crashing.served.canary == 0 or file.stem == "two-deployments-canary-ingress"


def test_the_ways_of_the_guide_are_there_under_their_names() -> None:
    guide = {"nginx-weight", "nginx-header", "nginx-cookie", "nginx-combined", "istio", "pause-and-undo"}
    guide |= {"two-deployments-nginx-weight", "two-deployments-one-service", "two-deployments-canary-ingress"}
    assert guide | {"blue-green", "ab-test"} <= {file.stem for file in EXAMPLES}


def test_in_blue_green_nobody_reaches_the_new_version_before_the_switch() -> None:
    seen = run(read((EXAMPLES[0].parent / "blue-green.yaml").read_text()), GOOD, seed=1)
    assert {point.weight for point in seen.weights} == {0, 100}


def test_a_version_that_fails_only_under_the_users_is_returned_from_the_bake() -> None:
    text = (EXAMPLES[0].parent / "blue-green.yaml").read_text()
    seen = run(read(f"{text}  analysis: {{}}\n"), BAD, seed=1)
    assert (seen.phase, seen.reason) == (Phase.ROLLED_BACK, "Worse")
    assert "since the canary gets all" in seen.message
    switched = next(point.at for point in seen.weights if point.weight == 100)
    assert seen.seconds - switched < 120


def test_a_test_of_two_versions_ends_with_a_verdict() -> None:
    stage = read((EXAMPLES[0].parent / "ab-test.yaml").read_text())
    seen = run(stage, BAD, seed=1)
    assert (seen.phase, seen.reason) == (Phase.ROLLED_BACK, "Worse")
    assert max(point.weight for point in seen.weights) < 100
    assert seen.served.canary / (seen.served.canary + seen.served.stable) == pytest.approx(0.1, abs=0.02)

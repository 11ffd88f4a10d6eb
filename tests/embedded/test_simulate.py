"""Simulated releases: the real controller, imagined pods and requests."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from davylamp.api.types import Phase
from davylamp.embedded.simulate.many import outcomes
from davylamp.embedded.simulate.run import Outcome, run
from davylamp.embedded.simulate.scenario import Latency, Moment, Scenario
from davylamp.embedded.simulate.stage import Stage, Unusable, read

ROUTED: dict[str, Any] = {"service": "web", "routes": [{"ingress": {"name": "web"}}]}
STEPS = [{"weight": 10, "hold": "2m"}, {"weight": 50, "hold": "2m"}, {"weight": 100}]


def policy(**spec: Any) -> str:
    given = {"target": {"name": "web"}, "steps": STEPS, "traffic": ROUTED} | spec
    metadata = {"name": "web", "namespace": "shop"}
    kind = {"apiVersion": "davylamp.dev/v1alpha1", "kind": "ReleasePolicy"}
    return yaml.safe_dump({**kind, "metadata": metadata, "spec": given})


def stage(**spec: Any) -> Stage:
    return read(policy(**spec))


def traffic(stable: float = 0.001, canary: float = 0.001, rps: float = 100) -> Scenario:
    return Scenario((Moment(0, rps, stable, canary),))


BAD = traffic(canary=0.05)


def words(outcome: Outcome) -> list[str]:
    return [entry.what for entry in outcome.timeline]


def test_a_good_version_is_released_step_by_step() -> None:
    seen = run(stage(), traffic(), seed=1)
    assert seen.phase is Phase.COMPLETED
    assert [point.weight for point in seen.weights] == [0, 10, 50, 100, 100]
    assert seen.seconds > 240
    assert words(seen)[0] == "Applied"
    assert words(seen)[-1] == "Completed"


def test_what_a_version_has_served_follows_the_weight_in_effect() -> None:
    seen = run(stage(steps=[{"weight": 20, "hold": "30m"}, {"weight": 100}]), traffic(), seed=1)
    assert seen.served.canary / (seen.served.canary + seen.served.stable) == pytest.approx(0.2, abs=0.02)
    assert seen.served.canary + seen.served.stable == pytest.approx(100 * seen.seconds, rel=0.02)
    assert seen.served.canary_failed / seen.served.canary == pytest.approx(0.001, abs=0.0006)


def test_weights_and_copies_are_seen_in_effect_from_the_imagined_requests() -> None:
    routes = {"service": "web", "routes": [{"virtualService": {"name": "web"}}], "settle": "10m"}
    steps = [{"weight": 0, "mirror": 50, "hold": "1m"}, {"weight": 10, "hold": "1m"}, {"weight": 50, "mirror": 20}]
    seen = run(stage(steps=steps, traffic=routes), traffic(rps=300), seed=1)
    assert seen.phase is Phase.COMPLETED
    entered = [entry.at for entry in seen.timeline if entry.what == "StepInEffect"]
    assert len(entered) == 3
    assert entered[-1] < 180, "no settling time was waited for"


def test_by_subsets_of_one_host_the_share_is_what_the_route_says() -> None:
    routes = {"service": "web", "routes": [{"virtualService": {"name": "web", "subsets": True}}]}
    seen = run(stage(steps=[{"weight": 10, "hold": "1m"}, {"weight": 100, "hold": "1m"}], traffic=routes), traffic(), 1)
    assert seen.phase is Phase.COMPLETED
    assert [point.weight for point in seen.weights] == [0, 10, 100, 100]


def test_by_the_number_of_pods_the_share_is_that_of_the_pods() -> None:
    seen = run(stage(steps=[{"weight": 50, "hold": "1m"}, {"weight": 100}], traffic={"service": "web"}), traffic(), 1)
    assert 50 in [point.weight for point in seen.weights]


def test_more_failures_are_found_and_the_traffic_is_taken_away() -> None:
    seen = run(stage(analysis={}), BAD, seed=1)
    assert seen.phase is Phase.ROLLED_BACK
    assert seen.reason == "Worse"
    assert seen.weights[-1].weight == 0
    assert seen.verdict == "worse"
    assert seen.exposed < seen.seconds < 240


def test_slower_answers_are_found() -> None:
    slow = Scenario(canary=Latency(median=0.1))
    seen = run(stage(analysis={}), slow, seed=1)
    assert (seen.phase, seen.reason) == (Phase.ROLLED_BACK, "Worse")
    assert "latency" in seen.message or "slower" in seen.message


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_is_always_found_and_reaches_nobody(seed: int) -> None:
    seen = run(stage(), Scenario(crash=1), seed)
    assert seen.phase is Phase.ROLLED_BACK
    assert seen.served.canary == 0
    assert "crashed" in seen.message


def test_without_an_analysis_failures_are_not_seen() -> None:
    assert run(stage(), BAD, seed=1).phase is Phase.COMPLETED


def test_people_approve_after_the_time_that_they_need() -> None:
    steps = [{"weight": 10, "hold": "1m", "approve": True}, {"weight": 100}]
    seen = run(stage(steps=steps), Scenario(approve_after=600), seed=1)
    approved = next(entry for entry in seen.timeline if entry.what == "Approved")
    in_effect = next(entry for entry in seen.timeline if entry.what == "StepInEffect")
    assert approved.at == pytest.approx(in_effect.at + 660, abs=1)
    assert seen.phase is Phase.COMPLETED


def test_where_no_verdict_comes_in_time_people_are_asked_and_approve() -> None:
    seen = run(stage(analysis={"atMost": "3m"}), traffic(rps=0.5), seed=1)
    assert "Unclear" in words(seen)
    assert seen.phase is Phase.COMPLETED


def test_a_release_that_does_not_end_is_given_up_watching() -> None:
    seen = run(stage(analysis={}), Scenario((Moment(0, 0.01, 0, 0),), limit=900), seed=1)
    assert seen.phase is None
    assert seen.seconds == pytest.approx(900, abs=1)
    assert words(seen)[-1] == "NotEnded"


def test_failures_that_begin_later_are_found_later() -> None:
    later = Scenario((Moment(0, 100, 0.001, 0.001), Moment(180, 100, 0.001, 0.1)))
    seen = run(stage(analysis={}), later, seed=1)
    assert seen.reason == "Worse"
    assert seen.seconds > 180


def test_the_same_seed_gives_the_same_release() -> None:
    here = stage(analysis={})
    assert run(here, BAD, 7, 3) == run(here, BAD, 7, 3)
    assert run(here, BAD, 7, 3).served != run(here, BAD, 7, 4).served


@pytest.mark.parametrize("scenario", [BAD, Scenario(), Scenario(crash=20)], ids=["worse", "good", "crashing"])
def test_a_brief_release_goes_the_same_way(scenario: Scenario) -> None:
    here = stage(analysis={})
    full, brief = run(here, scenario, 7, 3), run(here, scenario, 7, 3, brief=True)
    assert (brief.timeline, brief.weights, brief.verdicts) == ((), (), ())
    for field in ("phase", "reason", "seconds", "exposed", "served", "verdict"):
        assert getattr(brief, field) == getattr(full, field), field


def test_processes_change_nothing() -> None:
    here = stage()
    alone = list(outcomes(here, BAD, 5, 6, processes=1))
    together = sorted(outcomes(here, BAD, 5, 6, processes=2), key=lambda one: one.number)
    assert alone == together


def test_a_policy_with_problems_is_refused_with_all_of_them() -> None:
    wrong = policy(steps=[{"weight": 50}, {"weight": 10, "hold": "1m"}], progressDeadline="0s")
    with pytest.raises(Unusable) as refused:
        read(wrong)
    assert len(refused.value.problems) >= 2


def test_what_the_policy_names_is_made_up_where_it_is_not_given() -> None:
    assert stage().made_up == ("Deployment web", "Service web", "Ingress web")
    assert stage(traffic=None).made_up == ("Deployment web",)
    fleet = stage(target={"matchLabels": {"tier": "front"}}, traffic={"detect": True})
    assert fleet.made_up == ("Deployment app", "Service app", "Ingress app")

"""Releases on the real control plane, under real traffic: every way a release goes."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
from davylab import Lab

from davylamp.kube.gate import MARK
from tests.cluster.shop import Controller, Json, Shop, Traffic

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
CRASHING = "hellok8s:v9-crash"
SLOW_STEPS: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "approve": True}, {"weight": 100}]


@pytest.fixture
def traffic(shop: Shop) -> Traffic:
    shop.open()
    return Traffic(shop)


def test_nginx_weights_take_effect_and_the_canary_becomes_the_deployment(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    stable = shop.pods()
    shop.policy(*SLOW_STEPS)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert abs(traffic.share("v2") - 10) < 2
    shop.davy("approve", "web")
    shop.wait_step(V2, 2)
    assert abs(traffic.share("v2") - 50) < 2
    canary = {name for name, image in shop.pods().items() if image == V2}
    assert stable.items() <= shop.pods().items(), "no stable pod was touched"
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)
    assert canary <= set(shop.pods()), "the canary's pods are the Deployment's, none restarted"
    assert shop.leftovers() == []
    deployment = shop.get("deployment", "web")
    assert not deployment["spec"].get("paused")
    assert traffic.share("v2") == 100
    traffic.nothing_lost()


def test_a_rollback_from_half_of_the_traffic_loses_nothing(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    stable = shop.pods()
    shop.policy({"weight": 50, "approve": True})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    done = shop.davy("abort", "web", "--reason", "enough seen", "--wait", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.phase(V2) == "RolledBack"
    assert "enough seen" in shop.release(V2)["status"]["message"]
    assert traffic.share("v1") == 100
    assert shop.get("deployment", "web")["spec"]["paused"], "held"
    shop.wait_quiet(V1)
    assert shop.pods() == stable
    assert shop.leftovers() == []
    traffic.nothing_lost()


def test_a_rollback_from_all_loses_nothing(shop: Shop, traffic: Traffic, controller: Controller) -> None:
    shop.policy({"weight": 100, "approve": True}, onFailure="revert")
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert traffic.share("v2") == 100
    shop.davy("abort", "web")
    shop.wait_phase(V2, "RolledBack")
    deployment = shop.get("deployment", "web")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == V1
    assert not deployment["spec"].get("paused")
    shop.wait_quiet(V1)
    assert shop.leftovers() == []
    traffic.nothing_lost()


def test_events_tell_each_step_where_that_is_asked_for(shop: Shop, installed: Lab, tmp_path: Path) -> None:
    shop.open()
    with Controller(installed, tmp_path / "controller.log", "--events", "steps"):
        shop.policy({"weight": 10}, {"weight": 50}, {"weight": 100})
        shop.set_image(V2)
        shop.wait(lambda: shop.events("ReleaseCompleted"), "the event of the end")
    (started,) = shop.events("ReleaseStarted")
    assert started.endswith(f"of {V2} begins; {V1} stays stable")
    assert sorted(shop.events("StepInEffect")) == [
        f"step 1 of 3: 10 % to {V2} is in effect",
        f"step 2 of 3: 50 % to {V2} is in effect",
    ]


def test_a_crashing_version_is_taken_back_in_its_words(shop: Shop, traffic: Traffic, controller: Controller) -> None:
    stable = shop.pods()
    shop.policy({"weight": 10, "hold": "5m"})
    shop.set_image(CRASHING)
    release = shop.wait_phase(CRASHING, "RolledBack")
    message = release["status"]["end"]["message"]
    assert "exit code" in message
    assert "its last words" in message
    shop.wait(lambda: [e for e in shop.events("ReleaseRollingBack") if message in e], "the event in the same words")
    shop.wait_quiet(V1)
    assert shop.pods() == stable
    traffic.nothing_lost()


def test_an_image_that_does_not_exist_is_taken_back(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.policy({"weight": 10, "hold": "5m"})
    shop.set_image("nosuch:v1")
    release = shop.wait_phase("nosuch:v1", "RolledBack")
    assert release["status"]["end"]["reason"] == "ImagePullBackOff"
    assert shop.leftovers() == []


@pytest.mark.parametrize("max_extra_pods", ["100%", 1])
def test_the_pod_ratio_splits_and_completes(shop: Shop, controller: Controller, max_extra_pods: int | str) -> None:
    shop.open()
    shop.policy({"weight": 20, "approve": True}, {"weight": 100}, routed=False, maxExtraPods=max_extra_pods)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    assert sorted(shop.pods().values()) == [V1] * 4 + [V2]
    canary = {name for name, image in shop.pods().items() if image == V2}
    assert shop.release(V2)["status"]["weight"]["how"] == "1 of 5 pods"
    shop.davy("approve", "web")
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)
    assert canary <= set(shop.pods())
    assert shop.leftovers() == []


def test_a_rejected_template_is_held_until_retry(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.policy({"weight": 50, "approve": True}, onFailure="revert")
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.davy("abort", "web", "--wait")
    shop.wait_quiet(V1)
    shop.set_image(V2)
    shop.wait(lambda: shop.events("TemplateHeld"), "the event that tells it is held")
    assert len(shop.releases) == 1
    assert set(shop.pods().values()) == {V1}
    shop.davy("retry", "web")
    shop.wait(lambda: shop.release(V2)["spec"].get("attempt") == 2, "the second attempt")
    shop.davy("promote", "web", "--wait")
    shop.wait_quiet(V2)


def test_withdrawn_superseded_and_overridden(shop: Shop, controller: Controller) -> None:
    shop.open()
    stable = shop.pods()
    shop.policy({"weight": 50, "approve": True})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.set_image(V1)
    shop.wait_phase(V2, "Withdrawn")
    shop.wait(lambda: not shop.get("deployment", "web")["spec"].get("paused"), "unpaused")
    shop.wait_quiet(V1)
    assert shop.pods() == stable
    shop.set_image(V2)
    shop.wait(lambda: shop.release(V2)["spec"].get("attempt") == 2, "a new release of it")
    shop.wait_step(V2, 1)
    shop.set_image(V3)
    shop.wait_phase(V2, "Superseded")
    shop.wait_step(V3, 1)
    shop.kubectl("rollout", "resume", "deployment/web")
    shop.wait_phase(V3, "Overridden")
    shop.wait_quiet(V3)
    assert shop.leftovers() == []


def test_a_promotion_without_room_can_be_overtaken_half_way(shop: Shop, controller: Controller) -> None:
    """The Deployment's own rolling update is finishing the release when a newer template comes."""
    shop.open(replicas=8)
    shop.policy({"weight": 10}, {"weight": 100}, routed=False, maxExtraPods=1)
    shop.set_image(V2)

    def half_way() -> bool:
        return list(shop.pods().values()).count(V2) > 1

    shop.wait(half_way, "the rolling update")
    shop.set_image(V3)
    shop.wait_phase(V2, "Superseded")
    shop.wait_phase(V3, "Completed")
    shop.wait_quiet(V3)
    assert shop.leftovers() == []


@pytest.mark.parametrize("kind", ["release", "releasepolicy"])
def test_deleting_during_a_release_takes_the_traffic_away_first(
    shop: Shop, traffic: Traffic, controller: Controller, kind: str
) -> None:
    shop.policy({"weight": 50, "approve": True})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    name = shop.release(V2)["metadata"]["name"] if kind == "release" else "web"
    uid = shop.release(V2)["metadata"]["uid"]
    shop.kubectl("delete", kind, name, "--timeout=4m")
    if kind == "releasepolicy":
        shop.wait_quiet(V1)
        assert shop.leftovers() == []
    else:
        shop.wait_step(V2, 1)
        assert shop.release(V2)["metadata"]["uid"] != uid, "the template is still asked for: it begins anew"
    traffic.nothing_lost()


def test_deleting_the_namespace_in_a_release_ends(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.policy({"weight": 50, "approve": True})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.lab.kubectl("delete", "namespace", shop.namespace, "--timeout=4m")
    shop.lab.kubectl("create", "namespace", shop.namespace)


def test_scaling_during_a_release_is_followed(shop: Shop, traffic: Traffic, controller: Controller) -> None:
    shop.policy({"weight": 75, "approve": True}, {"weight": 100})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.kubectl("scale", "deployment/web", "--replicas=6")
    shop.wait(lambda: sorted(shop.pods().values()) == [V1] * 6 + [V2] * 5, "6 and 5 pods")
    shop.davy("approve", "web", "--wait")
    shop.wait_quiet(V2)
    assert len(shop.pods()) == 6
    traffic.nothing_lost()


WRITES = [
    "create Release",
    "patch Service",
    "create ReplicaSet",
    "create Service",
    "create Ingress",
    "patch Release status",
    "patch Ingress",
    "patch Release status",
    "patch Service",
    "patch ReplicaSet",
    "delete Service",
    "patch Deployment",
    "patch Service",
    "patch Release status",
]
"""Of a release by nginx weight with two steps and a canary of full size, but for the Event at its end."""


def dead(life: Controller) -> bool:
    return life.process.poll() is not None


def test_the_controller_dies_before_and_after_each_write_of_a_release_and_the_end_is_the_same(
    shop: Shop, installed: Lab, tmp_path: Path
) -> None:
    shop.open()
    traffic = Traffic(shop)
    with Controller(installed, tmp_path / "first.log"):
        shop.policy({"weight": 10, "hold": "1s"}, {"weight": 50}, {"weight": 100})
        shop.wait(lambda: shop.get("deployment", "web")["metadata"].get("labels", {}).get(MARK), "the gate's mark")
    stable = shop.pods()
    shop.set_image(V2)
    log = tmp_path / "lives.log"
    moments = itertools.cycle(("before", "after"))
    while shop.phase(V2) != "Completed":
        life = Controller(installed, log, mortal=next(moments))
        shop.wait(functools.partial(dead, life), "the controller to die", 240)
    deaths = [line.removeprefix("died ") for line in log.read_text().splitlines() if line.startswith("died ")]
    assert [d.removeprefix("after: ") for d in deaths if d.startswith("after")] == WRITES
    assert [d.removeprefix("before: ") for d in deaths if d.startswith("before")] == WRITES
    shop.wait_quiet(V2)
    assert shop.leftovers() == []
    assert not shop.get("deployment", "web")["spec"].get("paused")
    assert len(shop.releases) == 1
    assert not stable.keys() & shop.pods().keys()
    traffic.nothing_lost()

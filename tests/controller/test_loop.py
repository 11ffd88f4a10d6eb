from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from davylamp.core.actions import Ref
from davylamp.core.plan import plan
from davylamp.kube.errors import ApiError
from davylamp.kube.gate import MARK
from tests.controller.rig import Rig
from tests.kube.controllers import NAMESPACE, ROUTED, deployment, ingress, policy, service
from tests.kube.fake import idle

WEB = Ref("Deployment", NAMESPACE, "web")
POLICY = Ref("ReleasePolicy", NAMESPACE, "web")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.stop()


async def test_a_release_by_pods_goes_all_the_way(rig: Rig) -> None:
    await rig.start_web()
    stable = set(rig.kubernetes.pods_ever)
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(30)
    assert rig.phase == "Completed"
    running = {pod["metadata"]["name"] for pod in rig.api.of_kind("Pod")}
    assert len(running) == 4
    assert not running & stable
    assert running == set(rig.kubernetes.pods_ever) - stable, "a pod of the new version was started twice"


async def test_a_release_by_weight_goes_all_the_way_and_leaves_nothing(rig: Rig) -> None:
    await rig.start(deployment(), service(), ingress(), policy(**ROUTED))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(60)
    assert rig.phase == "Completed"
    assert [obj["metadata"]["name"] for obj in rig.api.of_kind("Ingress")] == ["web"]
    assert [obj["metadata"]["name"] for obj in rig.api.of_kind("Service")] == ["web"]
    assert rig.get("Service")["spec"]["selector"] == {"app": "web"}


async def test_a_weight_that_somebody_else_changes_is_put_right(rig: Rig) -> None:
    await rig.start(deployment(), service(), ingress(), policy(**ROUTED, steps=[{"weight": 10, "approve": True}]))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(60)
    ours = Ref("Ingress", NAMESPACE, "web-davylamp")
    weight = "nginx.ingress.kubernetes.io/canary-weight"
    rig.api.change(ours, {"metadata": {"annotations": {weight: "90"}}})
    await rig.clock.advance(1)
    assert rig.get("Ingress", ours.name)["metadata"]["annotations"][weight] == "10"


async def test_what_a_look_has_written_itself_is_not_looked_at_again(rig: Rig) -> None:
    await rig.start(deployment(), service(), ingress(), policy(**ROUTED, steps=[{"weight": 10, "approve": True}]))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(60)
    before = rig.metric("davylamp_reconcile_duration_seconds_count", kind="Deployment")
    annotations = {"nginx.ingress.kubernetes.io/canary-weight": "90"}
    rig.api.change(Ref("Ingress", NAMESPACE, "web-davylamp"), {"metadata": {"annotations": annotations}})
    await idle()
    assert rig.metric("davylamp_drifts_total") == 1
    assert rig.metric("davylamp_reconcile_duration_seconds_count", kind="Deployment") == before + 1


async def test_nothing_is_read_outside_of_watches(rig: Rig) -> None:
    await rig.start(deployment(), service(), ingress(), policy(**ROUTED))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(60)
    reads = [verb for verb, ref in rig.api.requests if verb in ("get", "list") and ref.kind != "APIResourceList"]
    assert reads == []


async def test_while_nothing_changes_there_is_no_request(rig: Rig) -> None:
    await rig.start_web()
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(60)
    rig.api.requests.clear()
    await rig.clock.advance(3600)
    assert rig.api.requests == []


async def test_a_broken_version_is_taken_back_and_its_last_words_are_told(rig: Rig) -> None:
    await rig.start_web()
    crash = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 3}}
    rig.kubernetes.sick["hellok8s:v3"] = {
        "containerStatuses": [{"name": "app", "image": "x", "restartCount": 2, "state": crash, "lastState": last}]
    }
    before = [pod["metadata"]["name"] for pod in rig.api.of_kind("Pod")]

    def remember_log(verb: str, ref: Ref) -> None:
        if verb == "logs":
            rig.api.texts[NAMESPACE, ref.name, "app", True] = "starting\nFATAL: no database\n"

    rig.api.before = remember_log
    rig.set_image("hellok8s:v3")
    await rig.clock.advance(30)
    assert rig.phase == "RolledBack"
    assert "exit code 3" in rig.release["status"]["message"]
    assert "FATAL: no database" in rig.release["status"]["message"]
    assert [pod["metadata"]["name"] for pod in rig.api.of_kind("Pod")] == before


async def test_a_log_that_cannot_be_had_does_not_hold_a_rollback_up(rig: Rig) -> None:
    await rig.start_web()
    crash = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}}
    rig.kubernetes.sick["hellok8s:v3"] = {"containerStatuses": [{"name": "app", "image": "x"} | crash]}
    rig.set_image("hellok8s:v3")
    await rig.clock.advance(30)
    assert rig.phase == "RolledBack"


@pytest.mark.parametrize("spec", [{}, ROUTED], ids=["pods", "weight"])
@pytest.mark.parametrize("image", ["hellok8s:v2", "hellok8s:sick"])
async def test_a_controller_that_restarts_after_every_write_ends_the_same(spec: dict[str, Any], image: str) -> None:
    rig = Rig()
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
    rig.kubernetes.sick["hellok8s:sick"] = {"containerStatuses": [{"name": "app", "image": "x"} | waiting]}
    await rig.start(deployment(), service(), ingress(), policy(**spec))
    await rig.stop(*rig.controller_tasks)
    rig.set_image(image)
    lives = 0
    while lives < 60:
        lives += 1
        seen = len(rig.api.writes)
        rig.api.before = _dies_after(rig, seen + 1)
        await rig.restart()
        await rig.clock.advance(15)
        if rig.phase in ("Completed", "RolledBack") and len(rig.api.writes) == seen:
            break
    assert 5 < lives < 60
    assert rig.phase == ("Completed" if image == "hellok8s:v2" else "RolledBack")
    assert len(rig.api.of_kind("Release")) == 1
    assert [obj["metadata"]["name"] for obj in rig.api.of_kind("Ingress")] == ["web"]
    assert rig.get("Service")["spec"]["selector"] == {"app": "web"}
    await rig.stop(*rig.controller_tasks)


def _dies_after(rig: Rig, writes: int) -> Any:
    def check(verb: str, ref: Ref) -> None:
        if verb in ("create", "patch", "delete") and len(rig.api.writes) > writes:
            rig.api.requests.pop()
            raise ApiError(0, "Unreachable", "the process is gone", verb=verb, ref=ref)

    return check


async def test_after_a_restart_in_a_rollback_pods_that_are_not_known_yet_do_not_count_as_gone(rig: Rig) -> None:
    await rig.start(deployment(), service(), ingress(), policy(**ROUTED))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    name = rig.release["metadata"]["name"]
    rig.api.change(Ref("Release", NAMESPACE, name), {"spec": {"abort": {"by": "me"}}})
    await rig.clock.advance(0.5)
    assert rig.phase == "RollingBack"
    rig.api.before = lambda verb, ref: _unreachable(verb, ref) if ref.kind == "Pod" else None
    await rig.restart()
    await rig.clock.advance(30)
    assert rig.phase == "RollingBack"
    assert Ref("ReplicaSet", NAMESPACE, name) in rig.api.objects
    rig.api.before = None
    await rig.clock.advance(30)
    assert rig.phase == "RolledBack"


def _unreachable(verb: str, ref: Ref) -> None:
    raise ApiError(0, "Unreachable", "no answer", verb=verb, ref=ref)


async def test_trouble_with_the_api_server_is_logged_once_and_overcome(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.start_web()

    def refuse(verb: str, ref: Ref) -> None:
        if ref.kind == "Release" and verb == "create":
            raise ApiError(500, "InternalError", "etcd is away", verb=verb, ref=ref)

    rig.api.before = refuse
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(30)
    assert len([r for r in caplog.records if "etcd is away" in r.getMessage()]) == 1
    tries = len([verb for verb, ref in rig.api.requests if verb == "create" and ref.kind == "Release"])
    assert 8 <= tries <= 16
    rig.api.before = None
    await rig.clock.advance(60)
    assert rig.phase == "Completed"


async def test_an_object_of_somebody_else_in_the_way_is_named_in_an_event(rig: Rig) -> None:
    await rig.start_web()
    in_the_way: list[Ref] = []

    def be_faster(verb: str, ref: Ref) -> None:
        if verb == "create" and ref.kind == "ReplicaSet" and ref not in in_the_way:
            in_the_way.append(ref)
            foreign = deployment(replicas=0)
            rig.api.put({**foreign, "kind": "ReplicaSet", "metadata": {"name": ref.name, "namespace": ref.namespace}})

    rig.api.before = be_faster
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(30)
    (note,) = rig.events("ObjectInTheWay")
    assert f"{in_the_way[0]} exists already and belongs to nobody" in note
    rig.api.remove(in_the_way[0])
    await rig.clock.advance(90)
    assert rig.phase == "Completed"


async def test_a_bug_with_one_deployment_does_not_stop_the_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(world: Any, now: Any) -> Any:
        if world.name == "web":
            raise ZeroDivisionError("bug")
        return plan(world, now)

    monkeypatch.setattr("davylamp.controller.loop.plan", faulty)
    await rig.start(deployment(), policy(), deployment(name="api"), policy("api"))
    rig.set_image("hellok8s:v2", "api")
    await rig.clock.advance(30)
    assert rig.phase == "Completed"
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_another_process_that_leads_finds_everything_as_it_is(rig: Rig) -> None:
    await rig.start_web()
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    assert rig.phase == "Progressing"
    await rig.restart()
    await rig.clock.advance(30)
    assert rig.phase == "Completed"


async def test_only_so_many_finished_releases_are_kept(rig: Rig) -> None:
    await rig.start_web(historyLimit=2, steps=[{"weight": 100}])
    for number in range(2, 7):
        rig.set_image(f"hellok8s:v{number}")
        await rig.clock.advance(5)
    assert [obj["spec"]["canary"]["image"] for obj in rig.api.of_kind("Release")] == ["hellok8s:v5", "hellok8s:v6"]


async def test_a_finished_release_that_somebody_deletes_goes(rig: Rig) -> None:
    await rig.start_web(steps=[{"weight": 100}])
    for number in (2, 3):
        rig.set_image(f"hellok8s:v{number}")
        await rig.clock.advance(5)
    for obj in rig.api.of_kind("Release"):
        rig.api.remove(Ref("Release", NAMESPACE, obj["metadata"]["name"]))
    await idle()
    assert rig.api.of_kind("Release") == []


# --- policies ---


async def test_a_policy_says_that_it_is_good_and_what_it_found(rig: Rig) -> None:
    await rig.start(deployment(), service(), ingress(), policy(traffic={"detect": True}))
    status = rig.get("ReleasePolicy")["status"]
    assert status["targets"] == 1
    assert status["found"] == [{"deployment": "web", "service": "web", "routes": [{"ingress": {"name": "web"}}]}]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    assert status["observedGeneration"] == 1


async def test_a_policy_is_written_once_and_again_only_when_it_changes(rig: Rig) -> None:
    await rig.start_web()
    written = [kind for _, kind in rig.writes if kind == "ReleasePolicy"]
    assert len(written) == 2, "its finalizer and its status"
    rig.api.change(POLICY, {"metadata": {"labels": {"a": "b"}}})
    rig.api.change(WEB, {"metadata": {"annotations": {"a": "b"}}})
    await rig.clock.advance(5)
    assert len([kind for _, kind in rig.writes if kind == "ReleasePolicy"]) == 2


async def test_a_policy_that_cannot_be_used_says_all_that_is_wrong_at_once(rig: Rig) -> None:
    await rig.start(deployment(), policy(steps=[{"weight": 50}, {"weight": 10}], traffic={"service": "wbe"}))
    (ready,) = [c for c in rig.get("ReleasePolicy")["status"]["conditions"] if c["type"] == "Ready"]
    assert ready["status"] == "False"
    assert ready["reason"] == "Invalid"
    assert "spec.steps[1].weight" in ready["message"]
    assert "wbe" in ready["message"]
    assert len(rig.events("PolicyInvalid")) == 1
    assert rig.get("ReleasePolicy")["metadata"].get("finalizers") is None


async def test_a_policy_becomes_good_when_what_it_needs_appears(rig: Rig) -> None:
    await rig.start(deployment(), policy(traffic={"service": "web"}))
    assert _ready(rig) == "False"
    rig.api.put(service())
    await rig.clock.advance(1)
    assert _ready(rig) == "True"


def _ready(rig: Rig, name: str = "web") -> str:
    conditions = rig.get("ReleasePolicy", name)["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


async def test_a_deployment_held_by_a_policy_that_cannot_be_used_is_told_how_to_go_on(rig: Rig) -> None:
    await rig.start(deployment(), policy(traffic={"service": "wbe"}))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    (note,) = rig.events("Held")
    assert "wbe" in note
    assert "kubectl rollout resume deployment/web -n shop" in note
    assert rig.api.of_kind("Release") == []
    await rig.restart()
    assert len(rig.events("Held")) == 1


async def test_a_deployment_held_without_any_policy_left_is_told_how_to_go_on(rig: Rig) -> None:
    await rig.start(deployment(), policy(traffic={"service": "wbe"}))
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    rig.api.remove(POLICY)
    await rig.clock.advance(5)
    assert any("there is no policy" in note for note in rig.events("Held"))


async def test_a_policy_that_is_deleted_during_a_release_stays_until_that_is_wound_down(rig: Rig) -> None:
    await rig.start_web()
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    rig.api.remove(POLICY)
    assert POLICY in rig.api.objects
    await rig.clock.advance(30)
    assert POLICY not in rig.api.objects
    images = {pod["spec"]["containers"][0]["image"] for pod in rig.api.of_kind("Pod")}
    assert images == {"hellok8s:v1"}


async def test_a_targeted_deployment_is_marked_for_the_gate_for_as_long_as_it_has_a_policy(rig: Rig) -> None:
    await rig.start_web()
    assert rig.get("Deployment")["metadata"]["labels"] == {MARK: "web"}
    rig.api.remove(POLICY)
    await rig.clock.advance(1)
    assert rig.get("Deployment")["metadata"].get("labels", {}) == {}


async def test_a_fleet_has_one_policy_and_one_bad_apple_does_not_spoil_it(rig: Rig) -> None:
    bad = deployment(name="bad", tier="front")
    bad["spec"]["strategy"] = {"type": "Recreate"}
    fleet = policy("fleet", target={"matchLabels": {"tier": "front"}})
    await rig.start(deployment(tier="front"), bad, fleet)
    assert rig.get("ReleasePolicy", "fleet")["status"]["targets"] == 2
    assert _ready(rig, "fleet") == "False"
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(30)
    assert rig.phase == "Completed"


# --- gates ---


async def test_without_admission_policies_targeted_deployments_are_kept_paused(rig: Rig) -> None:
    rig.api.apis.clear()
    rig.api.admission.clear()
    await rig.start_web()
    assert rig.controller.gate == "fallback"
    assert rig.get("Deployment")["spec"]["paused"] is True
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(40)
    assert rig.phase == "Completed"
    assert rig.get("Deployment")["spec"]["paused"] is True


async def test_after_the_api_server_was_away_the_gate_is_asked_for_again(rig: Rig) -> None:
    await rig.start_web()
    rig.api.apis.clear()
    rig.api.before = _unreachable
    rig.api.cut()
    await rig.clock.advance(5)
    rig.api.before = None
    await rig.clock.advance(30)
    assert rig.controller.gate == "fallback"


# --- numbers ---


async def test_the_metrics_count_releases_steps_writes_and_plans(rig: Rig) -> None:
    await rig.start_web()
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    assert rig.metric("davylamp_releases", phase="Progressing") == 1
    await rig.clock.advance(30)
    assert rig.metric("davylamp_releases", phase="Progressing") == 0
    assert rig.metric("davylamp_releases", phase="Completed") == 1
    assert rig.metric("davylamp_step_duration_seconds_count") >= 1
    assert rig.metric("davylamp_step_duration_seconds_sum") >= 10
    assert rig.metric("davylamp_api_writes_total", kind="Release") >= 3
    assert rig.metric("davylamp_plans_total", reason="Completed") == 1
    assert rig.metric("davylamp_leading") == 1

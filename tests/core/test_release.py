"""One release in each of its ways, on a model of the cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from davylamp.api.objects import HASH_LABEL
from davylamp.core import names
from davylamp.core.actions import Create, Delete, Patch
from davylamp.core.plan import plan
from tests.core.crashes import check_crashes
from tests.core.model import Cluster, Json, policy_spec

TESTERS: Json = {"header": {"name": "X-Canary", "exact": "true"}}
V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
CRASHING: Json = {
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {
            "name": "hellok8s",
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 3}},
        }
    ],
}


def started(*weights: int, gate: Any = "admission", replicas: int = 4, **spec: Any) -> Cluster:
    """A cluster with a policy, in which somebody has set the image to v2."""
    cluster = Cluster(gate=gate, replicas=replicas)
    cluster.put("ReleasePolicy", "web", spec=policy_spec(*weights, **spec), metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image(V2)
    return cluster


def images(cluster: Cluster) -> set[str]:
    return {cluster.pods_ever[pod["metadata"]["name"]] for pod in cluster.all("Pod")}


def leftovers(cluster: Cluster) -> list[str]:
    """What a finished release must not leave: canary objects, pins, pauses, ownerless ReplicaSets."""
    left = [i["metadata"]["name"] for i in cluster.all("Ingress") if i["metadata"]["name"] != "web"]
    left += [s["metadata"]["name"] for s in cluster.all("Service") if s["metadata"]["name"] != "web"]
    left += [r["metadata"]["name"] for r in cluster.all("DestinationRule") if r["metadata"]["name"] != "web"]
    service = cluster.get("Service", "web")
    left += ["pinned"] if HASH_LABEL in service["spec"]["selector"] else []
    left += ["mark on the Service"] if names.PINNED_BY in service["metadata"].get("annotations", {}) else []
    deployment = cluster.get("Deployment", "web")["metadata"]["uid"]
    for rs in cluster.all("ReplicaSet"):
        owners = [o["uid"] for o in rs["metadata"].get("ownerReferences", [])]
        left += [] if owners == [deployment] else [f"ReplicaSet {rs['metadata']['name']}"]
    return left


def completed(cluster: Cluster, image: str = V2) -> None:
    assert cluster.phase() == "Completed"
    assert images(cluster) == {image}
    assert leftovers(cluster) == []
    assert cluster.violations == []
    assert len(cluster.all("Pod")) == cluster.get("Deployment", "web")["spec"]["replicas"]


def test_a_release_by_nginx_weight_goes_through_its_steps_and_restarts_no_pod() -> None:
    cluster = started(10, 50, 100)
    cluster.run()
    completed(cluster)
    assert not cluster.get("Deployment", "web")["spec"].get("paused")
    assert sorted(cluster.pods_ever.values()) == [V1] * 4 + [V2] * 4, "each pod started once"
    assert [w for i, w in enumerate(cluster.weights) if i == 0 or w != cluster.weights[i - 1]] == [0, 10, 50, 100]


def test_events_tell_of_the_end_and_as_details_of_the_beginning_and_each_step() -> None:
    cluster = started(10, 50, 100)
    cluster.run()
    assert [event.reason for event in cluster.events] == ["ReleaseCompleted"]
    assert [(event.reason, event.message.split(":")[0]) for event in cluster.details[1:]] == [
        ("StepInEffect", "step 1 of 3"),
        ("StepInEffect", "step 2 of 3"),
    ]
    assert re.match(r"release web-\w+-1 of hellok8s:v2 begins; hellok8s:v1 stays stable$", cluster.details[0].message)
    told = (*cluster.events, *cluster.details)
    assert len({event.name for event in told}) == len(told)
    assert {(event.about.kind, event.about.name) for event in told} == {("Deployment", "web")}


def test_a_release_by_nginx_weight_needs_few_writes() -> None:
    cluster = started(10, 50, 100)
    cluster.writes.clear()
    cluster.run()
    assert len(cluster.writes) + len(cluster.events) <= 15


def test_the_canary_ingress_and_its_service_go_by_one_deletion_unless_proxies_ask_the_services_address() -> None:
    def deleted(cluster: Cluster) -> list[str]:
        cluster.run()
        completed(cluster)
        return [a.ref.kind for a in cluster.writes if isinstance(a, Delete)]

    assert deleted(started(10, 100)) == ["Service"]
    cluster = started(10, 100)
    annotations = {"nginx.ingress.kubernetes.io/service-upstream": "true"}
    cluster.edit("Ingress", "web", lambda obj: obj["metadata"].update(annotations=annotations))
    assert deleted(cluster) == ["Ingress", "Service"]


def test_a_completed_release_tells_how_long_it_took() -> None:
    cluster = started(10, 50, 100)
    cluster.run()
    assert [event.reason for event in cluster.events] == ["ReleaseCompleted"]
    assert re.fullmatch(
        r"release web-\w+-1 completed in 2 min \d+ s: all pods run hellok8s:v2", cluster.events[0].message
    )


def test_a_release_is_completed_when_the_deployments_controller_has_seen_that_it_goes_on() -> None:
    cluster = started(10, 100)
    cluster.run()
    cluster.release["status"]["phase"] = "Promoting"
    web = cluster.get("Deployment", "web")
    web["metadata"]["generation"] += 1
    decided = plan(cluster.world(), cluster.now)
    assert (decided.actions, decided.message) == ((), "the Deployment has yet to see that it goes on")
    web["status"]["observedGeneration"] += 1
    assert plan(cluster.world(), cluster.now).reason == "Completed"


def test_the_canary_belongs_to_its_release_from_its_first_write() -> None:
    cluster = started(10, 100)
    cluster.run()
    created = [a.manifest for a in cluster.writes if isinstance(a, Create) and a.manifest["kind"] == "ReplicaSet"]
    assert [rs["metadata"]["ownerReferences"][0]["kind"] for rs in created] == ["Release"]


@pytest.mark.parametrize("max_extra_pods", ["100%", 1])
@pytest.mark.parametrize("service", [True, False])
def test_a_release_by_pod_ratio_completes(max_extra_pods: int | str, service: bool) -> None:
    cluster = started(20, 50, 100, routed=False, service=service, maxExtraPods=max_extra_pods)
    cluster.run()
    completed(cluster)
    assert sorted(cluster.pods_ever.values()) == [V1] * 4 + [V2] * 4
    most = 4 if max_extra_pods == "100%" else 1
    scaled = [
        a.manifest["spec"]["replicas"]
        for a in cluster.writes
        if isinstance(a, Create) and "replicas" in a.manifest["spec"]
    ]
    assert max(scaled) <= most


def test_a_release_waits_for_approval_and_pause() -> None:
    steps = [{"weight": 10, "approve": True}, {"weight": 100}]
    cluster = started(steps=steps)
    assert cluster.run().reason == "AwaitingApproval"
    assert [event.reason for event in cluster.events] == ["ApprovalNeeded"]
    cluster.command(paused={"by": "ann", "reason": "lunch"})
    cluster.command(approved={"step": 1})
    assert cluster.run().message == "paused by ann: lunch"
    cluster.command(paused=None)
    cluster.run()
    completed(cluster)


def test_promote_skips_what_is_left() -> None:
    cluster = started(steps=[{"weight": 10, "approve": True}, {"weight": 50, "approve": True}])
    cluster.run()
    cluster.command(promote={"by": "ann"})
    cluster.run()
    completed(cluster)


def rolled_back(cluster: Cluster, phase: str = "RolledBack") -> None:
    assert cluster.phase() == phase
    assert images(cluster) == {V1}
    assert leftovers(cluster) == []
    assert cluster.violations == []
    assert [i for i in cluster.pods_ever.values() if i == V1] == [V1] * 4, "no stable pod was started again"


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_abort_takes_the_release_back_from_any_step(step: int) -> None:
    cluster = started(10, 50, 99)

    def reached() -> bool:
        return bool(cluster.all("Release")) and int(cluster.release.get("status", {}).get("step", 0)) >= step

    cluster.run(until=reached)
    cluster.command(abort={"by": "ann", "reason": "no"})
    cluster.run()
    rolled_back(cluster)
    assert cluster.get("Deployment", "web")["spec"]["paused"], "hold: the rejected template gets no pods"


def test_a_release_that_is_taken_back_shows_no_weight() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    assert cluster.release["status"]["weight"]["asked"] == 50
    cluster.command(abort={})
    cluster.run()
    assert cluster.release["status"]["weight"] == {"asked": 0, "inEffect": 0, "how": "no pods"}


def test_abort_at_weight_100_moves_the_service_back_before_the_canary_goes() -> None:
    cluster = started(steps=[{"weight": 10}, {"weight": 100, "approve": True}])
    cluster.run()
    assert cluster.share(V2) == 100
    cluster.command(abort={})
    cluster.run()
    rolled_back(cluster)


@pytest.mark.parametrize("routed", [True, False])
def test_a_crashing_canary_is_taken_back_with_its_last_words(routed: bool) -> None:
    cluster = Cluster()
    cluster.sick_images[V2] = CRASHING
    cluster.put("ReleasePolicy", "web", spec=policy_spec(20, 100, routed=routed))
    cluster.set_image(V2)
    cluster.run()
    rolled_back(cluster)
    message = cluster.release["status"]["end"]["message"]
    assert "crashed with exit code 3" in message
    assert message.endswith('its last words: "fatal: no database"')
    assert max(cluster.weights) == 0


def test_a_canary_that_never_gets_ready_is_taken_back_at_the_deadline() -> None:
    cluster = Cluster()
    cluster.sick_images[V2] = {}
    cluster.put("ReleasePolicy", "web", spec=policy_spec(20, 100, progressDeadline="2m"))
    cluster.set_image(V2)
    begun = cluster.now
    cluster.run()
    rolled_back(cluster)
    assert timedelta(minutes=2) <= cluster.now - begun < timedelta(minutes=2, seconds=15)
    assert (
        "not ready after 2 min" in cluster.release["status"]["end"]["message"]
        or "120 s" in cluster.release["status"]["end"]["message"]
    )


def test_a_rejected_template_is_held_until_retry() -> None:
    cluster = started(steps=[{"weight": 10, "approve": True}])
    cluster.run()
    cluster.command(abort={})
    cluster.run()
    cluster.set_image(V1)
    cluster.run()
    cluster.set_image(V2)
    assert cluster.run().reason == "Held"
    assert len(cluster.all("Release")) == 1
    cluster.command(retry={"by": "ann"})
    cluster.run()
    assert [r["spec"].get("attempt", 1) for r in cluster.all("Release")] == [1, 2]
    cluster.command(promote={})
    cluster.run()
    completed(cluster)


def test_revert_puts_the_stable_template_back_once_and_holds_it_when_applied_again() -> None:
    cluster = started(steps=[{"weight": 10, "approve": True}], onFailure="revert")
    cluster.run()
    cluster.command(abort={})
    cluster.run()
    rolled_back(cluster)
    spec = cluster.get("Deployment", "web")["spec"]
    assert spec["template"]["spec"]["containers"][0]["image"] == V1
    assert not spec["paused"]
    cluster.set_image(V2)
    writes = len(cluster.writes)
    assert cluster.run().reason == "Held"
    assert len(cluster.writes) == writes + 1, "only the status tells of it"
    assert cluster.events[-1].reason == "TemplateHeld"
    assert images(cluster) == {V1}


def test_a_template_set_back_withdraws_the_release() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    cluster.set_image(V1)
    cluster.run()
    rolled_back(cluster, "Withdrawn")
    assert not cluster.get("Deployment", "web")["spec"]["paused"]


def test_a_newer_template_supersedes_the_release() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}, {"weight": 100}])
    cluster.run()
    cluster.set_image(V3)
    cluster.run()
    assert [r["status"]["phase"] for r in cluster.all("Release")] == ["Superseded", "Progressing"]
    cluster.command(promote={})
    cluster.run()
    completed(cluster, V3)


@pytest.mark.parametrize(("image", "phase"), [(V3, "Superseded"), (V1, "Withdrawn")])
def test_a_promotion_without_room_can_be_overtaken_half_way(image: str, phase: str) -> None:
    cluster = started(20, 100, routed=False, maxExtraPods=1, replicas=8)

    def half_way() -> bool:
        return (
            list(images(cluster)) != [V2]
            and sum(cluster.pods_ever[p["metadata"]["name"]] == V2 for p in cluster.all("Pod")) > 3
        )

    cluster.run(until=half_way)
    cluster.set_image(image)
    cluster.run(until=lambda: cluster.release["spec"]["canary"]["image"] != V2 or cluster.phase() == phase)
    assert cluster.all("Release")[0]["status"]["phase"] == phase
    cluster.run()
    assert images(cluster) == {image}
    assert leftovers(cluster) == []
    assert cluster.violations == []


def test_resuming_the_deployment_by_hand_wins() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    cluster.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=False))
    cluster.run()
    assert cluster.phase() == "Overridden"
    assert images(cluster) == {V2}
    assert leftovers(cluster) == []
    assert cluster.violations == []


@pytest.mark.parametrize("routed", [True, False])
def test_scaling_during_a_release_is_followed(routed: bool) -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}, {"weight": 100}], routed=routed)
    cluster.run()
    cluster.edit("Deployment", "web", lambda obj: obj["spec"].update(replicas=10))
    cluster.run()
    assert cluster.share(V2) == 50
    assert len(cluster.all("Pod")) == (15 if routed else 20)
    cluster.command(approved={"step": 1})
    cluster.run()
    completed(cluster)


def test_a_policy_edited_during_a_release_applies_to_the_next() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}, {"weight": 100}])
    cluster.run()
    cluster.edit("ReleasePolicy", "web", lambda obj: obj["spec"].update(steps=[{"weight": 7}]))
    assert cluster.run().reason == "AwaitingApproval"
    assert cluster.release["spec"]["steps"][0]["weight"] == 50


@pytest.mark.parametrize("kind", ["Release", "ReleasePolicy", "Deployment"])
def test_deleting_during_a_release_takes_the_traffic_away_first(kind: str) -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    name = cluster.release["metadata"]["name"] if kind == "Release" else "web"
    uid = cluster.release["metadata"]["uid"]
    before = len(cluster.writes)
    cluster.remove(kind, name)
    cluster.run()
    deleted = [a.ref.kind for a in cluster.writes[before:] if isinstance(a, Delete)]
    assert deleted == ["Ingress", "ReplicaSet", "Service"]
    assert cluster.violations == []
    if kind == "Release":
        assert cluster.phase() == "Progressing", "its template is still asked for, so it begins anew"
        assert cluster.release["metadata"]["uid"] != uid
    elif kind == "ReleasePolicy":
        assert cluster.phase() == "Withdrawn"
        assert images(cluster) == {V1}
        assert leftovers(cluster) == []


@pytest.mark.parametrize("kind", ["ReplicaSet", "Service", "Ingress"])
def test_an_object_of_ours_that_somebody_deletes_comes_back(kind: str) -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}, {"weight": 100}])
    cluster.run()
    before = {(k, n) for k, n in cluster.objects if k == kind}
    ours = next(n for k, n in before if n != "web" and "native" not in n)
    cluster.remove(kind, ours)
    cluster.run()
    assert {(k, n) for k, n in cluster.objects if k == kind} == before
    assert cluster.share(V2) == 50


def test_a_deleted_stable_replica_set_leaves_only_the_way_forward() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    stable = next(n for k, n in cluster.objects if k == "ReplicaSet" and "native" in n)
    cluster.remove("ReplicaSet", stable)
    cluster.run()
    assert cluster.phase() == "Completed"
    assert images(cluster) == {V2}


def test_without_a_gate_the_deployment_stays_paused_between_releases() -> None:
    cluster = started(10, 100, gate="fallback")
    assert cluster.get("Deployment", "web")["spec"]["paused"]
    cluster.run()
    completed(cluster)
    assert cluster.get("Deployment", "web")["spec"]["paused"]


@pytest.mark.parametrize("steps", [[{"weight": 100}], [{"weight": 20, "approve": True}, {"weight": 100}]])
def test_a_promotion_with_little_room_begins_with_pods_that_live(steps: list[Json]) -> None:
    cluster = started(steps=steps, routed=False, maxExtraPods=1)
    cluster.run(until=lambda: bool(cluster.all("Release")))
    cluster.command(promote={})
    cluster.run()
    completed(cluster)


def test_testers_have_pods_and_a_route_before_anybody_else() -> None:
    cluster = started(steps=[{"weight": 0, "approve": True}, {"weight": 100}], match=[TESTERS])
    cluster.run()
    assert cluster.release["status"]["step"] == 1
    assert "testers (header X-Canary: true)" in cluster.release["status"]["message"]
    assert cluster.share(V2) == 0
    assert len([p for p in cluster.all("Pod") if cluster.pods_ever[p["metadata"]["name"]] == V2]) == 4
    (ingress,) = [i for i in cluster.all("Ingress") if i["metadata"]["name"] != "web"]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/canary-by-header-value"] == "true"
    cluster.command(approved={"step": 1})
    cluster.run()
    completed(cluster)


def test_without_a_gate_a_deleted_policy_lets_the_deployment_go() -> None:
    cluster = started(10, 100, gate="fallback")
    cluster.run()
    cluster.remove("ReleasePolicy", "web")
    cluster.run()
    deployment = cluster.get("Deployment", "web")
    assert not deployment["spec"]["paused"]
    assert names.PAUSED_BY not in deployment["metadata"].get("annotations", {})


def test_without_a_policy_a_held_template_stays_held() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    cluster.command(abort={})
    cluster.run()
    cluster.remove("ReleasePolicy", "web")
    cluster.run()
    assert cluster.get("Deployment", "web")["spec"]["paused"]
    assert images(cluster) == {V1}


def test_an_old_replica_set_of_the_same_template_does_not_disturb_the_adoption() -> None:
    cluster = started(10, 100)
    cluster.run()
    cluster.set_image(V1)
    cluster.run()
    completed(cluster, V1)
    assert len(cluster.all("Release")) == 2


def test_nothing_is_written_while_nothing_changes() -> None:
    cluster = started(steps=[{"weight": 50, "approve": True}])
    cluster.run()
    before = len(cluster.writes)
    for _ in range(5):
        cluster.now += timedelta(minutes=5)
        cluster.look()
    assert len(cluster.writes) == before


def ways() -> dict[str, Callable[[Cluster], None]]:
    """Each way of a release as what is done to it once it stands at its first step."""
    return {
        "promotion": lambda c: c.command(promote={}),
        "rollback": lambda c: c.command(abort={}),
        "withdrawal": lambda c: c.set_image(V1),
        "supersession": lambda c: c.set_image(V3),
        "override": lambda c: c.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=False)),
        "deletion": lambda c: c.remove("Release", c.release["metadata"]["name"]),
    }


def final_state(cluster: Cluster) -> list[Any]:
    phases = [r["status"]["phase"] for r in cluster.all("Release")]
    deployment = cluster.get("Deployment", "web")["spec"]
    return [phases, images(cluster), leftovers(cluster), deployment.get("paused"), deployment["template"]]


def begun(spec: Json) -> Cluster:
    """With a policy whose finalizer is there, when somebody has set the image to v2."""
    cluster = Cluster()
    cluster.put("ReleasePolicy", "web", spec=policy_spec(10, **spec), metadata={"finalizers": [names.FINALIZER]})
    cluster.set_image(V2)
    return cluster


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize("routed", [True, False])
@pytest.mark.parametrize("on_failure", ["hold", "revert"])
def test_a_crash_at_any_write_leads_to_the_same_end(way: str, routed: bool, on_failure: str) -> None:
    steps = [{"weight": 10, "approve": True}, {"weight": 50, "hold": "1m"}, {"weight": 100}]
    spec = {"steps": steps, "routed": routed, "onFailure": on_failure}
    check_crashes(lambda: begun(spec), ways()[way], end=final_state)


def test_a_write_on_a_stale_view_is_refused() -> None:
    """Every patch of something that others write too carries a precondition."""
    cluster = started(10, 50, 100)
    cluster.run()
    shared = [a for a in cluster.writes if isinstance(a, Patch) and a.ref.kind in ("Service", "Deployment")]
    assert shared
    for action in shared:
        assert isinstance(action.patch, list) or "resourceVersion" in action.patch["metadata"]

"""Deployments: rolling update, recreate, pause, history, scale; through kubectl, as people do."""

from __future__ import annotations

from tests.contract.workloads import PAUSE, Json, Workloads, deployment, template

REVISION = "deployment.kubernetes.io/revision"


def revision_of(here: Workloads, tag: str) -> str:
    return str(here.replica_set(tag)["metadata"]["annotations"][REVISION])


def test_a_rolling_update_replaces_all_pods_and_counts_revisions(here: Workloads) -> None:
    here.create(deployment(replicas=3))
    here.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    here.set_image("2")
    assert "successfully rolled out" in here.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert here.sizes() == {"1": 0, "2": 3}
    assert (revision_of(here, "1"), revision_of(here, "2")) == ("1", "2")
    assert here.get("deployment")["metadata"]["annotations"][REVISION] == "2"
    history = here.kubectl("rollout", "history", "deployment/web").split()
    assert history[-4:] == ["1", "<none>", "2", "<none>"]
    here.until(lambda: here.settled(), "all pods")
    assert here.condition("Available")["reason"] == "MinimumReplicasAvailable"
    assert here.condition("Progressing")["reason"] == "NewReplicaSetAvailable"
    assert here.replica_set("2")["metadata"]["name"] in here.condition("Progressing")["message"]


def test_undo_goes_back_as_a_new_revision_that_remembers_its_old_number(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    here.set_image("2")
    here.until(lambda: here.settled() and here.sizes() == {"1": 0, "2": 2}, "version 2")
    here.kubectl("rollout", "undo", "deployment/web")
    here.until(lambda: here.settled() and here.sizes() == {"1": 2, "2": 0}, "version 1 again")
    notes = here.replica_set("1")["metadata"]["annotations"]
    assert notes[REVISION] == "3"
    assert notes["deployment.kubernetes.io/revision-history"] == "1"
    assert here.get("deployment")["metadata"]["annotations"][REVISION] == "3"


def test_a_change_of_the_template_is_held_while_paused_and_rolls_out_on_resume(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    before = here.pods()
    here.kubectl("rollout", "pause", "deployment/web")
    here.until(lambda: here.condition("Progressing").get("reason") == "DeploymentPaused", "the pause")
    here.set_image("2")
    here.until(lambda: here.seen(), "the change to be seen")
    assert here.sizes() == {"1": 2}
    assert here.pods() == before
    assert here.get("deployment")["status"].get("updatedReplicas", 0) == 0
    here.kubectl("rollout", "undo", "deployment/web", check=False)  # kubectl refuses it
    assert here.get("deployment")["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
    here.kubectl("rollout", "resume", "deployment/web")
    here.until(lambda: here.settled() and here.sizes() == {"1": 0, "2": 2}, "version 2")


def test_a_deployment_that_begins_paused_has_no_replica_set(here: Workloads) -> None:
    here.create(deployment(paused=True))
    here.until(lambda: here.seen(), "the deployment to be seen")
    assert here.all("rs") == []
    assert here.get("deployment")["status"].get("replicas", 0) == 0
    assert here.condition("Progressing")["status"] == "Unknown"


def test_a_paused_deployment_is_scaled_and_lost_pods_are_replaced(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    here.kubectl("rollout", "pause", "deployment/web")
    here.set_image("2")
    here.kubectl("scale", "deployment/web", "--replicas=4")
    here.until(lambda: here.sizes() == {"1": 4} and here.available("deployment", "web", 4), "4 pods")
    lost = next(iter(here.pods()))
    here.kubectl("delete", "pod", lost)
    here.until(lambda: lost not in here.pods() and here.available("deployment", "web", 4), "another pod")
    assert here.sizes() == {"1": 4}


def test_scaling_in_the_middle_of_a_rollout_keeps_the_proportions(here: Workloads) -> None:
    strategy = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    here.create(deployment(replicas=10, strategy=strategy))
    here.until(lambda: here.settled(), "version 1")
    here.kubectl("set", "image", "deployment/web", "app=absent:2")
    here.until(lambda: here.sizes() == {"1": 8, "2": 5}, "a rollout that is stuck")
    here.kubectl("scale", "deployment/web", "--replicas=15")
    # https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling
    here.until(lambda: here.sizes() == {"1": 11, "2": 7}, "the proportions")
    notes = here.replica_set("1")["metadata"]["annotations"]
    assert notes["deployment.kubernetes.io/desired-replicas"] == "15"
    assert notes["deployment.kubernetes.io/max-replicas"] == "18"


def test_a_stuck_rollout_that_is_paused_with_another_template_stays_as_it_is_until_it_is_resumed(
    here: Workloads,
) -> None:
    """As the gate pauses it: three of four pods are available, and the controller mends nothing until it may go on."""
    here.create(deployment(replicas=4))
    here.until(lambda: here.settled(), "version 1")
    here.kubectl("set", "image", "deployment/web", "app=absent:2")
    here.until(lambda: here.sizes() == {"1": 3, "2": 2}, "a rollout that is stuck")
    here.until(lambda: len(here.pods()) == 5 and here.available("deployment", "web", 3), "its pods")
    before = here.pods()
    here.patch("deployment", "web", {"spec": {"paused": True, "template": template("3")}})
    here.until(lambda: here.seen() and here.condition("Progressing").get("reason") == "DeploymentPaused", "the pause")
    assert here.sizes() == {"1": 3, "2": 2}
    assert here.pods() == before
    here.kubectl("rollout", "resume", "deployment/web")
    here.until(lambda: here.settled() and here.sizes() == {"1": 0, "2": 0, "3": 4}, "version 3")


def test_only_as_many_old_replica_sets_stay_as_the_limit_says(here: Workloads) -> None:
    here.create(deployment(replicas=1, revisionHistoryLimit=1))
    here.until(lambda: here.settled(), "version 1")
    for tag in ("2", "3"):
        here.set_image(tag)
        here.until(lambda tag=tag: here.settled() and here.sizes().get(tag) == 1, f"version {tag}")  # type: ignore[misc]
    here.until(lambda: here.sizes() == {"2": 0, "3": 1}, "the end of version 1's")


def test_recreate_ends_all_old_pods_first(here: Workloads) -> None:
    here.create(deployment(strategy={"type": "Recreate"}))
    here.until(lambda: here.settled(), "version 1")
    held = next(iter(here.pods()))
    here.patch("pod", held, {"metadata": {"finalizers": ["example.com/hold"]}})
    here.set_image("2")
    here.until(lambda: len(here.all("pod")) == 1 and here.seen(), "the end of the other pod")
    assert here.sizes() == {"1": 0}
    here.patch("pod", held, {"metadata": {"finalizers": None}})
    here.until(lambda: here.settled() and here.sizes() == {"1": 0, "2": 2}, "version 2")


def test_a_rollout_that_gets_nowhere_says_so(here: Workloads) -> None:
    here.create(deployment(image="absent:1", replicas=1, progressDeadlineSeconds=1))

    def late() -> dict[str, Json]:
        # One moment: where the pod itself comes later than the deadline, that is progress once more.
        found = here.conditions()
        return found if found.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded" else {}

    found = here.until(late, "the deadline")
    assert found["Progressing"]["status"] == "False"
    assert found["Available"]["status"] == "False"


def test_pods_count_as_available_only_after_min_ready_seconds(here: Workloads) -> None:
    here.create(deployment(replicas=1, minReadySeconds=2))
    here.until(lambda: here.get("deployment").get("status", {}).get("readyReplicas") == 1, "a ready pod")
    assert here.get("deployment")["status"].get("availableReplicas", 0) == 0
    here.until(lambda: here.settled(), "an available pod")


def test_a_change_of_labels_or_scale_alone_makes_no_revision(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    here.kubectl("annotate", "deployment/web", "team=shop")
    here.kubectl("scale", "deployment/web", "--replicas=3")
    here.until(lambda: here.settled(replicas=3), "3 pods")
    assert here.get("deployment")["metadata"]["annotations"][REVISION] == "1"
    annotations = here.until(lambda: here.replica_set("1")["metadata"]["annotations"], "annotations")
    assert annotations["team"] == "shop"


def test_a_template_that_was_there_before_uses_its_old_replica_set(here: Workloads) -> None:
    here.create(deployment(replicas=1))
    here.until(lambda: here.settled(), "version 1")
    uid = here.replica_set("1")["metadata"]["uid"]
    here.set_image("2")
    here.until(lambda: here.settled() and here.sizes() == {"1": 0, "2": 1}, "version 2")
    here.set_image("1")
    here.until(lambda: here.settled() and here.sizes() == {"1": 1, "2": 0}, "version 1 again")
    assert here.replica_set("1")["metadata"]["uid"] == uid


def test_rollouts_are_told_as_events(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    name = here.replica_set("1")["metadata"]["name"]
    text = here.until(lambda: here.kubectl("describe", "deployment", "web").partition("Events:")[2], "events")
    assert f"Scaled up replica set {name} from 0 to 2" in text
    assert "ScalingReplicaSet" in text


def test_pods_of_a_replica_set_have_the_hash_that_tells_them_apart(here: Workloads) -> None:
    here.create(deployment(replicas=1))
    here.until(lambda: here.settled(), "version 1")
    rs = here.replica_set("1")
    own = rs["metadata"]["labels"]["pod-template-hash"]
    assert rs["metadata"]["name"] == f"web-{own}"
    assert rs["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": own}
    (pod,) = here.all("pod")
    assert pod["metadata"]["labels"] == {"app": "web", "pod-template-hash": own}
    assert pod["metadata"]["ownerReferences"][0]["name"] == rs["metadata"]["name"]
    assert pod["metadata"]["name"].startswith(f"web-{own}-")
    assert PAUSE.format("1") == pod["spec"]["containers"][0]["image"]

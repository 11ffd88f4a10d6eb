"""The bare ReplicaSet next to a Deployment, and how it becomes the Deployment's own: what a release rests on."""

from __future__ import annotations

from typing import Any

from tests.contract.workloads import Json, Workloads, config_map, deployment, reference, replica_set, service, template

DESIRED, MAX = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"
REVISION = "deployment.kubernetes.io/revision"


def held(here: Workloads, replicas: int = 4, **spec: Any) -> None:
    """Version 1 runs, version 2 is asked for, and the Deployment is paused, as the gate does it."""
    here.create(deployment(replicas=replicas, **spec), config_map(), service())
    here.until(lambda: here.settled(), "version 1")
    here.patch("deployment", "web", {"spec": {"paused": True, "template": template("2")}})
    here.until(lambda: here.seen(), "the pause")


def canary(here: Workloads, replicas: int, tag: str = "2") -> Json:
    here.create(
        replica_set("canary", tag, replicas, here.get("configmap", "owner"), labels={"pod-template-hash": "c1"})
    )
    here.until(lambda: here.available("rs", "canary", replicas), "the canary's pods")
    return here.get("rs", "canary")


def adopt(here: Workloads, replicas: int, surge: int = 1) -> None:
    notes = {DESIRED: str(replicas), MAX: str(replicas + surge)}
    owners = [reference(here.get("deployment"))]
    here.patch("rs", "canary", {"metadata": {"ownerReferences": owners, "annotations": notes}})


def canary_pods(here: Workloads) -> dict[str, str]:
    return here.pods("pod-template-hash=c1")


def test_a_canary_is_left_alone_by_the_deployment_and_its_pods_are_the_services_too(here: Workloads) -> None:
    held(here)
    canary(here, 2)
    assert here.sizes() == {"1": 4, "2": 2}
    status = here.get("deployment")["status"]
    assert (status["replicas"], status["availableReplicas"], status.get("updatedReplicas", 0)) == (4, 4, 0)
    here.until(lambda: list(here.endpoints().values()) == [True] * 6, "6 endpoints")
    assert here.endpoints().keys() == here.pods().keys()


def test_an_orphan_that_matches_is_adopted_at_once_and_counts_as_the_new_one(here: Workloads) -> None:
    held(here)
    here.create(replica_set("canary", "2", 1, labels={"pod-template-hash": "c1"}))
    here.until(lambda: here.get("rs", "canary")["metadata"].get("ownerReferences"), "the adoption")
    owner = here.get("rs", "canary")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Deployment", "web", True)
    here.until(lambda: here.get("deployment")["status"].get("updatedReplicas") == 1, "the new one")
    assert here.get("rs", "canary")["metadata"]["annotations"][REVISION] == "2"


def test_a_saturated_canary_takes_over_in_one_patch_while_paused_and_keeps_its_pods(here: Workloads) -> None:
    held(here)
    canary(here, 4)
    before = canary_pods(here)
    adopt(here, 4)
    here.until(lambda: here.sizes() == {"1": 0, "2": 4}, "the end of the old")
    here.until(lambda: here.settled(), "the Deployment to count them as its own")
    assert here.get("deployment")["spec"]["paused"]
    assert here.get("rs", "canary")["metadata"]["annotations"][REVISION] == "2"
    assert here.get("deployment")["metadata"]["annotations"][REVISION] == "2"
    here.patch("deployment", "web", {"spec": {"paused": False}})
    here.until(lambda: here.settled() and not here.get("deployment")["spec"].get("paused"), "the resumption")
    assert here.pods() == canary_pods(here) == before
    assert here.sizes() == {"1": 0, "2": 4}


def test_a_frugal_canary_is_adopted_within_surge_and_the_rolling_update_finishes(here: Workloads) -> None:
    strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    held(here, strategy=strategy)
    canary(here, 2)
    before = canary_pods(here)
    adopt(here, 4)
    here.until(lambda: here.sizes() == {"1": 3, "2": 2}, "4 pods and 1 of surge")
    assert here.get("deployment")["spec"]["paused"]
    here.patch("deployment", "web", {"spec": {"paused": False}})
    here.until(lambda: here.settled() and here.sizes() == {"1": 0, "2": 4}, "version 2")
    assert before.items() <= canary_pods(here).items()


def test_an_older_replica_set_of_the_same_template_keeps_a_canary_from_being_the_new_one(here: Workloads) -> None:
    here.create(deployment("2", replicas=2), config_map())
    here.until(lambda: here.settled(), "version 2")
    here.set_image("1")
    here.until(lambda: here.settled() and here.sizes() == {"1": 2, "2": 0}, "version 1")
    here.patch("deployment", "web", {"spec": {"paused": True, "template": template("2")}})
    here.until(lambda: here.seen(), "the pause")
    old = next(rs["metadata"]["name"] for rs in here.all("rs") if rs["spec"]["replicas"] == 0)
    # Creation times are whole seconds, and decide which one is the older.
    made = here.get("rs", old)["metadata"]["creationTimestamp"]
    here.until(lambda: _now(here) > made, "the next second")
    canary(here, 2)
    here.kubectl("delete", "rs", old)
    adopt(here, 2)
    here.until(lambda: here.settled(), "the canary to be the new one")
    assert here.get("rs", "canary")["spec"]["replicas"] == 2


def _now(here: Workloads) -> str:
    name = "now"
    here.kubectl("delete", "configmap", name, "--ignore-not-found")
    here.create(config_map(name))
    return str(here.get("configmap", name)["metadata"]["creationTimestamp"])


def test_a_canary_that_is_deleted_leaves_the_deployment_as_it_was(here: Workloads) -> None:
    held(here)
    canary(here, 2)
    stable = here.pods().items() - canary_pods(here).items()
    here.kubectl("delete", "rs", "canary", "--wait=false")
    here.until(lambda: not here.all("pod", "pod-template-hash=c1"), "the end of the canary's pods")
    assert here.get("deployment")["spec"]["paused"]
    assert here.pods().items() == stable
    here.kubectl("scale", "deployment/web", "--replicas=5")
    here.until(lambda: here.sizes() == {"1": 5}, "the stable one to be scaled")
    here.kubectl("scale", "deployment/web", "--replicas=4")
    here.until(lambda: here.sizes() == {"1": 4} and len(here.pods()) == 4, "4 pods again")
    before = here.pods()
    here.patch("deployment", "web", {"spec": {"paused": False, "template": template("1")}})
    here.until(lambda: here.settled() and not here.get("deployment")["spec"].get("paused"), "the revert")
    assert here.pods() == before


def test_the_hash_in_a_services_selector_isolates_stable_from_canary(here: Workloads) -> None:
    held(here)
    canary(here, 2)
    own = here.replica_set("1")["metadata"]["labels"]["pod-template-hash"]
    here.patch("service", "web", {"spec": {"selector": {"pod-template-hash": own}}})
    stable = here.pods().keys() - canary_pods(here).keys()
    here.until(lambda: here.endpoints().keys() == stable, "only stable pods")
    here.patch("service", "web", {"spec": {"selector": {"pod-template-hash": "c1"}}})
    here.until(lambda: here.endpoints().keys() == canary_pods(here).keys(), "only canary pods")
    assert len(here.pods()) == 6


def test_a_canary_goes_with_its_owner_and_a_finalizer_of_its_owner_holds_it(here: Workloads) -> None:
    held(here)
    here.patch("configmap", "owner", {"metadata": {"finalizers": ["example.com/traffic"]}})
    canary(here, 1)
    here.kubectl("delete", "configmap", "owner", "--wait=false")
    here.until(lambda: "deletionTimestamp" in here.get("configmap", "owner")["metadata"], "the deletion")
    assert here.available("rs", "canary", 1)
    here.patch("configmap", "owner", {"metadata": {"finalizers": None}})
    here.until(lambda: not here.all("pod", "pod-template-hash=c1"), "the end of the canary's pods")
    here.until(lambda: here.sizes() == {"1": 4}, "the end of the canary")

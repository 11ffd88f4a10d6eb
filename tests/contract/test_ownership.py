"""Owners and dependents, adoption and release, finalizers, namespaces."""

from __future__ import annotations

import json

from tests.contract.harness import Space
from tests.contract.workloads import Json, Workloads, config_map, deployment, reference, replica_set


def owners(here: Workloads, kind: str, name: str) -> list[Json]:
    found: list[Json] = here.get(kind, name)["metadata"].get("ownerReferences", [])
    return found


def test_a_deployment_takes_replica_sets_and_pods_along(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    here.kubectl("delete", "deployment", "web")
    here.until(lambda: not here.all("rs") and not here.all("pod"), "the end of all")


def test_in_the_foreground_dependents_go_first(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    pod = next(iter(here.pods()))
    here.patch("pod", pod, {"metadata": {"finalizers": ["example.com/hold"]}})
    here.kubectl("delete", "deployment", "web", "--cascade=foreground", "--wait=false")
    here.until(lambda: len(here.all("pod")) == 1, "the other pod's end")
    meta = here.get("deployment")["metadata"]
    assert meta["finalizers"] == ["foregroundDeletion"]
    assert len(here.all("rs")) == 1
    here.patch("pod", pod, {"metadata": {"finalizers": None}})
    here.until(lambda: here.gone("deployment", "web"), "the end of the Deployment")
    assert not here.all("rs")


def test_orphans_stay_and_the_next_that_matches_adopts_them(here: Workloads) -> None:
    here.create(deployment())
    here.until(lambda: here.settled(), "version 1")
    before = here.pods()
    name = here.replica_set("1")["metadata"]["name"]
    here.kubectl("delete", "deployment", "web", "--cascade=orphan")
    here.until(lambda: here.gone("deployment", "web") and not owners(here, "rs", name), "an orphan")
    here.create(deployment())
    here.until(lambda: here.settled(), "the adoption")
    assert [o["uid"] for o in owners(here, "rs", name)] == [here.get("deployment")["metadata"]["uid"]]
    assert here.pods() == before
    assert here.sizes() == {"1": 2}


def test_what_has_an_owner_that_never_was_is_collected(here: Workloads) -> None:
    here.create(config_map())
    nobody = reference(here.get("configmap", "owner")) | {"uid": "00000000-0000-4000-8000-000000000000"}
    here.create(config_map("lost", [nobody]))
    here.until(lambda: here.gone("configmap", "lost"), "the collection")


def test_of_two_owners_the_one_that_is_left_keeps_it(here: Workloads) -> None:
    here.create(config_map("one"), config_map("two"))
    refs = [reference(here.get("configmap", name), controller=False) for name in ("one", "two")]
    here.create(config_map("shared", refs))
    here.kubectl("delete", "configmap", "one")
    here.until(lambda: [o["name"] for o in owners(here, "configmap", "shared")] == ["two"], "the reference's end")
    here.kubectl("delete", "configmap", "two")
    here.until(lambda: here.gone("configmap", "shared"), "the collection")


def test_a_finalizer_holds_an_object_until_it_is_taken_off(here: Workloads) -> None:
    here.create(config_map(finalizers=["example.com/hold"]))
    here.kubectl("delete", "configmap", "owner", "--wait=false")
    assert "deletionTimestamp" in here.get("configmap", "owner")["metadata"]
    here.patch("configmap", "owner", {"metadata": {"finalizers": None}})
    assert here.gone("configmap", "owner")


def test_a_pod_whose_labels_no_longer_match_is_released_and_replaced_and_adopted_again(here: Workloads) -> None:
    here.create(replica_set("web", "1", 2))
    here.until(lambda: here.available("rs", "web", 2), "2 pods")
    pod = next(iter(here.pods()))
    here.kubectl("label", "pod", pod, "app=debug", "--overwrite")
    here.until(lambda: not owners(here, "pod", pod), "the release")
    here.until(lambda: len(here.pods()) == 2, "another pod")
    here.kubectl("label", "pod", pod, "app=web", "--overwrite")
    here.until(lambda: len(here.pods()) == 2 and here.available("rs", "web", 2), "one pod less")


def test_pods_that_cost_least_are_deleted_first(here: Workloads) -> None:
    here.create(replica_set("web", "1", 3))
    here.until(lambda: here.available("rs", "web", 3), "3 pods")
    cheap = sorted(here.pods())[1]
    here.kubectl("annotate", "pod", cheap, "controller.kubernetes.io/pod-deletion-cost=-100")
    here.kubectl("scale", "rs/web", "--replicas=2")
    here.until(lambda: len(here.pods()) == 2, "2 pods")
    assert cheap not in here.pods()


def test_terminating_pods_are_counted_by_themselves(here: Workloads) -> None:
    here.create(replica_set("web", "1", 2))
    here.until(lambda: here.available("rs", "web", 2), "2 pods")
    pod = next(iter(here.pods()))
    here.patch("pod", pod, {"metadata": {"finalizers": ["example.com/hold"]}})
    here.kubectl("scale", "rs/web", "--replicas=0")
    here.until(lambda: here.get("rs")["status"].get("replicas") == 0, "no pods")
    here.until(lambda: len(here.all("pod")) == 1, "the held pod")
    here.patch("pod", pod, {"metadata": {"finalizers": None}})
    here.until(lambda: here.get("rs")["status"].get("terminatingReplicas") == 0, "none terminating")


def test_a_namespace_takes_everything_in_it_along_and_is_held_by_finalizers(here: Workloads) -> None:
    def kubectl(*args: str, check: bool = True) -> str:
        return here.cluster.kubectl(*args, check=check).out

    name = f"{here.namespace}-inner"
    here.cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    inner = Workloads(Space(here.cluster, name))
    here.until(lambda: not inner.gone("serviceaccount", "default"), "the default service account")
    inner.create(deployment(replicas=1), config_map(finalizers=["example.com/hold"]))
    inner.until(lambda: inner.settled(), "a pod")
    kubectl("delete", "namespace", name, "--wait=false")

    def phase() -> str:
        found: Json = json.loads(kubectl("get", "namespace", name, "-o", "json"))
        return str(found["status"]["phase"])

    here.until(lambda: phase() == "Terminating", "the deletion")
    here.until(lambda: not inner.all("pod") and not inner.all("deployment"), "the end of its pods")
    late = here.cluster.request("POST", f"/api/v1/namespaces/{name}/configmaps", config_map("late"))
    assert (late.code, late.reason) == (403, "Forbidden")
    assert phase() == "Terminating"
    inner.patch("configmap", "owner", {"metadata": {"finalizers": None}})
    here.until(lambda: not kubectl("get", "namespace", name, "--ignore-not-found"), "the end")


def test_a_pod_on_a_node_that_does_not_exist_is_collected(lost: Space) -> None:
    """After 40 to 80 s on a real one (pkg/controller/podgc)."""
    lost.wait(lambda: lost.find("pods", "lost") is None, "the end of the pod", 120)

"""What Kubernetes' controllers do where the contract tests can't look: order, time, and what comes of trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from davylamp.embedded.clock import LoopClock, run
from davylamp.embedded.cluster import Cluster
from davylamp.embedded.controllers import deployment as deployments
from davylamp.embedded.controllers import replicaset
from davylamp.embedded.controllers.objects import controller_reference, same_template, template_name
from davylamp.embedded.kubelet.imagined import Behave, Course
from davylamp.embedded.store import Object
from tests.kube.controllers import deployment, service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def in_cluster(main: Callable[[Cluster], Awaitable[None]], behave: Behave = lambda pod: Course()) -> None:
    """Run a test in a cluster in virtual time, with the namespace `shop`."""

    async def whole(clock: LoopClock) -> None:
        async with Cluster(clock, behave=behave) as cluster:
            cluster.store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
            await main(cluster)

    run(whole)


def get(cluster: Cluster, kind: str, name: str = "web") -> Object:
    found = cluster.store.get(kind, "shop", name)
    assert found is not None
    return found


def progressing(cluster: Cluster) -> Object:
    conditions: list[Object] = get(cluster, "Deployment")["status"]["conditions"]
    return next(c for c in conditions if c["type"] == "Progressing")


def pod(name: str, *, node: str = "n", phase: str = "Running", ready: int | None = 60, **meta: Any) -> Object:
    """`ready`: for how many seconds."""
    since = datetime.fromtimestamp(NOW.timestamp() - (ready or 0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Ready", "status": "True" if ready is not None else "False", "lastTransitionTime": since}
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", **meta},
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [condition]},
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("z", node="", phase="Pending", ready=None), pod("a", phase="Pending", ready=None)),
        (pod("z", phase="Pending", ready=None), pod("a", ready=None)),
        (pod("z", ready=None), pod("a")),
        (pod("z", annotations={replicaset.DELETION_COST: "-5"}), pod("a")),
        (pod("z", ready=10), pod("a", ready=1000)),
        (pod("a", ready=1000), pod("z", ready=1001)),
    ],
    ids=["unbound", "pending", "unready", "cheap", "ready for less long", "about as long: by uid"],
)
def test_pods_that_are_missed_least_go_first(first: Object, second: Object) -> None:
    for given in ([first, second], [second, first]):
        assert replicaset._first_to_go(given, lambda: [], NOW)[0] is first


def test_templates_are_the_same_whatever_their_hash_and_their_empty_fields() -> None:
    one: Object = {
        "metadata": {"labels": {"a": "b", "pod-template-hash": "x"}},
        "spec": {"containers": [{"name": "c"}]},
    }
    other: Object = {
        "metadata": {"labels": {"a": "b"}, "creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "resources": {}, "env": []}]},
    }
    assert same_template(one, other)
    assert template_name(one, None) == template_name(other, None) != template_name(one, 1)
    volumes = {"metadata": one["metadata"], "spec": {**one["spec"], "volumes": [{"name": "v", "emptyDir": {}}]}}
    assert not same_template(volumes, one)


def test_a_rollout_that_gets_nowhere_exceeds_its_deadline_and_a_pause_is_no_lack_of_progress() -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment("absent:v1", replicas=2)
        manifest["spec"]["progressDeadlineSeconds"] = 60
        cluster.store.create(manifest)
        await asyncio.sleep(30)
        cluster.store.patch("Deployment", "shop", "web", {"spec": {"paused": True}})
        await asyncio.sleep(600)
        assert progressing(cluster)["reason"] == "DeploymentPaused"
        cluster.store.patch("Deployment", "shop", "web", {"spec": {"paused": False}})
        await asyncio.sleep(59)
        assert progressing(cluster)["reason"] == "DeploymentResumed"
        await asyncio.sleep(5)
        assert (progressing(cluster)["status"], progressing(cluster)["reason"]) == ("False", "ProgressDeadlineExceeded")

    in_cluster(main, lambda pod: Course(pulled=False))


def test_pods_count_as_available_after_min_ready_seconds() -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment(replicas=2)
        manifest["spec"]["minReadySeconds"] = 30
        cluster.store.create(manifest)
        await asyncio.sleep(20)
        assert get(cluster, "Deployment")["status"]["readyReplicas"] == 2
        assert "availableReplicas" not in get(cluster, "Deployment")["status"]
        await asyncio.sleep(20)
        assert get(cluster, "Deployment")["status"]["availableReplicas"] == 2

    in_cluster(main)


def test_a_rollout_never_has_fewer_available_pods_than_allowed_nor_more_than_surge() -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment(replicas=8)
        manifest["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}
        cluster.store.create(manifest)
        await asyncio.sleep(30)
        seen: list[tuple[int, int]] = []

        def look(type_: str, new: Object, old: Object | None) -> None:
            alive = [p for p in cluster.store.list("Pod", "shop") if "deletionTimestamp" not in p["metadata"]]
            up = [
                p
                for p in alive
                if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ()))
            ]
            seen.append((len(up), len(alive)))

        cluster.store.subscribe(look, "Pod")
        template = {"spec": {"containers": [{"name": "app", "image": "hellok8s:v2"}]}}
        cluster.store.patch("Deployment", "shop", "web", {"spec": {"template": template}})
        await asyncio.sleep(300)
        status = get(cluster, "Deployment")["status"]
        assert (status["updatedReplicas"], status["availableReplicas"], status["replicas"]) == (8, 8, 8)
        assert min(up for up, _ in seen) >= 6
        assert max(alive for _, alive in seen) <= 9

    in_cluster(main)


def test_recreate_starts_nothing_before_the_last_old_pod_is_gone() -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment(replicas=3)
        manifest["spec"]["strategy"] = {"type": "Recreate"}
        cluster.store.create(manifest)
        await asyncio.sleep(30)
        images: list[set[str]] = []

        def look(type_: str, new: Object, old: Object | None) -> None:
            images.append({p["spec"]["containers"][0]["image"] for p in cluster.store.list("Pod", "shop")})

        cluster.store.subscribe(look, "Pod")
        template = {"spec": {"containers": [{"name": "app", "image": "hellok8s:v2"}]}}
        cluster.store.patch(
            "Deployment", "shop", "web", {"spec": {"template": template, "strategy": {"rollingUpdate": None}}}
        )
        await asyncio.sleep(60)
        assert images[-1] == {"hellok8s:v2"}
        assert {"hellok8s:v1", "hellok8s:v2"} not in images
        assert get(cluster, "Deployment")["status"]["availableReplicas"] == 3

    in_cluster(main)


def test_a_name_that_is_taken_counts_as_a_collision() -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment(replicas=1)
        manifest["spec"]["paused"] = True
        cluster.store.create(manifest)
        name = f"web-{template_name(get(cluster, 'Deployment')['spec']['template'], None)}"
        other = {"containers": [{"name": "app", "image": "other"}]}
        spec = {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "other"}},
            "template": {"metadata": {"labels": {"app": "other"}}, "spec": other},
        }
        meta = {"name": name, "namespace": "shop", "labels": {"app": "other"}}
        cluster.store.create({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": spec})
        cluster.store.patch("Deployment", "shop", "web", {"spec": {"paused": False}})
        await asyncio.sleep(30)
        status = get(cluster, "Deployment")["status"]
        assert (status["collisionCount"], status["availableReplicas"]) == (1, 1)

    in_cluster(main)


def test_a_pod_whose_node_does_not_exist_is_deleted_after_a_while() -> None:
    async def main(cluster: Cluster) -> None:
        spec = {"nodeName": "nowhere", "containers": [{"name": "app", "image": "hellok8s:v1"}]}
        meta = {"name": "lost", "namespace": "shop"}
        cluster.store.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        await asyncio.sleep(30)
        assert cluster.store.get("Pod", "shop", "lost") is not None
        await asyncio.sleep(30)
        assert cluster.store.get("Pod", "shop", "lost") is None

    in_cluster(main)


def test_more_than_a_hundred_pods_share_slices_and_each_is_in_one() -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(deployment(replicas=230))
        cluster.store.create(service())
        await asyncio.sleep(60)

        def addresses() -> list[list[str]]:
            slices = cluster.store.list("EndpointSlice", "shop")
            return [[e["addresses"][0] for e in s["endpoints"] or ()] for s in slices]

        assert sorted(map(len, addresses())) == [30, 100, 100]
        assert len({a for each in addresses() for a in each}) == 230
        cluster.store.patch("Deployment", "shop", "web", {"spec": {"replicas": 1}})
        await asyncio.sleep(60)
        assert sum(map(len, addresses())) == 1

    in_cluster(main)


def test_the_same_seed_gives_the_same_run() -> None:
    def history() -> list[Object]:
        async def main(clock: LoopClock) -> list[Object]:
            async with Cluster(clock, seed=3) as cluster:
                cluster.store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
                cluster.store.create(deployment())
                await asyncio.sleep(60)
                return [change.new for change in cluster.store.since(0)]

        return run(main)

    assert history() == history()


def test_an_object_that_can_not_be_worked_on_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = deployments.plan
    tries: list[Object] = []

    def plan(obj: Object, *args: Any) -> Any:
        if obj["metadata"]["name"] == "broken" and len(tries) < 3:
            tries.append(obj)
            raise KeyError("spec")
        return real(obj, *args)

    monkeypatch.setattr(deployments, "plan", plan)

    async def main(cluster: Cluster) -> None:
        cluster.store.create(deployment(name="broken"))
        cluster.store.create(deployment())
        await asyncio.sleep(30)
        assert get(cluster, "Deployment")["status"]["availableReplicas"] == 4
        assert get(cluster, "Deployment", "broken")["status"]["availableReplicas"] == 4
        assert len(tries) == 3

    in_cluster(main)


FOREIGN_KINDS = ("Service", "Deployment", "ReplicaSet", "Pod", "EndpointSlice", "Node")


def foreign_kind(kind: str) -> Object:
    """A CRD of another group with a kind that Kubernetes has as well, as Knative's Service."""
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.serving.example"},
        "spec": {
            "group": "serving.example",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def test_a_kind_of_another_group_is_not_taken_for_kubernetes_own_of_that_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(cluster: Cluster) -> None:
        owner = None
        for kind in FOREIGN_KINDS:
            cluster.store.create(foreign_kind(kind))
            meta: Object = {"name": "web", "namespace": "shop", "labels": {"app": "web"}}
            if owner is not None:
                meta["ownerReferences"] = [controller_reference(owner)]
            body = {"apiVersion": "serving.example/v1", "kind": kind, "metadata": meta, "spec": {"replicas": 2}}
            owner = cluster.store.create(body)
        cluster.store.create(service())
        cluster.store.create(deployment(replicas=2))
        await cluster.until(lambda: get(cluster, "Deployment").get("status", {}).get("availableReplicas") == 2, 60)
        await asyncio.sleep(60)
        foreign = [cluster.store.list(f"{kind}.serving.example", "shop") for kind in FOREIGN_KINDS]
        assert [[obj["spec"] for obj in objs] for objs in foreign] == [[{"replicas": 2}]] * len(FOREIGN_KINDS)
        assert not any("status" in obj for objs in foreign for obj in objs)
        assert [len(cluster.store.list(kind, "shop")) for kind in ("ReplicaSet", "Pod", "EndpointSlice")] == [1, 2, 1]

    with caplog.at_level("INFO", "davylamp.embedded.controllers"):
        in_cluster(main)
    assert caplog.records == []


def test_the_owner_of_a_pod_is_told_by_its_group_too(caplog: pytest.LogCaptureFixture) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(foreign_kind("ReplicaSet"))
        meta = {"name": "web", "namespace": "shop"}
        owner = cluster.store.create({"apiVersion": "serving.example/v1", "kind": "ReplicaSet", "metadata": meta})
        pod_meta = {**meta, "labels": {"app": "web"}, "ownerReferences": [controller_reference(owner)]}
        spec = {"containers": [{"name": "app", "image": "hellok8s:v1"}]}
        cluster.store.create({"apiVersion": "v1", "kind": "Pod", "metadata": pod_meta, "spec": spec})
        await cluster.until(lambda: get(cluster, "Pod").get("status", {}).get("phase") == "Running", 60)
        cluster.store.create(deployment(replicas=1))
        await cluster.until(lambda: get(cluster, "Deployment").get("status", {}).get("availableReplicas") == 1, 60)
        assert len(cluster.store.list("Pod", "shop")) == 2
        assert "status" not in get(cluster, "ReplicaSet.serving.example")

    with caplog.at_level("INFO", "davylamp.embedded.controllers"):
        in_cluster(main)
    assert caplog.records == []

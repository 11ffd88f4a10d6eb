"""Pods without processes."""

from __future__ import annotations

import asyncio

import pytest

from davylamp.embedded.cluster import Cluster
from davylamp.embedded.kubelet.imagined import Course
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object
from tests.embedded.test_controllers import get, in_cluster


def bare(name: str = "web") -> Object:
    spec = {"containers": [{"name": "app", "image": "hellok8s:v1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def container(cluster: Cluster) -> Object:
    found: Object = get(cluster, "Pod")["status"]["containerStatuses"][0]
    return found


def is_ready(cluster: Cluster) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in get(cluster, "Pod")["status"]["conditions"])


def test_a_pod_is_bound_then_runs_then_is_ready_and_stops_when_deleted() -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(bare())
        await asyncio.sleep(0.5)
        assert (get(cluster, "Pod")["spec"]["nodeName"], get(cluster, "Pod")["status"]["phase"]) == (
            "imagined",
            "Pending",
        )
        await asyncio.sleep(1)
        assert (get(cluster, "Pod")["status"]["phase"], is_ready(cluster)) == ("Running", False)
        await asyncio.sleep(2)
        assert is_ready(cluster)
        cluster.store.delete("Pod", "shop", "web")
        await asyncio.sleep(0.2)
        assert "deletionTimestamp" in get(cluster, "Pod")["metadata"]
        await asyncio.sleep(0.5)
        assert cluster.store.get("Pod", "shop", "web") is None

    in_cluster(main)


def test_a_container_that_crashes_is_restarted_with_a_back_off_that_doubles() -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(bare())
        restarts: list[tuple[int, int]] = []

        def look(type_: str, new: Object, old: Object | None) -> None:
            for status in new["status"].get("containerStatuses") or ():
                if "running" in status["state"]:
                    restarts.append((status["restartCount"], round(cluster.clock.time())))

        cluster.store.subscribe(look, "Pod")
        await asyncio.sleep(200)
        assert dict(restarts) == {0: 1, 1: 6, 2: 21, 3: 46, 4: 91, 5: 176}
        assert container(cluster)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        assert container(cluster)["lastState"]["terminated"]["exitCode"] == 3
        assert cluster.store.logs is not None
        assert b"FATAL" in cluster.store.logs.read("shop", "web", "app", previous=True)

    in_cluster(main, lambda pod: Course(ready=None, crash=5, exit_code=3, log="FATAL no database"))


def test_an_image_that_is_not_there_is_backed_off_from() -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(bare())
        await asyncio.sleep(5)
        assert container(cluster)["state"]["waiting"]["reason"] == "ErrImagePull"
        await asyncio.sleep(10)
        assert container(cluster)["state"]["waiting"]["reason"] == "ImagePullBackOff"
        assert cluster.store.logs is not None
        with pytest.raises(StatusError, match="waiting to start: ImagePullBackOff"):
            cluster.store.logs.read("shop", "web", "app", previous=False)

    in_cluster(main, lambda pod: Course(pulled=False))


def test_readiness_and_crashes_come_when_asked_for() -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(bare())
        await asyncio.sleep(5)
        cluster.pods.set_ready("shop", "web", False)
        assert not is_ready(cluster)
        await asyncio.sleep(60)
        assert not is_ready(cluster)
        cluster.pods.set_ready("shop", "web", True)
        assert is_ready(cluster)
        cluster.pods.crash("shop", "web", 137)
        assert not is_ready(cluster)
        await asyncio.sleep(5)
        assert (container(cluster)["restartCount"], is_ready(cluster)) == (1, True)

    in_cluster(main)


def test_a_pod_that_is_deleted_while_it_starts_never_runs() -> None:
    async def main(cluster: Cluster) -> None:
        cluster.store.create(bare())
        await asyncio.sleep(0.5)
        cluster.store.delete("Pod", "shop", "web")
        await asyncio.sleep(5)
        assert cluster.store.get("Pod", "shop", "web") is None
        assert not any(
            (c.new.get("status") or {}).get("phase") == "Running" for c in cluster.store.since(0) if c.kind == "Pod"
        )

    in_cluster(main)

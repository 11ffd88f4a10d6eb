"""Whatever people do to a Deployment, it ends as asked, and has neither too few nor too many pods on the way."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from davylamp.embedded.cluster import Cluster
from davylamp.embedded.controllers import scaling
from davylamp.embedded.controllers.objects import deleted, is_ready
from davylamp.embedded.kubelet.imagined import Course
from davylamp.embedded.store import Object
from tests.embedded.test_controllers import get, in_cluster
from tests.kube.controllers import deployment

IMAGES = ("hellok8s:v1", "hellok8s:v2", "sick:v3")

step = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(IMAGES)),
    st.tuples(st.just("scale"), st.integers(1, 9)),
    st.tuples(st.just("paused"), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 8)),
)
steps = st.lists(st.tuples(step, st.sampled_from([0.0, 0.5, 2.0, 7.0, 60.0])), max_size=8)


def behave(pod: Object) -> Course:
    return Course(ready=None) if pod["spec"]["containers"][0]["image"].startswith("sick") else Course()


def image(name: str) -> Object:
    return {"template": {"spec": {"containers": [{"name": "app", "image": name}]}}}


def do(cluster: Cluster, what: str, value: Any) -> None:
    if what == "lose":
        pods = cluster.store.list("Pod", "shop")
        if pods:
            cluster.store.delete("Pod", "shop", pods[value % len(pods)]["metadata"]["name"])
        return
    spec = {"image": lambda: image(value), "scale": lambda: {"replicas": value}, "paused": lambda: {"paused": value}}
    cluster.store.patch("Deployment", "shop", "web", {"spec": spec[what]()})


@settings(max_examples=25)
@given(steps, st.integers(0, 3), st.integers(0, 3))
def test_a_deployment_ends_as_asked_whatever_came_before(
    given_steps: list[tuple[tuple[str, Any], float]], surge: int, unavailable: int
) -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment(replicas=3)
        manifest["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable or 1}}
        cluster.store.create(manifest)
        for (what, value), seconds in given_steps:
            do(cluster, what, value)
            await asyncio.sleep(seconds)
        do(cluster, "paused", False)
        do(cluster, "image", "hellok8s:final")
        await asyncio.sleep(900)
        web = get(cluster, "Deployment")
        desired = web["spec"]["replicas"]
        counts = [web["status"].get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        assert counts == [desired] * 3
        pods = cluster.store.list("Pod", "shop")
        assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["hellok8s:final"] * desired
        assert len(scaling.active(cluster.store.list("ReplicaSet", "shop"))) == 1

    in_cluster(main, behave)


@settings(max_examples=25)
@given(st.integers(1, 10), st.integers(0, 4), st.integers(0, 4))
def test_a_rolling_update_stays_between_its_bounds(replicas: int, surge: int, unavailable: int) -> None:
    async def main(cluster: Cluster) -> None:
        manifest = deployment(replicas=replicas)
        bounds = {"maxSurge": surge, "maxUnavailable": unavailable or int(surge == 0)}
        manifest["spec"]["strategy"] = {"rollingUpdate": bounds}
        cluster.store.create(manifest)
        await asyncio.sleep(60)
        web = get(cluster, "Deployment")
        least, most = replicas - scaling.max_unavailable(web), replicas + scaling.max_surge(web)

        seen: list[tuple[int, int]] = []

        def look(type_: str, new: Object, old: Object | None) -> None:
            alive = [pod for pod in cluster.store.list("Pod", "shop") if not deleted(pod)]
            seen.append((sum(map(is_ready, alive)), len(alive)))

        cluster.store.subscribe(look, "Pod")
        do(cluster, "image", "hellok8s:v2")
        await asyncio.sleep(600)
        assert get(cluster, "Deployment")["status"]["updatedReplicas"] == replicas
        assert all(least <= ready and alive <= most for ready, alive in seen), (least, most, seen)

    in_cluster(main, behave)

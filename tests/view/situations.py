"""A workload in each situation that a person may meet it in, made by the controller on a model of the cluster."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import msgspec

from davylamp.core import names
from davylamp.core.judging import told
from davylamp.view.lines import Look, plain
from davylamp.view.model import WorkloadView, view
from davylamp.view.text import Pods, render
from tests.core.model import Cluster, Json, policy_spec

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
STEPS: list[Json] = [{"weight": 10, "hold": "10m"}, {"weight": 50, "approve": True}, {"weight": 100}]
CRASHING: Json = {
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {
            "name": "hellok8s",
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }
    ],
}
PENDING: Json = {"conditions": [{"type": "Ready", "status": "False"}]}


def with_policy(*weights: int, replicas: int = 4, gate: Any = "admission", **spec: Any) -> Cluster:
    """Four pods of v1 behind a Service and an Ingress, and a policy that knows them."""
    cluster = Cluster(replicas=replicas, gate=gate)
    spec = policy_spec(*weights, **({} if weights else {"steps": copy.deepcopy(STEPS)}) | spec)
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    return cluster


def started(*weights: int, **spec: Any) -> Cluster:
    """The same, and somebody has set the image to v2."""
    cluster = with_policy(*weights, **spec)
    cluster.set_image(V2)
    return cluster


def in_step(number: int, **spec: Any) -> Cluster:
    """A release in its step `number` (from 1)."""
    cluster = started(**spec)
    cluster.run(
        lambda: (
            int(cluster.all("Release")[-1].get("status", {}).get("step", 0)) == number
            if cluster.all("Release")
            else False
        )
    )
    return cluster


def done(**spec: Any) -> Cluster:
    cluster = started(20, 100, **spec)
    cluster.run()
    return cluster


def waiting_for_pods(**spec: Any) -> Cluster:
    cluster = started(**spec)
    cluster.sick_images[V2] = PENDING
    for _ in range(3):
        cluster.look()
    return cluster


def analysed(answer: str = "not enough data", **more: Any) -> Cluster:
    """In step 1, with what a look a moment ago has found."""
    cluster = in_step(1, analysis={"checks": [{"errors": {}}, {"latency": {}}]})
    found = {
        "answer": answer,
        "message": "not enough data yet: errors needs about 1,400 more canary requests, 2 min at this rate",
        "stable": {"requests": 1204, "failures": 1, "slow": 0.031},
        "canary": {"requests": 133, "failures": 0, "slow": 1.25},
        "limits": ["one canary pod: a bad pod (or node) can't be told from a bad version; two or more can"],
    }
    name = cluster.release["metadata"]["name"]
    cluster.edit("Release", name, lambda obj: obj["status"].update(analysis=found | more))
    return cluster


def entering_50() -> Cluster:
    cluster = in_step(1)
    cluster.now += timedelta(minutes=10, seconds=1)
    cluster.look()
    return cluster


def awaiting() -> Cluster:
    cluster = in_step(2)
    cluster.now += timedelta(minutes=3)
    return cluster


def paused() -> Cluster:
    cluster = in_step(1)
    cluster.command(paused={"by": "ann", "reason": "lunch"})
    return cluster


def paused_at_once() -> Cluster:
    cluster = started()
    cluster.look()
    cluster.command(paused={"by": "ann"})
    return cluster


def adopted() -> Cluster:
    cluster = started(20, 100)
    cluster.run(
        lambda: any(rs["metadata"].get("ownerReferences", [{}])[0]["kind"] == "Deployment" for rs in _canaries(cluster))
    )
    return cluster


def keeping() -> Cluster:
    """Completed three minutes ago, with the old pods still there."""
    cluster = started(20, 100, keepOld="1h")
    cluster.run(lambda: bool(cluster.all("Release")) and cluster.release.get("status", {}).get("phase") == "Completed")
    cluster.now += timedelta(minutes=3)
    return cluster


def _canaries(cluster: Cluster) -> list[Json]:
    return [rs for rs in cluster.all("ReplicaSet") if "native" not in rs["metadata"]["name"]]


def crashing(passes: int = 6) -> Cluster:
    cluster = started()
    cluster.sick_images[V2] = CRASHING
    for _ in range(passes):
        cluster.look()
    return cluster


def held(minutes: float = 3, **spec: Any) -> Cluster:
    cluster = started(**spec)
    cluster.sick_images[V2] = CRASHING
    cluster.run()
    cluster.now += timedelta(minutes=minutes)
    return cluster


def reverted() -> Cluster:
    return held(onFailure="revert")


def applied_again() -> Cluster:
    cluster = reverted()
    cluster.set_image(V2)
    cluster.run()
    return cluster


def retried() -> Cluster:
    cluster = held()
    cluster.command(retry={"by": "ann"})
    return cluster


def superseded() -> Cluster:
    cluster = in_step(1)
    cluster.set_image(V3)
    cluster.look()
    return cluster


def withdrawn() -> Cluster:
    cluster = in_step(1)
    cluster.set_image(V1)
    cluster.run()
    return cluster


def resumed_by_hand() -> Cluster:
    cluster = in_step(1)
    cluster.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=False))
    cluster.run(lambda: cluster.phase() == "Overridden")
    return cluster


def invalid() -> Cluster:
    cluster = with_policy()

    def wrong(policy: Json) -> None:
        policy["spec"]["traffic"]["routes"] = [{"ingress": {"name": "wbe"}}]
        policy["spec"]["steps"] = [{"weight": 50, "hold": "1m"}, {"weight": 10}]

    cluster.edit("ReleasePolicy", "web", wrong)
    return cluster


def invalid_and_changed() -> Cluster:
    cluster = invalid()
    cluster.set_image(V2)
    return cluster


def without_policy() -> Cluster:
    return Cluster()


def policy_lost() -> Cluster:
    cluster = started()
    del cluster.objects["ReleasePolicy", "web"]
    return cluster


def gone() -> Cluster:
    cluster = with_policy()
    del cluster.objects["Deployment", "web"]
    cluster.settle()
    return cluster


def two_versions() -> Cluster:
    cluster = Cluster()
    cluster.set_image(V2)  # no gate without a policy: Kubernetes rolls
    cluster.put("ReleasePolicy", "web", spec=policy_spec(steps=copy.deepcopy(STEPS)))
    cluster.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=True))
    return cluster


def paused_by_hand() -> Cluster:
    cluster = with_policy()
    cluster.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=True))
    return cluster


def restarted() -> Cluster:
    """`kubectl rollout restart`: another template with the same image."""

    def restart(obj: Json) -> None:
        obj["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}

    cluster = with_policy()
    cluster.edit("Deployment", "web", restart)
    cluster.look()
    cluster.look()
    return cluster


def unattended() -> Cluster:
    """The controller died after it had made the Release."""
    cluster = started()
    cluster.look()
    cluster.now += timedelta(minutes=5)
    return cluster


Situation = Callable[[], Cluster]


def seen(cluster: Cluster) -> WorkloadView:
    """What a person sees of it now."""
    world = cluster.world()
    if world.release is not None:
        world = msgspec.structs.replace(
            world, judgement=told(world.release)
        )  # as all know it who don't look themselves
    canary = {pod.metadata.name for pod in world.pods or ()}
    return view(world, cluster.now, stable_pods=tuple(p for p in cluster.typed("Pod") if p.metadata.name not in canary))


LOOK = Look(zone=UTC)


def text(cluster: Cluster, look: Look = LOOK, pods: Pods = "unready") -> list[str]:
    """The same as plain lines."""
    return [plain(line) for line in render(seen(cluster), look, cluster.now, pods=pods)]

"""Kubernetes' own controllers for `FakeApi`, as far as a release needs them, and its gate.

Deployments (with `paused`, and adoption), ReplicaSets whose pods are ready at once or sick, EndpointSlices. They run
as one task that looks at everything whenever anything changed: small, not fast.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from davylamp.api.objects import HASH_LABEL, template_hash
from davylamp.core import names
from davylamp.core.actions import Ref
from tests.kube.fake import FakeApi, Object, labels_of

NAMESPACE = "shop"


def deployment(image: str = "hellok8s:v1", replicas: int = 4, name: str = "web", **labels: str) -> Object:
    pods = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": pods},
            "template": {"metadata": {"labels": pods}, "spec": {"containers": [{"name": "app", "image": image}]}},
        },
    }


def service(name: str = "web") -> Object:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9"} | spec,
    }


def ingress(name: str = "web", service: str = "web") -> Object:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": f"{name}.example", "http": {"paths": paths}}]},
    }


INGRESS_CLASS: Object = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "nginx"},
    "spec": {"controller": "k8s.io/ingress-nginx"},
}


def policy(name: str = "web", **spec: Any) -> Object:
    """A policy of Deployment `name`: 50 % for 10 s, then all; by the number of pods."""
    given = {"target": {"name": name}, "steps": [{"weight": 50, "hold": "10s"}, {"weight": 100}]} | spec
    return {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ReleasePolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": given,
    }


ROUTED: dict[str, Any] = {"traffic": {"service": "web", "routes": [{"ingress": {"name": "web"}}], "settle": "2s"}}


def gate(api: FakeApi) -> None:
    """Pause every Deployment whose template is changed by somebody, where there is any policy in the namespace."""

    def admit(old: Object | None, new: Object) -> Object:
        if new["kind"] != "Deployment" or old is None or not api.of_kind("ReleasePolicy"):
            return new
        if new["spec"]["template"] == old["spec"]["template"] or new["spec"].get("paused"):
            return new
        meta = new["metadata"]
        annotations = (meta.get("annotations") or {}) | {names.PAUSED_BY: "gate"}
        return {**new, "metadata": {**meta, "annotations": annotations}, "spec": {**new["spec"], "paused": True}}

    api.admission.append(admit)


class Controllers:
    """Run with `run`. `sick` has the status of pods by image: those are never ready."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.sick: dict[str, Object] = {}
        self.pods_ever: list[str] = []
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        news = asyncio.Event()
        self.api._watchers.append(news)
        while True:
            news.clear()
            self.settle()
            if not news.is_set():
                await news.wait()

    def settle(self) -> None:
        for obj in self.api.of_kind("Deployment"):
            self._deployment(obj)
        for obj in self.api.of_kind("ReplicaSet"):
            self._replica_set(obj)
        for obj in self.api.of_kind("Service"):
            self._endpoints(obj)

    def _deployment(self, obj: Object) -> None:
        spec, uid = obj["spec"], obj["metadata"]["uid"]
        own = [rs for rs in self.api.of_kind("ReplicaSet") if _controller(rs) == uid]
        wanted = template_hash(spec["template"])
        new = next((rs for rs in own if template_hash(rs["spec"]["template"]) == wanted), None)
        if new is None and not spec.get("paused"):
            self._own_replica_set(obj)
        elif new is not None and (not spec.get("paused") or new["spec"]["replicas"] >= spec["replicas"]):
            self._scale(new, spec["replicas"])
            if new.get("status", {}).get("availableReplicas", 0) >= spec["replicas"]:
                for rs in own:
                    self._scale(rs, spec["replicas"] if rs is new else 0)
        available = sum(rs.get("status", {}).get("availableReplicas", 0) for rs in own)
        self._status(obj, {"replicas": spec["replicas"], "availableReplicas": available})

    def _own_replica_set(self, obj: Object) -> None:
        meta, spec = obj["metadata"], obj["spec"]
        pod_hash = f"native{next(self._numbers)}"
        labels = {**spec["template"]["metadata"]["labels"], HASH_LABEL: pod_hash}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        self.api.put(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{meta['name']}-{pod_hash}",
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "ownerReferences": [owner | {"controller": True}],
                },
                "spec": {
                    "replicas": spec["replicas"],
                    "selector": {"matchLabels": labels},
                    "template": {**spec["template"], "metadata": {"labels": labels}},
                },
            }
        )

    def _replica_set(self, obj: Object) -> None:
        meta, wanted = obj["metadata"], obj["spec"]["replicas"]
        pods = [pod for pod in self.api.of_kind("Pod") if _controller(pod) == meta["uid"]]
        for pod in pods[wanted:]:
            self.api.remove(Ref("Pod", meta["namespace"], pod["metadata"]["name"]))
        for _ in range(wanted - len(pods)):
            self._pod(obj)
        healthy = wanted if obj["spec"]["template"]["spec"]["containers"][0]["image"] not in self.sick else 0
        self._status(obj, {"replicas": wanted, "readyReplicas": healthy, "availableReplicas": healthy})

    def _pod(self, replica_set: Object) -> None:
        meta, template = replica_set["metadata"], replica_set["spec"]["template"]
        name = f"{meta['name']}-{next(self._numbers)}"
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta["name"], "uid": meta["uid"]}
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [owner | {"controller": True}],
                },
                "spec": template["spec"],
            }
        )
        self.pods_ever.append(name)
        sick = self.sick.get(template["spec"]["containers"][0]["image"])
        ready = {"type": "Ready", "status": "False" if sick else "True"}
        self.api.set_status(
            Ref("Pod", meta["namespace"], name), {"podIP": "10.244.0.1", "conditions": [ready]} | (sick or {})
        )

    def _endpoints(self, obj: Object) -> None:
        meta = obj["metadata"]
        endpoints = [
            {"addresses": ["10.244.0.1"], "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"]}}
            for pod in self.api.of_kind("Pod")
            if obj["spec"]["selector"].items() <= labels_of(pod).items()
            and pod.get("status", {}).get("conditions", [{}])[0].get("status") == "True"
        ]
        ref = Ref("EndpointSlice", meta["namespace"], f"{meta['name']}-1")
        if ref in self.api.objects:
            self.api.change(ref, {"endpoints": endpoints})
            return
        owner = {"apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"], "controller": True}
        self.api.put(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": ref.name,
                    "namespace": ref.namespace,
                    "labels": {"kubernetes.io/service-name": meta["name"]},
                    "ownerReferences": [owner],
                },
                "endpoints": endpoints,
            }
        )

    def _scale(self, obj: Object, replicas: int) -> None:
        self.api.change(_ref(obj), {"spec": {"replicas": replicas}})

    def _status(self, obj: Object, status: Object) -> None:
        if _ref(obj) in self.api.objects:
            generation = self.api.objects[_ref(obj)]["metadata"]["generation"]
            self.api.set_status(_ref(obj), {"observedGeneration": generation} | status)


def _ref(obj: Object) -> Ref:
    return Ref(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def _controller(obj: Object) -> str:
    return next((o["uid"] for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), "")

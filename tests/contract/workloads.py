"""A namespace of a cluster, with the few objects that the cases on controllers are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import yaml

from tests.contract.harness import Space

Json = dict[str, Any]
T = TypeVar("T")

PLURALS = {
    "configmap": "configmaps",
    "deployment": "deployments.apps",
    "endpointslices": "endpointslices.discovery.k8s.io",
    "pod": "pods",
    "rs": "replicasets.apps",
    "service": "services",
    "serviceaccount": "serviceaccounts",
}
PAUSE = "registry.k8s.io/pause:{}"
"""Images whose containers are there at once and do nothing: tags are versions."""


class Workloads:
    """What a namespace has of Deployments, ReplicaSets, pods and endpoints."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.cluster = space.cluster
        self.namespace = space.name

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """What it prints; nothing where it fails and `check` is off."""
        return self.cluster.kubectl("-n", self.namespace, *args, input=input, check=check).out

    def create(self, *manifests: Json) -> None:
        self.kubectl("create", "-f", "-", input=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str = "web") -> Json:
        return self.space.get(PLURALS[kind], name)

    def all(self, kind: str, labels: str = "") -> list[Json]:
        return self.space.list(PLURALS[kind], **({"labelSelector": labels} if labels else {}))

    def patch(self, kind: str, name: str, patch: Json) -> None:
        self.space.patch(PLURALS[kind], name, patch)

    def gone(self, kind: str, name: str) -> bool:
        return self.space.find(PLURALS[kind], name) is None

    def set_image(self, tag: str, name: str = "web") -> None:
        self.kubectl("set", "image", f"deployment/{name}", f"app={PAUSE.format(tag)}")

    def until(self, condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
        return self.cluster.wait(condition, what, seconds)

    # --- what is asked often ---

    def settled(self, name: str = "web", replicas: int | None = None) -> bool:
        """Has the Deployment's controller seen all, and are all its pods of the newest template and available?"""
        found = self.get("deployment", name)
        wanted = found["spec"]["replicas"] if replicas is None else replicas
        status = found.get("status") or {}
        counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        return status.get("observedGeneration") == found["metadata"]["generation"] and counts == [wanted] * 3

    def available(self, kind: str, name: str, count: int) -> bool:
        return bool(self.get(kind, name).get("status", {}).get("availableReplicas", 0) == count)

    def seen(self, name: str = "web") -> bool:
        """Has the Deployment's controller seen the newest generation?"""
        found = self.get("deployment", name)
        return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])

    def sizes(self, labels: str = "app=web") -> dict[str, int]:
        """Sizes of the ReplicaSets, by the tag of their image."""
        return {tag_of(rs["spec"]["template"]): rs["spec"]["replicas"] for rs in self.all("rs", labels)}

    def replica_set(self, tag: str) -> Json:
        return next(rs for rs in self.all("rs") if tag_of(rs["spec"]["template"]) == tag)

    def pods(self, labels: str = "app=web") -> dict[str, str]:
        """Uids of the pods that are not on their way out, by name."""
        found = (pod["metadata"] for pod in self.all("pod", labels))
        return {meta["name"]: meta["uid"] for meta in found if "deletionTimestamp" not in meta}

    def condition(self, type_: str, kind: str = "deployment", name: str = "web") -> Json:
        return self.conditions(kind, name).get(type_, {})

    def conditions(self, kind: str = "deployment", name: str = "web") -> dict[str, Json]:
        """All of them at one moment, by type."""
        return {c["type"]: c for c in self.get(kind, name).get("status", {}).get("conditions", [])}

    def endpoints(self, service: str = "web") -> dict[str, bool]:
        """The pods of a Service's EndpointSlices, and whether each is ready for traffic."""
        slices = self.all("endpointslices", f"kubernetes.io/service-name={service}")
        found = [e for each in slices for e in each.get("endpoints") or ()]
        return {e["targetRef"]["name"]: e["conditions"]["ready"] for e in found}


def tag_of(template: Json) -> str:
    return str(template["spec"]["containers"][0]["image"].rpartition(":")[2])


def template(tag: str, image: str = "", labels: Json | None = None, **container: Any) -> Json:
    name = image or PAUSE.format(tag)
    spec = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "app", "image": name, **container}]}
    return {"metadata": {"labels": {"app": "web", **(labels or {})}}, "spec": spec}


def deployment(tag: str = "1", replicas: int = 2, container: Json | None = None, image: str = "", **spec: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(tag, image, **(container or {})),
            **spec,
        },
    }


def replica_set(name: str, tag: str, replicas: int, owner: Json | None = None, labels: Json | None = None) -> Json:
    """A bare one, as the canary is."""
    own = {"app": "web", **(labels or {})}
    meta: Json = {"name": name, "labels": own}
    if owner is not None:
        meta["ownerReferences"] = [reference(owner)]
    spec = {"replicas": replicas, "selector": {"matchLabels": own}, "template": template(tag, labels=labels)}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": spec}


def reference(owner: Json, controller: bool = True, block: bool = True) -> Json:
    meta = owner["metadata"]
    about = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    return {**about, "controller": controller, "blockOwnerDeletion": block}


def config_map(name: str = "owner", owners: list[Json] | None = None, **meta: Any) -> Json:
    more = {"ownerReferences": owners} if owners else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **more, **meta}}


def service(selector: Json | None = None, target: int | str = 8080) -> Json:
    ports = [{"name": "http", "port": 80, "targetPort": target}]
    spec = {"selector": selector or {"app": "web"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}

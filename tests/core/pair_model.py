"""The model of the cluster with two Deployments that take turns, behind two Services or one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from davylamp.api import types
from davylamp.core import names, pairs
from davylamp.core.actions import Ref
from davylamp.core.pair_start import next_name
from davylamp.core.world import Gate, Traffic, World, promised
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import bind, resolve
from tests.core.model import NAMESPACE, Cluster, Gateway, Json, Mesh, ingress_spec

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
RULE: Json = {"backendRefs": [{"name": "web", "port": 80, "weight": 3}], "timeouts": {"request": "5s"}}
ROUTE: Json = {"route": [{"destination": {"host": "web"}}], "timeout": "5s"}
HEADER = {"header": {"name": "X-Canary", "exact": "true"}}


class Pair(Cluster):
    """Deployments web-v1 (serves) and web-v2 (idle, of the same image); Service web, and with routes web-canary.

    `by_hand` is the weight of a canary Ingress that somebody made; `through` the proxies of another route, `web`.
    """

    def __init__(
        self,
        *,
        routed: bool = True,
        replicas: int = 4,
        idle: int = 0,
        by_hand: int | None = None,
        gate: Gate = "admission",
        through: str = "",
    ) -> None:
        super().__init__(gate=gate, replicas=0)
        for kind, name in (("Deployment", "web"), ("Service", "web")):
            del self.objects[kind, name]
        self.settle()
        self.routed = routed
        for name, size in (("v1", replicas), ("v2", idle)):
            self.put("Deployment", f"web-{name}", spec=of_pair(name, V1, size))
        ports = [{"port": 80, "targetPort": 8080}]
        own = {"version": "v1"} if routed else {}
        self.put("Service", "web", spec={"selector": {"app": "web", **own}, "ports": ports})
        if routed:
            self.put("Service", "web-canary", spec={"selector": {"app": "web", "version": "v2"}, "ports": ports})
        if by_hand is not None:
            self.put_canary_ingress(by_hand)
        if through == "httpRoute":
            self.gateway = Gateway()
            self.put("HTTPRoute", "web", spec={"parentRefs": [{"name": "gw"}], "rules": [copy.deepcopy(RULE)]})
        elif through == "virtualService":
            self.gateway = Mesh()
            self.put("DestinationRule", "web", spec={"host": "web", "trafficPolicy": {"tls": {"mode": "DISABLE"}}})
            self.put("VirtualService", "web", spec={"hosts": ["web"], "http": [copy.deepcopy(ROUTE)]})
        self.settle()
        self.violations.clear()

    def put_canary_ingress(self, weight: int, **annotations: str) -> None:
        spec = copy.deepcopy(ingress_spec())
        spec["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "web-canary"
        prefix = "nginx.ingress.kubernetes.io/canary"
        rules = {prefix: "true", f"{prefix}-weight": str(weight)}
        rules |= {f"{prefix}-{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.put("Ingress", "web-canary", metadata={"annotations": rules}, spec=spec)

    def set_image_of(self, deployment: str, image: str) -> None:
        def change(obj: Json) -> None:
            obj["spec"]["template"]["spec"]["containers"][0]["image"] = image

        self.edit("Deployment", deployment, change)

    def as_before(self) -> bool:
        """Whether the user's own route is as it was, and nothing stands beside it."""
        routes = self.all("HTTPRoute") + self.all("VirtualService")
        content = [found["spec"].get("rules") or found["spec"]["http"] for found in routes]
        noted = [found for found in routes if names.ROUTED in found["metadata"].get("annotations", {})]
        rules = [rule["metadata"]["name"] for rule in self.all("DestinationRule")]
        return not noted and content in ([], [[RULE]], [[ROUTE]]) and rules in ([], ["web"])

    def size(self, deployment: str) -> int:
        return int(self.get("Deployment", deployment)["spec"]["replicas"])

    def ask_for_a_start(self, deployment: str = "web-v2") -> None:
        """What `davy start` writes."""
        world = self.world()
        assert world.deployment is not None
        name = next_name(world.releases, world.deployment)
        self.edit(
            "Deployment",
            deployment,
            lambda obj: obj["metadata"].setdefault("annotations", {}).update({names.START: name}),
        )

    def world(self) -> World:
        """As the controller gathers it."""
        policies = self.typed("ReleasePolicy")
        policy = next(iter(policies), None)
        deployments = {d.metadata.name: d for d in self.typed("Deployment")}
        services = {s.metadata.name: s for s in self.typed("Service")}
        watched = [*policies, *deployments.values(), *services.values(), *self.typed("Ingress")]
        watched += [*self.typed("HTTPRoute"), *self.typed("VirtualService"), *self.typed("DestinationRule")]
        classes = {c.metadata.name: c for c in self.typed("IngressClass")}
        objects = NamespaceObjects.of(NAMESPACE, watched, classes)
        sets = {name: [rs for rs in self.typed("ReplicaSet") if owned(rs, d)] for name, d in deployments.items()}
        known = sorted(self.typed("Release"), key=lambda r: int(r.metadata.uid.removeprefix("uid-")))
        releases = tuple(
            pairs.resolved(r, sets.get(r.spec.pair.stable, []), sets.get(r.spec.deployment, [])) for r in known
        )
        active = next((r for r in reversed(releases) if r.active), None)
        given = policy.spec.target.pair if policy is not None else None
        place = None
        if active is not None and active.spec.pair is not None:
            place = types.Pair(stable=active.spec.pair.stable, canary=active.spec.deployment)
        elif given is not None:
            place = pairs.roles(given, releases, services.get("web"), deployments)
        assert place is not None, "the model has a policy from the start"
        deployment, partner = deployments.get(place.canary), deployments.get(place.stable)
        resolution = resolve(policy, deployment, objects) if policy is not None else None
        traffic = resolution.traffic if resolution is not None else Traffic()
        pods: tuple[Any, ...] = ()
        if active is not None:
            spec = active.spec
            traffic = promised(spec)
            pods = tuple(p for p in self.typed("Pod") if p.metadata.labels["pod-template-hash"] == spec.canary.hash)
        routes = bind(traffic, objects) if active is not None else ()
        refs = [ref for route in routes for ref in route.refs] + [Ref("Service", NAMESPACE, "web")]
        return World(
            namespace=NAMESPACE,
            name="web-v1",
            deployment=deployment,
            policy=policy,
            problems=resolution.problems if resolution is not None and active is None else (),
            traffic=traffic,
            releases=releases,
            replica_sets=tuple(rs for own in sets.values() for rs in own),
            pods=pods,
            services=services,
            endpoints={name: frozenset(self.endpoints(name)) for name in services},
            routes=routes,
            since=self._seen(refs),
            logs=self.logs,
            gate=self.gate,
            pair=place,
            partner=partner,
        )

    def _watch_traffic(self) -> None:
        if ("Service", "web") not in self.objects or not self.all("ReleasePolicy"):
            return
        if self.all("Pod") and not self.endpoints("web"):
            self.violations.append(f"Service web had no endpoints at {self.now:%H:%M:%S}")
        if self.routed:
            images = {self.pods_ever[pod] for pod in self.endpoints("web")}
            if len(images) > 1:
                self.violations.append(f"Service web had {sorted(images)} at {self.now:%H:%M:%S}")
        for name in self.gateway.shares() if self.gateway is not None else ():
            if not self.endpoints(name):
                self.violations.append(f"requests were sent to Service {name} without endpoints at {self.now:%H:%M:%S}")


def owned(replica_set: Any, deployment: Any) -> bool:
    owner = replica_set.metadata.controller
    return owner is not None and owner.uid == deployment.metadata.uid


def of_pair(version: str, image: str, replicas: int) -> Json:
    labels = {"app": "web", "version": version}
    return {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "hellok8s", "image": image}]},
        },
    }


def pair_policy(
    steps: list[Json], *, routed: bool = True, canary: bool = False, through: str = "", **fields: Any
) -> Json:
    """A policy's spec; `canary` names the canary Ingress made by hand, `through` another route than an Ingress."""
    route = {"name": "web"} | ({"canary": "web-canary"} if canary else {})
    traffic: Json = {"service": "web"} | ({"routes": [{through or "ingress": route}]} if routed else {})
    traffic |= fields.pop("traffic", {})
    return {"target": {"pair": {"stable": "web-v1", "canary": "web-v2"}}, "traffic": traffic, "steps": steps} | fields


def weights(*weights: int) -> list[Json]:
    return [{"weight": weight} | ({} if weight == 100 else {"hold": "1m"}) for weight in weights]


def until_step(cluster: Pair, number: int) -> Callable[[], bool]:
    def reached() -> bool:
        found = cluster.all("Release")
        return bool(found) and int(found[-1].get("status", {}).get("step", 0)) >= number

    return reached

"""A model of the cluster around one release, for tests of the pure core: objects as JSON, controllers as rules.

It knows just what the core rests on: the gate, the Deployment controller (rolling update, pause, adoption of a
ReplicaSet, saturation), ReplicaSets, EndpointSlices, garbage collection, optimistic concurrency, merge patches.
Every write is counted, and may be the one before a crash. Time is a number that the test moves on.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from davylamp.api.objects import (
    HASH_LABEL,
    Deployment,
    DestinationRule,
    EndpointSlice,
    HTTPRoute,
    Ingress,
    IngressClass,
    Pod,
    ReplicaSet,
    Service,
    VirtualService,
    slim,
    template_hash,
)
from davylamp.api.types import Release, ReleasePolicy
from davylamp.core import names
from davylamp.core.actions import Action, Announce, Create, Delete, Patch, Ref
from davylamp.core.plan import Plan, plan
from davylamp.core.world import Gate, Traffic, World, promised
from davylamp.routers import istio_decision
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.precedence import Request, decide, shares
from davylamp.routers.review import bind, resolve

NAMESPACE = "shop"
TYPES: dict[str, type] = {
    "Deployment": Deployment,
    "ReplicaSet": ReplicaSet,
    "Pod": Pod,
    "Service": Service,
    "EndpointSlice": EndpointSlice,
    "Ingress": Ingress,
    "IngressClass": IngressClass,
    "HTTPRoute": HTTPRoute,
    "VirtualService": VirtualService,
    "DestinationRule": DestinationRule,
    "Release": Release,
    "ReleasePolicy": ReleasePolicy,
}
Json = dict[str, Any]


class Conflict(Exception):
    """The API server's 409."""


class Crash(Exception):
    """The controller died."""


class Gateway:
    """An implementation of the Gateway API. It takes the rules of HTTPRoute `web` as they are, unless it is asleep."""

    def __init__(self) -> None:
        self.asleep = False
        self.rules: list[Json] = []

    def look(self, cluster: Cluster) -> None:
        for route in [] if self.asleep else cluster.all("HTTPRoute"):
            self.rules = copy.deepcopy(route["spec"]["rules"])
            observed = {"observedGeneration": route["metadata"]["generation"], "status": "True"}
            conditions = [{"type": "Accepted", **observed}, {"type": "ResolvedRefs", **observed}]
            status = {"parents": [{"parentRef": {"name": "gw"}, "controllerName": "x.y/z", "conditions": conditions}]}
            if route.get("status") != status:
                route["status"] = status
                cluster.touched(route)

    def shares(self) -> dict[str, float]:
        """Which part of the requests without any header each Service gets."""
        index = decide(self.rules, Request())
        return {} if index is None else {name: float(part) for name, part in shares(self.rules[index]).items()}


class Mesh:
    """Proxies of Istio. They take VirtualService `web` as it is, and say nothing."""

    def __init__(self) -> None:
        self.spec: Json = {}
        self.policies: dict[str, Json] = {}

    def look(self, cluster: Cluster) -> None:
        for found in cluster.all("VirtualService"):
            self.spec = copy.deepcopy(found["spec"])
        rules = [rule["spec"] for rule in cluster.all("DestinationRule")]
        self.policies = {rule["host"]: rule["trafficPolicy"] for rule in rules if "trafficPolicy" in rule}
        for service in {name.partition("|")[0] for name in self.shares()} if self.policies.get("web") else ():
            if self.policies.get(service) != self.policies["web"]:
                cluster.violations.append(f"requests were sent to Service {service} without the user's policy")

    def shares(self) -> dict[str, float]:
        """Which part of the requests without any header each Service gets."""
        route = istio_decision.first(self.spec, istio_decision.Request())
        if route is None:
            return {}
        return {
            "|".join(filter(None, (to["host"], to.get("subset")))): part for to, part in istio_decision.shares(route)
        }


class Cluster:
    """The model. `crash_at` is the number of the write (from 1) after which the controller dies, `lose_answer`
    whether that write was carried out."""

    def __init__(self, *, gate: Gate = "admission", replicas: int = 4) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.now = datetime(2026, 11, 23, 12, tzinfo=UTC)
        self.gate = gate
        self.writes: list[Action] = []
        self.events: list[Announce] = []
        self.details: list[Announce] = []
        self.crash_at: int | None = None
        self.before_write = False
        self.sick_images: dict[str, Json] = {}
        self.pods_ever: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self.hands: dict[Ref, str] = {}
        """Who last wrote an object."""
        self._numbers = itertools.count(1)
        self._since: dict[Ref, tuple[str, datetime]] = {}
        self.weights: list[float] = []
        self.gateway: Gateway | Mesh | None = None
        self.violations: list[str] = []
        self.put("IngressClass", "nginx", spec={"controller": "k8s.io/ingress-nginx"})
        self.put("Deployment", "web", spec=deployment_spec("hellok8s:v1", replicas))
        self.put("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]})
        self.put("Ingress", "web", spec=ingress_spec())
        self.settle()

    # --- objects ---

    def put(self, kind: str, name: str, **content: Any) -> Json:
        meta = content.pop("metadata", {}) | {"name": name, "namespace": NAMESPACE, "generation": 1}
        meta |= {"uid": f"uid-{next(self._numbers)}", "resourceVersion": str(next(self._numbers))}
        meta["creationTimestamp"] = self.now.isoformat()
        obj: Json = {"kind": kind, "metadata": meta} | content
        self.objects[kind, name] = obj
        return obj

    def get(self, kind: str, name: str) -> Json:
        return self.objects[kind, name]

    def all(self, kind: str) -> list[Json]:
        return [obj for (k, _), obj in self.objects.items() if k == kind]

    def typed(self, kind: str) -> tuple[Any, ...]:
        return tuple(slim(msgspec.json.decode(msgspec.json.encode(o), type=TYPES[kind])) for o in self.all(kind))

    def touched(self, obj: Json) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._numbers))

    # --- what people and tools do ---

    def edit(self, kind: str, name: str, change: Callable[[Json], None], by: str = "kubectl-edit") -> None:
        """Somebody else's write: the gate sees it, then the controllers."""
        self.hands[Ref(kind, NAMESPACE, name)] = by
        obj = self.get(kind, name)
        before = copy.deepcopy(obj)
        change(obj)
        if kind == "Deployment" and self.gate == "admission":
            self._gate(before, obj)
        if obj.get("spec") != before.get("spec"):
            obj["metadata"]["generation"] += 1
        self.touched(obj)
        self.settle()

    def _gate(self, before: Json, obj: Json) -> None:
        if obj["spec"]["template"] != before["spec"]["template"] and self.all("ReleasePolicy"):
            obj["spec"]["paused"] = True
            if not before["spec"].get("paused"):
                obj["metadata"].setdefault("annotations", {})[names.PAUSED_BY] = "gate"

    def set_image(self, image: str) -> None:
        def change(obj: Json) -> None:
            obj["spec"]["template"]["spec"]["containers"][0]["image"] = image

        self.edit("Deployment", "web", change)

    def command(self, **fields: Any) -> None:
        """A person's command, on the newest Release."""
        name = self.release["metadata"]["name"]
        self.edit("Release", name, lambda obj: obj["spec"].update(fields))

    def remove(self, kind: str, name: str) -> None:
        """`kubectl delete`: objects with finalizers stay until those are gone."""
        obj = self.get(kind, name)
        if obj["metadata"].get("finalizers"):
            obj["metadata"]["deletionTimestamp"] = self.now.isoformat()
            self.touched(obj)
        else:
            del self.objects[kind, name]
        self.settle()

    @property
    def release(self) -> Json:
        return self.all("Release")[-1]

    def phase(self) -> str:
        return str(self.release.get("status", {}).get("phase", "Pending"))

    # --- the API server, for the controller ---

    def apply(self, action: Action) -> None:
        if isinstance(action, Announce):
            told = self.details if action.detail else self.events
            if all(event.name != action.name for event in told):
                told.append(action)
            return
        self.writes.append(action)
        self.hands[action.ref] = names.MANAGER
        dies = self.crash_at is not None and len(self.writes) == self.crash_at
        if dies and self.before_write:
            raise Crash
        getattr(self, f"_{type(action).__name__.lower()}")(action)
        self.settle()
        if dies:
            raise Crash

    def _create(self, action: Create) -> None:
        ref = action.ref
        if (ref.kind, ref.name) in self.objects:
            return
        content = copy.deepcopy(action.manifest)
        content.pop("apiVersion")
        content.pop("kind")
        self.put(ref.kind, ref.name, **content)

    def _patch(self, action: Patch) -> None:
        obj = self.objects.get((action.ref.kind, action.ref.name))
        if obj is None:
            raise Conflict(f"{action.ref} not found")
        before = copy.deepcopy(obj)
        if action.type == "json":
            _json_patch(obj, cast("list[Json]", action.patch))
        else:
            patch = cast("Json", action.patch)
            version = patch.get("metadata", {}).get("resourceVersion")
            if version is not None and version != obj["metadata"]["resourceVersion"]:
                raise Conflict(str(action.ref))
            if action.subresource == "status":
                patch = {"status": patch["status"]}
            _merge(obj, copy.deepcopy(patch))
        obj["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        if obj.get("spec") != before.get("spec"):
            obj["metadata"]["generation"] += 1
        if obj != before:
            self.touched(obj)
        if "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers"):
            del self.objects[action.ref.kind, action.ref.name]

    def _delete(self, action: Delete) -> None:
        obj = self.objects.get((action.ref.kind, action.ref.name))
        if obj is not None and obj["metadata"]["uid"] == action.uid:
            if action.foreground:
                self._collect_garbage(gone=action.uid)
            del self.objects[action.ref.kind, action.ref.name]

    # --- controllers ---

    def settle(self) -> None:
        """Let the controllers run until nothing changes; but a rolling update goes on by one pod only, since it is
        what takes time."""
        self._rolled = False
        for _ in range(50):
            before = self._content()
            self._collect_garbage()
            for obj in self.all("Deployment"):
                self._deployment(obj)
            self._replica_sets()
            self._endpoints()
            if self.gateway is not None:
                self.gateway.look(self)
            if self._content() == before:
                break
        else:
            raise AssertionError("the model's controllers fight")
        self._watch_traffic()

    def _content(self) -> bytes:
        return msgspec.json.encode(list(self.objects.values()))

    def _collect_garbage(self, gone: str = "") -> None:
        uids = {obj["metadata"]["uid"] for obj in self.objects.values()} - {gone}
        for (kind, name), obj in list(self.objects.items()):
            owners = obj["metadata"].get("ownerReferences") or []
            if not owners or any(o["uid"] in uids for o in owners) or "deletionTimestamp" in obj["metadata"]:
                continue
            if obj["metadata"].get("finalizers"):
                obj["metadata"]["deletionTimestamp"] = self.now.isoformat()
            else:
                del self.objects[kind, name]

    def _deployment(self, obj: Json) -> None:
        spec = obj["spec"]
        n, uid = spec["replicas"], obj["metadata"]["uid"]
        own = [rs for rs in self.all("ReplicaSet") if _controller(rs) == uid]
        template = template_hash(spec["template"])
        new = next((rs for rs in own if template_hash(rs["spec"]["template"]) == template), None)
        if not spec.get("paused") and new is None:
            new = self._own_replica_set(obj, template, 0 if own else n)
            own.append(new)
        running = [rs for rs in own if rs["spec"]["replicas"] > 0]
        others = [rs for rs in running if rs is not new]
        if new is not None and not others:
            self._scale(new, n)
        elif len(running) == 1 and spec.get("paused"):
            self._scale(running[0], n)
        elif new is not None and new["spec"]["replicas"] == n == _available(new):
            for rs in others:
                self._scale(rs, 0)
        elif new is not None and not spec.get("paused") and not self._rolled:
            self._rolled = True
            self._roll(new, others, n)
        observed = {"observedGeneration": obj["metadata"]["generation"]}
        obj["status"] = observed | {"availableReplicas": sum(map(_available, own)), "replicas": n}

    def _own_replica_set(self, obj: Json, template: str, replicas: int) -> Json:
        content = copy.deepcopy(obj["spec"]["template"])
        labels = content["metadata"]["labels"] = content["metadata"]["labels"] | {HASH_LABEL: f"native{template}"}
        owner = {"kind": "Deployment", "name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
        return self.put(
            "ReplicaSet",
            f"{obj['metadata']['name']}-native{template}",
            metadata={"labels": labels, "ownerReferences": [owner | {"controller": True}]},
            spec={"replicas": replicas, "template": content, "selector": {"matchLabels": labels}},
        )

    def _roll(self, new: Json, others: list[Json], n: int) -> None:
        total = new["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in others)
        if total < n + 1 and new["spec"]["replicas"] < n:
            self._scale(new, new["spec"]["replicas"] + 1)
        elif _available(new) + sum(map(_available, others)) > n:
            self._scale(others[0], others[0]["spec"]["replicas"] - 1)

    def _scale(self, rs: Json, replicas: int) -> None:
        if rs["spec"]["replicas"] != replicas:
            rs["spec"]["replicas"] = replicas
            rs["metadata"]["generation"] += 1
            self.touched(rs)

    def _replica_sets(self) -> None:
        for rs in self.all("ReplicaSet"):
            pods = [pod for pod in self.all("Pod") if _controller(pod) == rs["metadata"]["uid"]]
            for pod in pods[rs["spec"]["replicas"] :]:
                del self.objects["Pod", pod["metadata"]["name"]]
            for _ in range(rs["spec"]["replicas"] - len(pods)):
                self._pod(rs)
            pods = [pod for pod in self.all("Pod") if _controller(pod) == rs["metadata"]["uid"]]
            ready = sum(pod["status"]["conditions"][0]["status"] == "True" for pod in pods)
            status = {"replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
            status["observedGeneration"] = rs["metadata"]["generation"]
            if rs.get("status") != status:
                rs["status"] = status
                self.touched(rs)

    def _pod(self, rs: Json) -> None:
        name = f"{rs['metadata']['name']}-{next(self._numbers)}"
        template = rs["spec"]["template"]
        image = template["spec"]["containers"][0]["image"]
        sick = self.sick_images.get(image)
        status = {"conditions": [{"type": "Ready", "status": "True" if sick is None else "False"}]} | (sick or {})
        owner = {"kind": "ReplicaSet", "name": rs["metadata"]["name"], "uid": rs["metadata"]["uid"]}
        meta = {"labels": template["metadata"]["labels"], "ownerReferences": [owner | {"controller": True}]}
        self.put("Pod", name, metadata=meta, status=status)
        self.pods_ever[name] = image

    def _endpoints(self) -> None:
        for service in self.all("Service"):
            selector = service["spec"]["selector"]
            pods = [
                pod["metadata"]["name"]
                for pod in self.all("Pod")
                if selector.items() <= pod["metadata"]["labels"].items()
                and pod["status"]["conditions"][0]["status"] == "True"
            ]
            name = service["metadata"]["name"]
            endpoints = [{"addresses": ["10.244.0.9"], "targetRef": {"kind": "Pod", "name": pod}} for pod in pods]
            old = self.objects.get(("EndpointSlice", f"{name}-1"))
            if old is None or old["endpoints"] != endpoints:
                labels = {"kubernetes.io/service-name": name}
                owner = {"kind": "Service", "name": name, "uid": service["metadata"]["uid"], "controller": True}
                meta = {"labels": labels, "ownerReferences": [owner]}
                self.put("EndpointSlice", f"{name}-1", metadata=meta, endpoints=endpoints)

    # --- where requests go, and what must never be ---

    def endpoints(self, service: str) -> list[str]:
        """Of a Service, or of a subset of it (`web|v1`)."""
        name, _, subset = service.partition("|")
        found = self.objects.get(("EndpointSlice", f"{name}-1"))
        pods = [e["targetRef"]["name"] for e in found["endpoints"]] if found else []
        return [pod for pod in pods if not subset or self._is_of(pod, subset)]

    def _is_of(self, pod: str, subset: str) -> bool:
        rules = [rule["spec"] for rule in self.all("DestinationRule") if rule["spec"]["host"] == "web"]
        # Istio puts rules together that are exported alike; a gateway elsewhere sees what is exported everywhere.
        seen = {tuple(rule.get("exportTo", ["*"])) for rule in rules} == {("*",)}
        known = [one for rule in rules for one in rule.get("subsets", ()) if seen]
        wanted = next((one["labels"] for one in known if one["name"] == subset), {"no": "such subset"})
        return bool(wanted.items() <= self.get("Pod", pod)["metadata"]["labels"].items())

    def share(self, image: str) -> float:
        """Percent of the requests at the Ingress that pods of `image` get, as ingress-nginx would split them."""
        if self.gateway is not None:
            return sum(100 * part * self._of(name, image) for name, part in self.gateway.shares().items())
        canaries = [i for i in self.all("Ingress") if _is_canary(i)]
        weight = float(canaries[0]["metadata"]["annotations"][_WEIGHT]) if canaries else 0.0
        backend = _backend(canaries[0]) if canaries else ""
        if not self.endpoints(backend):
            weight = 0.0
        return weight * self._of(backend, image) + (100 - weight) * self._of("web", image)

    def _of(self, service: str, image: str) -> float:
        pods = self.endpoints(service)
        return sum(self.pods_ever[pod] == image for pod in pods) / len(pods) if pods else 0.0

    def _watch_traffic(self) -> None:
        deployment = self.objects.get(("Deployment", "web"))
        served = deployment and deployment["spec"]["replicas"] and ("Service", "web") in self.objects
        if served and self.all("Pod") and not self.endpoints("web"):
            self.violations.append(f"Service web had no endpoints at {self.now:%H:%M:%S}")
        for name in self.gateway.shares() if self.gateway is not None and served else ():
            if not self.endpoints(name):
                self.violations.append(f"requests were sent to Service {name} without endpoints at {self.now:%H:%M:%S}")

    # --- the controller ---

    def world(self) -> World:
        policies = self.typed("ReleasePolicy")
        deployment = next(iter(self.typed("Deployment")), None)
        policy = next(iter(policies), None)
        watched = [*policies, *self.typed("Deployment"), *self.typed("Service"), *self.typed("Ingress")]
        watched += [*self.typed("HTTPRoute"), *self.typed("VirtualService"), *self.typed("DestinationRule")]
        classes = {c.metadata.name: c for c in self.typed("IngressClass")}
        objects = NamespaceObjects.of(NAMESPACE, watched, classes)
        resolution = resolve(policy, deployment, objects) if policy and deployment else None
        releases = tuple(sorted(self.typed("Release"), key=lambda r: int(r.metadata.uid.removeprefix("uid-"))))
        release = next((r for r in reversed(releases) if r.active), next(reversed(releases), None))
        traffic = promised(release.spec) if release else Traffic()
        pods = tuple(
            pod
            for pod in self.typed("Pod")
            if release and pod.metadata.labels.get(HASH_LABEL) == release.spec.canary.hash
        )
        routes = bind(traffic, objects)
        return World(
            namespace=NAMESPACE,
            name="web",
            deployment=deployment,
            policy=policy,
            problems=resolution.problems if resolution else (),
            traffic=resolution.traffic if resolution else Traffic(),
            releases=releases,
            replica_sets=self.typed("ReplicaSet"),
            pods=pods,
            services={s.metadata.name: s for s in self.typed("Service")},
            endpoints={
                s["metadata"]["name"]: frozenset(self.endpoints(s["metadata"]["name"])) for s in self.all("Service")
            },
            routes=routes,
            since=self._seen(
                [ref for route in routes for ref in route.refs]
                + [Ref("Service", NAMESPACE, name) for name in traffic.touched]
            ),
            logs=self.logs,
            gate=self.gate,
        )

    def _seen(self, refs: list[Ref]) -> dict[Ref, datetime]:
        for ref in refs:
            obj = self.objects.get((ref.kind, ref.name), {})
            content = f"{obj.get('spec')} {obj.get('metadata', {}).get('annotations')} {obj.get('status')}"
            if self._since.get(ref, ("", self.now))[0] != content:
                self._since[ref] = (content, self.now)
        return {ref: self._since[ref][1] for ref in refs}

    def restart(self) -> None:
        """The controller's memory is gone; it does not die again."""
        self.crash_at = None
        self._since.clear()

    def look(self) -> Plan:
        """One pass of the controller."""
        decided = plan(self.world(), self.now)
        if decided.hands_wanted:
            decided = plan(msgspec.structs.replace(self.world(), hands=self.hands), self.now)
        for action in decided.actions:
            self.apply(action)
        if decided.log_wanted is not None:
            self.logs = self.logs | {decided.log_wanted.pod: "fatal: no database"}
        self.weights.append(self.share("hellok8s:v2"))
        return decided

    def wakes(self, decided: Plan) -> datetime | None:
        """When something happens next if nobody does anything."""
        return decided.wake_at

    def run(self, until: Callable[[], bool] = lambda: False, limit: int = 400) -> Plan:
        """Let the controller work, and time pass where it only waits, until it has nothing to do any more."""
        decided = Plan()
        for _ in range(limit):
            decided = self.look()
            if until():
                return decided
            if decided.actions or decided.log_wanted:
                continue
            before = self._content()
            self.settle()
            if self._content() != before:
                continue
            at = self.wakes(decided)
            if at is None:
                return decided
            self.now = max(at, self.now + timedelta(milliseconds=1))
        raise AssertionError(f"no end after {limit} passes: {decided.reason}: {decided.message}")


_WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"


def _is_canary(ingress: Json) -> bool:
    annotations: dict[str, str] = ingress["metadata"].get("annotations", {})
    return annotations.get("nginx.ingress.kubernetes.io/canary") == "true"


def _backend(ingress: Json) -> str:
    return str(ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"])


def _controller(obj: Json) -> str:
    owners = obj["metadata"].get("ownerReferences") or []
    return next((o["uid"] for o in owners if o.get("controller")), "")


def _available(rs: Json) -> int:
    return int(rs.get("status", {}).get("availableReplicas", 0))


def _merge(target: Json, patch: Json) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def _json_patch(target: Json, operations: list[Json]) -> None:
    for operation in operations:
        *path, last = (part.replace("~1", "/") for part in operation["path"].split("/")[1:])
        parent = target
        for part in path:
            parent = parent[part]
        if path == ["metadata"] and last == "resourceVersion":
            if parent[last] != operation["value"]:
                raise Conflict(operation["path"])
        elif operation["op"] == "remove":
            del parent[last]
        else:
            parent[last] = operation["value"]


def deployment_spec(image: str, replicas: int) -> Json:
    return {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "hellok8s", "image": image}]},
        },
    }


def ingress_spec() -> Json:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {"ingressClassName": "nginx", "rules": [{"host": "shop.example", "http": {"paths": paths}}]}


def policy_spec(
    *weights: int, routed: bool = True, service: bool = True, match: Sequence[Json] = (), **fields: Any
) -> Json:
    """A policy's spec: a step for each weight, held for a minute but for a last one at 100."""
    steps: list[Json] = [{"weight": weight} | ({} if weight == 100 else {"hold": "1m"}) for weight in weights]
    traffic: Json = {"service": "web", "routes": [{"ingress": {"name": "web"}}] if routed else []}
    traffic |= {"match": list(match)} if match else {}
    spec: Json = {"target": {"name": "web"}, "steps": steps} | ({"traffic": traffic} if service else {})
    return spec | fields

"""The objects of a simulation: a policy, and the Deployment, Service and routes around it, given or made up to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import yaml

from davylamp.api import API_VERSION
from davylamp.api.objects import IngressClass
from davylamp.api.parse import parse_policy
from davylamp.api.problems import Problem
from davylamp.api.types import Pair, ReleasePolicy, Traffic
from davylamp.core.pairs import roles
from davylamp.embedded.simulate import proxies
from davylamp.kube.kinds import decode, kind_of
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.policy import problems_of_policy
from davylamp.routers.review import review

Object = dict[str, Any]

NAMESPACE = "default"
REPLICAS = 4
NEW = ":simulated"
"""Ends the image of the version that is tried."""
AROUND = ("Deployment", "Service", "Ingress", "IngressClass", *proxies.KINDS)
INGRESS_CLASS: Object = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "nginx"},
    "spec": {"controller": "k8s.io/ingress-nginx"},
}
_KEPT = ("name", "namespace", "labels", "annotations")


class Unusable(Exception):
    """The policy can't be simulated; `problems` are all that is wrong, each with its field."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(name)
        self.name = name
        """Of the policy, as namespace/name; "" where none could be read."""
        self.problems = tuple(problems)


class Stage(msgspec.Struct, frozen=True):
    """Everything that is put into the cluster before the release begins."""

    namespace: str
    deployment: str
    """The one whose template is changed; of a pair, the idle one."""
    policy: ReleasePolicy
    objects: tuple[Object, ...]
    """Manifests, the policy and the Deployment among them."""
    made_up: tuple[str, ...] = ()
    """Those that nobody gave, as `Service web`."""
    warnings: tuple[Problem, ...] = ()
    serving: str = ""
    """Of a pair: the other one, which serves; else empty, since it is the same."""

    @property
    def workload(self) -> str:
        """The name under which the controller keeps it."""
        return min(filter(None, (self.deployment, self.serving)))

    @property
    def replicas(self) -> int:
        """Pods of the version that serves."""
        name = self.serving or self.deployment
        return int(next(obj for obj in self.objects if _is(obj, "Deployment", name))["spec"].get("replicas", 1))

    @property
    def image(self) -> str:
        """Of the version that is tried."""
        container = self._deployment["spec"]["template"]["spec"]["containers"][0]
        return f"{_untagged(container.get('image') or 'app')}{NEW}"

    @property
    def release(self) -> Object:
        """What a person would apply to begin: a strategic merge patch of the Deployment."""
        name = self._deployment["spec"]["template"]["spec"]["containers"][0]["name"]
        return {"spec": {"template": {"spec": {"containers": [{"name": name, "image": self.image}]}}}}

    @property
    def _deployment(self) -> Object:
        return next(obj for obj in self.objects if _is(obj, "Deployment", self.deployment))


def read(text: str, replicas: int | None = None, policy: str = "") -> Stage:
    """The stage in a YAML stream with one ReleasePolicy and, if one likes, the objects around it.

    `replicas` is the Deployment's number of pods, instead of what the stream says (else REPLICAS); `policy` names
    the ReleasePolicy where there are several. Raises Unusable.
    """
    found, problems = parse_policy(text)
    if problems:
        raise Unusable("", problems)
    wanted = [one for one in found if not policy or one.metadata.name == policy]
    if len(wanted) != 1:
        names = ", ".join(one.metadata.name for one in found)
        told = f"policies {names}: one is simulated at a time" if not policy else f"no {policy} among policies {names}"
        raise Unusable("", [Problem("metadata.name", told)])
    given = [obj for obj in yaml.safe_load_all(text) if isinstance(obj, dict) and obj.get("kind") in AROUND]
    raw = next(obj for obj in yaml.safe_load_all(text) if _is(obj, "ReleasePolicy", wanted[0].metadata.name))
    return build(raw, given, replicas)


def build(policy: Object, given: Iterable[Object], replicas: int | None = None) -> Stage:
    """The stage of a policy among objects of its namespace. Raises Unusable with everything that is wrong."""
    namespace = policy["metadata"].get("namespace") or NAMESPACE
    placed = [_placed(obj, namespace) for obj in given]
    wanted = _placed({**policy, "apiVersion": API_VERSION, "kind": "ReleasePolicy"}, namespace)
    parsed: ReleasePolicy = _decoded(wanted)
    label = f"{namespace}/{parsed.metadata.name}"
    wrong = [problem for problem in problems_of_policy(parsed) if not problem.warning]
    made = [] if wrong else _made_up(parsed, placed)
    pair = _places(parsed, [*placed, *made]) if not wrong else None
    scaled = {pair.stable} if pair is not None else {obj["metadata"]["name"] for obj in (*placed, *made)}
    objects = [_scaled(obj, replicas if obj["metadata"]["name"] in scaled else None) for obj in (*placed, *made)]
    if not any(_is(obj, "IngressClass", "nginx") for obj in objects):
        objects.append(INGRESS_CLASS)
    index = _index(namespace, [wanted, *objects], label)
    problems = review(parsed, index)
    if wrong or any(not problem.warning for problem in problems):
        raise Unusable(label, wrong or problems)
    told = tuple(f"{obj['kind']} {obj['metadata']['name']}" for obj in made)
    if pair is not None:
        return Stage(namespace, pair.canary, parsed, (*objects, wanted), told, problems, pair.stable)
    deployment = min(target.metadata.name for target in index.targets_of(parsed))
    return Stage(namespace, deployment, parsed, (*objects, wanted), told, problems)


def _places(policy: ReleasePolicy, objects: Iterable[Object]) -> Pair | None:
    """Which of a pair's Deployments serves."""
    pair, traffic = policy.spec.target.pair, policy.spec.traffic
    if pair is None:
        return None
    found = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    deployments = {name: _decoded(obj) for (kind, name), obj in found.items() if kind == "Deployment"}
    service = found.get(("Service", (traffic.service or "") if traffic is not None else ""))
    return roles(pair, (), _decoded(service) if service is not None else None, deployments)


def _index(namespace: str, objects: Iterable[Object], label: str) -> NamespaceObjects:
    classes: dict[str, IngressClass] = {}
    found: list[Any] = []
    for obj in objects:
        try:
            decoded = _decoded(obj)
        except msgspec.ValidationError as error:
            raise Unusable(label, [Problem(f"{obj['kind']} {obj['metadata']['name']}", str(error))]) from error
        if obj["kind"] == "IngressClass":
            classes[obj["metadata"]["name"]] = decoded
        else:
            found.append(decoded)
    return NamespaceObjects.of(namespace, found, classes)


def _decoded(obj: Object) -> Any:
    return decode(obj["kind"], msgspec.json.encode(obj))


def _is(obj: Any, kind: str, name: str) -> bool:
    return isinstance(obj, dict) and obj.get("kind") == kind and obj["metadata"]["name"] == name


def _placed(obj: Object, namespace: str) -> Object:
    """Where it is to be, and as somebody would apply it: without what a cluster adds."""
    meta = {key: value for key, value in obj["metadata"].items() if key in _KEPT and value}
    meta.pop("namespace", None)
    if kind_of(obj["kind"]).namespaced:
        meta["namespace"] = namespace
    clean = {key: value for key, value in obj.items() if key != "status"}
    made = {**clean, "metadata": meta}
    return {**made, "status": proxies.taken(made)} if obj["kind"] in proxies.ACCEPTED else made


def _scaled(obj: Object, replicas: int | None) -> Object:
    if obj["kind"] != "Deployment" or replicas is None:
        return obj
    return {**obj, "spec": {**obj["spec"], "replicas": replicas}}


def _untagged(image: str) -> str:
    """Without tag and digest; a port of the registry stays."""
    bare = image.partition("@")[0]
    head, slash, last = bare.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


# --- made up ---


def _made_up(policy: ReleasePolicy, given: Sequence[Object]) -> list[Object]:
    """What the policy names and nobody gave: its Deployment, its Service, its Ingresses."""
    namespace, target, traffic = policy.metadata.namespace, policy.spec.target, policy.spec.traffic
    made: list[Object] = []
    if target.pair is not None:
        return _pair_made_up(policy, target.pair, given)
    labels = target.match_labels or {}
    deployment = next((obj for obj in given if obj["kind"] == "Deployment" and _targeted(obj, policy)), None)
    if deployment is None:
        deployment = _deployment(namespace, target.name or "app", labels)
        made.append(deployment)
    name = deployment["metadata"]["name"]
    pods = deployment["spec"]["selector"].get("matchLabels") or {}
    if traffic is None:
        return made
    services = {obj["metadata"]["name"] for obj in given if obj["kind"] == "Service"}
    wanted_services = traffic.names or (() if services else (name,))
    made += (_service(namespace, one, pods) for one in wanted_services if one not in services)
    service = next(iter(traffic.names), name)
    ingresses = {obj["metadata"]["name"] for obj in given if obj["kind"] == "Ingress"}
    wanted = [route.ingress.name for route in traffic.routes if route.ingress is not None]
    if traffic.detect and not services:
        wanted = [name]
    made += [_ingress(namespace, one, service) for one in dict.fromkeys(wanted) if one not in ingresses]
    return made + _routes(namespace, traffic, service, given)


def _routes(namespace: str, traffic: Traffic, service: str, given: Sequence[Object]) -> list[Object]:
    """Of the Gateway API and of Istio: each sends everything to the Service."""
    known = {(obj["kind"], obj["metadata"]["name"]) for obj in given}
    backends = {"rules": [{"backendRefs": [{"name": service, "port": 80}]}], "parentRefs": [{"name": "gateway"}]}
    to_service = {"hosts": [service], "http": [{"route": [{"destination": {"host": service, "port": {"number": 80}}}]}]}
    made: list[Object] = []
    for route in traffic.routes:
        for kind, of, spec in (
            ("HTTPRoute", route.http_route, backends),
            ("GRPCRoute", route.grpc_route, backends),
            ("VirtualService", route.virtual_service, to_service),
        ):
            if of is not None and (kind, of.name) not in known:
                meta = {"name": of.name, "namespace": namespace}
                manifest = {"apiVersion": kind_of(kind).api_version, "kind": kind, "metadata": meta, "spec": spec}
                made.append(_placed(manifest, namespace))
    return made


def _pair_made_up(policy: ReleasePolicy, pair: Pair, given: Sequence[Object]) -> list[Object]:
    """Both Deployments, the Services, and the Ingresses, as far as nobody gave them."""
    namespace, traffic = policy.metadata.namespace, policy.spec.traffic
    known = {(obj["kind"], obj["metadata"]["name"]): obj for obj in given}
    app, made = policy.metadata.name, list[Object]()
    for name, replicas in ((pair.stable, REPLICAS), (pair.canary, 0)):
        if ("Deployment", name) not in known:
            one = _deployment(namespace, name, {})
            labels = {"app": app, "version": name}
            one["spec"] |= {"replicas": replicas, "selector": {"matchLabels": labels}}
            one["spec"]["template"]["metadata"] = {"labels": labels}
            made.append(one)
    if traffic is None or not traffic.service:
        return made
    pods = {
        obj["metadata"]["name"]: obj["spec"]["selector"].get("matchLabels") or {}
        for obj in (*given, *made)
        if obj["kind"] == "Deployment"
    }
    both = dict(pods[pair.stable].items() & pods[pair.canary].items())
    services = {traffic.service: pods[pair.stable] if traffic.routes else both}
    if traffic.routes:
        services[traffic.canary_service or f"{traffic.service}-canary"] = pods[pair.canary]
    made += [
        _service(namespace, name, selector) for name, selector in services.items() if ("Service", name) not in known
    ]
    routes = [route.ingress for route in traffic.routes if route.ingress is not None]
    wanted = [(route.name, traffic.service) for route in routes]
    made += [_ingress(namespace, name, to) for name, to in wanted if ("Ingress", name) not in known]
    return made + _routes(namespace, traffic, traffic.service, given)


def _targeted(obj: Object, policy: ReleasePolicy) -> bool:
    target = policy.spec.target
    if target.name is not None:
        return bool(obj["metadata"]["name"] == target.name)
    return (target.match_labels or {}).items() <= (obj["metadata"].get("labels") or {}).items()


def _deployment(namespace: str, name: str, labels: dict[str, str]) -> Object:
    pods = {"app": name}
    container = {"name": "app", "image": f"{name}:current"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": pods},
            "template": {"metadata": {"labels": pods}, "spec": {"containers": [container]}},
        },
    }


def _service(namespace: str, name: str, pods: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": pods, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def _ingress(namespace: str, name: str, service: str) -> Object:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": f"{name}.example", "http": {"paths": paths}}]},
    }

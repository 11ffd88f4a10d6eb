"""A namespace with hellok8s in it, a controller as a process, and what tests ask of them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from davylab import Lab

from davylamp.api.objects import HASH_LABEL
from davylamp.embedded.load.counts import Counts
from davylamp.embedded.load.process import Load
from tests.cluster.reader import Reader, known

Json = dict[str, Any]
SEEN = re.compile(r"seen in effect after ([\d.]+) s \(([\d.]+) % of ([\d,]+) requests\)")
"""What a Release's `status.weight.how` says where pods have counted requests."""
DAVY = Path(sys.executable).with_name("davy")


def davy(lab: Lab, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command `davy` as admin, from outside of the namespace."""
    command = [str(DAVY), *args, "--kubeconfig", str(lab.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not check or done.returncode == 0, f"{' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Controller:
    """`davy controller` inside the namespace; with `mortal` one that dies `before` or `after` its first write."""

    def __init__(self, lab: Lab, log: Path, *args: str, admin: bool = False, mortal: str = "") -> None:
        self.lab, self.log, self.args = lab, log, args
        self.program: list[str | Path] = [DAVY, "controller"]
        if mortal:
            self.program = [sys.executable, Path(__file__).with_name("mortal.py"), mortal]
        self.kubeconfig = lab.inside_kubeconfig if admin else lab.kubeconfig_of("davylamp", inside=True)
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = self.lab.spawn(
                [*self.program, "--listen", "127.0.0.1:0", *self.args],
                kubeconfig=self.kubeconfig,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """As a crash: no farewell."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(10))

    def __enter__(self) -> Controller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        text = self.log.read_text()
        if error is not None:
            print(text[-20000:])
        assert "Traceback" not in text, text[-5000:]


class Shop:
    """A namespace. Names are those of the demo: Deployment, Service, Ingress and policy are called `web`."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab, self.namespace = lab, namespace
        self.reader = Reader(lab.kubeconfig)
        self.loads: list[Load] = []

    @property
    def host(self) -> str:
        return f"{self.namespace}.example"

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        return self.lab.kubectl("-n", self.namespace, *args, input=input, check=check)

    def davy(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return davy(self.lab, *args, "-n", self.namespace, check=check)

    def apply(self, *manifests: Json) -> str:
        return self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str) -> Json:
        row = known(kind)
        if row is not None:
            return self.reader.get(row, self.namespace, name)
        found: Json = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def all(self, kind: str, labels: str = "") -> list[Json]:
        row = known(kind)
        if row is not None:
            return self.reader.list(row, self.namespace, labels)
        selector = ["-l", labels] if labels else []
        found: list[Json] = json.loads(self.kubectl("get", kind, *selector, "-o", "json"))["items"]
        return found

    def wait(self, predicate: Callable[[], Any], what: str, timeout: float = 120) -> Any:
        return self.lab.wait(predicate, timeout, f"{self.namespace}: {what}")

    # --- filling it ---

    def open(self, image: str = "hellok8s:v1", replicas: int = 4, *, ingress: bool = True, **env: str) -> None:
        """A Deployment of hellok8s, its Service and its Ingress, and wait until its pods are available."""
        self.apply(deployment(image, replicas, env), SERVICE, *([ingress_of(self.host)] if ingress else []))
        self.wait_available(replicas)

    def wait_available(self, replicas: int, name: str = "web") -> None:
        self.wait(
            lambda: self.get("deployment", name)["status"].get("availableReplicas") == replicas,
            f"{replicas} available pods",
        )

    def policy(
        self,
        *steps: Json,
        routed: bool = True,
        route: str = "ingress",
        match: Sequence[Json] = (),
        ready: bool = True,
        **spec: Any,
    ) -> None:
        """A policy, waited for until it is found good (or not, if that is what is expected)."""
        traffic: Json = {"service": "web", "settle": "3s", "match": list(match)}
        if routed:
            traffic["routes"] = [{route: {"name": "web"}}]
        content = {"target": {"name": "web"}, "traffic": traffic, "steps": list(steps)} | spec
        self.apply(policy_manifest("web", content))
        wanted = "True" if ready else "False"
        self.wait(lambda: self.condition("Ready") == wanted, f"policy with Ready {wanted}")

    def condition(self, kind: str, name: str = "web") -> str:
        conditions = self.get("releasepolicy", name).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == kind), "")

    def set_image(self, image: str, name: str = "web") -> None:
        self.kubectl("set", "image", f"deployment/{name}", f"hellok8s={image}")

    # --- looking at it ---

    @property
    def releases(self) -> list[Json]:
        return sorted(self.all("releases"), key=lambda r: (r["metadata"]["creationTimestamp"], r["metadata"]["name"]))

    def release(self, image: str) -> Json:
        """The newest Release of this image; an empty one where there is none yet."""
        mine = [r for r in self.releases if r["spec"]["canary"].get("image") == image]
        return max(mine, key=lambda r: int(r["spec"].get("attempt", 1)), default={})

    def phase(self, image: str) -> str:
        return str(self.release(image).get("status", {}).get("phase", ""))

    def wait_phase(self, image: str, *phases: str, timeout: float = 180) -> Json:
        def reached() -> bool:
            return self.phase(image) in phases

        self.wait(reached, f"release of {image} {' or '.join(phases)}", timeout)
        return self.release(image)

    def wait_step(self, image: str, step: int, timeout: float = 120) -> None:
        self.wait(
            lambda: self.release(image).get("status", {}).get("step", 0) >= step, f"step {step} of {image}", timeout
        )

    def wait_quiet(self, image: str) -> None:
        """Until the Deployment has only pods of this image, all available, and no old pod is left."""

        def quiet() -> bool:
            wanted = self.get("deployment", "web")["spec"]["replicas"]
            return sorted(self.pods().values()) == [image] * wanted

        self.wait(quiet, f"only pods of {image}")

    def pods(self) -> dict[str, str]:
        """Pods that run, with their images."""
        return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in self.all("pods", "app=web")}

    def events(self, reason: str = "") -> list[str]:
        found = self.all("events.events.k8s.io")
        return [e.get("note", "") for e in found if not reason or e.get("reason") == reason]

    def leftovers(self) -> list[str]:
        """What a finished release must not leave."""
        left = [f"Ingress {i['metadata']['name']}" for i in self.all("ingresses") if i["metadata"]["name"] != "web"]
        left += [f"Service {s['metadata']['name']}" for s in self.all("services") if s["metadata"]["name"] != "web"]
        service = self.get("service", "web")
        left += ["Service web is pinned"] if HASH_LABEL in service["spec"]["selector"] else []
        left += [f"annotation {a} on Service web" for a in marks(service)]
        for rs in self.all("replicasets"):
            owners = [o["kind"] for o in rs["metadata"].get("ownerReferences", [])]
            left += [] if owners == ["Deployment"] else [f"ReplicaSet {rs['metadata']['name']} of {owners}"]
        return left

    def close(self) -> None:
        """End the traffic and delete the namespace. Finalizers need a controller, and the test's may be gone: take
        them off."""
        for load in self.loads:
            load.stop()
        for kind in ("releases", "releasepolicies"):
            names = self.kubectl("get", kind, "-o", "name", check=False).split()
            for name in names:
                self.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)
        self.lab.kubectl("delete", "namespace", self.namespace, "--wait=false")


class Traffic:
    """A hundred requests a second, counted from when the proxy has learned where to send them (until then it answers
    404, or 503 while it knows the Service but not its endpoints). `url` is Traefik's entry point if left out, `call`
    the path of a gRPC call that each request is."""

    def __init__(
        self, shop: Shop, rps: float = 100, url: str = "", call: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.shop = shop
        self.load = Load(shop.lab, host=shop.host, rps=rps, url=url or None, call=call, headers=headers)
        shop.loads.append(self.load)
        shop.wait(lambda: self._answers_well(rps), "a second of good answers")
        self.began = self.load.snapshot()

    def _answers_well(self, rps: float) -> bool:
        before = self.load.snapshot()
        self.shop.wait(lambda: self.load.snapshot().minus(before).answered >= rps, "a second of answers")
        after = self.load.snapshot().minus(before)
        return set(after.statuses) == {"200"} and after.lost == 0

    def share(self, version: str, requests: int = 300) -> float:
        """Percent of the next `requests` that this version answers."""
        before = self.load.snapshot()
        self.shop.wait(lambda: self.load.snapshot().minus(before).answered >= requests, f"{requests} requests")
        return 100 * self.load.snapshot().minus(before).share(version)

    def nothing_lost(self) -> Counts:
        """Stop, and assert that every request since the start was answered, and well."""
        summary = self.load.stop()
        counted = summary.minus(self.began)
        assert (counted.lost, counted.failed, set(counted.statuses)) == (0, 0, {"200"}), summary
        return counted


def marks(obj: Json) -> list[str]:
    return [key for key in obj["metadata"].get("annotations", {}) if re.match(r"davylamp\.dev/", key)]


def deployment(image: str, replicas: int, env: dict[str, str] | None = None, name: str = "web") -> Json:
    variables = {"ACCESS_LOG": "off"} | (env or {})
    container = {
        "name": "hellok8s",
        "image": image,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


CALLED = {"GRPC": "1"}
"""The environment of pods that are asked by gRPC calls."""


def service_of(name: str = "web", protocol: str = "", *, tls: bool = False) -> Json:
    ports: list[Json] = [{"port": 80, "targetPort": 8080} | ({"appProtocol": protocol} if protocol else {})]
    if tls:
        ports = [{"name": "http", **ports[0]}, {"name": "tls", "port": 443, "targetPort": 8443}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


SERVICE = service_of()


def ingress_of(host: str) -> Json:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]},
    }


def policy_manifest(name: str, spec: Json) -> Json:
    return {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ReleasePolicy",
        "metadata": {"name": name},
        "spec": spec,
    }

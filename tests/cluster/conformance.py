"""A bed for the conformance suite (tests/conformance) on the real control plane, with real proxies and requests.

No release is needed: two Deployments run all the time, `web` (v1) and `web-canary` (v2), each behind a Service of its
name, and the router's own pure functions say what to write.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
from davylab import Lab

from davylamp.api.objects import HASH_LABEL
from davylamp.api.types import Route as Ref
from davylamp.api.types import VirtualServiceRoute as VirtualServiceRef
from davylamp.core.world import Exposure, Route, RouteContext, Wanted
from davylamp.embedded.load.exchanges import head_of
from davylamp.kube.kinds import decode, kind_of
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.router import Router
from tests.cluster.asker import Job, Kind, Tally
from tests.cluster.shop import CALLED, Json, Shop, deployment, service_of
from tests.conformance.suite import CANARY, REQUESTS, STABLE, Answers, Sent

ASKER = Path(__file__).with_name("asker.py")


class Asker:
    """The client beside the pods, as long as a test module needs it."""

    def __init__(self, lab: Lab) -> None:
        command: list[str | Path] = [sys.executable, ASKER]
        self.process = lab.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, kinds: list[Kind], keep: int = 50) -> list[Answers]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(msgspec.json.encode(Job(kinds, keep)).decode(), file=self.process.stdin, flush=True)
        tallies = msgspec.json.decode(self.process.stdout.readline(), type=list[Tally])
        return [Answers(Counter(one.versions), Counter(one.statuses), one.lost) for one in tallies]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


class Bed:
    """`suite.Bed`. Requests go to `url`, Traefik's entry point if left out; those that come from a pod to the sidecar
    of one, by the name of the Service (in a `mesh` all do). `call` is the path of a gRPC call that each request is;
    `keep` how many requests a connection has. With `tls` pods have a port for that, too, and are asked there."""

    def __init__(
        self,
        shop: Shop,
        router: Router,
        asker: Asker,
        *,
        url: str = "",
        lacks: frozenset[str] = frozenset(),
        mesh: bool = False,
        call: str = "",
        tls: bool = False,
        keep: int = 50,
        subsets: bool = False,
    ) -> None:
        self.shop, self.router, self.asker = shop, router, asker
        self.features, self.lacks = router.features, lacks
        self.url = url or shop.lab.inside_traefik_url
        self.mesh, self.call, self.tls, self.keep, self.subsets, self.open = mesh, call, tls, keep, subsets, False
        self.ref = Ref(virtual_service=VirtualServiceRef("web", subsets=True)) if subsets else router.ref("web")
        release = self._release()
        self.context = RouteContext(
            release=release["metadata"]["name"],
            release_uid=release["metadata"]["uid"],
            namespace=shop.namespace,
            service="web",
            canary_service="web-canary",
            stable_hash=self._hash("web"),
            canary_hash=self._hash("web-canary"),
        )

    def _hash(self, app: str) -> str:
        return str(self.shop.all("pods", f"app={app}")[0]["metadata"]["labels"][HASH_LABEL])

    def _release(self) -> Json:
        """A finished one, so that no controller does anything with it, as the owner of what a router creates."""
        side = {"replicaSet": "web-1", "hash": "1"}
        sides = {"stable": side, "canary": side, "template": "t"}
        spec = {"policy": "web", "deployment": "web", "steps": [{"weight": 10}]} | sides
        manifest = {
            "apiVersion": "davylamp.dev/v1alpha1",
            "kind": "Release",
            "metadata": {"name": "web-1"},
            "spec": spec,
        }
        self.shop.apply(manifest)
        ended = '{"status":{"phase":"Completed"}}'
        self.shop.kubectl("patch", "release", "web-1", "--subresource=status", "--type=merge", "-p", ended)
        return self.shop.get("release", "web-1")

    def route(self) -> Route:
        classes = {one["metadata"]["name"]: one for one in self.shop.all("gatewayclasses")}
        known = {name: decode("GatewayClass", json.dumps(one).encode()) for name, one in classes.items()}
        objects = NamespaceObjects(self.shop.namespace, gateway_classes=known)
        for kind in (kind for kind in self.router.kinds if kind_of(kind).namespaced):
            for raw in self.shop.all(kind_of(kind).resource):
                objects.put(decode(kind, json.dumps(raw).encode()))
        return self.router.bind(self.ref, "web", "web-canary", objects)

    def select(self, labels: dict[str, str | None], pods: int) -> None:
        """By subsets, the user's Service has the pods of both versions while it is split."""
        self.shop.kubectl("patch", "service", "web", "-p", json.dumps({"spec": {"selector": labels}}))

        def offered() -> bool:
            slices = self.shop.all("endpointslices", "kubernetes.io/service-name=web")
            return sum(len(one["endpoints"] or ()) for one in slices) == pods

        self.shop.wait(offered, f"{pods} endpoints")

    def own(self) -> Json:
        """The user's object."""
        return self.shop.get(kind_of(self.router.kind).resource, "web")

    def expose(self, exposure: Exposure | None) -> None:
        if self.subsets and exposure is not None and not self.open:
            self.open = True
            self.expose(Exposure(0))
            self.select({"app": None, "shop": "web"}, pods=4)
        if self.subsets and exposure is None:
            self.expose(Exposure(0))
            self.until(lambda: self.ask([(Sent(), 50)])[0].share == 0, "nobody to reach the canary")
            self.select({"app": "web", "shop": None}, pods=2)

        def reached() -> bool:
            route = self.route()
            wanted = route.prepared(self.context) if exposure is not None else Wanted()
            wanted = route.desired(exposure, self.context) if wanted.reached else wanted
            for manifest in wanted.present:
                self.shop.apply(manifest)
            for ref, patch in wanted.patches:
                self.shop.kubectl("patch", ref.kind, ref.name, "--type=merge", "-p", json.dumps(patch))
            for ref, _ in wanted.absent:
                self.shop.kubectl("delete", ref.kind, ref.name)
            return wanted.reached and not route.converged(exposure, self.context)

        self.shop.wait(reached, f"the route to have {exposure}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        self.shop.wait(condition, what, 240)

    def ask(self, kinds: Sequence[tuple[Sent, int]]) -> list[Answers]:
        return self.asker([self._kind(sent, number) for sent, number in kinds], self.keep)

    def _kind(self, sent: Sent, number: int) -> Kind:
        from_pod = self.mesh or sent.source
        url = urlsplit(self.shop.lab.inside_sidecar_url if from_pod else self.url)
        host = f"web.{self.shop.namespace}.svc.cluster.local" if from_pod else self.shop.host
        path = (self.call or "/") + (f"?{sent.query}" if sent.query else "")
        head = head_of(path, {"Host": host, **sent.headers}, call=bool(self.call))
        return _kind(url, head, number, call=self.call, sni=host if self.tls else "")

    def seen(self) -> int:
        """By the metrics of the canary's pods, but for probes and our own questions."""
        total = 0.0
        for pod in self.shop.all("pods", "app=web-canary"):
            url = f"http://{pod['status']['podIP']}:8080/metrics"
            asked = self.shop.lab.spawn(["curl", "-s", url], stdout=subprocess.PIPE)
            text = asked.communicate(timeout=240)[0].decode()
            lines = re.findall(r"^http_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE)
            total += sum(float(n) for labels, n in lines if "/healthz" not in labels and "/metrics" not in labels)
        return int(total)


@contextmanager
def bed(shop: Shop, router: Router, *routes: Json, **options: Any) -> Iterator[Bed]:
    """`routes` are the user's own objects, of which one is called `web`; `options` are those of `Bed`. The namespace
    is closed at the end."""
    called, tls = bool(options.get("call")), bool(options.get("tls"))
    env = (CALLED if called else {}) | ({"TLS_PORT": "8443", "TLS_PEM": shop.lab.certificate} if tls else {})
    services = [service_of(name, "grpc" if called else "", tls=tls) for name in ("web", "web-canary")]
    both = [deployment("hellok8s:v1", 2, env), deployment("hellok8s:v2", 2, env, name="web-canary")]
    for one in both if options.get("subsets") else ():
        one["spec"]["template"]["metadata"]["labels"]["shop"] = "web"
    shop.apply(*both, *services, *routes)
    for name in ("web", "web-canary"):
        shop.wait_available(2, name)
    asker = Asker(shop.lab)
    made = Bed(shop, router, asker, **options)

    def served() -> bool:
        (answers,) = made.ask([(Sent(), 20)])
        return answers.good and answers.versions[STABLE] == 20

    made.until(served, "the route to be served")
    yield made
    asker.close()
    shop.close()


def answered(shop: Shop, sent: Sent, url: str = "", version: str = CANARY, call: str = "") -> float:
    """Percent of the next thousand requests that this version answers; all must be answered, and well."""
    target = urlsplit(url or shop.lab.inside_traefik_url)
    head = head_of(call or "/", {"Host": shop.host, **sent.headers}, call=bool(call))
    asker = Asker(shop.lab)
    (found,) = asker([_kind(target, head, REQUESTS, call=call)])
    asker.close()
    assert found.good, found
    return 100 * found.versions[version] / found.statuses.total()


def _kind(url: SplitResult, head: str, number: int, *, call: str = "", sni: str = "") -> Kind:
    return Kind((url.hostname or "", url.port or 80), head, number, bool(call), sni)

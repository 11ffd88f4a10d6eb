"""A shop on the embedded cluster in virtual time: an application with versions that are good or bad, a Service, an
Ingress, a policy, and controllers that can be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from davylamp.cli.picture import Picture
from davylamp.controller.analyst import Opens
from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.embedded.clock import LoopClock
from davylamp.embedded.cluster import CONTROLLER, Cluster
from davylamp.embedded.kubelet.imagined import Course
from davylamp.embedded.simulate import proxies
from davylamp.embedded.store import Object
from davylamp.kube.kinds import kind_of
from davylamp.view import text
from davylamp.view.lines import Look
from davylamp.view.model import WorkloadView
from tests.chaos.faulty import Faulty
from tests.chaos.seeing import Seeing
from tests.embedded.virtual import World
from tests.kube.controllers import INGRESS_CLASS, NAMESPACE, deployment, ingress, policy, service

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
CRASHING, UNREADY, MISSING = "hellok8s:v7-crash", "hellok8s:v8-unready", "hellok8s:v9-missing"
GOOD, BAD = (V1, V2, V3), (CRASHING, UNREADY, MISSING)
HASH = "pod-template-hash"
ROUTERS: dict[str, tuple[str, Object]] = {
    "httpRoute": (
        "HTTPRoute",
        {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    ),
    "virtualService": ("VirtualService", {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}),
}
"""The user's routes: kind and spec, by what a policy calls them."""
REVISION = "deployment.kubernetes.io/revision"


def behave(pod: Object) -> Course:
    match image_of(pod):
        case "hellok8s:v7-crash":
            return Course(crash=2, ready=None, log="FATAL no database")
        case "hellok8s:v8-unready":
            return Course(ready=None)
        case "hellok8s:v9-missing":
            return Course(pulled=False)
    return Course()


def image_of(obj: Object) -> str:
    """Of a pod or of a pod template's owner."""
    spec = obj["spec"]["template"]["spec"] if "template" in obj["spec"] else obj["spec"]
    return str(spec["containers"][0]["image"])


class Process:
    """One controller process."""

    def __init__(self, cluster: Cluster, clock: LoopClock, lookers: Opens | None) -> None:
        self.api = Faulty(cluster.api(CONTROLLER), clock)
        seeing = Seeing()
        self.controller = Controller(self.api, clock, Metrics(clock), counters=seeing, lookers=lookers)
        seeing.world = self.controller.world
        self.tasks = [asyncio.create_task(self.controller.watch()), asyncio.create_task(self.controller.work())]
        self.over = asyncio.Event()
        self.api.crashed = self.over.set

    async def kill(self) -> None:
        """As SIGKILL: nothing more is written."""
        self.api.dead = True
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Shop(World):
    """The cluster, and one controller process (or more, for a moment)."""

    def __init__(self, cluster: Cluster, clock: LoopClock) -> None:
        super().__init__(cluster)
        self.clock = clock
        self.processes: list[Process] = []
        self.lookers: Opens | None = None
        """What an analysis sees."""
        self.routers: tuple[str, ...] = ()
        """Kinds of routes and what is beside them, but Ingresses."""

    def start_controller(self) -> Process:
        process = Process(self.cluster, self.clock, self.lookers)
        self.processes.append(process)
        return process

    async def kill_controllers(self) -> None:
        for process in self.processes:
            await process.kill()
        self.processes.clear()

    async def open(self, replicas: int = 4, **spec: Any) -> None:
        """Version 1 at rest, before any controller of ours has seen it."""
        self._serve({kind for route in (spec.get("traffic") or {}).get("routes", ()) for kind in route})
        self.put(deployment(V1, replicas), service(), ingress(), policy(**spec))
        await self.until(lambda: self.get("Deployment").get("status", {}).get("availableReplicas") == replicas, 600)

    def _serve(self, wanted: set[str]) -> None:
        """With the routes of these kinds, as a policy calls them, and a proxy that takes them."""
        kinds = [ROUTERS[kind] for kind in sorted(wanted & ROUTERS.keys())]
        if not kinds:
            return
        self.routers = ("DestinationRule", *(kind for kind, _ in kinds))
        proxies.serve(self.store, self.clock)
        for kind in self.routers:
            self.put(proxies.definition(kind))
        for kind, spec in kinds:
            meta = {"name": "web", "namespace": NAMESPACE}
            self.put({"apiVersion": kind_of(kind).api_version, "kind": kind, "metadata": meta, "spec": spec})

    def command(self, **fields: Any) -> None:
        """What a person says to the release under way, or to the last one; nothing where there is none."""
        releases = self.list("Release")
        if releases:
            newest = max(releases, key=lambda r: (r["metadata"]["creationTimestamp"], r["spec"].get("attempt", 1)))
            self.change("Release", newest["metadata"]["name"], {"spec": fields})

    def undo(self) -> None:
        """As kubectl does it: the template of the revision before, unless the Deployment is paused."""
        if not self.has("Deployment"):
            return
        web = self.get("Deployment")
        mine = [rs for rs in self.list("ReplicaSet") if REVISION in (rs["metadata"].get("annotations") or {})]
        mine = [rs for rs in mine if web["metadata"]["uid"] in (o["uid"] for o in rs["metadata"]["ownerReferences"])]
        if web["spec"].get("paused") or len(mine) < 2:
            return
        before = sorted(mine, key=lambda rs: int(rs["metadata"]["annotations"][REVISION]))[-2]
        self.set_image(image_of(before))

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def rest(self, seconds: float = 1800.0) -> None:
        """Until nothing has changed for longer than a progress deadline, or where an analysis may say something yet;
        AssertionError where that never comes."""
        quiet = 90.0 if self.lookers is None else 200.0
        changed = asyncio.Event()
        unsubscribe = self.store.subscribe(lambda *_: changed.set())
        try:
            async with asyncio.timeout(seconds):
                while True:
                    changed.clear()
                    try:
                        async with asyncio.timeout(quiet):
                            await changed.wait()
                    except TimeoutError:
                        if not changed.is_set():
                            return
        except TimeoutError:
            raise AssertionError(f"no rest within {seconds:g} s") from None
        finally:
            unsubscribe()

    # --- looking ---

    def has(self, *kinds: str) -> bool:
        """Whether the user's objects of these kinds are there."""
        return all(self.store.get(kind, NAMESPACE, "web") is not None for kind in kinds)

    def images(self) -> set[str]:
        return {image_of(pod) for pod in self.list("Pod")}

    def own_images(self) -> set[str]:
        """Those that the Deployment's own ReplicaSets have pods of."""
        uid = self.get("Deployment")["metadata"]["uid"]
        mine = [rs for rs in self.list("ReplicaSet") if rs["spec"]["replicas"]]
        return {image_of(rs) for rs in mine if uid in (o["uid"] for o in rs["metadata"].get("ownerReferences") or ())}

    def leftovers(self) -> list[str]:
        """What a release that is over must not leave."""
        left = [f"Ingress {i['metadata']['name']}" for i in self.list("Ingress") if i["metadata"]["name"] != "web"]
        left += [f"Service {s['metadata']['name']}" for s in self.list("Service") if s["metadata"]["name"] != "web"]
        for kind in self.routers:
            left += [f"{kind} {o['metadata']['name']}" for o in self.list(kind) if o["metadata"]["name"] != "web"]
        uid = self.get("Deployment")["metadata"]["uid"] if self.has("Deployment") else ""
        for rs in self.list("ReplicaSet"):
            owners = [o["uid"] for o in rs["metadata"].get("ownerReferences", [])]
            left += [] if owners == [uid] else [f"ReplicaSet {rs['metadata']['name']} of {owners}"]
        if not self.has("Service"):
            return left
        service = self.get("Service")
        left += ["the Service's pin"] if HASH in service["spec"]["selector"] else []
        marks = [key for key in service["metadata"].get("annotations") or {} if key.startswith("davylamp.dev/")]
        return left + [f"{key} on the Service" for key in marks]

    def state(self) -> dict[str, Any]:
        """What an end is compared by: how the objects are, not which names and times they have."""
        if not self.has("Deployment", "Service"):
            return {"leftovers": self.leftovers()}
        web = self.get("Deployment")
        releases = [(r["spec"]["canary"].get("image"), r.get("status", {}).get("phase")) for r in self.list("Release")]
        return {
            "releases": sorted(releases),
            "template": image_of(web),
            "paused": bool(web["spec"].get("paused")),
            "pods": sorted(image_of(pod) for pod in self.list("Pod")),
            "selector": self.get("Service")["spec"]["selector"],
            "routes": [(self.get(kind)["spec"], _marks(self.get(kind))) for kind in self.routers[1:]],
            "leftovers": self.leftovers(),
        }

    async def view(self) -> WorkloadView:
        """What `davy status web` would be made of."""
        picture = Picture(self.cluster.api(), NAMESPACE, self.clock)
        await picture.read()
        await picture.read_pods(NAMESPACE, "web")
        return picture.view(NAMESPACE, "web")

    async def told(self) -> str:
        """What `davy status web` says."""
        lines = text.render(await self.view(), Look(width=200), self.clock.now())
        return "\n".join("".join(span.text for span in line) for line in lines)


def _marks(obj: Object) -> list[str]:
    meta = obj["metadata"]
    found = {**(meta.get("annotations") or {}), **(meta.get("labels") or {})}
    return sorted(key for key in found if key.startswith("davylamp.dev/"))


@contextlib.asynccontextmanager
async def shop(clock: LoopClock) -> AsyncIterator[Shop]:
    async with Cluster(clock, behave=behave, events=False, managed=False) as cluster:
        cluster.install_davylamp()
        here = Shop(cluster, clock)
        here.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, INGRESS_CLASS)
        try:
            yield here
        finally:
            await here.kill_controllers()


Deed = Callable[[Shop], object]

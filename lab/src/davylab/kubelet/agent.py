"""The kubelet itself: registers its nodes, watches all pods, and has one runner for each pod of its nodes."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import py_compile
import signal
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from davylamp.embedded import hellok8s

from davylab.api import MERGE, Api, ApiError
from davylab.identity import KUBELET, Paths
from davylab.kubelet import logs
from davylab.kubelet.model import Base, Pod, rfc3339
from davylab.kubelet.pod import Runner, Settings

PORT = 10250
FIRST_POD, LAST_POD = (int(ipaddress.ip_address(a)) for a in ("10.244.1.0", "10.244.255.255"))


class ListMeta(Base, frozen=True):
    resource_version: str = ""


class PodList(Base, frozen=True):
    metadata: ListMeta
    items: tuple[Pod, ...] = ()


class Event(Base, frozen=True):
    type: str
    object: msgspec.Raw


class Agent:
    """All that one kubelet process knows."""

    def __init__(self, settings: Settings, nodes: list[str]) -> None:
        self.settings = settings
        self.nodes = {name: f"10.244.0.{10 + i}" for i, name in enumerate(nodes)}
        self.runners: dict[str, Runner] = {}  # by the pod's uid
        self.tasks: set[asyncio.Task[None]] = set()
        self.used: set[str] = set()
        self.last_address = FIRST_POD

    # -- pods --------------------------------------------------------------------------------------

    def see(self, pod: Pod) -> None:
        if pod.spec.node_name not in self.nodes:
            return
        if runner := self.runners.get(pod.metadata.uid):
            runner.update(pod)
            return
        node_address = self.nodes[pod.spec.node_name]
        address = node_address if pod.spec.host_network else self.allocate(pod.status.pod_ip)
        runner = Runner(self.settings, pod, address, node_address)
        self.runners[pod.metadata.uid] = runner
        task = asyncio.create_task(runner.run())
        self.tasks.add(task)
        task.add_done_callback(lambda task: self.ended(runner, task))

    def ended(self, runner: Runner, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.used.discard(runner.address)
        if not task.cancelled() and (error := task.exception()):
            print(f"{runner.pod}: {error!r}", flush=True)
        if runner.gone:
            self.runners.pop(runner.pod.metadata.uid, None)

    def lose(self, uid: str) -> None:
        if runner := self.runners.pop(uid, None):
            runner.forget()

    def allocate(self, wanted: str) -> str:
        """An address that nobody has; freed ones come again only when the range is through."""
        if wanted and wanted not in self.used:
            self.used.add(wanted)
            return wanted
        while True:
            self.last_address = FIRST_POD + 1 if self.last_address >= LAST_POD else self.last_address + 1
            address = str(ipaddress.ip_address(self.last_address))
            if address not in self.used:
                self.used.add(address)
                return address

    # -- the watch ---------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Lists, then watches; lists again when the watch can't go on (410), and tries for ever."""
        version = ""
        while True:
            try:
                version = version or await self.list()
                version = await self.watch(version)
            except ApiError as error:
                print(f"watching pods: {error}", flush=True)
                version = ""
                await asyncio.sleep(0.2)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.2)

    async def list(self) -> str:
        content = await self.settings.api.request("GET", "/api/v1/pods?fieldSelector=spec.nodeName!%3D")
        pods = msgspec.json.decode(content, type=PodList)
        for uid in self.runners.keys() - {pod.metadata.uid for pod in pods.items}:
            self.lose(uid)
        for pod in pods.items:
            self.see(pod)
        return pods.metadata.resource_version

    async def watch(self, version: str) -> str:
        """Returns the version from which the next watch goes on, or "" if everything has to be listed."""
        lines = self.settings.api.watch(
            "/api/v1/pods",
            fieldSelector="spec.nodeName!=",
            resourceVersion=version,
            allowWatchBookmarks="true",
        )
        async for line in lines:
            event = msgspec.json.decode(line, type=Event)
            if event.type == "ERROR":
                return ""
            if event.type == "BOOKMARK":
                version = msgspec.json.decode(event.object, type=Bookmark).metadata.resource_version
                continue
            pod = msgspec.json.decode(event.object, type=Pod)
            version = pod.metadata.resource_version
            if event.type == "DELETED":
                self.lose(pod.metadata.uid)
            else:
                self.see(pod)
        return version

    # -- nodes -------------------------------------------------------------------------------------

    async def register(self, name: str) -> None:
        """Creates the Node or, after a restart, writes its status again; retries until it is taken."""
        while True:
            try:
                return await self._register_once(name)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                print(f"registering node {name}: {error}", flush=True)
                await asyncio.sleep(0.2)

    async def _register_once(self, name: str) -> None:
        request, path = self.settings.api.request, f"/api/v1/nodes/{name}"
        node = node_object(name, self.nodes[name])
        try:
            await request("POST", "/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:
                raise
            await request("PATCH", f"{path}/status", {"status": node["status"]}, MERGE)
        # The API server taints a new node, and the controller that would lift the taint is off.
        await request("PATCH", path, {"spec": {"taints": None}}, MERGE)

    # -- logs --------------------------------------------------------------------------------------

    async def container_logs(self, request: web.Request) -> web.StreamResponse:
        namespace, name, container = (request.match_info[k] for k in ("namespace", "pod", "container"))
        found = [
            runner
            for runner in self.runners.values()
            if (runner.pod.metadata.namespace, runner.pod.metadata.name) == (namespace, name)
        ]
        if not found or container not in found[-1].logs:
            raise web.HTTPNotFound(text=f'container "{container}" of pod "{namespace}/{name}" not found\n')
        runs = found[-1].logs[container]
        back = 2 if request.query.get("previous") == "true" else 1
        if len(runs) < back:
            what = "previous terminated container" if back == 2 else "container"
            raise web.HTTPBadRequest(text=f'{what} "{container}" in pod "{name}" not found or waiting to start\n')
        try:
            options = logs.options_of(dict(request.query), datetime.now(UTC))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for lines in runs[-back].read(options):
            await response.write(lines)
        return response


class Bookmark(Base, frozen=True):
    """All that a BOOKMARK event's object has."""

    metadata: ListMeta


def node_object(name: str, address: str) -> dict[str, object]:
    now = rfc3339(datetime.now(UTC))
    capacity = {"cpu": "10000", "memory": "100000Gi", "ephemeral-storage": "100000Gi", "pods": "50000"}
    healthy = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    machine = dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), "") | {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "operatingSystem": "linux",
        "kernelVersion": os.uname().release,
        "osImage": "davylab",
        "containerRuntimeVersion": "davylab://0",
        "kubeletVersion": "v0.0.0-davylab",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": "Davylab",
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
                for kind, status in healthy.items()
            ],
            "nodeInfo": machine,
        },
    }


async def run(state: Path, nodes: int, restart_cap: float) -> None:
    """Until SIGTERM. The pods' processes end with us."""
    paths = Paths(state)
    compiled = py_compile.compile(hellok8s.__file__, cfile=str(state / "hellok8s.pyc"), doraise=True)
    assert compiled
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Api(paths.kubeconfig(KUBELET, inside=True), paths.certificate) as api:
        settings = Settings(api, [sys.executable, "-S", "-E", compiled], state / "pods", restart_cap)
        agent = Agent(settings, [f"node-{i + 1}" for i in range(nodes)])
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", agent.container_logs)
        server = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await server.setup()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(paths.certificate, paths.key)
        for address in agent.nodes.values():
            await web.TCPSite(server, address, PORT, ssl_context=tls).start()
        await asyncio.gather(*(agent.register(name) for name in agent.nodes))
        following = asyncio.create_task(agent.follow())
        ended = asyncio.create_task(stopping.wait())
        await asyncio.wait([following, ended], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()  # raises what ended it
        for runner in agent.runners.values():
            runner.kill()
        os._exit(0)  # the lab ends: there is nobody to tell how the pods end

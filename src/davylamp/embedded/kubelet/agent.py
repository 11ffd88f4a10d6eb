"""The kubelet itself: registers its nodes, watches all pods, and has one runner for each pod of its nodes."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

import aiohttp
import msgspec
from aiohttp import web

from davylamp.embedded.kubelet import logs
from davylamp.embedded.kubelet.api import MERGE, ApiError
from davylamp.embedded.kubelet.model import Base, Pod, rfc3339
from davylamp.embedded.kubelet.network import Addresses, Network
from davylamp.embedded.kubelet.pod import Runner, Settings

PORT = 10250
"""Where a kubelet serves logs, on its node's address."""


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

    def __init__(self, settings: Settings, network: Network) -> None:
        self.settings = settings
        self.nodes = network.nodes
        self.shared = network.shared
        self.addresses = Addresses(network)
        self.runners: dict[str, Runner] = {}  # by the pod's uid
        self.tasks: set[asyncio.Task[None]] = set()

    # -- pods --------------------------------------------------------------------------------------

    def see(self, pod: Pod) -> None:
        if pod.spec.node_name not in self.nodes:
            return
        if runner := self.runners.get(pod.metadata.uid):
            runner.update(pod)
            return
        node_address = self.nodes[pod.spec.node_name]
        address = node_address if pod.spec.host_network else self.addresses.take(pod.status.pod_ip)
        runner = Runner(self.settings, pod, address, node_address, shared=self.shared)
        self.runners[pod.metadata.uid] = runner
        task = asyncio.create_task(runner.run())
        self.tasks.add(task)
        task.add_done_callback(lambda task: self.ended(runner, task))

    def ended(self, runner: Runner, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.addresses.free(runner.address)
        if not task.cancelled() and (error := task.exception()):
            print(f"{runner.pod}: {error!r}", flush=True)
        if runner.gone:
            self.runners.pop(runner.pod.metadata.uid, None)

    def lose(self, uid: str) -> None:
        if runner := self.runners.pop(uid, None):
            runner.forget()

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

    def runner_of(self, namespace: str, name: str) -> Runner | None:
        """Of the pod that has the name now; of one that ended and is still there, too."""
        wanted = (namespace, name)
        found = [r for r in self.runners.values() if (r.pod.metadata.namespace, r.pod.metadata.name) == wanted]
        return found[-1] if found else None

    async def container_logs(self, request: web.Request) -> web.StreamResponse:
        namespace, name, container = (request.match_info[k] for k in ("namespace", "pod", "container"))
        found = self.runner_of(namespace, name)
        if found is None or container not in found.logs:
            raise web.HTTPNotFound(text=f'container "{container}" of pod "{namespace}/{name}" not found\n')
        runs = found.logs[container]
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
        "osImage": "davylamp",
        "containerRuntimeVersion": "davylamp://0",
        "kubeletVersion": "v0.0.0-davylamp",
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
                    "reason": "Davylamp",
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
                for kind, status in healthy.items()
            ],
            "nodeInfo": machine,
        },
    }


async def serve(agent: Agent) -> None:
    """Registers the agent's nodes and runs their pods, until cancelled; then kills what is left of them."""
    try:
        await asyncio.gather(*(agent.register(name) for name in agent.nodes))
        await agent.follow()
    finally:
        for runner in agent.runners.values():
            runner.kill()
        for task in agent.tasks:
            task.cancel()
        await asyncio.gather(*agent.tasks, return_exceptions=True)

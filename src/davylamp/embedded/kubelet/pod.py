"""One pod: its processes, their readiness and restarts, and its end.

`Runner.run` is level-triggered: whatever changes (a container, the pod object) only says "look again".
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import aiohttp
import msgspec

from davylamp.embedded import process
from davylamp.embedded.kubelet import model
from davylamp.embedded.kubelet.api import STRATEGIC, Api, ApiError
from davylamp.embedded.kubelet.logs import ContainerLog
from davylamp.embedded.kubelet.model import (
    PORTS,
    Container,
    ContainerView,
    Pod,
    Running,
    Terminated,
    Waiting,
    initial_view,
    rfc3339,
)
from davylamp.embedded.kubelet.network import free_ports

RUN_THAT_FORGIVES = 30.0  # seconds: a container that ran so long starts with no back-off again (really: 10 min)
PULL_BACK_OFF_AFTER = 0.5  # seconds for which ErrImagePull is shown before ImagePullBackOff
RETRY = 0.2  # seconds before a status that could not be written is tried again


class Settings(msgspec.Struct, frozen=True):
    """What every runner needs to know."""

    api: Api
    hellok8s: list[str]  # the command
    logs: Path
    restart_cap: float


class Runner:
    """The life of one pod on this node. ``pod`` is replaced by the watch, through ``update``."""

    def __init__(self, settings: Settings, pod: Pod, address: str, node_address: str, *, shared: bool = False) -> None:
        self.settings = settings
        self.pod = pod
        self.address = address
        self.node_address = node_address
        self.started = pod.status.start_time or _now()
        self.views = {c.name: initial_view(pod, c, _now()) for c in pod.spec.containers}
        self.logs: dict[str, list[ContainerLog]] = {c.name: [] for c in pod.spec.containers}
        self.folder = settings.logs / pod.metadata.uid
        self.changed = asyncio.Event()
        self.gone = False  # the object is deleted: nothing to report any more
        self.written: object = None
        self.containers: list[asyncio.Task[None]] = []
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = _own_ports(pod, address) if shared else {}

    def update(self, pod: Pod) -> None:
        self.pod = pod
        self.changed.set()

    def forget(self) -> None:
        """The object is gone (a forced deletion): kill what is left, without grace."""
        self.gone = True
        self.kill()
        self.changed.set()

    def kill(self) -> None:
        """Kills the pod's processes, and returns when they are gone."""
        for child in self.children.values():
            child.kill()
        for child in self.children.values():
            child.wait()

    async def run(self) -> None:
        finished_before = self.pod.status.phase in ("Succeeded", "Failed")
        if self.pod.metadata.deletion_timestamp is None and not finished_before:
            for container in self.pod.spec.containers:
                if model.behaviour(container.image) == "pause":
                    self._show(container, Running(started_at=_now()), ready=True)
                else:
                    task = asyncio.create_task(self._supervise(container))
                    task.add_done_callback(self._supervised)
                    self.containers.append(task)
        try:
            if self.ports:
                said = msgspec.json.encode({str(given): port for given, port in self.ports.items()}).decode()
                await self._request_until_done("PATCH", {"metadata": {"annotations": {PORTS: said}}}, "")
            while not self.gone:
                self.changed.clear()
                if self.pod.metadata.deletion_timestamp is not None:
                    return await self._end()
                if not finished_before:
                    await self._report()
                await self.changed.wait()
        finally:
            await self._abandon()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _supervised(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            print(f"{self.pod}: {error!r}", flush=True)

    # -- the end -----------------------------------------------------------------------------------

    async def _end(self) -> None:
        """SIGTERM and unready; when the processes are gone or their grace is over, the object."""
        working = [task for task in self.containers if not task.done()]
        for task in working:
            task.cancel()
        for container in self.pod.spec.containers:
            view = self.views[container.name]
            self.views[container.name] = msgspec.structs.replace(view, ready=False)
        if working:
            await asyncio.gather(self._report(), *working, return_exceptions=True)
        await self._request_until_done("DELETE", {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}})
        self.gone = True

    async def _abandon(self) -> None:
        for task in self.containers:
            task.cancel()
        if self.containers:
            await asyncio.wait(self.containers)

    def _grace(self) -> float:
        if self.gone:
            return 0.0
        seconds = self.pod.metadata.deletion_grace_period_seconds
        return 30.0 if seconds is None else float(seconds)

    # -- telling the API server --------------------------------------------------------------------

    async def _report(self) -> None:
        status = model.status(
            self.pod,
            self.views,
            address=self.address,
            node_address=self.node_address,
            started=self.started,
            now=_now(),
        )
        if _essence(status) != self.written:
            done = await self._request_until_done("PATCH", {"metadata": {"uid": self._uid}, "status": status})
            self.written = _essence(status) if done else None

    async def _request_until_done(self, method: str, body: object, subresource: str = "status") -> bool:
        """False if the object is gone, or not the one any more that we mean."""
        meta = self.pod.metadata
        path = f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}"
        path = f"{path}/{subresource}" if method == "PATCH" and subresource else path
        content_type = STRATEGIC if method == "PATCH" else "application/json"
        while not self.gone:
            try:
                await self.settings.api.request(method, path, body, content_type)
                return True
            except ApiError as error:
                if error.status in (404, 409):
                    return False
                if error.status not in (429, 500, 503, 504):
                    print(f"{self.pod}: {method}: {error}", flush=True)
                    return False
            except (aiohttp.ClientError, TimeoutError):
                pass  # the API server is away: it comes back
            await asyncio.sleep(RETRY)
        return False

    @property
    def _uid(self) -> str:
        return self.pod.metadata.uid

    def _show(
        self,
        container: Container,
        state: Waiting | Running | Terminated,
        *,
        ready: bool = False,
        last: Terminated | None = None,
    ) -> None:
        old = self.views[container.name]
        self.views[container.name] = ContainerView(state, last or old.last, ready, old.restarts)
        self.changed.set()

    # -- one container -----------------------------------------------------------------------------

    async def _supervise(self, container: Container) -> None:
        """Runs and restarts the container until its policy says no more, or the task is cancelled."""
        if model.behaviour(container.image) == "absent":
            return await self._fail_to_pull(container)
        failures = 0  # since the last run that was long enough to forgive
        while True:
            began = time.monotonic()
            end = await self._run_once(container)
            policy = self.pod.spec.restart_policy
            self._show(container, end)
            if not model.should_restart(policy, end.exit_code):
                return None
            failures = 0 if time.monotonic() - began > RUN_THAT_FORGIVES else failures
            delay = model.restart_delay(failures, self.settings.restart_cap)
            failures += 1
            if delay:
                message = (
                    f"back-off {delay:g}s restarting failed container={container.name} "
                    f"pod={self.pod.metadata.name}_{self.pod.metadata.namespace}({self._uid})"
                )
                self._show(container, Waiting(reason="CrashLoopBackOff", message=message), last=end)
                await asyncio.sleep(delay)
            view = self.views[container.name]
            self.views[container.name] = ContainerView(state=view.state, last=end, restarts=view.restarts + 1)

    async def _fail_to_pull(self, container: Container) -> None:
        image = container.image
        cause = model.pull_problem(image)
        self._show(container, Waiting(reason="ErrImagePull", message=cause))
        await asyncio.sleep(PULL_BACK_OFF_AFTER)
        message = f'Back-off pulling image "{image}": ErrImagePull: {cause}'
        self._show(container, Waiting(reason="ImagePullBackOff", message=message))

    async def _run_once(self, container: Container) -> Terminated:
        """Starts the process and waits for its end; cancelled, ends the process within the grace period."""
        log = ContainerLog(self.folder / container.name / f"{self.views[container.name].restarts}.log")
        self._keep(container.name, log)
        child, output = self._start(container)
        self.children[container.name] = child
        started = _now()
        probing = None
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: log, output)
            self._show(container, Running(started_at=started), ready=container.readiness_probe is None)
            if container.readiness_probe:
                probing = asyncio.create_task(self._probe(container, container.readiness_probe))
            code = await process.exited(child)
        except asyncio.CancelledError:
            if probing:
                probing.cancel()
            await process.stop(child, self._grace())
            raise
        finally:
            if probing:
                probing.cancel()
        await log.ended(within=1)  # a grandchild may hold the pipe
        code = 128 - code if code < 0 else code
        use_log = code != 0 and container.termination_message_policy == "FallbackToLogsOnError"
        return Terminated(
            exit_code=code,
            reason="Error" if code else "Completed",
            message=log.tail() if use_log else "",
            started_at=started,
            finished_at=_now(),
        )

    def _start(self, container: Container) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """The process, and the reading end of its stdout and stderr."""
        reading, writing = os.pipe()
        try:
            env = model.environment(self.pod, container, self.address)
            if container.ports and (own := self.ports.get(container.ports[0].container_port)):
                env["PORT"] = str(own)
            child = subprocess.Popen(
                self.settings.hellok8s,
                env={"PATH": os.environ.get("PATH", ""), **env},
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                preexec_fn=process.die_with_parent if sys.platform == "linux" else None,
            )
        finally:
            os.close(writing)
        return child, os.fdopen(reading, "rb")

    def _keep(self, name: str, log: ContainerLog) -> None:
        """The log of this run and the one before (`kubectl logs --previous`); older ones go."""
        logs = self.logs[name]
        logs.append(log)
        for old in logs[:-2]:
            old.path.unlink(missing_ok=True)
        del logs[:-2]

    async def _probe(self, container: Container, probe: model.Probe) -> None:
        """Sets the container's readiness. Until the first success it looks more often than asked."""
        if probe.http_get is None:
            self._show_ready(container, True)
            return
        port = model.probe_port(container, probe.http_get.port)
        if port is None:
            print(f"{self.pod}: no port {probe.http_get.port!r} in container {container.name}: never ready", flush=True)
            return
        port = self.ports.get(port, port)
        period = model.probe_period(probe)
        await asyncio.sleep(probe.initial_delay_seconds)
        successes = failures = 0
        while True:
            if await http_ok(self.address, port, probe.http_get.path, probe.timeout_seconds):
                successes, failures = successes + 1, 0
            else:
                successes, failures = 0, failures + 1
            if successes >= probe.success_threshold:
                self._show_ready(container, True)
            elif failures >= probe.failure_threshold:
                self._show_ready(container, False)
            await asyncio.sleep(period if self.views[container.name].ready else min(period, 0.2))

    def _show_ready(self, container: Container, ready: bool) -> None:
        view = self.views[container.name]
        if view.ready != ready:
            self._show(container, view.state, ready=ready)


def _own_ports(pod: Pod, address: str) -> dict[int, int]:
    """A free port for each that the pod's containers name."""
    named = [port.container_port for container in pod.spec.containers for port in container.ports]
    return dict(zip(named, free_ports(address, len(named)), strict=True))


def _essence(status: dict[str, object]) -> object:
    """A status without the times that `now` put into it: two alike need no second write."""
    conditions = status["conditions"]
    assert isinstance(conditions, list)
    slim = [{k: v for k, v in condition.items() if k != "lastTransitionTime"} for condition in conditions]
    return {**status, "conditions": slim}


async def http_ok(host: str, port: int, path: str, within: float) -> bool:
    """Whether GET answers with 2xx or 3xx within so many seconds."""
    writer = None
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
        return line.split(b" ")[1][:1] in (b"2", b"3")
    except (OSError, TimeoutError, IndexError):
        return False
    finally:
        if writer:
            writer.close()


def _now() -> str:
    return rfc3339(datetime.now(UTC))

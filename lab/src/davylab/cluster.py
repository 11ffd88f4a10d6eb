"""The supervisor: a whole control plane in a network namespace, as the children of one process.

The order of `up` and `run` is the order of events: sockets of the host, namespace, etcd and API server, the
rest, ready; then it waits for a signal, restarting whatever dies, and stops all, the API server before etcd.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from davylamp.embedded import process
from davylamp.embedded.kubelet.api import Api, ApiError
from davylamp.embedded.traefik import ingress_class
from davylamp.embedded.wheels import program

from davylab import binaries, identity, istio, namespace, relay, traefik
from davylab.api import connect
from davylab.binaries import Binaries
from davylab.components import Component, Options, components
from davylab.errors import LabError
from davylab.identity import ADMIN, API_PORT, DAVYLAMP, ISTIOD, KUBELET, TRAEFIK, Paths
from davylab.namespace import API_ADDRESS, GATEWAY_ADDRESS, ISTIOD_ADDRESS, TRAEFIK_ADDRESS

START_TIMEOUT = 180.0
RESTART_PAUSE = 0.3


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """cluster.json: what others need to use the lab. Addresses are host:port."""

    pid: int  # the supervisor's, which is also inside the namespace: nsenter --target
    user_namespace: bool
    kubeconfig: str
    inside_kubeconfig: str
    api: str
    inside_api: str
    traefik: str | None
    inside_traefik: str | None
    traefik_admin: str | None  # inside only: /metrics and /api/rawdata
    istio: str | None  # Istio's gateway
    inside_istio: str | None
    inside_sidecar: str | None  # an HTTP proxy
    audit_log: str | None
    logs: str
    seconds_to_ready: float
    pids: dict[str, int]


def up(options: Options, on_ready: Callable[[Info], None]) -> None:
    """Starts everything and returns when asked to stop. Raises LabError if it does not become ready."""
    paths = Paths(options.state.resolve())
    paths.logs.mkdir(parents=True, exist_ok=True)
    with _only_one(paths):
        found = binaries.find_or_build()
        if options.traefik or options.gateway:
            program("traefik")
        identity.make_certificate(paths)
        listeners = {"api": relay.listen()}
        if options.traefik or options.gateway:
            listeners["traefik"] = relay.listen()
        definitions = traefik.gateway_crds() if options.gateway or options.istio else []
        if options.istio:
            listeners["istio"] = relay.listen()
            definitions += istio.definitions()
            binaries.find_or_build_istiod()
        _more_files()
        user_namespace = namespace.enter()
        orphaned = asyncio.run(run(options, paths, found, definitions, listeners, user_namespace, on_ready))
        if orphaned and options.temporary:
            shutil.rmtree(paths.root, ignore_errors=True)


async def run(
    options: Options,
    paths: Paths,
    found: Binaries,
    definitions: list[dict[str, Any]],
    listeners: dict[str, socket.socket],
    user_namespace: bool,
    on_ready: Callable[[Info], None],
) -> bool:
    """Returns, once stopped, whether that was because the process that started us has gone."""
    began = time.monotonic()
    stopping = asyncio.Event()
    orphaned = False

    def parent_gone() -> None:
        nonlocal orphaned
        orphaned = True
        loop.remove_reader(0)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if options.end_with_stdin:
        loop.add_reader(0, parent_gone)
    host_port = listeners["api"].getsockname()[1]
    identity.write_access(paths, [ADMIN, KUBELET, TRAEFIK, ISTIOD, DAVYLAMP, *options.users], host_port)

    children: dict[str, subprocess.Popen[bytes]] = {}
    parts = {c.name: c for c in components(options, paths, found)}

    async def starting() -> Info:
        for name in ("etcd", "kube-apiserver"):
            children[name] = _start(parts[name], paths)
        async with connect(paths.kubeconfig(inside=True), paths.certificate) as api:
            await _until_true("kube-apiserver", lambda: _answers(f"{api.server}/readyz"), children, paths)
            await _until_true("kube-apiserver", lambda: _prepare(options, api, definitions), children, paths)
            for name in parts.keys() - children.keys():
                children[name] = _start(parts[name], paths)
            for name, check in _checks(options, api).items():
                await _until_true(name, check, children, paths)
        await relay.serve(listeners["api"], API_ADDRESS, API_PORT)
        if "traefik" in listeners:
            await relay.serve(listeners["traefik"], TRAEFIK_ADDRESS, traefik.PORT)
        if "istio" in listeners:
            await relay.serve(listeners["istio"], GATEWAY_ADDRESS, istio.GATEWAY_PORT)
        info = _info(options, paths, listeners, children, user_namespace, time.monotonic() - began)
        _write_info(paths, info)
        return info

    ready = asyncio.create_task(asyncio.wait_for(starting(), START_TIMEOUT))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            return orphaned
        info = ready.result()
        on_ready(info)
        keepers = [asyncio.create_task(_keep(c, paths, info, children)) for c in parts.values()]
        await stopped
        for keeper in keepers:
            keeper.cancel()
        return orphaned
    except TimeoutError:
        raise LabError(
            f"not ready after {START_TIMEOUT:g} s; started so far: {', '.join(children)}. Logs: {paths.logs}"
        ) from None
    finally:
        ready.cancel()
        await _stop(children)
        paths.info.unlink(missing_ok=True)


async def _prepare(options: Options, api: Api, definitions: list[dict[str, Any]]) -> bool:
    """Objects that have to be there before Traefik and istiod start; an earlier run may have made them."""
    if options.traefik or options.gateway:
        await _apply(api, "/apis/networking.k8s.io/v1/ingressclasses", ingress_class())
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await asyncio.gather(*(_apply(api, path, definition) for definition in definitions))
    if options.gateway:
        await _until(lambda: _exists(api, "/apis/gateway.networking.k8s.io/v1/gatewayclasses"))
        await _apply(api, "/apis/gateway.networking.k8s.io/v1/gatewayclasses", traefik.gateway_class())
    if options.istio:
        await _until(lambda: _exists(api, "/apis/networking.istio.io/v1/virtualservices"))
        for collection, document in istio.objects():
            await _apply(api, collection, document)
    return True


async def _apply(api: Api, path: str, document: dict[str, Any]) -> None:
    query = "?fieldManager=davylab&force=true"
    name = document["metadata"]["name"]
    await api.request("PATCH", f"{path}/{name}{query}", document, "application/apply-patch+yaml")


# -- readiness -------------------------------------------------------------------------------------


def _checks(options: Options, api: Api) -> dict[str, Callable[[], Awaitable[bool]]]:
    async def nodes() -> bool:
        listed = msgspec.json.decode(await api.request("GET", "/api/v1/nodes"))
        return len(listed["items"]) >= options.nodes

    async def namespace_ready() -> bool:
        return await _exists(api, "/api/v1/namespaces/default/serviceaccounts/default")

    checks: dict[str, Callable[[], Awaitable[bool]]] = {
        "kube-scheduler": lambda: _answers("https://127.0.0.1:10259/healthz"),
        "kube-controller-manager": namespace_ready,
        "kubelet": nodes,
    }
    if options.traefik or options.gateway:
        checks["traefik"] = lambda: _answers(f"http://{traefik.ADMIN}/ping")
    if options.istio:
        checks["istiod"] = lambda: _answers(f"http://{ISTIOD_ADDRESS}:{istio.READY_PORT}/ready")
        checks["envoy-gateway"] = lambda: _answers(f"http://{istio.admin('gateway')}/ready")
        checks["envoy-sidecar"] = lambda: _answers(f"http://{istio.admin('sidecar')}/ready")
    return checks


async def _until_true(
    name: str,
    check: Callable[[], Awaitable[bool]],
    children: dict[str, subprocess.Popen[bytes]],
    paths: Paths,
) -> None:
    """Waits for a check, whose errors mean "not yet"; a child that dies meanwhile is an error with its log's end."""

    async def or_dead() -> bool:
        for child, running in children.items():
            if (code := running.poll()) is not None:
                log = paths.logs / f"{child}.log"
                raise LabError(f"{child} exited with {code} while {name} was starting; the end of {log}:\n{tail(log)}")
        try:
            return await check()
        except (ApiError, aiohttp.ClientError):
            return False  # not yet

    await _until(or_dead)


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    while not await check():
        await asyncio.sleep(0.05)


async def _answers(url: str) -> bool:
    """Whether GET is answered with 200; certificates are not looked at."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _exists(api: Api, path: str) -> bool:
    try:
        await api.request("GET", path)
    except ApiError:
        return False
    return True


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(there is no such file)"


# -- children --------------------------------------------------------------------------------------


def _start(component: Component, paths: Paths) -> subprocess.Popen[bytes]:
    with (paths.logs / f"{component.name}.log").open("ab") as log:
        return subprocess.Popen(
            component.command,
            env={**os.environ, **component.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C in the terminal is for us; we stop them in order
            preexec_fn=process.die_with_parent,
        )


async def _keep(component: Component, paths: Paths, info: Info, children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Starts a component again whenever it dies, as a static pod would be: tests may kill one."""
    while True:
        code = await process.exited(children[component.name])
        print(f"davylab: {component.name} ended with {code}: starting it again", file=sys.stderr, flush=True)
        await asyncio.sleep(RESTART_PAUSE)
        children[component.name] = _start(component, paths)
        _write_info(paths, msgspec.structs.replace(info, pids={n: c.pid for n, c in children.items()}))


async def _stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """The API server goes before etcd, or it would write errors for a minute; all within about 3 s."""
    clients = [child for name, child in children.items() if name not in ("etcd", "kube-apiserver")]
    await asyncio.gather(*(process.stop(child, 0.7) for child in clients))
    for name in ("kube-apiserver", "etcd"):
        if name in children:
            await process.stop(children[name], 0.7)


# -- the state folder ------------------------------------------------------------------------------


def _info(
    options: Options,
    paths: Paths,
    listeners: dict[str, socket.socket],
    children: dict[str, subprocess.Popen[bytes]],
    user_namespace: bool,
    seconds: float,
) -> Info:
    host = {name: f"127.0.0.1:{listener.getsockname()[1]}" for name, listener in listeners.items()}
    proxied, meshed = "traefik" in host, "istio" in host
    return Info(
        pid=os.getpid(),
        user_namespace=user_namespace,
        kubeconfig=str(paths.kubeconfig(inside=False)),
        inside_kubeconfig=str(paths.kubeconfig(inside=True)),
        api=host["api"],
        inside_api=f"{API_ADDRESS}:{API_PORT}",
        traefik=host.get("traefik"),
        inside_traefik=traefik.WEB if proxied else None,
        traefik_admin=traefik.ADMIN if proxied else None,
        istio=host.get("istio"),
        inside_istio=f"{GATEWAY_ADDRESS}:{istio.GATEWAY_PORT}" if meshed else None,
        inside_sidecar=f"127.0.0.1:{istio.SIDECAR_PORT}" if meshed else None,
        audit_log=str(paths.logs / "audit.log") if options.audit else None,
        logs=str(paths.logs),
        seconds_to_ready=round(seconds, 2),
        pids={name: child.pid for name, child in children.items()},
    )


def _write_info(paths: Paths, info: Info) -> None:
    fresh = paths.info.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(info)))
    fresh.replace(paths.info)


@contextmanager
def _only_one(paths: Paths) -> Iterator[None]:
    """Refuses a second supervisor for the same state folder."""
    with (paths.root / "lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"a lab is already running with the state folder {paths.root}") from None
        yield


def _more_files() -> None:
    """Every connection and every pod's log is an open file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""The embedded cluster as other programs see it: over HTTP on loopback, with pods that are processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import py_compile
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from davylamp.embedded import hellok8s
from davylamp.embedded.cluster import CONTROLLER, Cluster
from davylamp.embedded.kubelet.agent import Agent, serve
from davylamp.embedded.kubelet.api import Api
from davylamp.embedded.kubelet.network import on_loopback
from davylamp.embedded.kubelet.pod import Settings
from davylamp.embedded.kubelet.reading import AgentLogs
from davylamp.embedded.server import Server, url
from davylamp.embedded.store import ADMIN
from davylamp.kube.clock import SystemClock

USERS = {"admin": ADMIN, "davylamp": CONTROLLER, "traefik": "traefik", "kubelet": "system:node:node-1"}
"""User names by the short names that kubeconfig files have."""


class Served(msgspec.Struct, frozen=True):
    """A cluster that is being served."""

    cluster: Cluster
    address: str
    """`http://127.0.0.1:PORT`, where only those are answered who show a secret of a kubeconfig."""
    kubeconfigs: Mapping[str, Path]
    """By short name: admin, davylamp (the controller's), traefik, kubelet. The secret is in `server`."""


@contextlib.asynccontextmanager
async def served(
    state: Path, *, port: int = 0, nodes: int = 1, restart_cap: float = 10.0, seed: int = 0, processes: bool = True
) -> AsyncIterator[Served]:
    """A cluster on the clock of this machine, served until the block is left.

    `state` is a folder for kubeconfigs and logs. `restart_cap` bounds the back-off of containers that crash, in
    seconds. With `processes=False` pods are imagined.
    """
    tokens = {short: secrets.token_urlsafe(24) for short in USERS}
    async with contextlib.AsyncExitStack() as stack:
        cluster = Cluster(SystemClock(), seed=seed, imagined=not processes)
        await stack.enter_async_context(cluster)
        server = Server(cluster.store, {token: USERS[short] for short, token in tokens.items()})
        address = await stack.enter_async_context(server.running(port=port))
        kubeconfigs = {
            short: _write_kubeconfig(state, short, url(address, token), admin=short == "admin")
            for short, token in tokens.items()
        }
        if processes:
            names = [f"node-{i + 1}" for i in range(nodes)]
            await stack.enter_async_context(
                _pods(cluster, Api(address, tokens["kubelet"]), names, state, restart_cap),
            )
        yield Served(cluster, address, kubeconfigs)


@contextlib.asynccontextmanager
async def _pods(cluster: Cluster, api: Api, nodes: list[str], state: Path, restart_cap: float) -> AsyncIterator[None]:
    """A kubelet at work, over the API server's own port; its processes end with the block."""
    compiled = py_compile.compile(hellok8s.__file__, cfile=str(state / "hellok8s.pyc"), doraise=True)
    assert compiled
    async with api:
        settings = Settings(api, [sys.executable, "-S", "-E", compiled], state / "pods", restart_cap)
        agent = Agent(settings, on_loopback(nodes))
        cluster.store.logs = AgentLogs(agent)
        task = asyncio.create_task(serve(agent))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _write_kubeconfig(state: Path, short: str, server: str, *, admin: bool) -> Path:
    """kubeconfig for the admin, kubeconfig.SHORT for others; YAML is a superset of the JSON written here.

    Its `server` is a secret: nobody else may read the file, also where there was one that others could.
    """
    path = state / ("kubeconfig" if admin else f"kubeconfig.{short}")
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": {"server": server}}],
        "users": [{"name": short, "user": {}}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": short}}],
        "current-context": "embedded",
    }
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
